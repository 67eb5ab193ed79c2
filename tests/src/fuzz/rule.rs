//! Routing rules: compiled, and asked about an event.

use blocks::pubsub::cloudevent::{CloudEvent, EventSource};
use blocks::pubsub::route::Routes;
use config::model::Rule;
use store_forward::consumer::Message;
use store_forward::ids::{Epoch, NodeId, StreamId};
use store_forward::record::Topic;
use store_forward::store::Identity;

use super::input::Input;

/// Bytes of the stack of the threads that serve: tokio's.
const STACK_BYTES: usize = 2 << 20;

/// A rule, and the data of an event.
pub(super) fn run(data: &[u8]) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, || route(data)).expect("a thread can be started");
        thread.join().expect("a rule never panics");
    });
}

fn route(data: &[u8]) {
    let mut input = Input(data);
    let rule = Rule { matches: input.text(), path: "/matched".into() };
    let Ok(routes) = Routes::compile("pubsub/topic", &[rule], Some("default")) else { return };
    let message = Message {
        content_type: Some("application/json".into()),
        attributes: vec![("type".into(), "order".into())],
        data: input.0.to_vec(),
        ..Message::default()
    };
    let identity = Identity { node: NodeId("node".into()), epoch: Epoch(1) };
    let source = EventSource { identity: &identity, stream: StreamId(1) };
    let topic = Topic::new("pubsub", "topic");
    let event = CloudEvent::of(&topic, &message, source, 0);
    assert!(matches!(routes.route(&event), Some("/matched" | "/default")));
}
