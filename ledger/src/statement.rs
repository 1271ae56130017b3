//! Statements: what a speaker (a sidecar, the operator, the recorder itself) says, as JSON whose bytes are kept verbatim.

pub mod kind;
mod log;
mod read;
mod said;
mod session;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::blob::BlobRef;
use crate::call::{Intent, Outcome, Progress};
use crate::digest::Digest;
use crate::operator::{Accepted, Gone, PodCoverage};

pub use self::log::{BlobDeleted, Hole, KeyChange, LogEvent, MAX_NAMED_BY, MAX_ORDER_TEXT};
pub use self::read::{MAX_FILTER, Read, ReadExport};
pub use self::said::{Claimed, ClaimedCredential, MAX_CLAIM, Observed};
pub use self::session::{Heartbeat, MAX_OPEN_NAMED, PreviousSession, SessionEnd, SessionLost, SessionStart};

/// The version that this code writes in `v`. A reader refuses a greater one.
pub const VERSION: u32 = 1;

/// Greatest length of a statement, in bytes. With the recorder's envelope it stays within [`crate::entry::MAX_ENTRY`];
/// a longer one is refused by the recorder (`statement_too_large`), so speakers bound their lists.
pub const MAX_STATEMENT: usize = 60 * 1024;

/// Most statements fit in this, in bytes; a longer one takes more memory as it grows.
const USUAL_STATEMENT: usize = 1024;

/// One statement, whole. Unknown fields are ignored here and kept in the verbatim bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// Version of the format: [`VERSION`].
    pub v: u32,
    /// What it says: one of [`kind`], or a later version's.
    pub kind: String,
    /// The speaker's clock (UTC). The recorder's own is in the envelope.
    pub time: Timestamp,
    /// The `BigQueryConnection` in force; absent in what the recorder says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// One run of one process: one hash chain. A UUID, version 7.
    #[serde(deserialize_with = "crate::spelling::uuid")]
    pub session: Uuid,
    /// Place in the session, from 0, without holes.
    pub seq: u64,
    /// SHA-256 of the bytes submitted for `seq - 1`; null for `seq` 0.
    pub prev: Option<Digest>,
    /// What the speaker saw itself.
    #[serde(default, skip_serializing_if = "Observed::is_empty")]
    pub observed: Observed,
    /// What the agent said: worth nothing as evidence of who it was.
    #[serde(default, skip_serializing_if = "Claimed::is_empty")]
    pub claimed: Claimed,
    /// Every blob that this statement names, by its role: `sql`, `request`, `error`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blobs: BTreeMap<String, BlobRef>,
    /// The kind's own part.
    #[serde(flatten)]
    pub body: Body,
}

/// The `BigQueryConnection` that a session serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; empty outside a cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// `metadata.generation` of the spec in force; 0 outside a cluster.
    #[serde(default)]
    pub generation: u64,
    /// SHA-256 of the spec in force; absent outside a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec_digest: Option<Digest>,
}

/// The kind's own part: exactly one of these, under its own name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Body {
    /// `session.start`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<SessionStart>,
    /// `session.heartbeat`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// `session.end`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<SessionEnd>,
    /// `session.lost`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<SessionLost>,
    /// `call.intent`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// `call.progress`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// `call.outcome`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// `connection.accepted`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// `connection.deleted`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
    /// `coverage.pod`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<PodCoverage>,
    /// `log.start`, `log.stop`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogEvent>,
    /// `log.hole`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hole: Option<Hole>,
    /// `log.key`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyChange>,
    /// `log.deleted`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<BlobDeleted>,
    /// `read.search`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Read>,
    /// `read.follow`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<Read>,
    /// `read.sessions`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Read>,
    /// `read.operators`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operators: Option<Read>,
    /// `read.entries`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Read>,
    /// `read.export`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ReadExport>,
}

