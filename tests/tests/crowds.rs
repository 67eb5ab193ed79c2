//! Too many clients, too slow ones, too few files, too little memory: others are still served.
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;
use tests::{App, Broker, Device, PATIENCE, Subscriber, untested, until};

/// Connections that are open at a time, from our side.
const CROWD: usize = 10_000;

/// Large requests at a time: 140 MB.
const UPLOADS: usize = 40;

const EMFILE: i32 = 24;

fn limited(connections: usize) -> Device {
    let text = format!(
        "apiVersion: pannier.dev/v1\nkind: Node\nspec: {{limits: {{maxConnections: {connections}}}}}\n"
    );
    Device::new().with_resource("limits.yaml", &text)
}

fn connect(device: &Device) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", device.http_port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    stream
}

fn say(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// A client that announces a body of so many bytes, and sends a part of it.
fn announce(device: &Device, length: usize, part: &[u8]) -> TcpStream {
    let client = connect(device);
    let head = format!(
        "POST /v1.0/publish/pubsub/t HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
    );
    say(&client, &head);
    client.set_nonblocking(true).unwrap();
    // As much as is taken without a wait.
    let mut sent = 0;
    while let Ok(count) = (&client).write(&part[sent..]) {
        sent += count;
        if sent == part.len() {
            break;
        }
    }
    client.set_nonblocking(false).unwrap();
    client
}

/// Whether the other side has closed it without a word.
fn is_closed(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 256]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn ended(device: &Device, reason: &str) -> u64 {
    let mut client = tests::http::Client::new(device.metrics_port());
    let text = client.send("GET", "/metrics", &[], &[]).unwrap().text();
    let name = format!("pannier_connections_ended{{reason=\"{reason}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_head_that_trickles_in_is_cut_off() {
    let device = Device::new().started();
    let slow = connect(&device);
    say(&slow, "GET /v1.0/metadata HTTP/1.1\r\n");
    until("the connection is closed", || {
        // One byte at a time, for as long as somebody listens.
        let gone = (&slow).write_all(b"a").is_err();
        slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Some(()).filter(|()| gone || matches!((&slow).read(&mut [0; 9]), Ok(0)))
    });
    assert_eq!(ended(&device, "slow"), 1);
}

#[test]
fn a_body_that_never_ends_is_cut_off() {
    let device = Device::new().started();
    let slow = connect(&device);
    say(&slow, "POST /v1.0/publish/pubsub/t HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1");
    assert!(is_closed(&slow));
    assert_eq!(ended(&device, "slow"), 1);
    assert_eq!(device.store().streams, []);
}

#[test]
fn a_body_that_is_announced_and_never_sent_blocks_nobody() {
    let device = Device::new().started();
    let stalled: Vec<TcpStream> = (0..5).map(|_| announce(&device, 4 << 20, b"1")).collect();
    device.publish("t", &json!("x".repeat(20_000)));
    device.publish("t", &json!("x".repeat(1_000_000)));
    assert_eq!((ended(&device, "slow"), ended(&device, "stalled")), (0, 0));
    drop(stalled);
}

#[test]
fn bodies_that_stall_with_all_the_room_make_way_and_hear_why() {
    let device = Device::new().started();
    let half = vec![b'1'; 2 << 20];
    let stalled: Vec<TcpStream> = (0..8).map(|_| announce(&device, 4 << 20, &half)).collect();
    device.publish("t", &json!("x".repeat(3_000_000)));
    assert!(ended(&device, "stalled") > 0);
    assert_eq!(ended(&device, "slow"), 0);
    let told = stalled.iter().filter(|client| {
        let mut client: &TcpStream = client;
        let mut answer = [0; 512];
        client.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let count = client.read(&mut answer).unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer[..count]);
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("send it again")
    });
    assert!(told.count() > 0);
    assert_eq!(device.stream("t").messages, 1, "no half message is kept");
}

#[test]
fn heads_that_never_end_share_a_bounded_memory() {
    raise_limit_of_files(4096);
    let device = Device::new().started();
    let before = device.resident_kib();
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}", "x".repeat(60_000));
    let crowd: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let one = connect(&device);
            // It may have had to go before all was written.
            let _ = (&one).write_all(head.as_bytes());
            one
        })
        .collect();
    device.publish("t", &json!("x".repeat(20_000)));
    assert!(ended(&device, "stalled") > 900);
    let most = device.peak_kib();
    println!("1,000 heads: {before} KiB before, {most} KiB at most");
    assert!(most < before + (12 << 10), "{before} KiB before, {most} KiB at most");
    drop(crowd);
}

