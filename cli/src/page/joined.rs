//! Calls put together from entries, without an index: each intent with its outcome and its SQL.

use std::collections::{BTreeMap, HashMap};

use ledger::blob::Blob;
use ledger::call::{Intent, Outcome, TableUse};
use ledger::digest::Digest;
use ledger::entry::{Entry, Subject};
use ledger::search::{Call, FoundTable, MAX_SQL};
use ledger::statement::Statement;
use uuid::Uuid;

use super::MAX_CALLS;
use crate::replay::Going;

/// The first calls of the entries that were heard, as many as there is room for.
#[derive(Debug)]
pub(crate) struct Joined {
    room: usize,
    /// By the intent's index.
    calls: BTreeMap<u64, Call>,
    places: HashMap<(Uuid, u64), u64>,
    /// The calls whose SQL has not come yet.
    texts: HashMap<Digest, Vec<u64>>,
    /// By the call's index: the last that was said of it while it went on.
    going: BTreeMap<u64, Going>,
}

impl Default for Joined {
    fn default() -> Self {
        Self::with_room(MAX_CALLS)
    }
}

impl Joined {
    /// For this many calls; later ones are left out.
    pub(crate) fn with_room(room: usize) -> Self {
        let (calls, places, texts) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        Self { room, calls, places, texts, going: BTreeMap::new() }
    }

    /// The calls in the order of the log, and how far each had come.
    pub(crate) fn into_parts(self) -> (Vec<Call>, BTreeMap<u64, Going>) {
        (self.calls.into_values().collect(), self.going)
    }

    /// In the order of the log.
    pub(crate) fn calls(&self) -> Vec<&Call> {
        self.calls.values().collect()
    }

    pub(crate) fn entry(&mut self, index: u64, entry: &Entry<'_>, statement: &Statement) {
        if let Some(intent) = &statement.body.intent
            && self.calls.len() < self.room
        {
            self.intent(index, entry, statement, intent);
        }
        if let Some(outcome) = &statement.body.outcome
            && let Some(place) = self.places.get(&(statement.session, outcome.call))
            && let Some(call) = self.calls.get_mut(place)
        {
            end(call, index, outcome);
        }
        if let Some(going) = Going::of(index, entry, statement)
            && let Some(place) = self.places.get(&(statement.session, going.progress.call))
            && let Some(call) = self.calls.get_mut(place)
        {
            go_on(call, &going);
            self.going.insert(*place, going);
        }
    }

    fn intent(&mut self, index: u64, entry: &Entry<'_>, statement: &Statement, intent: &Intent) {
        let Subject::Workload(subject) = &entry.envelope.subject else { return };
        let named = |table: &TableUse| FoundTable { table: table.clone(), reported: false };
        let call = Call {
            index,
            outcome_index: None,
            progress_index: None,
            received: entry.envelope.received,
            time: statement.time,
            subject: subject.clone(),
            connection: statement.connection.clone(),
            session: statement.session,
            seq: statement.seq,
            method: intent.method.clone(),
            http: intent.http.clone(),
            statement_kind: intent.statement_kind.clone(),
            tables: intent.tables.iter().map(named).collect(),
            tables_truncated: intent.tables_truncated,
            statements: intent.statements.clone(),
            statements_truncated: intent.statements_truncated,
            sql: None,
            sql_truncated: false,
            job: intent.job.clone(),
            result: None,
            status: None,
            reason: None,
            rows: None,
            total_rows: None,
            affected_rows: None,
            labels: statement.claimed.labels.clone(),
            trace: statement.claimed.trace.clone(),
            joined: intent.joined,
            upload: intent.upload,
            rows_sent: None,
            row_errors: None,
            sent_bytes: None,
            answer_bytes: None,
            forwarded: None,
            duration_micros: None,
            refused: intent.refused.clone(),
        };
        self.calls.insert(index, call);
        self.places.insert((statement.session, statement.seq), index);
        if let Some(sql) = statement.blobs.get("sql") {
            self.texts.entry(sql.digest).or_default().push(index);
        }
    }

    /// A blob that entries before it name.
    pub(crate) fn blob(&mut self, digest: Digest, blob: &Blob) {
        for index in self.texts.remove(&digest).unwrap_or_default() {
            if let Some(call) = self.calls.get_mut(&index) {
                let text = String::from_utf8_lossy(blob.content());
                let end =
                    (0..=MAX_SQL.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
                (call.sql, call.sql_truncated) = (Some(text[..end].to_owned()), end < text.len());
            }
        }
    }
}

/// What had passed of an open call; its outcome says it better.
fn go_on(call: &mut Call, going: &Going) {
    call.progress_index = Some(going.index);
    call.sent_bytes = going.progress.sent.map(|body| body.wire_bytes);
    call.answer_bytes = going.progress.answer.map(|body| body.wire_bytes);
}

/// What BigQuery reported wins over what was read from the request.
fn end(call: &mut Call, index: u64, outcome: &Outcome) {
    call.outcome_index = Some(index);
    call.result = Some(outcome.result);
    call.status = outcome.status;
    call.reason = outcome.reason.clone();
    call.forwarded = Some(outcome.forwarded);
    call.duration_micros = Some(outcome.duration_micros);
    call.upload = call.upload.or(outcome.upload);
    call.rows_sent = outcome.rows.map(|rows| rows.count);
    call.sent_bytes = outcome.sent.map(|sent| sent.wire_bytes);
    call.answer_bytes = outcome.answer.map(|answer| answer.wire_bytes);
    let Some(reported) = &outcome.reported else { return };
    call.statement_kind = reported.statement_kind.clone().or(call.statement_kind.take());
    call.job = reported.job.clone().or(call.job.take());
    (call.rows, call.total_rows) = (reported.rows, reported.total_rows);
    (call.affected_rows, call.row_errors) = (reported.affected_rows, reported.row_errors);
    let told = |table: &TableUse| FoundTable { table: table.clone(), reported: true };
    let named = std::mem::take(&mut call.tables);
    call.tables = reported.tables.iter().map(told).collect();
    let unreported = named.into_iter().filter(|found| {
        !reported.tables.iter().any(|table| {
            (&table.dataset, &table.table, table.access)
                == (&found.table.dataset, &found.table.table, found.table.access)
        })
    });
    call.tables.extend(unreported);
}
