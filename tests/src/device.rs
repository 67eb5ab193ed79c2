use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use runtime::admin::Status;
use runtime::uplink::UplinkSnapshot;
use rustix::process::Signal;
use serde_json::Value;
use store_forward::store::{self, ConsumerStatus, StreamStatus};

use crate::app::App;
use crate::binary;
use crate::directory::Directory;
use crate::http::{Answer, Client};
use crate::memory::{MemoryLimit, peak_kib, resident_kib};
use crate::ports::free_port;
use crate::process::Process;
use crate::shim::Shim;
use crate::wait::until;

/// The app id that a device is told.
pub const APP_ID: &str = "tester";

/// The program with a data directory, resources and ports of its own. The same ones are used each
/// time it is started.
pub struct Device {
    process: Option<Process>,
    directory: Directory,
    data: PathBuf,
    http_port: u16,
    metrics_port: u16,
    app_port: Option<u16>,
    /// What a shell does before it becomes the program.
    prelude: String,
    environment: Vec<(String, String)>,
    log_level: &'static str,
    flags: Vec<String>,
}

impl Device {
    /// A device that isn't started yet, with no app and no resources.
    #[must_use]
    pub fn new() -> Self {
        let directory = Directory::new();
        std::fs::create_dir(directory.path().join("resources")).expect("a directory can be made");
        Self {
            process: None,
            data: directory.path().join("data"),
            directory,
            http_port: free_port(),
            metrics_port: free_port(),
            app_port: None,
            prelude: String::new(),
            environment: Vec::new(),
            log_level: "info",
            flags: Vec::new(),
        }
    }

    /// With that app.
    #[must_use]
    pub fn with_app(mut self, app: &App) -> Self {
        self.app_port = Some(app.port());
        self
    }

    /// With a file of resources.
    #[must_use]
    pub fn with_resource(self, name: &str, text: &str) -> Self {
        self.directory.write(&format!("resources/{name}"), text);
        self
    }

    /// With the data directory of another device.
    #[must_use]
    pub fn with_data_of(mut self, other: &Self) -> Self {
        self.data.clone_from(&other.data);
        self
    }

    /// With its data below that directory.
    #[must_use]
    pub fn with_data_in(mut self, directory: &Path) -> Self {
        self.data = directory.join("data");
        self
    }

    /// With that shim between it and its disk.
    #[must_use]
    pub fn with_shim(mut self, shim: &Shim) -> Self {
        self.environment.extend(shim.environment(&self.data));
        self
    }

    /// With standard error to that file, instead of to its log.
    #[must_use]
    pub fn with_stderr(mut self, path: &Path) -> Self {
        self.prelude.push_str(&format!("exec 2>'{}' && ", path.display()));
        self
    }

    /// With SIGHUP ignored, as `nohup` does.
    #[must_use]
    pub fn with_hangup_ignored(mut self) -> Self {
        self.prelude.push_str("trap '' HUP && ");
        self
    }

    /// With so many open files at most.
    #[must_use]
    pub fn with_file_limit(mut self, files: u32) -> Self {
        self.prelude.push_str(&format!("ulimit -n {files} && "));
        self
    }

    /// With so much memory at most.
    #[must_use]
    pub fn with_memory_limit(mut self, limit: &MemoryLimit) -> Self {
        self.prelude.push_str(&format!("echo $$ > '{}' && ", limit.members().display()));
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With more flags.
    #[must_use]
    pub fn with_flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// With everything logged.
    #[must_use]
    pub fn with_trace(mut self) -> Self {
        self.log_level = "trace";
        self
    }

    /// The same device, started.
    #[must_use]
    pub fn started(mut self) -> Self {
        self.start();
        self
    }

    /// Starts it, and waits until it takes requests.
    ///
    /// # Panics
    /// When it ends instead, or runs already.
    pub fn start(&mut self) {
        assert!(self.try_to_start(), "pannier ended at its start");
    }

    /// Starts it, and waits until it takes requests, or has ended: then that is false.
    ///
    /// # Panics
    /// When it runs already.
    pub fn try_to_start(&mut self) -> bool {
        assert!(!self.is_running(), "it runs already");
        let log = self.directory.path().join("log");
        self.process = Some(Process::start("pannier", &mut self.command(), &log));
        until("pannier takes requests", || {
            if !self.is_running() {
                return Some(false);
            }
            let asked = self.client().send("GET", "/v1.0/healthz/outbound", &[], &[]);
            asked.ok().filter(|answer| answer.status == 204).map(|_| true)
        })
    }

    /// Waits until its app's subscriptions are served.
    ///
    /// # Panics
    /// When they never are.
    pub fn wait_for_app(&self) {
        until("pannier serves the app's subscriptions", || {
            Some(()).filter(|()| self.get("/v1.0/healthz").status == 204)
        });
    }

    /// Ends it with SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Ends it with SIGTERM, and says how it ended.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("it runs").stop()
    }

