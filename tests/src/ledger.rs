use std::collections::BTreeMap;

use serde_json::Value;

use crate::subscriber::Received;

/// The first arrivals of each stream, in order, without the repeats.
pub type Streams = BTreeMap<String, Vec<Value>>;

/// Checks what a broker sent: the first arrivals of a stream come in the order of their sequence,
/// and what comes again is the same message under the same sequence.
///
/// # Panics
/// When it isn't so.
#[must_use]
pub fn first_arrivals(received: &[Received]) -> Streams {
    let mut seen: BTreeMap<(&str, u64), &Received> = BTreeMap::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut streams = Streams::new();
    for message in received {
        let stream = message.property("pannier-stream");
        let sequence = message.property("pannier-sequence").parse();
        let sequence: u64 = sequence.expect("a sequence is a number");
        if let Some(before) = seen.insert((stream, sequence), message) {
            assert_eq!(before, message, "another message came under the same sequence");
            continue;
        }
        let before = last.insert(stream, sequence);
        assert!(before < Some(sequence), "{stream}: {sequence} came first after {before:?}");
        let payload = serde_json::from_slice(&message.payload).expect("the payload is JSON");
        streams.entry(message.topic.clone()).or_default().push(payload);
    }
    streams
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(stream: &str, sequence: u64, payload: &str) -> Received {
        let property = |name: &str, value: String| (name.to_owned(), value);
        Received {
            topic: stream.to_owned(),
            payload: payload.as_bytes().to_vec(),
            properties: vec![
                property("pannier-stream", stream.to_owned()),
                property("pannier-sequence", sequence.to_string()),
            ],
        }
    }

    #[test]
    fn repeats_are_left_out_and_streams_are_apart() {
        let received = [
            message("a", 1, "1"),
            message("b", 1, "7"),
            message("a", 2, "2"),
            message("a", 1, "1"),
            message("a", 2, "2"),
            message("a", 3, "3"),
        ];
        let streams = first_arrivals(&received);
        assert_eq!(streams["a"], [1, 2, 3]);
        assert_eq!(streams["b"], [7]);
    }

    #[test]
    #[should_panic(expected = "came first after")]
    fn a_message_that_is_overtaken_is_noticed() {
        let received = [message("a", 1, "1"), message("a", 3, "3"), message("a", 2, "2")];
        let _ = first_arrivals(&received);
    }

    #[test]
    #[should_panic(expected = "under the same sequence")]
    fn a_sequence_that_is_used_twice_is_noticed() {
        let _ = first_arrivals(&[message("a", 1, "1"), message("a", 1, "2")]);
    }
}
