//! The meaning of an app's answer to a delivery.

use std::collections::HashMap;

use components::port::pubsub::Outcome;
use http::StatusCode;
use serde::Deserialize;

/// Returns the outcome that the answer to one event stands for.
#[must_use]
pub fn outcome(status: StatusCode, body: &[u8]) -> Outcome {
    if status == StatusCode::NOT_FOUND {
        return Outcome::Reject("the app answered 404".into());
    }
    if !status.is_success() {
        return Outcome::Retry(format!("the app answered {}", status.as_u16()).into());
    }
    // A body that can't be parsed counts as none.
    let answer: Result<SingleAnswer, _> = serde_json::from_slice(body);
    match answer.map(|answer| answer.status.unwrap_or_default()).unwrap_or_default().as_str() {
        "" => Outcome::Ack,
        status => by_name(status),
    }
}

/// Returns the outcomes that the answer to a bulk of events stands for, one for each id.
#[must_use]
pub fn bulk_outcomes(status: StatusCode, body: &[u8], ids: &[&str]) -> Vec<Outcome> {
    if !status.is_success() {
        return vec![outcome(status, body); ids.len()];
    }
    let answer: BulkAnswer = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(error) => {
            let reason = format!("the app's answer to a bulk can't be read: {error}");
            return vec![Outcome::Retry(reason.into()); ids.len()];
        }
    };
    let statuses: HashMap<String, String> = answer
        .statuses
        .into_iter()
        .map(|entry| (entry.entry_id, entry.status.unwrap_or_default()))
        .collect();
    ids.iter()
        .map(|id| match statuses.get(*id).map_or("", String::as_str) {
            "" => Outcome::Retry("the app gave no status for it".into()),
            status => by_name(status),
        })
        .collect()
}

fn by_name(status: &str) -> Outcome {
    match status {
        "SUCCESS" => Outcome::Ack,
        "DROP" => Outcome::Reject("the app answered DROP".into()),
        "RETRY" => Outcome::Retry("the app answered RETRY".into()),
        other => {
            let shown: String = other.chars().take(40).collect();
            Outcome::Retry(format!("the app answered with unknown status {shown:?}").into())
        }
    }
}

#[derive(Deserialize)]
struct SingleAnswer {
    status: Option<String>,
}

#[derive(Deserialize)]
struct BulkAnswer {
    #[serde(default)]
    statuses: Vec<EntryStatus>,
}

#[derive(Deserialize)]
struct EntryStatus {
    #[serde(rename = "entryId", default)]
    entry_id: String,
    status: Option<String>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::channel::http) fn kind(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Ack => "ack",
            Outcome::Retry(_) => "retry",
            Outcome::Reject(_) => "reject",
            Outcome::Hold(_) => "hold",
            Outcome::Unreachable(_) => "unreachable",
        }
    }

    #[track_caller]
    fn assert_outcome(expected: &str, status: u16, body: &str) {
        let status = StatusCode::from_u16(status).expect("a status");
        assert_eq!(kind(&outcome(status, body.as_bytes())), expected, "{status} {body}");
    }

    #[test]
    fn a_success_without_another_status_acknowledges() {
        for status in [200, 204, 299] {
            assert_outcome("ack", status, "");
        }
        for body in ["OK", "{", "[]", r#"{"success":true}"#, r#"{"status":null}"#] {
            assert_outcome("ack", 200, body);
        }
        for body in [r#"{"status":""}"#, r#"{"status":"SUCCESS"}"#] {
            assert_outcome("ack", 200, body);
        }
    }

    #[test]
    fn a_status_in_the_body_counts_after_a_success_alone() {
        assert_outcome("retry", 200, r#"{"status":"RETRY"}"#);
        assert_outcome("retry", 200, r#"{"status":"success"}"#);
        assert_outcome("reject", 200, r#"{"status":"DROP"}"#);
        assert_outcome("reject", 404, r#"{"status":"SUCCESS"}"#);
        assert_outcome("retry", 400, r#"{"status":"DROP"}"#);
    }

    #[test]
    fn an_error_is_tried_again_unless_it_is_a_404() {
        assert_outcome("reject", 404, "");
        assert_outcome("retry", 500, "");
        assert_outcome("retry", 301, "");
    }

    #[test]
    fn a_bulk_answer_has_a_status_for_each_entry_and_a_missing_one_is_retry() {
        let ids = ["1", "2", "3", "4", "5"];
        let body = br#"{"statuses":[{"entryId":"3","status":"DROP"},{"entryId":"1","status":"SUCCESS"},
            {"entryId":"2","status":""},{"entryId":"4","status":"?"},{"entryId":"9","status":"DROP"}]}"#;
        let outcomes = bulk_outcomes(StatusCode::OK, body, &ids);
        let kinds: Vec<_> = outcomes.iter().map(kind).collect();
        assert_eq!(kinds, ["ack", "retry", "reject", "retry", "retry"]);
    }

    #[test]
    fn a_bulk_that_fails_as_a_whole_has_one_outcome_for_all() {
        let kinds = |status, body: &str| {
            let outcomes = bulk_outcomes(status, body.as_bytes(), &["1", "2"]);
            outcomes.iter().map(kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(StatusCode::NOT_FOUND, ""), ["reject"; 2]);
        assert_eq!(kinds(StatusCode::INTERNAL_SERVER_ERROR, ""), ["retry"; 2]);
        assert_eq!(kinds(StatusCode::OK, ""), ["retry"; 2]);
        assert_eq!(kinds(StatusCode::OK, "{}"), ["retry"; 2]);
    }
}
