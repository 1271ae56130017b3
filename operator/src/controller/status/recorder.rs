//! Does the connection's recorder answer?

use connection::BigQueryConnection;
use connection::status::condition;
use deliver::Trouble;
use kube::ResourceExt as _;

use super::Finding;
use crate::controller::Controller;
use crate::entries::diary::Standing;
use crate::entries::probes::Found;

/// Its own recorder is spoken to; of one that the connection names only what it shows everybody is known.
pub(super) fn reachable(controller: &Controller, connection: &BigQueryConnection) -> Finding {
    let (holds, reason, message) = match &connection.spec.recorder {
        Some(named) => looked(controller.probes.of(named)),
        None => {
            let recorded = connection.uid().and_then(|uid| controller.diary.recorded(&uid));
            spoken(controller.diary.standing(), recorded, connection.metadata.generation)
        }
    };
    Finding { kind: condition::RECORDER_REACHABLE, holds, reason, message }
}

type Said = (Option<bool>, &'static str, String);

fn spoken(standing: Standing, recorded: Option<u64>, generation: Option<i64>) -> Said {
    let is_on_record = recorded.and_then(|one| i64::try_from(one).ok()) >= generation;
    match standing {
        Standing::Unknown => {
            (None, "NotHeardYet", "The operator has not heard from the recorder yet.".into())
        }
        Standing::Taking if is_on_record => (
            Some(true),
            "Taking",
            "The recorder takes what the operator enters; this spec is on record.".into(),
        ),
        Standing::Taking => (
            Some(true),
            "Taking",
            "The recorder takes what the operator enters; this spec will be on record in a moment.".into(),
        ),
        Standing::Trouble(trouble) => {
            let waits = if is_on_record { "" } else { " This spec is not on record yet, and will be." };
            let message = format!(
                "The operator can't enter anything, so the calls of agents may be refused: {}.{waits}",
                trouble.message
            );
            (Some(false), reason(trouble.category), message)
        }
    }
}

fn looked(found: Option<Found>) -> Said {
    match found {
        None => (None, "NotLookedYet", "Nobody has looked at the recorder that the spec names yet.".into()),
        Some(Ok(_)) => (
            Some(true),
            "Published",
            "The recorder that the spec names shows a checkpoint signed by its log's key. Whether it takes the tokens of these pods, their sidecars know.".into(),
        ),
        Some(Err(Trouble { category, message })) => {
            (Some(false), reason(category), format!("The recorder that the spec names: {message}."))
        }
    }
}

/// A category as conditions have reasons.
fn reason(category: &str) -> &'static str {
    match category {
        "token_unreadable" => "TokenUnreadable",
        "recorder_unavailable" => "RecorderUnavailable",
        "recorder_busy" => "RecorderBusy",
        "identity_refused" => "IdentityRefused",
        "session_closed" | "session_new" => "SessionClosed",
        "recorder_refused" => "RecorderRefused",
        "receipt_invalid" => "ReceiptInvalid",
        "log_broken" => "LogBroken",
        "recorder_files" | "recorder_spec" => "RecorderUnproved",
        _ => "Trouble",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_record_is_said_and_what_waits() {
        let trouble = || Trouble { category: "recorder_unavailable", message: "no answer".into() };
        let said = |standing, recorded| spoken(standing, recorded, Some(3));
        assert_eq!(said(Standing::Unknown, None).0, None);
        let taking = said(Standing::Taking, Some(3));
        assert!(taking.0 == Some(true) && taking.2.contains("is on record"), "{taking:?}");
        assert!(said(Standing::Taking, Some(2)).2.contains("in a moment"));
        let waits = said(Standing::Trouble(trouble()), Some(2));
        assert_eq!((waits.0, waits.1), (Some(false), "RecorderUnavailable"));
        assert!(waits.2.contains("no answer") && waits.2.contains("not on record yet"), "{}", waits.2);
        assert!(!said(Standing::Trouble(trouble()), Some(3)).2.contains("not on record yet"));
    }

    #[test]
    fn of_another_recorder_only_what_it_shows_is_known() {
        assert_eq!(looked(None).0, None);
        assert_eq!(looked(Some(Ok(7))).0, Some(true));
        let wrong = Trouble { category: "receipt_invalid", message: "another key".into() };
        assert_eq!(looked(Some(Err(wrong))).1, "ReceiptInvalid");
    }
}
