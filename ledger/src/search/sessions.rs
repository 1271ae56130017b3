//! Sessions: the question and the answer of `GET /v1/sessions`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::query_string;
use crate::entry::{Role, Workload};
use crate::statement::{Connection, Hole};

/// Which sessions. All parts must be true of a session; an absent part is true of every session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionQuery {
    /// Only what is of this namespace: it takes no right to read others. Absent: all that the reader may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The agent, as `namespace/service-account`; `namespace/` alone stands for all of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The connection, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// This one session; [`Session::named_holes`] is there then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Uuid>,
    /// Heard at this time or later. With `until`: sessions that lived in that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Begun before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Only open sessions (true), or only those that ended or were lost (false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// How many sessions: 1 to [`super::MAX_LIMIT`]; [`super::DEFAULT_LIMIT`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only sessions that began before this index: [`SessionAnswer::next`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Answer when the index covers at least this many entries, or after [`super::MAX_WAIT_SECONDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
}

impl SessionQuery {
    /// The query string, without `?`; empty when nothing is asked.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        query_string(self)
    }
}

/// The sessions found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionAnswer {
    /// How many entries of the log this answer covers.
    pub size: u64,
    /// The index is being built again and this answer lacks what it has not reached: how many entries it is to cover. Absent
    /// when the index has reached the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilding_to: Option<u64>,
    /// Those that began last come first.
    pub sessions: Vec<Session>,
    /// There may be more: ask again with `before` set to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// One session: how it began, what is recorded of it, how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Index of its `session.start`.
    pub index: u64,
    /// Its id.
    pub session: Uuid,
    /// Who spoke.
    pub subject: Workload,
    /// As what.
    pub role: Role,
    /// The connection in force at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// Version of the speaker's program.
    pub version: String,
    /// When the recorder received its start.
    pub started: Timestamp,
    /// When the recorder received its last statement.
    pub heard: Timestamp,
    /// Whether it goes on.
    pub state: SessionState,
    /// How it ended; absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Ending>,
    /// Calls that are recorded: intents.
    pub calls: u64,
    /// How many of them have no outcome.
    pub open_calls: u64,
    /// How many of them the sidecar refused.
    pub refused: u64,
    /// Calls that the sidecar refused and had no room to record, as it last said; they are not among `calls`.
    pub refused_unrecorded: u64,
    /// How often statements never came.
    pub holes: u64,
    /// How many statements never came.
    pub missing: u64,
    /// Each hole with the index of its entry, when the question named the session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named_holes: Vec<NamedHole>,
}

/// Whether a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// It may still speak.
    Open,
    /// It said `session.end`.
    Ended,
    /// The recorder heard nothing for too long, and closed it.
    Lost,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// Index of its `session.end` or `session.lost`.
    pub index: u64,
    /// When the recorder received or wrote that.
    pub received: Timestamp,
    /// What the speaker gave as reason: `shutdown`. Absent when it was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `seq` of the intents that `session.lost` names as open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_intents: Vec<u64>,
}

/// A hole, and where the log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedHole {
    /// Index of the `log.hole`.
    pub index: u64,
    /// What is missing.
    #[serde(flatten)]
    pub hole: Hole,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_what_was_asked_and_nothing_else() {
        assert_eq!(SessionQuery::default().to_query_string(), "");
        let query = SessionQuery {
            agent: Some("agents/".into()),
            open: Some(true),
            before: Some(7),
            ..Default::default()
        };
        assert_eq!(query.to_query_string(), "agent=agents%2F&before=7&open=true");
    }

    #[test]
    fn a_named_hole_is_flat() {
        let named = NamedHole { index: 9, hole: Hole { session: Uuid::nil(), from: 1, to: 2 } };
        let json = serde_json::to_string(&named).expect("plain");
        assert_eq!(json, r#"{"index":9,"session":"00000000-0000-0000-0000-000000000000","from":1,"to":2}"#);
        assert_eq!(serde_json::from_str::<NamedHole>(&json).expect("ours"), named);
    }
}
