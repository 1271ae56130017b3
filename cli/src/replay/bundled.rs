//! Sessions and calls out of an evidence bundle, which is verified first: what does not hold is not told.

use std::io::Read;

use ledger::blob::Blob;
use ledger::bundle::manifest::{Manifest, Scope};
use ledger::bundle::verify::{Observer, Report, Trust, verify_bundle};
use ledger::digest::Digest;
use ledger::entry::Entry;
use ledger::statement::Statement;

use super::heard::Sessions;
use super::{Found, Going, MAX_CALLS, MAX_SESSIONS, Wanted};
use crate::error::CliError;
use crate::page::Joined;

/// What a verified bundle has of what was asked for.
pub(crate) struct Bundled {
    pub(crate) report: Report,
    pub(crate) found: Found,
    /// What is not here, and why.
    pub(crate) notes: Vec<String>,
}

/// Reads and verifies the whole bundle, and takes from it what was asked for.
pub(crate) fn find(input: impl Read, trust: Trust<'_>, wanted: &Wanted) -> Result<Bundled, CliError> {
    let mut listener = Listener { joined: Joined::with_room(MAX_CALLS), ..Listener::default() };
    let report = verify_bundle(input, trust, &mut listener)?;
    let contents = &report.manifest.contents;
    if contents.calls > MAX_CALLS as u64 {
        return Err(CliError::TooMuch { what: "calls", found: contents.calls, most: MAX_CALLS as u64 });
    }
    let mut notes = notes(&report.manifest);
    let Listener { joined, sessions } = listener;
    let cut = sessions.without_beginning();
    let sessions = wanted.choose(sessions.finish());
    if sessions.len() > MAX_SESSIONS {
        let found = sessions.len() as u64;
        return Err(CliError::TooMuch { what: "sessions", found, most: MAX_SESSIONS as u64 });
    }
    let begun_before = sessions.iter().filter(|session| cut.contains(&session.session)).count();
    if begun_before > 0 {
        notes.push(format!("the beginning of {begun_before} of the sessions is not in this bundle"));
    }
    let (calls, going) = joined.into_parts();
    let calls = calls.into_iter().filter(|call| wanted.holds(call)).collect();
    let found = Found { size: report.manifest.size, rebuilding_to: None, sessions, calls, going };
    Ok(Bundled { report, found, notes })
}

/// What a bundle of this scope may lack.
fn notes(manifest: &Manifest) -> Vec<String> {
    match &manifest.scope {
        Scope::Calls { .. } => {
            vec!["this bundle has only the calls that somebody asked for: others of these sessions may be in the log".into()]
        }
        Scope::Everything(_) | Scope::Sessions { .. } => Vec::new(),
    }
}

#[derive(Default)]
struct Listener {
    sessions: Sessions,
    joined: Joined,
}

impl Observer for Listener {
    fn entry(&mut self, index: u64, entry: &Entry<'_>, statement: &Statement) {
        self.sessions.entry(index, entry, statement);
        self.joined.entry(index, entry, statement);
    }

    fn blob(&mut self, digest: Digest, blob: &Blob) {
        self.joined.blob(digest, blob);
    }
}

impl Going {
    /// What a `call.progress` says; `None` for another entry.
    pub(crate) fn of(index: u64, entry: &Entry<'_>, statement: &Statement) -> Option<Self> {
        let progress = statement.body.progress.clone()?;
        Some(Self { index, received: entry.envelope.received, progress })
    }
}
