//! Scopes: the topics of a pub/sub component that each app may publish or subscribe to.
//!
//! Every pub/sub component takes Dapr's four metadata fields for them.

use std::collections::BTreeMap;

use components::topic::matches;

/// The names of the metadata fields.
const FIELDS: [&str; 4] =
    ["publishingScopes", "subscriptionScopes", "allowedTopics", "protectedTopics"];

/// A kind of access to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicAccess {
    /// Publish to it.
    Publish,
    /// Subscribe to it.
    Subscribe,
}

/// The scopes of one component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicScopes {
    publishing: BTreeMap<String, Vec<String>>,
    subscription: BTreeMap<String, Vec<String>>,
    allowed: Vec<String>,
    protected: Vec<String>,
}

impl TopicScopes {
    /// Reads the fields; `take` returns a metadata value by its name.
    pub fn parse(mut take: impl FnMut(&'static str) -> Option<String>) -> Self {
        let [publishing, subscription, allowed, protected] = FIELDS;
        Self {
            publishing: apps(&take(publishing).unwrap_or_default()),
            subscription: apps(&take(subscription).unwrap_or_default()),
            allowed: list(&take(allowed).unwrap_or_default()),
            protected: list(&take(protected).unwrap_or_default()),
        }
    }

    /// Returns whether the app has access: the topic is among the allowed ones, if any are named, and
    /// among the app's own, if the app has some or the topic is protected.
    #[must_use]
    pub fn allows(&self, access: TopicAccess, app_id: &str, topic: &str) -> bool {
        let among = |topics: &[String]| topics.iter().any(|name| name == topic);
        if !self.allowed.is_empty() && !among(&self.allowed) {
            return false;
        }
        let (scopes, is_protected) = match access {
            TopicAccess::Publish => (&self.publishing, among(&self.protected)),
            // A filter with wildcards must not circumvent the protection.
            TopicAccess::Subscribe => {
                (&self.subscription, self.protected.iter().any(|name| matches(topic, name)))
            }
        };
        scopes.get(app_id).map_or(!is_protected, |topics| among(topics))
    }
}

/// Parses `app1=topic1,topic2;app2=`. An app without topics may use none.
fn apps(value: &str) -> BTreeMap<String, Vec<String>> {
    let mut apps: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let entries = value.split(';').filter_map(|entry| entry.split_once('='));
    for (app, topics) in entries {
        apps.entry(app.trim().to_owned()).or_default().extend(list(topics));
    }
    apps
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|topic| !topic.is_empty()).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::TopicAccess::{Publish, Subscribe};
    use super::*;

    fn scopes(fields: &[(&str, &'static str)]) -> TopicScopes {
        TopicScopes::parse(|name| {
            fields.iter().find(|(field, _)| *field == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_scopes_everything_is_allowed() {
        assert!(scopes(&[]).allows(Publish, "app", "topic"));
        assert!(scopes(&[("publishingScopes", "")]).allows(Subscribe, "app", "topic"));
    }

    #[test]
    fn an_app_with_a_scope_has_its_topics_alone() {
        let scopes = scopes(&[("publishingScopes", "app1 = t1, t2 ; app2=t2;app3=")]);
        for (app, topic) in [("app1", "t1"), ("app1", "t2"), ("app4", "t1")] {
            assert!(scopes.allows(Publish, app, topic), "{app} {topic}");
        }
        for (app, topic) in [("app1", "t3"), ("app2", "t1"), ("app3", "t1")] {
            assert!(!scopes.allows(Publish, app, topic), "{app} {topic}");
            assert!(scopes.allows(Subscribe, app, topic), "{app} {topic}");
        }
    }

    #[test]
    fn a_topic_that_is_not_allowed_is_for_nobody() {
        let scopes = scopes(&[("allowedTopics", "t1,t2"), ("subscriptionScopes", "app1=t1,t9")]);
        assert!(scopes.allows(Publish, "app1", "t2"));
        assert!(!scopes.allows(Publish, "app1", "t3"));
        assert!(scopes.allows(Subscribe, "app1", "t1"));
        assert!(!scopes.allows(Subscribe, "app1", "t9"));
    }

    #[test]
    fn a_protected_topic_needs_a_scope() {
        let scopes = scopes(&[("protectedTopics", "t1"), ("publishingScopes", "app1=t1")]);
        assert!(scopes.allows(Publish, "app1", "t1"));
        assert!(!scopes.allows(Subscribe, "app1", "t1"));
        assert!(!scopes.allows(Publish, "app2", "t1"));
        assert!(scopes.allows(Publish, "app2", "t2"));
        assert!(!scopes.allows(Subscribe, "app2", "#"));
        assert!(!scopes.allows(Subscribe, "app2", "+"));
        assert!(scopes.allows(Subscribe, "app2", "t1/+"));
    }
}
