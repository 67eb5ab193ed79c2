#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::SocketAddr;

use axum::Router;
use axum::routing::{get, post};
use components::stop::Stopper;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;

/// A server whose `/wait` answers after `go` is notified.
struct Server {
    address: SocketAddr,
    connections: Arc<Connections>,
    arrived: Arc<Notify>,
    go: Arc<Notify>,
    stopper: Stopper,
    task: tokio::task::JoinHandle<()>,
}

async fn server(most: usize) -> Server {
    let go = Arc::new(Notify::new());
    let arrived = Arc::new(Notify::new());
    let wait = {
        let arrived = Arc::clone(&arrived);
        let go = Arc::clone(&go);
        || async move {
            arrived.notify_one();
            go.notified().await;
        }
    };
    let router = Router::new()
        .route("/", get(|| async { "hi" }))
        .route("/echo", post(|body: String| async { body }))
        .route("/wait", get(wait));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(Connections::new(most));
    let stopper = Stopper::default();
    let task = tokio::spawn(serve(listener, router, Arc::clone(&connections), stopper.subscribe()));
    Server { address, connections, arrived, go, stopper, task }
}

impl Server {
    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn say(client: &mut TcpStream, text: &str) {
    client.write_all(text.as_bytes()).await.unwrap();
}

/// Reads one response with a short body, or nothing when the connection is closed.
async fn hear(client: &mut TcpStream) -> String {
    let mut bytes = [0; 4096];
    match client.read(&mut bytes).await {
        Ok(count) => String::from_utf8_lossy(&bytes[..count]).into_owned(),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => String::new(),
        Err(error) => panic!("{error}"),
    }
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const WAIT: &str = "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_connection_is_used_again_and_again() {
    let server = server(1).await;
    let mut client = server.client().await;
    for _ in 0..3 {
        say(&mut client, GET).await;
        assert!(hear(&mut client).await.ends_with("\r\n\r\nhi"));
    }
    assert_eq!(
        server.connections.counts(),
        Counts { open: 1, evicted: 0, refused: 0, slow: 0, stalled: 0 }
    );
}

#[tokio::test]
async fn idle_and_slow_connections_make_room_in_the_order_they_began_to_wait() {
    let server = server(2).await;
    let mut idle = server.client().await;
    say(&mut idle, GET).await;
    hear(&mut idle).await;
    let mut slow = server.client().await;
    say(&mut slow, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nsome").await;
    let mut served = Vec::new();
    for closed in [&mut idle, &mut slow] {
        let mut client = server.client().await;
        say(&mut client, GET).await;
        assert!(hear(&mut client).await.ends_with("hi"));
        assert_eq!(hear(closed).await, "");
        served.push(client);
    }
}

#[tokio::test]
async fn a_new_client_is_refused_while_all_others_are_served() {
    let server = server(1).await;
    let mut served = server.client().await;
    say(&mut served, WAIT).await;
    server.arrived.notified().await;
    let mut client = server.client().await;
    say(&mut client, GET).await;
    let refused = hear(&mut client).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("ERR_TOO_MANY_CONNECTIONS"), "{refused}");
    server.go.notify_one();
    assert!(hear(&mut served).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_finishes_requests() {
    let server = server(8).await;
    let mut idle = server.client().await;
    let mut served = server.client().await;
    say(&mut served, WAIT).await;
    server.arrived.notified().await;
    server.stopper.request();
    assert_eq!(hear(&mut idle).await, "");
    server.go.notify_one();
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_announced_and_never_sent_blocks_nobody() {
    let server = server(16).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut client = server.client().await;
        say(&mut client, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1999999\r\n\r\nx")
            .await;
        stalled.push(client);
    }
    let mut client = server.client().await;
    let body = "y".repeat(20_000);
    let length = body.len();
    say(
        &mut client,
        &format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"),
    )
    .await;
    assert!(hear(&mut client).await.starts_with("HTTP/1.1 200 "));
    let counts = server.connections.counts();
    assert_eq!(counts, Counts { open: 9, evicted: 0, refused: 0, slow: 0, stalled: 0 });
}

#[tokio::test]
async fn a_large_head_is_answered_and_ends_its_connection() {
    let server = server(1).await;
    let mut client = server.client().await;
    let long = "x".repeat(40_000);
    say(&mut client, &format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {long}\r\n\r\n")).await;
    let answer = hear(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hi"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(hear(&mut client).await, "");
}

#[tokio::test]
async fn unfinished_heads_make_way_for_others() {
    let server = server(64).await;
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut client = server.client().await;
        say(&mut client, &format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}", "x".repeat(60_000)))
            .await;
        slow.push(client);
    }
    assert_eq!(hear(&mut slow[0]).await, "");
    let mut client = server.client().await;
    say(&mut client, GET).await;
    assert!(hear(&mut client).await.ends_with("hi"));
    assert!(server.connections.counts().stalled > 0);
}

#[tokio::test]
async fn requests_in_one_piece_are_answered_one_after_another() {
    let server = server(1).await;
    let mut client = server.client().await;
    say(&mut client, &GET.repeat(1000)).await;
    let mut answers = String::new();
    while answers.matches("\r\n\r\nhi").count() < 1000 {
        let more = hear(&mut client).await;
        assert!(!more.is_empty(), "{answers}");
        answers.push_str(&more);
    }
}
