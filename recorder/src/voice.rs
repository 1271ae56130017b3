//! The recorder's own voice: it says what happens to the log in a session of its own, one for each run.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ledger::digest::Digest;
use ledger::entry::{Envelope, Role, Subject};
use ledger::statement::{BadStatement, Body, Claimed, Observed, Statement, VERSION};
use uuid::Uuid;

/// The session of one run of the recorder.
#[derive(Debug)]
pub struct Voice {
    origin: String,
    session: Uuid,
    next_seq: u64,
    prev: Option<Digest>,
}

impl Voice {
    /// A new session for the log with this origin.
    #[must_use]
    pub fn new(origin: &str) -> Self {
        Self { origin: origin.into(), session: Uuid::now_v7(), next_seq: 0, prev: None }
    }

    /// The next statement, in its envelope's company.
    ///
    /// # Errors
    /// [`BadStatement::TooLarge`], which the bounds of what the recorder says rule out.
    pub fn say(
        &mut self,
        kind: &str,
        body: Body,
        now: Timestamp,
    ) -> Result<(Envelope, Vec<u8>), BadStatement> {
        let statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: now,
            connection: None,
            session: self.session,
            seq: self.next_seq,
            prev: self.prev,
            observed: Observed::default(),
            claimed: Claimed::default(),
            blobs: BTreeMap::new(),
            body,
        };
        let bytes = statement.to_bytes()?;
        (self.next_seq, self.prev) = (self.next_seq + 1, Some(Digest::of(&bytes)));
        let subject = Subject::Log { log: self.origin.clone() };
        Ok((Envelope { received: now, subject, role: Role::Recorder }, bytes))
    }
}