    /// Sends SIGTERM, and does not wait.
    ///
    /// # Panics
    /// When it does not run.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal, and does not wait.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&mut self, signal: Signal) {
        self.process.as_mut().expect("it runs").signal(signal);
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.take().expect("it runs").wait()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Starts it where it can't: returns how it ended, and what it has said in this life.
    ///
    /// # Panics
    /// When it does not end.
    pub fn start_in_vain(&mut self) -> (Option<i32>, String) {
        let before = self.log().len();
        let log = self.directory.path().join("log");
        let code = Process::start("pannier", &mut self.command(), &log).wait().code();
        (code, self.log().split_off(before))
    }

    /// Its process, while it runs.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// Returns the memory that it takes now, in KiB.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        resident_kib(self.pid())
    }

    /// Returns the most memory that it has taken since its start, in KiB.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn peak_kib(&self) -> u64 {
        peak_kib(self.pid())
    }

    /// What it has written to its log in all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        let log = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Returns the status by `pannier status --json`.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn status(&self) -> Status {
        let data = self.data.display().to_string();
        // It serves its API a moment before it answers this.
        until("the status is told", || {
            let told = binary::run(&["status", "--json", "--data-dir", &data]);
            serde_json::from_str(&told.said).ok().filter(|_| told.code == Some(0))
        })
    }

    /// Returns the status of its store.
    ///
    /// # Panics
    /// When it does not answer, or has no store.
    #[must_use]
    pub fn store(&self) -> store::Status {
        self.status().store.expect("it has a store")
    }

    /// Returns the status of an uplink.
    ///
    /// # Panics
    /// When it never has that uplink.
    #[must_use]
    pub fn uplink(&self, name: &str) -> UplinkSnapshot {
        until(&format!("there is the uplink {name}"), || {
            self.status().uplinks.into_iter().find(|uplink| uplink.name == name)
        })
    }

    /// Returns the status of a consumer.
    ///
    /// # Panics
    /// When it never has that consumer.
    #[must_use]
    pub fn consumer(&self, name: &str) -> ConsumerStatus {
        until(&format!("there is the consumer {name}"), || {
            self.store().consumers.into_iter().find(|consumer| consumer.name == name)
        })
    }

    /// Returns the status of the stream of a topic.
    ///
    /// # Panics
    /// When it never has that stream.
    #[must_use]
    pub fn stream(&self, topic: &str) -> StreamStatus {
        until(&format!("there is a stream of {topic}"), || {
            self.store().streams.into_iter().find(|stream| stream.topic == topic)
        })
    }

    /// How it is started.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{}exec \"$0\" \"$@\"", self.prelude)).arg(binary::path());
        command.args(["run", "--app-id", APP_ID, "--log-level", self.log_level]);
        command.args(["--dapr-http-port", &self.http_port.to_string()]);
        command.args(["--metrics-port", &self.metrics_port.to_string()]);
        command.arg("--resources-path").arg(self.directory.path().join("resources"));
        command.arg("--data-dir").arg(&self.data);
        if let Some(port) = self.app_port {
            command.args(["--app-port", &port.to_string()]);
        }
        command.args(&self.flags);
        // What is set where the tests run must not decide what they test.
        for name in ["DAPR_API_TOKEN", "APP_API_TOKEN", "NAMESPACE"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where it serves its API.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Where it serves its metrics.
    #[must_use]
    pub fn metrics_port(&self) -> u16 {
        self.metrics_port
    }

    /// The value of a metric without labels.
    ///
    /// # Panics
    /// When it is not served.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        let answer = Client::new(self.metrics_port).send("GET", "/metrics", &[], &[]);
        let text = answer.expect("metrics are served").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in:\n{text}"))
    }

    /// A client of its API.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.http_port)
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        self.client().send(method, path, headers, body)
    }

    /// A GET.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], &[]).expect("pannier answers")
    }

    /// A POST of JSON.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        let json = [("Content-Type", "application/json")];
        self.send("POST", path, &json, body.to_string().as_bytes()).expect("pannier answers")
    }

    /// Publishes JSON to a topic of the default pub/sub component.
    ///
    /// # Panics
    /// When it isn't acknowledged.
    pub fn publish(&self, topic: &str, data: &Value) {
        let answer = self.post(&format!("/v1.0/publish/pubsub/{topic}"), data);
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    /// Saves a value in the default state store.
    ///
    /// # Panics
    /// When it isn't acknowledged.
    pub fn save(&self, key: &str, value: &Value) {
        let items = serde_json::json!([{ "key": key, "value": value }]);
        let answer = self.post("/v1.0/state/statestore", &items);
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
}

impl Default for Device {
    fn default() -> Self {
        Self::new()
    }
}
