//! What an entry becomes in the tables of the index.

use ledger::blob::{BlobRef, SALT_LEN};
use ledger::call::{CallResult, TableUse};
use ledger::entry::{Entry, Role, Subject, Workload};
use rusqlite::{OptionalExtension as _, Transaction, params};
use uuid::Uuid;

use super::fields::{Deleted, Fields, Intent, Outcome};
use super::query::{nanos, signed};
use super::tally::Tally;
use super::{IndexError, cluster, schema};
use crate::store::reader::LogReader;
use crate::store::tail::Snapshot;

/// How much of a SQL text is searched, in bytes; the rest is in the blob.
const MAX_WORDS: usize = 1 << 20;

/// What an outcome may correct of its call: statement kind, job and upload.
type Corrected = (Option<String>, Option<String>, Option<[u8; 32]>);

/// The rows of one transaction.
pub(super) struct Rows<'a> {
    transaction: &'a Transaction<'a>,
    tally: Tally,
    log: &'a LogReader,
    /// What the entries were published with, if that is at hand.
    recent: Option<&'a Snapshot>,
    /// Words were taken out.
    forgot: bool,
}

/// Where an entry lies, and what it says.
struct Said<'a> {
    index: u64,
    entry: &'a Entry<'a>,
    fields: &'a Fields,
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        transaction: &'a Transaction<'a>,
        log: &'a LogReader,
        recent: Option<&'a Snapshot>,
    ) -> Self {
        Self { transaction, tally: Tally::default(), log, recent, forgot: false }
    }

    /// Adds an entry.
    pub(super) fn add(&mut self, index: u64, leaf: &[u8]) -> Result<(), IndexError> {
        let entry = Entry::parse(leaf).map_err(|error| IndexError::Entry(index, error.to_string()))?;
        let Some(mut fields) = Fields::read(entry.statement) else { return Ok(()) };
        let Subject::Workload(workload) = &entry.envelope.subject else {
            return self.add_recorders(index, &fields);
        };
        self.tally.heard(index, entry.envelope.received, &fields);
        let (intent, outcome, progress) =
            (fields.intent.take(), fields.outcome.take(), fields.progress.take());
        let said = Said { index, entry: &entry, fields: &fields };
        match (intent, outcome, progress) {
            (Some(intent), ..) => self.add_intent(&said, workload, &intent),
            (_, Some(outcome), _) => self.add_outcome(&said, &outcome),
            (.., Some(progress)) => self.add_progress(index, fields.session, progress.call),
            _ if fields.start.is_some() => self.add_session(&said, workload),
            _ => self.add_operators(&said, workload),
        }
    }

    /// Writes what was counted meanwhile. True when words were taken out: then traces of them are left in the file.
    pub(super) fn finish(self) -> Result<bool, IndexError> {
        self.tally.write(self.transaction)?;
        Ok(self.forgot)
    }

    /// What the recorder says of a session.
    fn add_recorders(&mut self, index: u64, fields: &Fields) -> Result<(), IndexError> {
        if let Some(lost) = &fields.lost {
            self.tally.lost(lost.session, index);
        }
        if let Some(deleted) = &fields.deleted {
            self.forget(deleted)?;
        }
        if let Some(hole) = &fields.hole {
            self.tally.hole(hole);
            self.transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO holes (session, idx, first, last) VALUES (?, ?, ?, ?)",
                )?
                .execute(params![
                    hole.session.as_bytes(),
                    signed(index),
                    signed(hole.from),
                    signed(hole.to)
                ])?;
        }
        Ok(())
    }

    /// A text was deleted: its words are not to be found any more. Where more entries name it than the deletion lists, words of
    /// them stay until the index is built again.
    fn forget(&mut self, deleted: &Deleted) -> Result<(), IndexError> {
        let mut delete = self.transaction.prepare_cached("DELETE FROM words WHERE rowid = ?")?;
        for index in &deleted.entries {
            self.forgot |= delete.execute([signed(*index)])? > 0;
        }
        if deleted.named > deleted.entries.len() as u64 {
            tracing::warn!(
                named = deleted.named,
                "delete the index, so that no word of a deleted text is left in it"
            );
        }
        Ok(())
    }

    /// What an operator says of a connection, or of a pod.
    fn add_operators(&self, said: &Said<'_>, operator: &Workload) -> Result<(), IndexError> {
        let Said { index, entry, fields } = said;
        match &fields.coverage {
            Some(coverage) => cluster::add_coverage(self.transaction, *index, entry, fields, coverage)?,
            None if fields.accepted.is_some() || fields.gone.is_some() => {
                cluster::add_connection(self.transaction, *index, entry, fields)?;
            }
            None => return Ok(()),
        }
        fields.connection_namespace().map_or(Ok(()), |namespace| self.add_namespace(operator, namespace))
    }

    fn add_session(&self, said: &Said<'_>, workload: &Workload) -> Result<(), IndexError> {
        let Said { index, entry, fields } = said;
        let received = nanos(entry.envelope.received);
        self.transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO sessions (idx, session, received, cluster, namespace, agent, pod, role, connection, heard)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                signed(*index),
                fields.session.as_bytes(),
                received,
                workload.cluster,
                workload.namespace,
                entry.envelope.subject.to_string(),
                workload.pod,
                role_text(entry.envelope.role),
                fields.connection_name(),
                received,
            ])?;
        if entry.envelope.role == Role::Sidecar {
            self.add_namespace(workload, &workload.namespace)?;
        }
        Ok(())
    }

    /// There is something to read of this namespace of the speaker's cluster.
    fn add_namespace(&self, speaker: &Workload, namespace: &str) -> Result<(), IndexError> {
        self.transaction
            .prepare_cached("INSERT OR IGNORE INTO namespaces (cluster, namespace) VALUES (?, ?)")?
            .execute(params![speaker.cluster, namespace])?;
        Ok(())
    }

    fn add_intent(
        &mut self,
        said: &Said<'_>,
        workload: &Workload,
        intent: &Intent,
    ) -> Result<(), IndexError> {
        let Said { index, entry, fields } = said;
        self.tally.intent(fields.session, intent.refused.is_some());
        let mut insert = self.transaction.prepare_cached(
            "INSERT OR IGNORE INTO calls (idx, received, cluster, namespace, agent, pod, connection, session, seq, method, kind, job, upload, refused)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        insert.execute(params![
            signed(*index),
            entry.envelope.received.as_microsecond(),
            workload.cluster,
            workload.namespace,
            entry.envelope.subject.to_string(),
            workload.pod,
            fields.connection_name(),
            fields.session.as_bytes(),
            signed(fields.seq),
            intent.method,
            intent.statement_kind,
            intent.job.as_ref().map(|job| &job.id),
            intent.upload.map(|upload| upload.0),
            intent.refused.is_some(),
        ])?;
        self.add_tables(*index, intent.project.as_deref(), &intent.tables)?;
        if intent.tables_truncated {
            self.transaction
                .prepare_cached("INSERT OR IGNORE INTO tables (name, idx) VALUES (?, ?)")?
                .execute(params![schema::ANY, signed(*index)])?;
        }
        self.add_kinds(*index, intent)?;
        fields.blobs.sql.as_ref().map_or(Ok(()), |sql| self.add_words(*index, sql))
    }

    /// What a script does is what each of its statements does. One that nobody knows may do anything.
    fn add_kinds(&self, index: u64, intent: &Intent) -> Result<(), IndexError> {
        let kinds = intent.kinds().map(|kind| kind.unwrap_or(schema::ANY));
        let unlisted = intent.statements_truncated.then_some(schema::ANY);
        for kind in kinds.chain(unlisted) {
            self.transaction
                .prepare_cached("INSERT OR IGNORE INTO kinds (name, idx) VALUES (?, ?)")?
                .execute(params![kind, signed(index)])?;
        }
        Ok(())
    }

    /// The words of a call's SQL. Its blob may have been deleted since.
    fn add_words(&self, index: u64, sql: &BlobRef) -> Result<(), IndexError> {
        if let Some(blob) = self.recent.and_then(|recent| recent.blobs.get(&sql.digest)) {
            return self.insert_words(index, blob.content());
        }
        match self.log.stored_blob(&sql.digest)? {
            Some(blob) => self.insert_words(index, &blob[SALT_LEN..]),
            None => Ok(()),
        }
    }

    fn insert_words(&self, index: u64, text: &[u8]) -> Result<(), IndexError> {
        let text = String::from_utf8_lossy(&text[..text.len().min(MAX_WORDS)]);
        self.transaction
            .prepare_cached("INSERT INTO words (rowid, sql) VALUES (?, ?)")?
            .execute(params![signed(index), text])?;
        Ok(())
    }

    /// The last word of a call's progress is what is shown of it.
    fn add_progress(&self, index: u64, session: Uuid, call: u64) -> Result<(), IndexError> {
        self.transaction
            .prepare_cached("UPDATE calls SET progress = ? WHERE session = ? AND seq = ?")?
            .execute(params![signed(index), session.as_bytes(), signed(call)])?;
        Ok(())
    }

    /// Joins an outcome with its call. An outcome whose intent is missing (a `log.hole` says so) has no call to join.
    fn add_outcome(&mut self, said: &Said<'_>, outcome: &Outcome) -> Result<(), IndexError> {
        let session = said.fields.session;
        let mut update = self.transaction.prepare_cached(
            "UPDATE calls SET outcome = ?, result = ? WHERE session = ? AND seq = ? AND outcome IS NULL
             RETURNING idx, refused, kind, job, upload",
        )?;
        let call: Option<(i64, bool, Corrected)> = update
            .query_row(
                params![
                    signed(said.index),
                    result_text(outcome.result),
                    session.as_bytes(),
                    signed(outcome.call)
                ],
                |row| Ok((row.get(0)?, row.get(1)?, (row.get(2)?, row.get(3)?, row.get(4)?))),
            )
            .optional()?;
        let Some((call, refused, known)) = call else { return Ok(()) };
        self.correct(call, &known, outcome)?;
        // A call can be refused after its intent, when that was too late to be acknowledged in time.
        let refused_now = outcome.result == CallResult::Refused && !refused;
        if refused_now {
            self.transaction
                .prepare_cached("UPDATE calls SET refused = TRUE WHERE idx = ?")?
                .execute([call])?;
        }
        self.tally.outcome(session, refused_now);
        let reported = outcome.reported.as_ref();
        reported.map_or(Ok(()), |reported| self.add_tables(call.cast_unsigned(), None, &reported.tables))
    }

    /// What BigQuery reported wins over what the request said. Mostly the two agree, and nothing is written: these columns
    /// have indexes of their own.
    fn correct(&self, call: i64, known: &Corrected, outcome: &Outcome) -> Result<(), IndexError> {
        let reported = outcome.reported.as_ref();
        let kind = reported.and_then(|reported| reported.statement_kind.clone());
        let job = reported.and_then(|reported| reported.job.as_ref()).map(|job| job.id.clone());
        let upload = outcome.upload.map(|upload| upload.0);
        let now = (kind.or(known.0.clone()), job.or(known.1.clone()), upload.or(known.2));
        if now == *known {
            return Ok(());
        }
        self.transaction
            .prepare_cached("UPDATE calls SET kind = ?, job = ?, upload = ? WHERE idx = ?")?
            .execute(params![now.0, now.1, now.2, call])?;
        Ok(())
    }

    fn add_tables(&self, call: u64, project: Option<&str>, tables: &[TableUse]) -> Result<(), IndexError> {
        let mut insert =
            self.transaction.prepare_cached("INSERT OR IGNORE INTO tables (name, idx) VALUES (?, ?)")?;
        for TableUse { project: own, dataset, table, .. } in tables {
            let Some(dataset) = dataset else { continue };
            let mut names = vec![dataset.clone(), format!("{dataset}.{table}")];
            names.extend(own.as_deref().or(project).map(|project| format!("{project}.{dataset}.{table}")));
            for name in names {
                insert.execute(params![name, signed(call)])?;
            }
        }
        Ok(())
    }
}

/// The word for a role in the index, as in the format.
pub(super) fn role_text(role: Role) -> &'static str {
    match role {
        Role::Sidecar => "sidecar",
        Role::Operator => "operator",
        Role::Recorder => "recorder",
    }
}

/// The word for a result in the index, as in the format.
fn result_text(result: CallResult) -> &'static str {
    match result {
        CallResult::Answered => "answered",
        CallResult::Refused => "refused",
        CallResult::Failed => "failed",
        CallResult::Aborted => "aborted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_the_words_of_the_format() {
        for role in [Role::Sidecar, Role::Operator, Role::Recorder] {
            assert_eq!(serde_json::to_value(role).expect("plain"), role_text(role));
        }
    }

    #[test]
    fn results_have_the_words_of_the_format() {
        for result in [CallResult::Answered, CallResult::Refused, CallResult::Failed, CallResult::Aborted] {
            assert_eq!(serde_json::to_value(result).expect("plain"), result_text(result));
        }
    }
}