impl Body {
    /// The kind that this part belongs to; `None` when it has none or several.
    #[must_use]
    pub fn kind(&self) -> Option<&'static str> {
        let present = [
            self.start.is_some().then_some(kind::SESSION_START),
            self.heartbeat.is_some().then_some(kind::SESSION_HEARTBEAT),
            self.end.is_some().then_some(kind::SESSION_END),
            self.lost.is_some().then_some(kind::SESSION_LOST),
            self.intent.is_some().then_some(kind::CALL_INTENT),
            self.progress.is_some().then_some(kind::CALL_PROGRESS),
            self.outcome.is_some().then_some(kind::CALL_OUTCOME),
            self.accepted.is_some().then_some(kind::CONNECTION_ACCEPTED),
            self.gone.is_some().then_some(kind::CONNECTION_DELETED),
            self.coverage.is_some().then_some(kind::COVERAGE_POD),
            self.log.as_ref().map(|log| if log.stopping { kind::LOG_STOP } else { kind::LOG_START }),
            self.hole.is_some().then_some(kind::LOG_HOLE),
            self.key.is_some().then_some(kind::LOG_KEY),
            self.deleted.is_some().then_some(kind::LOG_DELETED),
            self.search.is_some().then_some(kind::READ_SEARCH),
            self.follow.is_some().then_some(kind::READ_FOLLOW),
            self.sessions.is_some().then_some(kind::READ_SESSIONS),
            self.operators.is_some().then_some(kind::READ_OPERATORS),
            self.entries.is_some().then_some(kind::READ_ENTRIES),
            self.export.is_some().then_some(kind::READ_EXPORT),
        ];
        let mut kinds = present.into_iter().flatten();
        kinds.next().filter(|_| kinds.next().is_none())
    }
}

/// The bytes are not a statement of this version.
#[derive(Debug, thiserror::Error)]
pub enum BadStatement {
    /// Longer than [`MAX_STATEMENT`].
    #[error("a statement has at most {MAX_STATEMENT} bytes; this one has {0}")]
    TooLarge(usize),
    /// Something around the JSON object.
    #[error("a statement is one JSON object without white space around it")]
    NotAnObject,
    /// Not JSON, or a field is missing or of another type.
    #[error("not a statement: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a newer version.
    #[error("statement version {0} is not known here; this program knows up to {VERSION}: update it")]
    Version(u32),
    /// `seq` 0 has no `prev`, every other has one.
    #[error("statement {0} of its session must {1}have a `prev`")]
    Chain(u64, &'static str),
}

impl Statement {
    /// Reads a whole statement.
    ///
    /// # Errors
    /// [`BadStatement`]
    pub fn parse(bytes: &[u8]) -> Result<Self, BadStatement> {
        check_frame(bytes)?;
        let statement: Self = serde_json::from_slice(bytes)?;
        check_version(statement.v)?;
        match (statement.seq, statement.prev) {
            (0, Some(_)) => Err(BadStatement::Chain(0, "not ")),
            (seq @ 1.., None) => Err(BadStatement::Chain(seq, "")),
            _ => Ok(statement),
        }
    }