#[test]
fn a_body_in_chunks_of_a_byte_takes_no_more_memory_than_others() {
    let device = Device::new().started();
    let before = device.resident_kib();
    let client = connect(&device);
    say(
        &client,
        "POST /v1.0/publish/pubsub/t HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    say(&client, &"1\r\n7\r\n".repeat(200_000));
    say(&client, "0\r\n\r\n");
    let mut status = [0; 12];
    (&client).read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 204");
    let most = device.peak_kib();
    assert!(most < before + (6 << 10), "{before} KiB before, {most} KiB at most");
}

#[test]
fn slow_clients_take_no_place_from_others() {
    let device = limited(8).started();
    let slow: Vec<TcpStream> = (0..64)
        .map(|_| {
            let slow = connect(&device);
            say(&slow, "POST /v1.0/publish/pubsub/t HTTP/1.1\r\n");
            device.publish("t", &json!(1));
            slow
        })
        .collect();
    assert!(ended(&device, "evicted") >= 56);
    assert_eq!(slow.iter().take(32).filter(|slow| is_closed(slow)).count(), 32);
}

#[test]
fn whoever_holds_the_control_socket_keeps_nobody_from_asking() {
    let device = Device::new().started();
    let socket = device.data().join("control.sock");
    let crowd: Vec<_> = (0..100).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    assert_eq!(device.store().poisoned, None);
    drop(crowd);
}

#[test]
fn ten_thousand_connections_leave_it_standing_and_small() {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let crowd = files.map_or(CROWD, |most| CROWD.min(usize::try_from(most).unwrap() - 500));
    if crowd < CROWD {
        untested("10,000 connections", &format!("only {crowd} files may be open: ulimit -n"));
    }
    raise_limit_of_files(crowd as u64 + 500);
    let device = Device::new().started();
    let before = device.resident_kib();
    let mut all = Vec::new();
    for _ in 0..crowd {
        let one = connect(&device);
        say(&one, "GET /v1.0/healthz/outbound HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!((&one).read(&mut [0; 256]).unwrap() > 0);
        all.push(one);
        if all.len() % 1000 == 0 {
            device.publish("t", &json!(all.len()));
        }
    }
    assert!(ended(&device, "evicted") > 0);
    let after = device.resident_kib();
    println!("{crowd} connections: {before} KiB before, {after} KiB after");
    assert!(after < before + (32 << 10), "{before} KiB before, {after} KiB after");
    device.save("a", &json!(1));
    drop(all);
    device.save("b", &json!(2));
}

#[test]
fn with_few_files_it_has_those_it_needs_itself() {
    let mut device = Device::new().with_file_limit(192).started();
    let crowd: Vec<TcpStream> = (0..400).map(|_| connect(&device)).collect();
    // Enough for several segments of the journal, which are files.
    for number in 0..30 {
        device.publish("t", &json!([number, "x".repeat(1_000_000)]));
    }
    drop(crowd);
    assert_eq!(device.store().poisoned, None);
    device.kill();
    device.start();
    assert_eq!(device.stream("t").messages, 30);
}

#[test]
fn hung_apps_and_a_crowd_of_clients_leave_files_for_the_store() {
    raise_limit_of_files(2048);
    let subscription = |topic: &str| {
        json!([{
            "pubsubname": "pubsub", "topic": topic, "route": "/all",
            "metadata": { "concurrency": "1000" }
        }])
    };
    let hung = ["a", "b", "c"].map(|topic| App::start(subscription(topic)));
    hung.iter().for_each(App::hang);
    let more = hung[1..].iter().map(|app| {
        format!(
            "apiVersion: pannier.dev/v1\nkind: App\nmetadata: {{name: app-{port}}}\nspec: {{port: \
             {port}, httpPort: 0}}\n",
            port = app.port()
        )
    });
    let more: Vec<String> = more.collect();
    let device = Device::new()
        .with_app(&hung[0])
        .with_resource("apps.yaml", &more.join("---\n"))
        .with_file_limit(1184)
        .started();
    for topic in ["a", "b", "c"] {
        (0..100).for_each(|n| device.publish(topic, &json!(n)));
    }
    let crowd: Vec<TcpStream> = (0..1100).map(|_| connect(&device)).collect();
    for app in &hung {
        let _ = app.wait_for("/all", 100);
        assert_eq!(app.most_connections(), 100);
    }
    // Enough for several segments of the journal, which are files.
    for number in 0..30 {
        device.publish("t", &json!([number, "x".repeat(1_000_000)]));
    }
    assert!(!device.log().contains("Too many open files"), "{}", device.log());
    drop(crowd);
}

#[test]
fn a_segment_that_can_not_be_made_for_want_of_files_ends_nothing() {
    let Some(shim) = tests::Shim::new("files used up") else { return };
    let limits = "apiVersion: pannier.dev/v1\nkind: Node\nspec: {limits: {journalSegment: 5Mi}}\n";
    let device = Device::new().with_resource("limits.yaml", limits).with_shim(&shim).started();
    device.save("before", &json!(1));
    shim.fail("open", EMFILE);
    let body = json!("x".repeat(1_000_000));
    let refused = (0..40).map(|_| device.post("/v1.0/publish/pubsub/t", &body));
    for answer in refused.filter(|answer| answer.status != 204) {
        assert_eq!(answer.status, 507, "{}", answer.text());
        assert!(answer.text().contains("files"), "{}", answer.text());
    }
    shim.mend("open");
    device.save("after", &json!(1));
    device.publish("t", &json!(1));
    assert_eq!(device.store().poisoned, None);
}

/// A backlog larger than the memory. `PANNIER_BACKLOG` is its length; a million takes minutes.
#[test]
fn a_backlog_of_any_length_is_kept_and_drained_in_32_mb() {
    let length = std::env::var("PANNIER_BACKLOG").map_or(30_000, |given| given.parse().unwrap());
    let Some(group) = tests::MemoryLimit::new("a backlog in 32 MB", 32 << 20) else { return };
    let mut broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "#");
    broker.stop();
    let uplink = format!(
        "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {{name: up}}\nspec:\n  \
         backoff: {{initial: 50ms, max: 200ms}}\n  mqtt: {{url: \"mqtt://127.0.0.1:{}\"}}\n  \
         routes: [{{topic: \"#\", format: raw}}]\n",
        broker.port()
    );
    let mut device =
        Device::new().with_resource("uplink.yaml", &uplink).with_memory_limit(&group).started();
    std::thread::scope(|scope| {
        for part in 0..8 {
            let port = device.http_port();
            scope.spawn(move || {
                let mut client = tests::http::Client::new(port);
                let json = [("content-type", "application/json")];
                for number in (part..length).step_by(8) {
                    let body = format!("[{number},\"{}\"]", "x".repeat(185));
                    let path = format!("/v1.0/publish/pubsub/t/{part}");
                    let answer = client.send("POST", &path, &json, body.as_bytes()).unwrap();
                    assert_eq!(answer.status, 204, "{}", answer.text());
                }
            });
        }
    });
    device.kill();
    device.start();
    broker.start();
    let received = subscriber.wait_for("the backlog", |received| received.len() >= length);
    assert!(device.is_running());
    let (peak, most) = (group.peak() >> 10, device.peak_kib());
    println!(
        "{length} messages: {most} KiB resident since the restart, {peak} KiB with page cache"
    );
    let streams = tests::ledger::first_arrivals(&received);
    assert_eq!(streams.values().map(Vec::len).sum::<usize>(), length);
    assert!(device.stop().success());
}

#[test]
fn uploads_at_once_take_turns_instead_of_memory() {
    let device = Device::new().started();
    let body = vec![b'7'; 3_500_000];
    std::thread::scope(|scope| {
        for number in 0..UPLOADS {
            let (device, body) = (&device, &body);
            scope.spawn(move || upload(device, number, body));
        }
    });
    assert_eq!(ended(&device, "stalled"), 0);
    let most = device.peak_kib();
    println!("{UPLOADS} uploads of 3.5 MB: {most} KiB at most");
    assert!(most < 80 << 10, "{most} KiB");
}

/// Publishes a large body; each second one is in chunks.
fn upload(device: &Device, number: usize, body: &[u8]) {
    let path = format!("/v1.0/publish/pubsub/uploads-{number}");
    if number.is_multiple_of(2) {
        let mut client = tests::http::Client::new(device.http_port());
        assert_eq!(client.send("POST", &path, &[], body).unwrap().status, 204);
        return;
    }
    let mut client = connect(device);
    say(&client, &format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"));
    for chunk in body.chunks(30_000) {
        say(&client, &format!("{:x}\r\n", chunk.len()));
        client.write_all(chunk).unwrap();
        say(&client, "\r\n");
    }
    say(&client, "0\r\n\r\n");
    let mut status = [0; 12];
    client.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 204");
}

fn raise_limit_of_files(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    }
}
