//! What SQL does, and to which tables: a scanner of tokens, not a parser. It never fails, never recurses, and takes time in
//! proportion to the text. BigQuery's own report of a job wins over it.
//!
//! `token` makes tokens, `head` reads how a statement begins, `machine` follows clauses and parentheses (`frame`) and finds
//! the places where a table is named, `name` takes names apart, and `scope` says which of them are tables rather than common
//! table expressions or arrays.

mod frame;
mod head;
mod machine;
mod name;
mod scope;
mod token;

use std::collections::HashSet;

use ledger::call::{Access, MAX_TABLES};

use machine::{Machine, Sink};
use scope::Table;

/// Longest text that is scanned, in bytes (4 MiB). BigQuery takes 1 MB of characters; what is beyond is not scanned, and the
/// scan says so.
pub const MAX_SQL: usize = 4 << 20;

/// What a text does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// BigQuery's `statementType` of the whole text (`SCRIPT` for several statements); `None` when it begins like nothing
    /// that is known.
    pub kind: Option<&'static str>,
    /// The tables that it names, each once, in the order of the text; at most [`MAX_TABLES`].
    pub tables: Vec<Named>,
    /// There are more tables, or a part of the text was passed over.
    pub truncated: bool,
    /// It sets `@@dataset_id` or `@@dataset_project_id`: what unqualified names stand for is not known.
    pub sets_defaults: bool,
}

/// A table as the text names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    /// Project, when it was said.
    pub project: Option<String>,
    /// Data set, when it was said; `region-us` for views of a region.
    pub dataset: Option<String>,
    /// Table, view, wildcard (`events_*`), or `INFORMATION_SCHEMA.TABLES`.
    pub table: String,
    /// Read or written.
    pub access: Access,
    /// A temporary table that the text creates: no default data set applies.
    pub temporary: bool,
}

/// Scans GoogleSQL or legacy SQL.
#[must_use]
pub fn scan(sql: &str) -> Scan {
    let whole = sql.len() <= MAX_SQL;
    let end = (0..=MAX_SQL.min(sql.len())).rev().find(|end| sql.is_char_boundary(*end)).unwrap_or(0);
    let mut collector = Collector { sql: &sql[..end], ..Collector::default() };
    let (kinds, passed_over) = Machine::new(&sql[..end], &mut collector).run();
    let mut scan = collector.scan;
    scan.kind = kinds.overall();
    scan.truncated |= passed_over || !whole;
    scan
}

/// Collects tables within bounds.
#[derive(Default)]
struct Collector<'s> {
    sql: &'s str,
    scan: Scan,
    seen: HashSet<Named>,
    temporary: HashSet<String>,
}

impl Collector<'_> {
    fn named(&self, table: &Table) -> Option<Named> {
        let mut named = name::named(self.sql, table.start, table.form, table.access)?;
        named.temporary = named.dataset.is_none() && self.temporary.contains(&named.table);
        Some(named)
    }
}

impl Sink for Collector<'_> {
    fn tables(&mut self, tables: Vec<Table>) {
        for table in tables {
            let Some(named) = self.named(&table) else {
                self.scan.truncated = true; // longer than any name that BigQuery has
                continue;
            };
            if self.seen.contains(&named) {
                continue;
            }
            if self.seen.len() == MAX_TABLES {
                self.scan.truncated = true;
                return;
            }
            self.seen.insert(named.clone());
            self.scan.tables.push(named);
        }
    }

    fn temporary(&mut self, table: Table) {
        if let Some(named) = self.named(&table).filter(|_| self.temporary.len() < MAX_TABLES) {
            self.temporary.insert(named.table);
        }
    }

    fn sets_defaults(&mut self) {
        self.scan.sets_defaults = true;
    }
}

#[cfg(test)]
mod tests;