    /// The bytes to submit. They are what `prev` of the next statement hashes, so serialise once and keep them.
    ///
    /// # Errors
    /// [`BadStatement::TooLarge`]
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadStatement> {
        let mut bytes = Vec::with_capacity(USUAL_STATEMENT);
        serde_json::to_writer(&mut bytes, self)?;
        check_frame(&bytes)?;
        Ok(bytes)
    }
}

fn check_frame(bytes: &[u8]) -> Result<(), BadStatement> {
    if bytes.len() > MAX_STATEMENT {
        return Err(BadStatement::TooLarge(bytes.len()));
    }
    if bytes.first() != Some(&b'{') || bytes.last() != Some(&b'}') {
        return Err(BadStatement::NotAnObject);
    }
    Ok(())
}

fn check_version(v: u32) -> Result<(), BadStatement> {
    if v == 0 || v > VERSION { Err(BadStatement::Version(v)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Statement {
        Statement {
            v: VERSION,
            kind: kind::SESSION_START.into(),
            time: "2026-11-22T10:00:00.5Z".parse().expect("a time"),
            connection: Some(Connection {
                namespace: "agents".into(),
                name: "billing".into(),
                uid: String::new(),
                generation: 0,
                spec_digest: None,
            }),
            session: Uuid::from_u128(7),
            seq: 0,
            prev: None,
            observed: Observed::default(),
            claimed: Claimed::default(),
            blobs: BTreeMap::new(),
            body: Body {
                start: Some(SessionStart {
                    version: "0.1.0".into(),
                    heartbeat_seconds: 10,
                    ..Default::default()
                }),
                ..Default::default()
            },
        }
    }

    #[test]
    fn written_and_read_back() {
        let statement = sample();
        let bytes = statement.to_bytes().expect("small");
        assert_eq!(Statement::parse(&bytes).expect("ours"), statement);
        assert_eq!(statement.body.kind(), Some(statement.kind.as_str()));
    }

    #[test]
    fn unknown_fields_are_ignored_and_duplicates_are_not() {
        let text = String::from_utf8(sample().to_bytes().expect("small")).expect("UTF-8");
        let more = text.replacen('{', r#"{"later":{"deep":[1]},"#, 1);
        assert_eq!(Statement::parse(more.as_bytes()).expect("unknown fields are fine"), sample());
        let twice = text.replacen('{', r#"{"seq":1,"#, 1);
        assert!(
            matches!(Statement::parse(twice.as_bytes()), Err(BadStatement::Malformed(_))),
            "two seq, two readings"
        );
    }

    #[test]
    fn a_session_has_one_spelling_wherever_it_is_named() {
        let id = "0199a6c5-7c3e-7c1e-9a52-2f3a51d1a9c0";
        let session = id.parse().expect("a UUID");
        let mut start = sample();
        start.session = session;
        let Some(begun) = &mut start.body.start else { panic!("the sample is a session.start") };
        begun.previous = Some(PreviousSession { session, reason: "session_closed".into() });
        let lost = SessionLost { session, last_seq: 0, open_intents: vec![], open: 0 };
        let lost = Body { lost: Some(lost), ..Body::default() };
        let hole = Body { hole: Some(Hole { session, from: 1, to: 2 }), ..Body::default() };
        let said = [start, Statement { body: lost, ..sample() }, Statement { body: hole, ..sample() }];
        let mut named = 0;
        for statement in said {
            let text = String::from_utf8(statement.to_bytes().expect("small")).expect("UTF-8");
            assert_eq!(Statement::parse(text.as_bytes()).expect("canonical"), statement);
            for (at, _) in text.match_indices(id) {
                let (before, after) = (&text[..at], &text[at + id.len()..]);
                let upper = format!("{before}{}{after}", id.to_uppercase());
                let error = Statement::parse(upper.as_bytes()).expect_err("another spelling");
                assert!(matches!(error, BadStatement::Malformed(_)), "{error}");
                assert!(error.to_string().contains("8-4-4-4-12"), "{error}");
                named += 1;
            }
        }
        assert_eq!(named, 4, "every place that has a session's id");
    }

    #[test]
    fn what_the_recorder_must_not_take() {
        let text = String::from_utf8(sample().to_bytes().expect("small")).expect("UTF-8");
        let refused =
            |text: String| Statement::parse(text.as_bytes()).expect_err("must be refused").to_string();
        assert!(refused(format!(" {text}")).contains("white space"));
        assert!(refused(text.replace("\"v\":1", "\"v\":2")).contains("update"));
        assert!(refused(text.replace("\"v\":1", "\"v\":0")).contains("version 0"));
        assert!(refused(text.replace("\"seq\":0", "\"seq\":3")).contains("must have a `prev`"));
        assert!(refused(text.replace("\"seq\":0", "\"seq\":-1")).contains("not a statement"));
        assert!(refused(format!("{{{}}}", " ".repeat(MAX_STATEMENT))).contains("at most"));
    }
}
