use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use crate::certificates;
use crate::directory::Directory;
use crate::ports::free_port;
use crate::process::Process;
use crate::wait::until;

/// Where distributions put it.
const PLACES: [&str; 4] = [
    "/usr/sbin/mosquitto",
    "/usr/local/sbin/mosquitto",
    "/opt/homebrew/sbin/mosquitto",
    "/usr/bin/mosquitto",
];

/// A broker with ports and a directory of its own. It keeps sessions and messages over a stop, so
/// that a subscriber misses nothing.
pub struct Broker {
    process: Option<Process>,
    directory: Directory,
    port: u16,
    tls_port: u16,
    settings: String,
}

impl Broker {
    /// One that isn't started yet.
    #[must_use]
    pub fn new() -> Self {
        let mut broker = Self {
            process: None,
            directory: Directory::new(),
            port: free_port(),
            tls_port: free_port(),
            settings: String::new(),
        };
        broker.write_certificates();
        broker.set_up();
        broker
    }

    /// One that runs.
    #[must_use]
    pub fn started() -> Self {
        let mut broker = Self::new();
        broker.start();
        broker
    }

    /// Starts it, and waits until it accepts connections.
    ///
    /// # Panics
    /// When it ends instead, or runs already.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = Command::new(find());
        command.arg("-c").arg(self.directory.path().join("mosquitto.conf"));
        let log = self.directory.path().join("log");
        let process = self.process.insert(Process::start("mosquitto", &mut command, &log));
        until("mosquitto accepts connections", || {
            assert!(process.ended().is_none(), "mosquitto ended at its start");
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    /// Listens at one more port of that address from the next start on, with settings of
    /// `mosquitto.conf` that hold there alone.
    #[must_use]
    pub fn add_listener(&mut self, address: &str, settings: &str) -> u16 {
        let port = free_port();
        self.settings.push_str(&format!("listener {port} {address}\n{settings}\n"));
        self.directory.write("mosquitto.conf", &self.settings);
        port
    }

    /// From the next start on it takes packets of so many bytes at most, or of any size.
    pub fn limit_packets(&mut self, bytes: Option<u32>) {
        let limit = bytes.map(|bytes| format!("max_packet_size {bytes}\n")).unwrap_or_default();
        self.directory.write("mosquitto.conf", &(limit + &self.settings));
    }

    /// The settings by which a listener speaks TLS.
    #[must_use]
    pub fn tls_settings(&self) -> String {
        let (certificate, key) = (self.file("certificate.pem"), self.file("key.pem"));
        format!("certfile {}\nkeyfile {}\n", certificate.display(), key.display())
    }

    /// The setting by which a listener lets in one user alone.
    ///
    /// # Panics
    /// When Mosquitto's tool for that can't be run.
    #[must_use]
    pub fn login_settings(&self, user: &str, password: &str) -> String {
        let file = self.directory.write("passwords", "");
        let mut tool = Command::new("mosquitto_passwd");
        let done = tool.arg("-b").arg(&file).args([user, password]).status();
        assert!(done.expect("mosquitto_passwd can be run").success(), "no password was made");
        format!("allow_anonymous false\npassword_file {}\n", file.display())
    }

    /// Ends it with SIGTERM. It has no time to finish anything with its clients, but what it has
    /// acknowledged is on its disk.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&mut self) {
        self.process.take().expect("it runs").stop();
    }

    /// Ends it with SIGKILL: what it has acknowledged and not yet saved is lost.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Where it speaks plain MQTT.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it speaks TLS, as `localhost`.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The certificate of the CA that its own certificate comes from.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// A client's certificate from that CA, and its key.
    #[must_use]
    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        (self.file("client.pem"), self.file("client-key.pem"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_certificates(&self) {
        let made = certificates::make();
        for (name, text) in [
            ("ca.pem", made.ca),
            ("certificate.pem", made.certificate),
            ("key.pem", made.key),
            ("client.pem", made.client_certificate),
            ("client-key.pem", made.client_key),
        ] {
            self.directory.write(name, &text);
        }
    }

    fn set_up(&mut self) {
        self.settings = format!(
            "user root\n\
             persistence true\n\
             persistence_location {}/\n\
             per_listener_settings true\n\
             max_queued_messages 0\n\
             max_inflight_messages 0\n\
             listener {} 127.0.0.1\n\
             allow_anonymous true\n\
             listener {} 127.0.0.1\n\
             allow_anonymous true\n\
             {}",
            self.directory.path().display(),
            self.port,
            self.tls_port,
            self.tls_settings(),
        );
        self.directory.write("mosquitto.conf", &self.settings);
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

fn find() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("mosquitto"));
    let mut places = PLACES.iter().map(PathBuf::from).chain(on_path);
    places.find(|place| place.is_file()).expect("mosquitto is installed: apt-get install mosquitto")
}
