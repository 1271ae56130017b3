//! Entries: the leaves of the log. `{"envelope":E,"statement":S}`, where `S` is the speaker's bytes as they were submitted
//! and `E` is what the recorder knows about them. The whole is JSON that `jq` reads, and `S` is cut out of it unchanged.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::statement::MAX_STATEMENT;

/// Greatest length of an entry, in bytes: an entry bundle has 16-bit lengths (C2SP tlog-tiles, "Log entries").
pub const MAX_ENTRY: usize = u16::MAX as usize;

/// Greatest length of an envelope, in bytes. A recorder refuses a token whose names don't fit (`subject_too_large`).
pub const MAX_ENVELOPE: usize = MAX_ENTRY - MAX_STATEMENT - PREFIX.len() - MIDDLE.len() - SUFFIX.len();

const PREFIX: &[u8] = b"{\"envelope\":";
const MIDDLE: &[u8] = b",\"statement\":";
const SUFFIX: &[u8] = b"}";

/// The recorder's part of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The recorder's clock (UTC). Never earlier than the entry before.
    pub received: Timestamp,
    /// Who spoke, as the recorder verified it.
    pub subject: Subject,
    /// What the speaker may say.
    pub role: Role,
}

/// A verified speaker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Subject {
    /// A workload, from its pod-bound service account token.
    Workload(Workload),
    /// The recorder itself, which speaks for its own log.
    Log {
        /// The log's origin.
        log: String,
    },
}

/// A pod and its service account, as the cluster's signature names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// The recorder's name for the cluster whose key signed the token.
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
    /// Pod.
    pub pod: String,
    /// Pod's UID.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// Node, where the token has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl std::fmt::Display for Subject {
    /// `namespace/service-account`, as people name an agent; the log's origin for the recorder.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Workload(w) => write!(f, "{}/{}", w.namespace, w.service_account),
            Self::Log { log } => f.write_str(log),
        }
    }
}

/// What a speaker may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// `session.start`, `session.heartbeat`, `session.end` and `call.*`, in its own session.
    Sidecar,
    /// `session.*` of its own session, `coverage.*` and `connection.*`.
    Operator,
    /// `log.*` and `session.lost`.
    Recorder,
}

impl Role {
    /// May this role write this kind?
    #[must_use]
    pub fn may_write(self, kind: &str) -> bool {
        let own_session = matches!(kind, "session.start" | "session.heartbeat" | "session.end");
        match self {
            Self::Sidecar => own_session || kind.starts_with("call."),
            Self::Operator => own_session || kind.starts_with("coverage.") || kind.starts_with("connection."),
            Self::Recorder => {
                own_session || kind == "session.lost" || kind.starts_with("log.") || kind.starts_with("read.")
            }
        }
    }
}

/// An entry that was read; both parts lie in the leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The recorder's part.
    pub envelope: Envelope,
    /// The speaker's bytes.
    pub statement: &'a [u8],
}

