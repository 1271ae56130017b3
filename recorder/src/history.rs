//! What the entries of the log add up to, as recovery reads them one by one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ledger::blob::BlobRef;
use ledger::digest::Digest;
use ledger::entry::{Entry, Envelope, Role, Subject};
use ledger::statement::{Hole, kind};
use serde::Deserialize;
use uuid::Uuid;

use crate::sessions::{Place, Sessions};
use crate::submission::{Meaning, Speaker};

/// While a log is read, what is no longer needed of old sessions is forgotten after every so many entries, so that a long
/// log takes no more memory than a short one.
const FORGET_EVERY: u64 = 16_384;

/// The sum of all entries so far.
#[derive(Debug, Default)]
pub struct History {
    /// Sessions and how far they are.
    pub sessions: Sessions,
    /// When the last entry was received: no later entry may say an earlier time.
    pub received: Timestamp,
    /// What was said when the log's keys were changed, oldest first.
    pub key_notes: Vec<String>,
    /// The blobs that were deleted, each with the index of the entry that says so.
    pub deleted: BTreeMap<Digest, u64>,
    /// The last entry says that the recorder stopped in order (an empty log counts as that).
    pub stopped: Option<bool>,
}

/// The parts of a statement that matter here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    kind: String,
    session: Uuid,
    seq: u64,
    #[serde(default)]
    blobs: BTreeMap<String, BlobRef>,
    start: Option<Start>,
    outcome: Option<Outcome>,
    lost: Option<Lost>,
    hole: Option<Hole>,
    key: Option<Key>,
    deleted: Option<Deleted>,
}

#[derive(Debug, Deserialize)]
struct Key {
    note: String,
}

#[derive(Debug, Deserialize)]
struct Deleted {
    digest: Digest,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    heartbeat_seconds: u64,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    call: u64,
}

#[derive(Debug, Deserialize)]
struct Lost {
    session: Uuid,
}

/// What one entry says that matters here, read by itself.
#[derive(Debug)]
pub struct Said {
    received: Timestamp,
    subject: Subject,
    role: Role,
    /// Of the statement's bytes.
    digest: Digest,
    facts: Facts,
}

impl Said {
    /// Reads the entry at `index`.
    ///
    /// # Errors
    /// What is wrong with an entry that this recorder can't have written.
    pub fn read(index: u64, leaf: &[u8]) -> Result<Self, String> {
        let damaged = |error: &dyn std::fmt::Display| format!("entry {index} can't be read: {error}");
        let Entry { envelope, statement, .. } = Entry::parse(leaf).map_err(|error| damaged(&error))?;
        let facts = serde_json::from_slice(statement).map_err(|error| damaged(&error))?;
        let Envelope { received, subject, role } = envelope;
        Ok(Self { received, subject, role, digest: Digest::of(statement), facts })
    }

    /// The blobs that it names.
    pub fn blobs(&self) -> impl Iterator<Item = &BlobRef> {
        self.facts.blobs.values()
    }
}

impl History {
    /// Adds the entry at `index`.
    ///
    /// # Errors
    /// What is wrong with an entry that this recorder can't have written.
    pub fn take(&mut self, index: u64, leaf: &[u8]) -> Result<(), String> {
        self.add(index, Said::read(index, leaf)?);
        Ok(())
    }

    /// Adds what the entry at `index` says.
    pub fn add(&mut self, index: u64, said: Said) {
        let Said { received, subject, role, digest, facts } = said;
        self.received = self.received.max(received);
        self.stopped = Some(facts.kind == kind::LOG_STOP);
        match subject {
            Subject::Workload(workload) => {
                let speaker = Speaker { workload, role };
                let place = Place { index, received: self.received };
                self.sessions.advance(facts.session, &speaker, (facts.seq, digest), facts.meaning(), place);
            }
            Subject::Log { .. } => {
                if let Some(lost) = facts.lost {
                    self.sessions.close(lost.session, self.received);
                }
                if let Some(hole) = facts.hole {
                    self.sessions.note_hole(hole);
                }
                self.key_notes.extend(facts.key.map(|key| key.note));
                if let Some(deleted) = facts.deleted {
                    self.deleted.insert(deleted.digest, index);
                }
            }
        }
        if index.is_multiple_of(FORGET_EVERY) {
            self.sessions.forget(self.received.min(Timestamp::now()));
        }
    }
}

impl Facts {
    fn meaning(&self) -> Meaning {
        match (self.kind.as_str(), &self.start, &self.outcome) {
            (kind::SESSION_START, Some(start), _) => Meaning::Start(start.heartbeat_seconds),
            (kind::CALL_OUTCOME, _, Some(outcome)) => Meaning::Outcome(outcome.call),
            (kind::CALL_INTENT, ..) => Meaning::Intent,
            (kind::SESSION_END, ..) => Meaning::End,
            _ => Meaning::Other,
        }
    }
}
