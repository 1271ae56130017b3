//! What leads a search, so that the newest come first without sorting.

use ledger::search::Query;

use crate::index::IndexError;
use crate::index::conditions::Conditions;
use crate::index::schema::ANY;

/// Rows of which each leads to a call, in the order of the log.
#[derive(Clone, Debug)]
pub(super) struct Lead {
    pub(super) from: &'static str,
    /// The column that has the call's index.
    pub(super) key: &'static str,
    pub(super) conditions: Conditions,
}

impl Lead {
    /// Do the calls themselves lead? Then each part of what the reader may see can lead to its own newest ones.
    pub(super) fn is_of_calls(&self) -> bool {
        self.from == "calls"
    }
}

/// Words lead, else a table, else what has few calls, else the kind of a statement, else the calls themselves.
pub(super) fn leads(query: &Query) -> Result<Vec<Lead>, IndexError> {
    let few = query.session.is_some() || query.job.is_some() || query.pod.is_some();
    Ok(match (&query.words, &query.table, &query.kind) {
        (Some(words), ..) => vec![by_words(words, query)?],
        (None, Some(table), _) => [table.as_str(), ANY].map(|name| by_table(name, query)).into(),
        (None, None, Some(kind)) if !few => {
            vec![by_own_kind(kind), by_statements_kind(kind), by_statements_kind(ANY)]
        }
        (None, None, _) => {
            let mut conditions = Conditions::on("calls");
            of_kind(&mut conditions, query);
            vec![of_calls(conditions)]
        }
    })
}

fn by_words(words: &str, query: &Query) -> Result<Lead, IndexError> {
    let mut conditions = Conditions::on("calls");
    conditions.add("words MATCH ?", phrase(words)?);
    if let Some(table) = &query.table {
        conditions.add(&format!("EXISTS ({})", named("tables")), table.clone());
    }
    of_kind(&mut conditions, query);
    Ok(Lead { from: "words CROSS JOIN calls ON calls.idx = words.rowid", key: "words.rowid", conditions })
}

/// Twice: by the table's name, and by that of the calls which name more tables than is known here, and must not hide among them.
fn by_table(name: &str, query: &Query) -> Lead {
    let mut conditions = Conditions::on("calls");
    conditions.add("tables.name = ?", name.to_owned());
    of_kind(&mut conditions, query);
    Lead { from: "tables CROSS JOIN calls ON calls.idx = tables.idx", key: "tables.idx", conditions }
}

fn by_own_kind(kind: &str) -> Lead {
    let mut conditions = Conditions::on("calls");
    conditions.add("calls.kind = ?", kind.to_owned());
    of_calls(conditions)
}

/// Scripts, by what their statements are; and those of more statements than is known here.
fn by_statements_kind(name: &str) -> Lead {
    let mut conditions = Conditions::on("calls");
    conditions.add("kinds.name = ?", name.to_owned());
    Lead { from: "kinds CROSS JOIN calls ON calls.idx = kinds.idx", key: "kinds.idx", conditions }
}

fn of_calls(conditions: Conditions) -> Lead {
    Lead { from: "calls", key: "calls.idx", conditions }
}

/// The call's kind, or that of a statement of its script.
fn of_kind(conditions: &mut Conditions, query: &Query) {
    if let Some(kind) = &query.kind {
        conditions.add_twice(&format!("(calls.kind = ? OR EXISTS ({}))", named("kinds")), kind);
    }
}

/// The rows of a call under a name, or under that of all; with one question mark.
fn named(table: &str) -> String {
    format!("SELECT 1 FROM {table} WHERE {table}.name IN (?, '{ANY}') AND {table}.idx = calls.idx")
}

/// All words must occur; what is written together, like `billing.invoices`, must occur together.
fn phrase(words: &str) -> Result<String, IndexError> {
    // FTS5 takes it for the end of the expression.
    if words.contains('\0') {
        return Err(IndexError::Query("words: a NUL can't be looked for".into()));
    }
    let words =
        words.split_whitespace().filter(|word| word.contains(|c: char| c.is_alphanumeric() || c == '_'));
    let quoted: Vec<_> = words.map(|word| format!("\"{}\"", word.replace('"', " "))).collect();
    if quoted.is_empty() {
        return Err(IndexError::Query("words: there is no word in it".into()));
    }
    Ok(quoted.join(" AND "))
}
