//! Client and server over a socket.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use super::Control;
use super::client::{AskError, ask, ask_json};
use super::messages::{ForgetConsumer, GetStatus, RetryConsumer};

/// Serves the control socket of a process without store, apps and uplinks.
fn serve(data_dir: &Path) {
    let control = Control {
        store: None,
        disk_limit: 1 << 30,
        uplinks: Arc::default(),
        apps: Arc::default(),
        components: Arc::default(),
        lost_before: Arc::default(),
    };
    let listener = Control::listen(data_dir).unwrap();
    tokio::spawn(async move { axum::serve(listener, control.router()).await });
}

#[tokio::test]
async fn a_process_without_a_store_tells_its_status_and_knows_no_consumer() {
    let dir = tempfile::tempdir().unwrap();
    serve(dir.path());
    let status = ask(dir.path(), &GetStatus).await.unwrap();
    assert_eq!((status.pid, status.store, status.disk_limit), (std::process::id(), None, None));
    let json = ask_json(dir.path(), &GetStatus).await.unwrap();
    assert!(json.get("node").is_none(), "{json}");
    let consumer = "app/shop/pubsub/50% off?/#".to_owned();
    let unknown = r#"there is no consumer "app/shop/pubsub/50% off?/#""#;
    for force in [false, true] {
        let request = ForgetConsumer { consumer: consumer.clone(), force };
        assert_eq!(ask(dir.path(), &request).await.unwrap_err().to_string(), unknown);
    }
    let request = RetryConsumer { consumer };
    assert_eq!(ask(dir.path(), &request).await.unwrap_err().to_string(), unknown);
}

#[tokio::test]
async fn the_socket_of_a_process_that_has_ended_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let not_running = ask(dir.path(), &GetStatus).await;
    assert!(matches!(not_running, Err(AskError::NotRunning(_))), "{not_running:?}");
    drop(Control::listen(dir.path()).unwrap());
    let ended = ask(dir.path(), &GetStatus).await;
    assert!(matches!(ended, Err(AskError::NotRunning(_))), "{ended:?}");
    serve(dir.path());
    ask(dir.path(), &GetStatus).await.unwrap();
}

#[test]
fn a_forced_request_is_read_as_it_was_sent() {
    for force in [false, true] {
        let request = ForgetConsumer { consumer: "c".into(), force };
        let uri = super::messages::AdminRequest::uri(&request);
        let query = uri.split_once('?').map(|(_, query)| query);
        assert_eq!(ForgetConsumer::read("c".into(), query), request);
    }
}
