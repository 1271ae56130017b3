//! What SQL does, and to which tables.

use ledger::call::Access;

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// In BigQuery's words.
    pub kind: Option<&'static str>,
    /// Tables, each once.
    pub tables: Vec<Named>,
    /// More tables than are listed, or the text was not read to its end.
    pub truncated: bool,
    /// The script sets what unqualified names stand for.
    pub sets_defaults: bool,
}

/// A table as SQL names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    /// Project, when it was said.
    pub project: Option<String>,
    /// Data set, when it was said.
    pub dataset: Option<String>,
    /// The table.
    pub table: String,
    /// Read or written.
    pub access: Access,
    /// A temporary table of the script.
    pub temporary: bool,
}

/// Scans SQL.
#[must_use]
pub fn scan(_sql: &str) -> Scan {
    Scan::default()
}
