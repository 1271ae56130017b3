//! What the entries of one transaction change in the table of sessions: one update for each session, not for each entry.

use std::collections::HashMap;

use jiff::Timestamp;
use ledger::search::sessions::SessionState;
use ledger::statement::Hole;
use rusqlite::{Transaction, params};
use uuid::Uuid;

use super::IndexError;
use super::fields::Fields;
use super::query::{nanos, signed};
use super::sessions::state_text;

/// The changes so far, by session.
#[derive(Default)]
pub(super) struct Tally(HashMap<Uuid, Change>);

#[derive(Default)]
struct Change {
    heard: i64,
    calls: i64,
    open_calls: i64,
    refused: i64,
    unrecorded: Option<u64>,
    holes: i64,
    missing: i64,
    end: Option<(SessionState, u64)>,
}

impl Tally {
    fn of(&mut self, session: Uuid) -> &mut Change {
        self.0.entry(session).or_default()
    }

    /// The session's own workload said something.
    pub(super) fn heard(&mut self, index: u64, received: Timestamp, said: &Fields) {
        let change = self.of(said.session);
        change.heard = nanos(received);
        if let Some(heartbeat) = &said.heartbeat {
            change.unrecorded = Some(heartbeat.refused_unrecorded);
        }
        if let Some(end) = &said.end {
            change.unrecorded = Some(end.refused_unrecorded);
            change.end = Some((SessionState::Ended, index));
        }
    }

    pub(super) fn intent(&mut self, session: Uuid, refused: bool) {
        let change = self.of(session);
        change.calls += 1;
        change.open_calls += 1;
        change.refused += i64::from(refused);
    }

    /// A call has its outcome. `refused`: it says that the call was refused, which the intent did not.
    pub(super) fn outcome(&mut self, session: Uuid, refused: bool) {
        let change = self.of(session);
        change.open_calls -= 1;
        change.refused += i64::from(refused);
    }

    pub(super) fn lost(&mut self, session: Uuid, index: u64) {
        self.of(session).end = Some((SessionState::Lost, index));
    }

    pub(super) fn hole(&mut self, hole: &Hole) {
        let change = self.of(hole.session);
        change.holes += 1;
        change.missing += signed((hole.to + 1).saturating_sub(hole.from));
    }

    /// Brings the changes into the table.
    pub(super) fn write(self, transaction: &Transaction<'_>) -> Result<(), IndexError> {
        let mut update = transaction.prepare_cached(
            "UPDATE sessions SET heard = max(heard, ?), calls = calls + ?, open_calls = open_calls + ?,
               refused = refused + ?, unrecorded = coalesce(?, unrecorded), holes = holes + ?, missing = missing + ?,
               state = coalesce(?, state), ending = coalesce(?, ending)
             WHERE session = ?",
        )?;
        for (session, change) in self.0 {
            update.execute(params![
                change.heard,
                change.calls,
                change.open_calls,
                change.refused,
                change.unrecorded.map(signed),
                change.holes,
                change.missing,
                change.end.map(|(state, _)| state_text(state)),
                change.end.map(|(_, index)| signed(index)),
                session.as_bytes(),
            ])?;
        }
        Ok(())
    }
}
