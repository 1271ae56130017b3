//! Calls for tests.

use std::collections::BTreeMap;

use ledger::call::HttpTarget;
use ledger::search::Call;

use crate::commands::sessions::tests::session;

/// An open call of [`session`], of which nothing is known but its place.
pub(crate) fn call(index: u64) -> Call {
    Call {
        index,
        outcome_index: None,
        progress_index: None,
        received: "2026-11-22T10:00:01Z".parse().unwrap(),
        time: "2026-11-22T10:00:01Z".parse().unwrap(),
        subject: session().subject,
        connection: None,
        session: session().session,
        seq: index,
        method: "jobs.query".into(),
        http: HttpTarget::default(),
        statement_kind: None,
        tables: Vec::new(),
        tables_truncated: false,
        statements: Vec::new(),
        statements_truncated: false,
        sql: None,
        sql_truncated: false,
        job: None,
        labels: BTreeMap::new(),
        trace: None,
        joined: None,
        upload: None,
        result: None,
        status: None,
        reason: None,
        rows: None,
        total_rows: None,
        affected_rows: None,
        rows_sent: None,
        row_errors: None,
        sent_bytes: None,
        answer_bytes: None,
        forwarded: None,
        duration_micros: None,
        refused: None,
    }
}
