//! A Mosquitto for tests, with an observer of its messages and a relay that can be shut.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use config::model::{MqttUplink, MqttVersion};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tempfile::TempDir;
use tokio::sync::watch;

const MOSQUITTO: &str = "/usr/sbin/mosquitto";

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Parses a configuration, and returns its uplink's `mqtt` part.
pub(in crate::uplink::mqtt) fn spec(port: u16, version: MqttVersion) -> MqttUplink {
    let version = if version == MqttVersion::V5 { "5" } else { "3.1.1" };
    let text = format!(
        "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata:\n  name: up\nspec:\n  mqtt:\n    \
         url: mqtt://localhost:{port}\n    version: \"{version}\"\n  routes:\n    - topic: \"#\"\n"
    );
    let mut read = config::parse(&[(PathBuf::from("up.yaml"), text)]).unwrap();
    read.uplinks.remove(0).mqtt
}

/// A running Mosquitto; killed when dropped.
pub(super) struct Broker {
    pub(super) port: u16,
    process: Child,
    _dir: TempDir,
}

impl Broker {
    pub(super) fn start(port: Option<u16>) -> Self {
        Self::launch(port.unwrap_or_else(free_port), "allow_anonymous true\n")
    }

    pub(super) fn start_with(settings: &str) -> Self {
        Self::launch(free_port(), &format!("allow_anonymous true\n{settings}"))
    }

    pub(super) fn start_tls(authority: &Authority) -> Self {
        let dir = authority.dir.display();
        let settings = format!(
            "cafile {dir}/ca.pem\ncertfile {dir}/server.pem\nkeyfile {dir}/server.key\n\
             require_certificate true\nallow_anonymous true\n"
        );
        Self::launch(free_port(), &settings)
    }

    fn launch(port: u16, settings: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("mosquitto.conf");
        // Started by root, Mosquitto would become a user who can't read the scratch folder.
        let head = format!("user root\nlistener {port} 127.0.0.1\nmax_queued_messages 100000\n");
        std::fs::write(&file, head + settings).unwrap();
        let process = Command::new(MOSQUITTO)
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{MOSQUITTO} can't be run ({error}): install the package `mosquitto`")
            });
        Self { port, process, _dir: dir }
    }

    pub(super) fn kill(self) {
        drop(self);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn client(port: u16) -> (AsyncClient, EventLoop) {
    let id = format!("test-{}", fastrand::u64(..));
    AsyncClient::new(MqttOptions::new(id, "127.0.0.1", port), 100)
}

/// Polls until a packet of that kind comes; connects anew while the broker is still starting.
async fn wait_for<T>(events: &mut EventLoop, mut wanted: impl FnMut(&Packet) -> Option<T>) -> T {
    loop {
        if let Ok(Event::Incoming(packet)) = events.poll().await
            && let Some(found) = wanted(&packet)
        {
            return found;
        }
    }
}

/// Publishes one message and waits for its acknowledgement.
pub(super) async fn publish(port: u16, topic: &str, payload: &[u8], content_type: &str) {
    let (client, mut events) = client(port);
    let properties =
        PublishProperties { content_type: Some(content_type.into()), ..Default::default() };
    wait_for(&mut events, |packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await;
    client
        .publish_with_properties(topic, QoS::AtLeastOnce, false, payload.to_vec(), properties)
        .await
        .unwrap();
    wait_for(&mut events, |packet| matches!(packet, Packet::PubAck(_)).then_some(())).await;
}

/// Reads numbers from a topic, in the broker's order.
pub(super) struct Observer {
    events: EventLoop,
}

impl Observer {
    pub(super) async fn subscribe(port: u16, filter: &str) -> Self {
        let (client, mut events) = client(port);
        wait_for(&mut events, |packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await;
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        wait_for(&mut events, |packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
        Self { events }
    }

    pub(super) async fn next(&mut self) -> u64 {
        wait_for(&mut self.events, number).await
    }

    /// Returns the numbers that still arrive until the broker is gone.
    pub(super) async fn rest_until_gone(mut self) -> Vec<u64> {
        let mut rest = Vec::new();
        while let Ok(event) = self.events.poll().await {
            if let Event::Incoming(packet) = event {
                rest.extend(number(&packet));
            }
        }
        rest
    }
}

fn number(packet: &Packet) -> Option<u64> {
    let Packet::Publish(publish) = packet else { return None };
    std::str::from_utf8(&publish.payload).unwrap().parse().ok()
}

/// A TCP relay to the broker. While it is shut, it accepts connections and closes them.
pub(super) struct Gate {
    pub(super) port: u16,
    pub(super) behind: u16,
    open: watch::Sender<bool>,
}

impl Gate {
    pub(super) async fn open(behind: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut state = state.clone();
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let broker = tokio::net::TcpStream::connect(("127.0.0.1", behind)).await;
                    let Ok(mut broker) = broker else { return };
                    tokio::select! {
                        _ = state.wait_for(|open| !open) => {}
                        _ = tokio::io::copy_bidirectional(&mut client, &mut broker) => {}
                    }
                });
            }
        });
        Self { port, behind, open }
    }

    pub(super) fn shut(&self) {
        self.open.send_replace(false);
    }

    pub(super) fn reopen(&self) {
        self.open.send_replace(true);
    }
}

/// A certificate authority, a server's certificate for localhost and a client's, as files.
pub(super) struct Authority {
    pub(super) dir: PathBuf,
    _scratch: TempDir,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let scratch = TempDir::new().unwrap();
        let dir = scratch.path();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { dir: scratch.path().to_owned(), _scratch: scratch }
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }
}
