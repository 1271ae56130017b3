//! What the index takes from a statement. Reading all that a statement may say would cost several times as much, and the
//! recorder has done so before it took it.

use ledger::blob::BlobRef;
use ledger::call::{CallResult, TableUse};
use ledger::digest::Digest;
use ledger::operator::CoverageState;
use ledger::statement::{Heartbeat, Hole, SessionEnd, SessionLost, VERSION};
use serde::Deserialize;
use serde::de::IgnoredAny;
use uuid::Uuid;

/// A statement, as far as it is searched for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fields {
    v: u32,
    pub(super) session: Uuid,
    pub(super) seq: u64,
    pub(super) connection: Option<Connection>,
    #[serde(default)]
    pub(super) blobs: Blobs,
    pub(super) start: Option<IgnoredAny>,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) end: Option<SessionEnd>,
    pub(super) lost: Option<SessionLost>,
    pub(super) hole: Option<Hole>,
    pub(super) deleted: Option<Deleted>,
    pub(super) accepted: Option<IgnoredAny>,
    pub(super) gone: Option<IgnoredAny>,
    pub(super) coverage: Option<Coverage>,
    pub(super) intent: Option<Intent>,
    pub(super) progress: Option<Progress>,
    pub(super) outcome: Option<Outcome>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Connection {
    namespace: String,
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    generation: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Coverage {
    #[serde(rename = "podUID")]
    pub(super) pod_uid: String,
    pub(super) pod: String,
    state: CoverageState,
}

impl Coverage {
    pub(super) fn has_ended(&self) -> bool {
        self.state == CoverageState::Ended
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Blobs {
    pub(super) sql: Option<BlobRef>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Intent {
    pub(super) method: String,
    pub(super) project: Option<String>,
    pub(super) job: Option<Job>,
    pub(super) statement_kind: Option<String>,
    #[serde(default)]
    pub(super) tables: Vec<TableUse>,
    #[serde(default)]
    pub(super) tables_truncated: bool,
    #[serde(default)]
    statements: Vec<StatementKind>,
    #[serde(default)]
    pub(super) statements_truncated: bool,
    pub(super) upload: Option<Digest>,
    pub(super) refused: Option<IgnoredAny>,
}

/// A statement of a script.
#[derive(Debug, Deserialize)]
struct StatementKind {
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Job {
    pub(super) id: String,
}

/// A text that is not to be found any more.
#[derive(Debug, Deserialize)]
pub(super) struct Deleted {
    /// The entries that name it.
    pub(super) entries: Vec<u64>,
    /// How many do, of which these are the first.
    pub(super) named: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Progress {
    pub(super) call: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    pub(super) call: u64,
    pub(super) result: CallResult,
    pub(super) upload: Option<Digest>,
    pub(super) reported: Option<Reported>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reported {
    pub(super) job: Option<Job>,
    pub(super) statement_kind: Option<String>,
    #[serde(default)]
    pub(super) tables: Vec<TableUse>,
}

impl Intent {
    /// The kinds of a script's statements, one as often as it occurs; none of a statement that is not known.
    pub(super) fn kinds(&self) -> impl Iterator<Item = Option<&str>> {
        self.statements.iter().map(|statement| statement.kind.as_deref())
    }
}

impl Fields {
    /// Reads a statement that was recorded. `None` for one of a later version of the format: that is recorded, not searchable.
    pub(super) fn read(statement: &[u8]) -> Option<Self> {
        let fields: Self = serde_json::from_slice(statement).ok()?;
        (1..=VERSION).contains(&fields.v).then_some(fields)
    }

    /// `namespace/name`
    pub(super) fn connection_name(&self) -> Option<String> {
        self.connection.as_ref().map(|connection| format!("{}/{}", connection.namespace, connection.name))
    }

    pub(super) fn connection_namespace(&self) -> Option<&str> {
        self.connection.as_ref().map(|connection| connection.namespace.as_str())
    }

    /// UID and generation.
    pub(super) fn connection_version(&self) -> (&str, u64) {
        self.connection.as_ref().map_or(("", 0), |connection| (&connection.uid, connection.generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use ledger::call;
    use ledger::statement::{Body, Statement, kind};

    fn statement(kind: &str, body: Body) -> Statement {
        let connection = ledger::statement::Connection {
            namespace: "agents".into(),
            name: "billing".into(),
            uid: "u".into(),
            generation: 3,
            spec_digest: None,
        };
        let sql = BlobRef { digest: Digest::of(b"x"), size: 1 };
        Statement {
            v: VERSION,
            kind: kind.into(),
            time: Timestamp::UNIX_EPOCH,
            connection: Some(connection),
            session: Uuid::from_u128(7),
            seq: 0,
            prev: None,
            observed: Default::default(),
            claimed: Default::default(),
            blobs: [("sql".to_owned(), sql), ("request".to_owned(), sql)].into(),
            body,
        }
    }

    fn read(statement: &Statement) -> Fields {
        Fields::read(&statement.to_bytes().expect("small")).expect("of this version")
    }

    #[test]
    fn fields_of_an_intent() {
        let table = TableUse {
            project: None,
            dataset: Some("billing".into()),
            table: "invoices".into(),
            access: call::Access::Read,
        };
        let said = call::Intent {
            method: "jobs.query".into(),
            project: Some("acme".into()),
            job: Some(call::JobReference { id: "j".into(), ..Default::default() }),
            statement_kind: Some("SELECT".into()),
            tables: vec![table],
            tables_truncated: true,
            statements: vec![call::StatementUse { kind: Some("DELETE".into()), ..Default::default() }],
            statements_truncated: true,
            upload: Some(Digest::of(b"upload")),
            refused: Some("unknown_method".into()),
            ..Default::default()
        };
        let body = Body { intent: Some(said.clone()), ..Body::default() };
        let fields = read(&statement(kind::CALL_INTENT, body));
        assert_eq!(fields.connection_name().as_deref(), Some("agents/billing"));
        assert_eq!((fields.session, fields.seq), (Uuid::from_u128(7), 0));
        assert_eq!(fields.blobs.sql.map(|blob| blob.digest), Some(Digest::of(b"x")));
        let intent = fields.intent.expect("an intent");
        assert_eq!((&intent.method, &intent.project), (&said.method, &said.project));
        assert_eq!(
            (intent.kinds().collect::<Vec<_>>(), intent.statements_truncated),
            (vec![Some("DELETE")], true)
        );
        assert_eq!((intent.statement_kind, intent.tables), (said.statement_kind, said.tables));
        assert_eq!(intent.job.map(|job| job.id).as_deref(), Some("j"));
        assert_eq!((intent.tables_truncated, intent.upload), (true, said.upload));
        assert!(intent.refused.is_some() && fields.outcome.is_none() && fields.start.is_none());
    }

    #[test]
    fn fields_of_an_outcome() {
        let reported = call::Reported {
            job: Some(call::JobReference { id: "j".into(), ..Default::default() }),
            statement_kind: Some("INSERT".into()),
            ..Default::default()
        };
        let said = call::Outcome {
            call: 4,
            result: CallResult::Failed,
            reported: Some(reported),
            upload: Some(Digest::of(b"upload")),
            ..Default::default()
        };
        let body = Body { outcome: Some(said.clone()), ..Body::default() };
        let outcome = read(&statement(kind::CALL_OUTCOME, body)).outcome.expect("an outcome");
        assert_eq!((outcome.call, outcome.result, outcome.upload), (4, CallResult::Failed, said.upload));
        let reported = outcome.reported.expect("reported");
        assert_eq!(reported.statement_kind.as_deref(), Some("INSERT"));
        assert_eq!(reported.job.map(|job| job.id).as_deref(), Some("j"));
    }

    #[test]
    fn a_later_version_is_not_searchable() {
        let mut later = statement(kind::SESSION_HEARTBEAT, Body::default());
        later.v = VERSION + 1;
        assert!(Fields::read(&later.to_bytes().expect("small")).is_none());
    }
}
