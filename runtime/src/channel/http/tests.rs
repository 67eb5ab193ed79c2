#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request as AxumRequest, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::*;
use blocks::app::start::Subscriber;
use blocks::app::{App, AppOptions, AppState, DEFAULT_MAX_CALLS, DEFAULT_TIMEOUT};
use components::stop::Stopper;
use config::model::{HealthCheck, SubscriptionSpec};

mod delivery;

/// A request to an app.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Answers = Arc<Mutex<VecDeque<(u16, String)>>>;

/// An app on loopback that records requests. It gives the answers that were set; then an empty 200, and
/// 404 to the question for subscriptions.
pub(crate) struct FakeApp {
    pub(crate) port: u16,
    pub(crate) asked: mpsc::UnboundedReceiver<Asked>,
    answers: Answers,
    closing: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
}

impl FakeApp {
    pub(crate) async fn start() -> Self {
        Self::start_at(0).await
    }

    pub(crate) async fn start_at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, asked) = mpsc::unbounded_channel();
        let answers = Answers::default();
        let router = Router::new().fallback(answer).with_state((tell, answers.clone()));
        let (closing, closed) = oneshot::channel();
        let served = tokio::spawn(async move {
            let closed = async {
                let _: Result<(), _> = closed.await;
            };
            axum::serve(listener, router).with_graceful_shutdown(closed).await.unwrap();
        });
        Self { port, asked, answers, closing, served }
    }

    /// Closes the port and every connection.
    pub(crate) async fn close(self) {
        drop(self.closing);
        self.served.await.unwrap();
    }

    pub(crate) fn will_answer(&self, status: u16, body: &str) {
        self.answers.lock().unwrap().push_back((status, body.to_owned()));
    }

    pub(crate) fn channel(&self) -> HttpChannel {
        channel(self.port)
    }
}

async fn answer(
    State((tell, answers)): State<(mpsc::UnboundedSender<Asked>, Answers)>,
    request: AxumRequest,
) -> (StatusCode, String) {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 32 << 20).await.unwrap();
    let path = parts.uri.path().to_owned();
    let default = if path == "/dapr/subscribe" { 404 } else { 200 };
    let _ = tell.send(Asked { method: parts.method, path, headers: parts.headers, body });
    let (status, body) = answers.lock().unwrap().pop_front().unwrap_or((default, String::new()));
    (StatusCode::from_u16(status).unwrap(), body)
}

pub(crate) fn options(port: u16) -> ChannelOptions {
    ChannelOptions {
        app_id: "app".into(),
        address: "127.0.0.1".into(),
        port,
        token: None,
        health_path: "/healthz".into(),
    }
}

pub(crate) fn channel(port: u16) -> HttpChannel {
    HttpChannel::new(options(port)).unwrap()
}

/// An app at a port, probed if there is a check.
pub(crate) fn app_at(port: u16, check: Option<HealthCheck>) -> Arc<App> {
    app_within(port, check, DEFAULT_TIMEOUT)
}

fn app_within(port: u16, check: Option<HealthCheck>, timeout: Duration) -> Arc<App> {
    let options = AppOptions { id: "app".into(), timeout, max_calls: DEFAULT_MAX_CALLS, check };
    Arc::new(App::new(options, Box::new(channel(port))))
}

/// A port that nothing listens at.
pub(crate) async fn closed_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

/// A port where connections are accepted and never answered.
pub(crate) async fn silent() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            kept.push(connection);
        }
    });
    port
}

struct Recorder(mpsc::UnboundedSender<Vec<SubscriptionSpec>>);

#[async_trait]
impl Subscriber for Recorder {
    async fn answered(&self, declared: DeclaredByApp) {
        let _ = self.0.send(declared.0);
    }

    async fn stop(&self) {}
}

/// Runs an app in the background; dropping the stopper ends it.
fn run_in_background(app: Arc<App>) -> (mpsc::UnboundedReceiver<Vec<SubscriptionSpec>>, Stopper) {
    let (tell, answered) = mpsc::unbounded_channel();
    let stopper = Stopper::default();
    let stop = stopper.subscribe();
    tokio::spawn(async move { app.run(&Recorder(tell), &stop).await });
    (answered, stopper)
}

const ONE: &str = r#"[{"pubsubname":"p","topic":"t","route":"/r"}]"#;

#[tokio::test]
async fn a_call_carries_method_path_headers_token_and_body() {
    let mut app = FakeApp::start().await;
    app.will_answer(201, "made");
    let token = Some("secret".to_owned());
    let channel = HttpChannel::new(ChannelOptions { token, ..options(app.port) }).unwrap();
    let text = HeaderValue::from_static("text/plain");
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, text)]);
    let answer = channel.call(Method::PUT, "/a/b?c=d", headers, b"x".to_vec()).await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.body.as_ref(), b"made");
    let asked = app.asked.recv().await.unwrap();
    assert_eq!((asked.method, asked.path.as_str()), (Method::PUT, "/a/b"));
    assert_eq!(asked.headers["dapr-api-token"], "secret");
    assert_eq!(asked.headers["content-type"], "text/plain");
    assert_eq!(asked.body.as_ref(), b"x");
}

