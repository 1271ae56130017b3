//! Does the log still continue what was seen of it?

use ledger::checkpoint::Checkpoint;
use ledger::log_keys::LogKeys;
use ledger::proof::{prove_consistency, verify_consistency};
use ledger::verify::LogSource as _;

use crate::error::CliError;
use crate::reader::Reader;
use crate::source::Served;

/// The newest checkpoint that was seen of a recorder's log.
pub(crate) struct Seen {
    /// Without them it is compared what the recorder says with what it said before, whoever signed that.
    held: Option<LogKeys>,
    newest: Checkpoint,
}

impl Seen {
    /// The first look.
    pub(crate) fn first(reader: &Reader, held: Option<LogKeys>) -> Result<Self, CliError> {
        let newest = fetch(&Served::new(reader), held.as_ref())?;
        Ok(Self { held, newest })
    }

    /// Looks again: a log of which `covered` entries were seen must have them, and must begin with those that it had.
    ///
    /// # Errors
    /// [`CliError::RolledBack`], [`CliError::Forked`], or the look is not possible.
    pub(crate) fn look(&mut self, reader: &Reader, covered: u64) -> Result<(), CliError> {
        let log = Served::new(reader);
        let now = fetch(&log, self.held.as_ref())?;
        let before = covered.max(self.newest.size);
        if now.size < before {
            return Err(CliError::RolledBack { before, now: now.size });
        }
        let Checkpoint { size, root, .. } = &self.newest;
        let proof = prove_consistency(&log, *size, now.size)?;
        verify_consistency((*size, root), (now.size, &now.root), &proof)
            .map_err(|error| CliError::Forked { before: *size, why: error.to_string() })?;
        self.newest = now;
        Ok(())
    }
}

fn fetch(log: &Served<'_>, held: Option<&LogKeys>) -> Result<Checkpoint, CliError> {
    let note = log.checkpoint()?;
    Ok(match held {
        Some(held) => Checkpoint::verify(&note, &log.keys(held)?)?,
        None => Checkpoint::unverified(&note)?,
    })
}
