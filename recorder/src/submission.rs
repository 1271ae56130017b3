//! A batch as the sequencer takes it: read, and checked in everything that can be checked without the log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ledger::batch::{BadBatch, Batch};
use ledger::blob::{BadBlob, Blob, BlobRef};
use ledger::digest::Digest;
use ledger::entry::{Role, Workload};
use ledger::statement::{BadStatement, Statement, kind};
use ledger::strict::{self, Limits, Spelling};
use uuid::Uuid;

use crate::error::{Reason, Refusal};

/// Greatest `seq`: the greatest integer that every JSON reader has exactly. A session never gets there.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// How deep and wide a statement's JSON may be; more is refused (`malformed_statement`).
pub const STRICT: Limits = Limits { depth: 32, members: 4096, spelling: Spelling::Exact };

/// A verified speaker and what it may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Who.
    pub workload: Workload,
    /// As what.
    pub role: Role,
}

/// The workload without its node: newer clusters name it in a token, and a pod is the same with it and without.
#[must_use]
pub fn pod_of(workload: &Workload) -> Workload {
    Workload { node: None, ..workload.clone() }
}

/// A batch that is well-formed: one session, every blob named, nothing but known versions and permitted kinds.
#[derive(Debug)]
pub struct Submission {
    /// Who speaks.
    pub speaker: Speaker,
    /// The session that all statements are of.
    pub session: Uuid,
    /// In the batch's order; at least one.
    pub statements: Vec<Submitted>,
    /// By digest.
    pub blobs: HashMap<Digest, Arc<Blob>>,
    /// Blobs that statements name and that did not come along.
    pub elsewhere: Vec<(usize, BlobRef)>,
}

/// One statement on its way in.
#[derive(Debug)]
pub struct Submitted {
    /// Verbatim.
    pub bytes: Vec<u8>,
    /// Their SHA-256: `prev` of the next.
    pub digest: Digest,
    /// Its place in the session.
    pub seq: u64,
    /// SHA-256 of the statement before.
    pub prev: Option<Digest>,
    /// What it means for its session.
    pub meaning: Meaning,
}

/// What a statement means for its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The session begins, with this many seconds between heartbeats.
    Start(u64),
    /// A call is open from here on.
    Intent,
    /// The call with this `seq` goes on.
    Progress(u64),
    /// The call with this `seq` is no longer open.
    Outcome(u64),
    /// The session ends.
    End,
    /// Nothing.
    Other,
}

impl Submission {
    /// Reads and checks a batch of `speaker`'s.
    ///
    /// # Errors
    /// A [`Refusal`] that names the statement at fault.
    pub fn read(speaker: Speaker, bytes: &[u8]) -> Result<Self, Refusal> {
        let batch = Batch::decode(bytes).map_err(bad_batch)?;
        let blobs: HashMap<_, _> =
            batch.blobs.into_iter().map(|blob| (blob.digest(), Arc::new(blob))).collect();
        let mut named = HashSet::new();
        let mut submission =
            Self { speaker, session: Uuid::nil(), statements: Vec::new(), blobs, elsewhere: Vec::new() };
        for (number, bytes) in batch.statements.into_iter().enumerate() {
            let read = submission.take(number, bytes, &mut named);
            read.map_err(|refusal| refusal.of_statement(number))?;
        }
        match submission.blobs.keys().find(|digest| !named.contains(*digest)) {
            Some(digest) => Err(Refusal::new(
                Reason::BlobUnnamed,
                format!(
                    "no statement of the batch names blob {digest}: send a blob with the statement that names it"
                ),
            )),
            None => Ok(submission),
        }
    }