/// An event that an app takes at `/`.
fn event() -> EventCall<'static> {
    EventCall {
        path: "/",
        event: Vec::new(),
        pubsub: "pubsub",
        sequence: 1,
        attempt: 1,
        key: None,
        traceparent: None,
        tracestate: None,
    }
}

#[tokio::test]
async fn an_app_whose_port_refuses_is_unreachable_and_counts_as_gone() {
    let fake = FakeApp::start().await;
    let app = app_at(fake.port, None);
    let (mut answered, _stopper) = run_in_background(app.clone());
    answered.recv().await.unwrap();
    app.gate().wait_until(AppState::takes_messages).await;
    fake.close().await;
    let outcome = app.deliver(event()).await;
    assert!(matches!(outcome, Outcome::Unreachable(_)), "{outcome:?}");
    assert!(!app.gate().state().listening);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_is_no_restart_of_the_app() {
    let none = "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    // The first connection probes the port, the second asks for subscriptions.
    let (port, _) = scripted(&[&[], &[none], &[], &[]]).await;
    let app = app_at(port, None);
    let (mut answered, _stopper) = run_in_background(app.clone());
    answered.recv().await.unwrap();
    app.gate().wait_until(AppState::takes_messages).await;
    let outcome = app.deliver(event()).await;
    assert!(matches!(outcome, Outcome::Retry(_)), "{outcome:?}");
    assert!(app.gate().state().takes_messages());
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Listens at a port and answers the requests of each connection by a script; closes a connection at
/// the first request beyond. Returns the port and the number of requests by connection.
async fn scripted(script: &[&[&'static str]]) -> (u16, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let counted = requests.clone();
    let script: Vec<Vec<&str>> = script.iter().map(|answers| answers.to_vec()).collect();
    tokio::spawn(async move {
        for (number, answers) in script.into_iter().enumerate() {
            let (mut connection, _) = listener.accept().await.unwrap();
            counted.lock().unwrap().push(0);
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut answers = answers.into_iter();
                while connection.read(&mut [0; 1024]).await.is_ok_and(|bytes| bytes > 0) {
                    counted.lock().unwrap()[number] += 1;
                    let Some(answer) = answers.next() else { return };
                    connection.write_all(answer.as_bytes()).await.unwrap();
                    if !answer.ends_with("ok") {
                        return;
                    }
                }
            });
        }
    });
    (port, requests)
}

async fn calls(port: u16, count: usize) -> Vec<Result<StatusCode, CallError>> {
    let channel = channel(port);
    let mut answers = Vec::new();
    for _ in 0..count {
        let answer = channel.call(Method::POST, "/", HeaderMap::new(), Vec::new()).await;
        answers.push(answer.map(|answer| answer.status));
    }
    answers
}

#[tokio::test]
async fn a_connection_is_kept_from_call_to_call() {
    let (port, requests) = scripted(&[&[OK, OK, OK]]).await;
    assert!(calls(port, 3).await.iter().all(Result::is_ok));
    assert_eq!(*requests.lock().unwrap(), [3]);
}

#[tokio::test]
async fn a_kept_connection_that_ends_without_an_answer_is_replaced_by_a_new_one_at_once() {
    let (port, requests) = scripted(&[&[OK], &[OK]]).await;
    assert!(calls(port, 2).await.iter().all(Result::is_ok));
    assert_eq!(*requests.lock().unwrap(), [2, 1]);
}

#[tokio::test]
async fn a_request_that_breaks_its_new_connection_too_is_sent_no_third_time() {
    let (port, requests) = scripted(&[&[OK], &[], &[OK]]).await;
    let answers = calls(port, 2).await;
    assert!(matches!(answers[1], Err(CallError::Broken(_))), "{answers:?}");
    assert_eq!(*requests.lock().unwrap(), [2, 1]);
}

#[tokio::test]
async fn a_kept_connection_that_ends_within_an_answer_is_not_replaced() {
    for part in ["HTTP/1.1 20", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no"] {
        let (port, requests) = scripted(&[&[OK, part], &[OK]]).await;
        let answers = calls(port, 2).await;
        assert!(matches!(answers[1], Err(CallError::Broken(_))), "{answers:?}");
        assert_eq!(*requests.lock().unwrap(), [2]);
    }
}

#[tokio::test]
async fn an_app_that_stays_silent_times_out() {
    let app = app_within(silent().await, None, Duration::from_millis(20));
    let Outcome::Retry(reason) = app.deliver(event()).await else { panic!("it did not time out") };
    assert_eq!(&*reason, "the app did not answer within 20ms");
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_refused() {
    let app = FakeApp::start().await;
    app.will_answer(200, &"x".repeat(MAX_ANSWER_BYTES + 1));
    let error = app.channel().deliver(event()).await.unwrap_err();
    assert!(matches!(error, CallError::TooLong { limit: MAX_ANSWER_BYTES }), "{error:?}");
}

#[test]
fn a_route_is_a_path_exactly_if_it_can_be_sent() {
    for byte in 0..=0x7f_u8 {
        let path = format!("/{}", char::from(byte));
        let can_be_sent = path.parse::<http::uri::PathAndQuery>().is_ok();
        assert_eq!(blocks::pubsub::route::is_path(&path), can_be_sent, "{path:?}");
    }
    assert!(blocks::pubsub::route::is_path("/ä?b=c"));
}

#[test]
fn options_that_cannot_be_used_are_refused_without_telling_the_token() {
    let refused = HttpChannel::new(ChannelOptions { address: "a b".into(), ..options(1) });
    assert!(matches!(refused, Err(ChannelOptionsError::Address { .. })));
    let token = Some("secret\n".to_owned());
    let refused = HttpChannel::new(ChannelOptions { token, ..options(1) }).unwrap_err();
    assert!(!refused.to_string().contains("secret"));
    assert!(HttpChannel::new(ChannelOptions { address: "::1".into(), ..options(1) }).is_ok());
}

#[tokio::test]
async fn an_app_that_comes_late_is_waited_for_and_asked() {
    let port = closed_port().await;
    let app = app_at(port, None);
    let (mut answered, _stopper) = run_in_background(app.clone());
    let mut fake = FakeApp::start_at(port).await;
    fake.will_answer(200, ONE);
    assert_eq!(answered.recv().await.unwrap()[0].topic, "t");
    app.gate().wait_until(AppState::takes_messages).await;
    assert_eq!(fake.asked.recv().await.unwrap().path, "/dapr/subscribe");
}

#[tokio::test]
async fn an_app_without_the_route_subscribes_to_nothing() {
    let fake = FakeApp::start().await;
    fake.will_answer(404, "");
    let app = app_at(fake.port, None);
    let (mut answered, _stopper) = run_in_background(app.clone());
    assert_eq!(answered.recv().await.unwrap(), Vec::new());
    app.gate().wait_until(AppState::takes_messages).await;
}

#[tokio::test]
async fn an_app_that_answers_with_errors_is_asked_again() {
    let app = FakeApp::start().await;
    app.will_answer(500, "");
    app.will_answer(200, "not json");
    app.will_answer(200, ONE);
    let (mut answered, _stopper) = run_in_background(app_at(app.port, None));
    assert_eq!(answered.recv().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_app_that_breaks_the_connection_when_asked_is_asked_again_after_a_pause() {
    let subscriptions = "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nok";
    // The first connection probes the port.
    let (port, requests) = scripted(&[&[], &[], &[subscriptions]]).await;
    let app = app_at(port, None);
    let (mut answered, _stopper) = run_in_background(app.clone());
    assert_eq!(answered.recv().await.unwrap(), Vec::new());
    assert_eq!(*requests.lock().unwrap(), [0, 1, 1], "the port is not probed again");
}

#[tokio::test]
async fn an_app_that_was_gone_is_asked_again() {
    let fake = FakeApp::start().await;
    fake.will_answer(200, ONE);
    fake.will_answer(404, "");
    let app = app_at(fake.port, None);
    let (mut answered, _stopper) = run_in_background(app.clone());
    assert_eq!(answered.recv().await.unwrap().len(), 1);
    app.gate().wait_until(AppState::takes_messages).await;
    let port = fake.port;
    fake.close().await;
    assert!(matches!(app.deliver(event()).await, Outcome::Unreachable(_)));
    let fake = FakeApp::start_at(port).await;
    fake.will_answer(404, "");
    assert_eq!(answered.recv().await.unwrap().len(), 0);
    app.gate().wait_until(AppState::takes_messages).await;
}

#[tokio::test]
async fn a_probed_app_takes_messages_only_while_it_is_healthy() {
    let mut fake = FakeApp::start().await;
    fake.will_answer(503, "");
    let check = HealthCheck {
        interval: Duration::from_millis(5),
        timeout: Duration::from_secs(10),
        threshold: 1,
        ..HealthCheck::default()
    };
    let app = app_at(fake.port, Some(check));
    let (mut answered, _stopper) = run_in_background(app.clone());
    assert_eq!(fake.asked.recv().await.unwrap().path, "/healthz");
    answered.recv().await.unwrap();
    app.gate().wait_until(AppState::takes_messages).await;
    fake.will_answer(503, "");
    // Unhealthy for one probe: it is asked again, and takes messages again.
    answered.recv().await.unwrap();
    app.gate().wait_until(AppState::takes_messages).await;
}

#[tokio::test]
async fn shutdown_ends_the_watch_even_if_the_app_never_came() {
    let app = app_at(closed_port().await, None);
    let (tell, _answered) = mpsc::unbounded_channel();
    let stopper = Stopper::default();
    stopper.request();
    app.run(&Recorder(tell), &stopper.subscribe()).await;
}
