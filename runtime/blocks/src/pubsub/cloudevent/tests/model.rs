//! A naive model of events: a map of JSON values, with which events are compared.

use serde_json::Map;

use super::*;

const NOW_MS: i64 = 1_800_000_000_999;
const TIME: &str = "2027-01-15T08:00:00Z";
const EXPIRATION: &str = "2027-01-15T08:01:30Z";

/// A publish before it is accepted.
#[derive(Debug)]
struct ModelPublish {
    data: Vec<u8>,
    content_type: Option<&'static str>,
    metadata: BTreeMap<String, String>,
    traceparent: Option<String>,
    is_dead_letter: bool,
}

impl ModelPublish {
    fn message(&self) -> Message {
        let mut message = stored(
            accepted(Content {
                traceparent: self.traceparent.as_deref(),
                tracestate: self.traceparent.as_deref(),
                ..publish(&self.data, self.content_type, &self.metadata)
            })
            .unwrap(),
        );
        if self.is_dead_letter {
            let marks = [
                ("deadletterreason", "a \"reason\""),
                ("deadlettertopic", "first"),
                ("deadletterstream", "7"),
                ("deadlettersequence", "9"),
                ("deadlettertime", "1800000000000"),
            ];
            message.attributes.extend(marks.map(|(name, value)| (name.into(), value.into())));
        }
        message
    }

    fn is_raw(&self) -> bool {
        self.metadata.contains_key("rawPayload")
    }

    fn named(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The event as CloudEvents and Dapr describe it.
    fn event(&self) -> Map<String, Value> {
        let is = |media_type| self.content_type == Some(media_type);
        let object = || serde_json::from_slice::<Map<String, Value>>(&self.data).ok();
        let mut event = if self.is_raw() {
            object().unwrap_or_else(|| binary(&self.data))
        } else if is(CONTENT_TYPE) {
            object().unwrap()
        } else {
            self.data()
        };
        let place = if self.is_dead_letter { (7, 9, "first") } else { (3, 42, "orders") };
        let (stream, sequence, topic) = place;
        let identity = identity();
        let source = EventSource { identity: &identity, stream: StreamId(stream) };
        let mut lacks = vec![
            ("id", event_id(source, Sequence(sequence)).to_string()),
            ("source", "Dapr".to_owned()),
            ("type", "com.dapr.event.sent".to_owned()),
            ("specversion", "1.0".to_owned()),
        ];
        if !self.is_raw() {
            lacks.push(("time", TIME.to_owned()));
            let expires = self.metadata.get("ttlInSeconds").map(|_| EXPIRATION.to_owned());
            lacks.extend(expires.map(|at| ("expiration", at)));
        }
        for (name, value) in lacks {
            if event.get(name).is_none_or(Value::is_null) {
                event.insert(name.into(), value.into());
            }
        }
        event.insert("topic".into(), topic.into());
        event.insert("pubsubname".into(), "pubsub".into());
        if !self.is_raw() {
            event.extend(self.trace());
        }
        if self.is_dead_letter {
            event.insert("deadletterreason".into(), "a \"reason\"".into());
        }
        event
    }

    fn data(&self) -> Map<String, Value> {
        let content_type = self.content_type.unwrap_or("text/plain");
        let mut event = match String::from_utf8(self.data.clone()) {
            Ok(text) if content_type != BINARY => {
                let json = serde_json::from_str(&text).ok();
                let json = json.filter(|_| content_type == "application/json");
                Map::from_iter([("data".into(), json.unwrap_or(Value::String(text)))])
            }
            _ => binary(&self.data),
        };
        event.insert("datacontenttype".into(), content_type.into());
        event.insert("source".into(), self.named("cloudevent.source").unwrap_or("shop").into());
        for name in ["id", "type", "subject"] {
            let value = self.named(&format!("cloudevent.{name}"));
            event.extend(value.map(|value| (name.into(), value.into())));
        }
        event
    }

    fn trace(&self) -> Map<String, Value> {
        let header = self.traceparent.as_deref().filter(|value| !value.is_empty());
        let named = |name| self.named(name).filter(|_| self.content_type != Some(CONTENT_TYPE));
        let parent = named("cloudevent.traceparent").or(named("cloudevent.traceid")).or(header);
        let state = named("cloudevent.tracestate").or(header).unwrap_or_default();
        let Some(parent) = parent else { return Map::new() };
        let fields = [("traceid", parent), ("traceparent", parent), ("tracestate", state)];
        fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }
}

/// The place that the messages of the model come from.
struct Origin {
    identity: Identity,
    topic: Topic,
}

impl Origin {
    fn new() -> Self {
        Self { identity: identity(), topic: Topic::new("pubsub", "orders") }
    }

