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
    // A body that can't be read is as good as none.
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
mod tests {
    use super::*;

    fn kind(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Ack => "ack",
            Outcome::Retry(_) => "retry",
            Outcome::Reject(_) => "reject",
            Outcome::Hold(_) => "hold",
            Outcome::Unreachable(_) => "unreachable",
        }
    }

    #[test]
    fn an_answer_means_what_it_means_to_dapr() {
        for (status, body, expected) in [
            (200, "", "ack"),
            (204, "", "ack"),
            (299, "OK", "ack"),
            (200, "{", "ack"),
            (200, "[]", "ack"),
            (200, r#"{"success":true}"#, "ack"),
            (200, r#"{"status":null}"#, "ack"),
            (200, r#"{"status":""}"#, "ack"),
            (200, r#"{"status":"SUCCESS"}"#, "ack"),
            (200, r#"{"status":"RETRY"}"#, "retry"),
            (200, r#"{"status":"success"}"#, "retry"),
            (200, r#"{"status":"DROP"}"#, "reject"),
            (404, "", "reject"),
            (404, r#"{"status":"SUCCESS"}"#, "reject"),
            (500, "", "retry"),
            (400, r#"{"status":"DROP"}"#, "retry"),
            (301, "", "retry"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(kind(&outcome(status, body.as_bytes())), expected, "{status} {body}");
        }
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
        let ids = ["1", "2"];
        for (status, body, expected) in
            [(404, "", "reject"), (500, "", "retry"), (200, "", "retry"), (200, "{}", "retry")]
        {
            let status = StatusCode::from_u16(status).expect("a status");
            let outcomes = bulk_outcomes(status, body.as_bytes(), &ids);
            assert!(outcomes.iter().all(|outcome| kind(outcome) == expected), "{status}");
            assert_eq!(outcomes.len(), 2);
        }
    }
}