    fn take(&mut self, number: usize, bytes: Vec<u8>, named: &mut HashSet<Digest>) -> Result<(), Refusal> {
        strict::check(&bytes, STRICT)
            .map_err(|error| Refusal::new(Reason::MalformedStatement, format!("not a statement: {error}")))?;
        let statement = Statement::parse(&bytes).map_err(|error| bad_statement(&error))?;
        check_kind(self.speaker.role, &statement)?;
        if number == 0 {
            check_session(statement.session)?;
            self.session = statement.session;
        }
        if statement.session != self.session {
            let message = "a batch holds statements of one session: send the others in a batch of their own";
            return Err(Refusal::new(Reason::MixedSessions, message));
        }
        if statement.seq > MAX_SEQ {
            return Err(Refusal::new(Reason::MalformedStatement, format!("seq is at most {MAX_SEQ}")));
        }
        for reference in statement.blobs.values() {
            self.check_blob(number, reference)?;
            named.insert(reference.digest);
        }
        let digest = Digest::of(&bytes);
        self.statements.push(Submitted {
            bytes,
            digest,
            seq: statement.seq,
            prev: statement.prev,
            meaning: meaning(&statement),
        });
        Ok(())
    }

    fn check_blob(&mut self, number: usize, reference: &BlobRef) -> Result<(), Refusal> {
        match self.blobs.get(&reference.digest) {
            None => self.elsewhere.push((number, *reference)),
            Some(blob) if blob.reference() != *reference => {
                return Err(wrong_size(reference, blob.reference().size));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// The refusal for a blob that is not as long as its statement says.
pub(crate) fn wrong_size(reference: &BlobRef, found: u64) -> Refusal {
    let message =
        format!("blob {} has {found} bytes; the statement says {}", reference.digest, reference.size);
    Refusal::new(Reason::BlobSize, message)
}

/// The kind's own part must be there, alone, and the role must be allowed to say it.
fn check_kind(role: Role, statement: &Statement) -> Result<(), Refusal> {
    if !role.may_write(&statement.kind) {
        let message = format!("kind {:?} may not be written with this token", statement.kind);
        return Err(Refusal::new(Reason::KindNotAllowed, message));
    }
    let known = [
        kind::SESSION_START,
        kind::SESSION_HEARTBEAT,
        kind::SESSION_END,
        kind::CALL_INTENT,
        kind::CALL_PROGRESS,
        kind::CALL_OUTCOME,
        kind::CONNECTION_ACCEPTED,
        kind::CONNECTION_DELETED,
        kind::COVERAGE_POD,
    ];
    let part = statement.body.kind();
    let several = part.is_none() && statement.body != ledger::statement::Body::default();
    let other = part.is_some_and(|part| part != statement.kind);
    let missing = part.is_none() && known.contains(&statement.kind.as_str());
    if several || other || missing {
        let message = format!("a statement of kind {:?} has exactly that kind's part", statement.kind);
        return Err(Refusal::new(Reason::MalformedStatement, message));
    }
    Ok(())
}

/// A session's id is a UUID of version 7, whose time says until when it must be remembered. How old it may be is the
/// sessions' to say: only they know whether it has begun.
fn check_session(session: Uuid) -> Result<(), Refusal> {
    if session.get_version_num() == 7 {
        return Ok(());
    }
    Err(Refusal::new(Reason::BadSession, "a session's id is a UUID of version 7"))
}

fn meaning(statement: &Statement) -> Meaning {
    let body = &statement.body;
    match (&body.start, &body.intent, &body.progress, &body.outcome, &body.end) {
        (Some(start), ..) => Meaning::Start(start.heartbeat_seconds),
        (_, Some(_), ..) => Meaning::Intent,
        (_, _, Some(progress), ..) => Meaning::Progress(progress.call),
        (.., Some(outcome), _) => Meaning::Outcome(outcome.call),
        (.., Some(_)) => Meaning::End,
        _ => Meaning::Other,
    }
}

fn bad_statement(error: &BadStatement) -> Refusal {
    let reason = match error {
        BadStatement::TooLarge(_) => Reason::StatementTooLarge,
        BadStatement::Version(_) => Reason::UnknownVersion,
        _ => Reason::MalformedStatement,
    };
    Refusal::new(reason, error.to_string())
}

fn bad_batch(error: BadBatch) -> Refusal {
    let message = error.to_string();
    match error {
        BadBatch::TooLarge(_) => Refusal::new(Reason::BatchTooLarge, message),
        BadBatch::Blob(_, BadBlob::TooLarge(_)) => Refusal::new(Reason::BlobTooLarge, message),
        BadBatch::Statement(number, error) => bad_statement(&error).of_statement(number),
        _ => Refusal::new(Reason::MalformedBatch, message),
    }
}
