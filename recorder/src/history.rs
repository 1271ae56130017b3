//! What the entries of the log add up to, as recovery reads them one by one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ledger::blob::BlobRef;
use ledger::digest::Digest;
use ledger::entry::{Entry, Subject};
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
    /// The last entry says that the recorder stopped in order (an empty log counts as that).
    pub stopped: Option<bool>,
}

/// The parts of a statement that matter here.
#[derive(Deserialize)]
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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    heartbeat_seconds: u64,
}

#[derive(Deserialize)]
struct Outcome {
    call: u64,
}

#[derive(Deserialize)]
struct Lost {
    session: Uuid,
}

impl History {
    /// Adds the entry at `index`, and says which blobs it names.
    ///
    /// # Errors
    /// What is wrong with an entry that this recorder can't have written.
    pub fn take(&mut self, index: u64, leaf: &[u8]) -> Result<Vec<BlobRef>, String> {
        let damaged = |error: &dyn std::fmt::Display| format!("entry {index} can't be read: {error}");
        let entry = Entry::parse(leaf).map_err(|error| damaged(&error))?;
        let facts: Facts = serde_json::from_slice(entry.statement).map_err(|error| damaged(&error))?;
        self.received = self.received.max(entry.envelope.received);
        self.stopped = Some(facts.kind == kind::LOG_STOP);
        match entry.envelope.subject {
            Subject::Workload(workload) => {
                let speaker = Speaker { workload, role: entry.envelope.role };
                let link = (facts.seq, Digest::of(entry.statement));
                let place = Place { index, received: self.received };
                self.sessions.advance(facts.session, &speaker, link, facts.meaning(), place);
            }
            Subject::Log { .. } => {
                if let Some(lost) = facts.lost {
                    self.sessions.close(lost.session, self.received);
                }
                if let Some(hole) = facts.hole {
                    self.sessions.note_hole(hole);
                }
            }
        }
        if index.is_multiple_of(FORGET_EVERY) {
            self.sessions.forget(self.received.min(Timestamp::now()));
        }
        Ok(facts.blobs.into_values().collect())
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