    fn source(&self) -> EventSource<'_> {
        EventSource { identity: &self.identity, stream: StreamId(3) }
    }

    fn event<'a>(&'a self, message: &'a Message) -> CloudEvent<'a> {
        CloudEvent::of(&self.topic, message, self.source(), NOW_MS)
    }
}

fn binary(data: &[u8]) -> Map<String, Value> {
    Map::from_iter([
        ("datacontenttype".into(), BINARY.into()),
        ("data_base64".into(), BASE64.encode(data).into()),
    ])
}

/// Text with every character that JSON has to escape.
fn text() -> impl Strategy<Value = String> {
    "[a-c\"\\\\\u{0}-\u{1f}\u{7f}é🦀 ]{0,12}"
}

fn json() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,3}0)?";
    let string = text().prop_map(|text| json!(text).to_string());
    let leaf = prop_oneof![number, string, Just("null".to_owned()), Just(" true ".to_owned())];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            object(inner),
        ]
    })
}

/// An object with the names of attributes, some escaped, some repeated.
fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let names = vec![
        "id",
        "type",
        "source",
        "time",
        "topic",
        "data",
        "expiration",
        "traceid",
        "a",
        "\\u0061",
        "\\\"",
        "Z",
        "deadletterreason",
        "specversion",
        "é",
    ];
    let field = (prop::sample::select(names), value);
    prop::collection::vec(field, 0..6).prop_map(|fields| {
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!(" \"{name}\" :{value}")).collect();
        format!("{{{}}}", fields.join(","))
    })
}

fn metadata() -> impl Strategy<Value = BTreeMap<String, String>> {
    let names = vec![
        "cloudevent.id",
        "cloudevent.source",
        "cloudevent.type",
        "cloudevent.subject",
        "cloudevent.traceid",
        "cloudevent.traceparent",
        "cloudevent.tracestate",
    ];
    let named = prop::collection::btree_map(
        prop::sample::select(names).prop_map(str::to_owned),
        text(),
        0..4,
    );
    (named, any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(mut metadata, expires, is_raw)| {
        if expires {
            metadata.insert("ttlInSeconds".into(), "90".into());
        }
        if is_raw {
            metadata.insert("rawPayload".into(), "true".into());
        }
        metadata
    })
}

fn given() -> impl Strategy<Value = ModelPublish> {
    let event = object(json()).prop_map(|json| (json.into_bytes(), Some(CONTENT_TYPE)));
    let kinds =
        vec![None, Some("application/json"), Some("text/plain"), Some("image/png"), Some(BINARY)];
    let body = prop_oneof![
        json().prop_map(String::into_bytes),
        text().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let data = (body, prop::sample::select(kinds));
    let trace = prop::option::of(text());
    (prop_oneof![event, data], metadata(), trace, any::<bool>()).prop_map(
        |((data, content_type), metadata, traceparent, is_dead_letter)| ModelPublish {
            data,
            content_type,
            metadata,
            traceparent,
            is_dead_letter,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn an_event_is_what_a_plain_map_makes_of_its_publish(given in given()) {
        let message = given.message();
        let origin = Origin::new();
        let event = origin.event(&message);
        let json = event.to_json();
        prop_assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), json!(given.event()));
        let nested = event.to_raw();
        prop_assert_eq!(nested.get().as_bytes(), &json);
        let raw = CloudEvent::raw(&origin.topic, &message, origin.source(), NOW_MS);
        let carried = BASE64.decode(raw.text("data_base64").unwrap()).unwrap();
        prop_assert_eq!(carried, if given.is_raw() { given.data } else { json });
    }

    #[test]
    fn fields_are_the_members_of_the_json_in_the_order_of_their_names(given in given()) {
        let message = given.message();
        let origin = Origin::new();
        let event = origin.event(&message);
        prop_assert!(event.fields().is_sorted_by(|(one, _), (other, _)| one < other));
        let members = event.fields().map(|(name, raw)| format!("{}:{}", json!(name), raw.get()));
        let json = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        prop_assert_eq!(json.as_bytes(), event.to_json());
    }

    #[test]
    fn json_data_keeps_every_byte(data in json()) {
        let json = "application/json";
        let message = stored(accepted(publish(data.as_bytes(), Some(json), &BTreeMap::new())).unwrap());
        let origin = Origin::new();
        let event = origin.event(&message);
        let kept = event.get("data").unwrap();
        prop_assert_eq!(kept.get(), data.trim());
    }
}