/// The bytes are not an entry.
#[derive(Debug, thiserror::Error)]
pub enum BadEntry {
    /// Longer than [`MAX_ENTRY`].
    #[error("an entry has at most {MAX_ENTRY} bytes; this one has {0}")]
    TooLarge(usize),
    /// Not JSON, or not of the two parts.
    #[error("not an entry: {0}")]
    Malformed(#[from] serde_json::Error),
    /// JSON of the two parts, but with other bytes around them.
    #[error("the entry's framing is not exactly {{\"envelope\":...,\"statement\":...}}")]
    Framing,
}

/// Makes a leaf of an envelope and a statement's bytes, which must be one JSON value ([`crate::statement::Statement::parse`]).
///
/// # Errors
/// [`BadEntry::TooLarge`]
pub fn encode(envelope: &Envelope, statement: &[u8]) -> Result<Vec<u8>, BadEntry> {
    let envelope = serde_json::to_vec(envelope)?;
    let leaf = frame(&envelope, statement);
    if leaf.len() > MAX_ENTRY { Err(BadEntry::TooLarge(leaf.len())) } else { Ok(leaf) }
}

/// The leaf's bytes from those of its two parts, unchecked.
pub(crate) fn frame(envelope: &[u8], statement: &[u8]) -> Vec<u8> {
    [PREFIX, envelope, MIDDLE, statement, SUFFIX].concat()
}

/// Is the leaf what [`frame`] makes of its two parts?
fn is_framed(leaf: &[u8], envelope: &[u8], statement: &[u8]) -> bool {
    let parts = [PREFIX, envelope, MIDDLE, statement];
    let rest = parts.into_iter().try_fold(leaf, |rest, part| rest.strip_prefix(part));
    rest == Some(SUFFIX)
}

impl<'a> Entry<'a> {
    /// Reads a leaf.
    ///
    /// # Errors
    /// [`BadEntry`]: there is one way to frame two given parts, and any other bytes are refused.
    pub fn parse(leaf: &'a [u8]) -> Result<Self, BadEntry> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Parts<'a> {
            #[serde(borrow)]
            envelope: &'a RawValue,
            #[serde(borrow)]
            statement: &'a RawValue,
        }
        if leaf.len() > MAX_ENTRY {
            return Err(BadEntry::TooLarge(leaf.len()));
        }
        let parts: Parts<'a> = serde_json::from_slice(leaf)?;
        let (envelope, statement) = (parts.envelope.get().as_bytes(), parts.statement.get().as_bytes());
        if !is_framed(leaf, envelope, statement) {
            return Err(BadEntry::Framing);
        }
        Ok(Self { envelope: serde_json::from_slice(envelope)?, statement })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn envelope() -> Envelope {
        Envelope {
            received: Timestamp::UNIX_EPOCH,
            subject: Subject::Workload(Workload {
                cluster: "prod".into(),
                namespace: "agents".into(),
                service_account: "billing".into(),
                pod: "billing-0".into(),
                pod_uid: "u".into(),
                node: None,
            }),
            role: Role::Sidecar,
        }
    }

    #[test]
    fn other_framings_are_refused() {
        let leaf = String::from_utf8(encode(&envelope(), b"{\"a\":1}").expect("small")).expect("UTF-8");
        assert!(Entry::parse(leaf.as_bytes()).is_ok());
        let spaced = leaf.replace(",\"statement\":", ", \"statement\":");
        assert!(matches!(Entry::parse(spaced.as_bytes()), Err(BadEntry::Framing)));
        let swapped = format!(
            r#"{{"statement":{{}},"envelope":{}}}"#,
            serde_json::to_string(&envelope()).expect("plain")
        );
        assert!(matches!(Entry::parse(swapped.as_bytes()), Err(BadEntry::Framing)));
        let third = leaf.replacen('{', r#"{"x":1,"#, 1);
        assert!(matches!(Entry::parse(third.as_bytes()), Err(BadEntry::Malformed(_))));
    }

    #[test]
    fn a_statement_of_the_greatest_length_fits_with_the_greatest_envelope() {
        const { assert!(MAX_ENVELOPE > 3_000) };
        let statement = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_STATEMENT - 8));
        assert_eq!(statement.len(), MAX_STATEMENT);
        assert!(encode(&envelope(), statement.as_bytes()).is_ok());
    }

    #[test]
    fn roles_write_their_own_kinds() {
        assert!(Role::Sidecar.may_write("call.intent"));
        assert!(!Role::Sidecar.may_write("coverage.pod"));
        assert!(!Role::Sidecar.may_write("session.lost"));
        assert!(!Role::Operator.may_write("call.intent"));
        assert!(!Role::Sidecar.may_write("log.start"));
        assert!(Role::Recorder.may_write("session.lost"));
        assert!(!Role::Recorder.may_write("call.intent"));
    }

    proptest! {
        #[test]
        fn the_statement_comes_back_byte_for_byte(text in "\\PC{0,200}", space in "[ \t\n]{0,3}") {
            let statement = format!("{{{space}\"a\":{}}}", serde_json::to_string(&text).expect("plain"));
            let leaf = encode(&envelope(), statement.as_bytes()).expect("small");
            let entry = Entry::parse(&leaf).expect("ours");
            prop_assert_eq!(entry.statement, statement.as_bytes());
            prop_assert_eq!(entry.envelope, envelope());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _outcome = Entry::parse(&bytes).is_ok();
        }
    }
}
