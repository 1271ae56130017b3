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

use std::collections::{HashMap, HashSet};

use ledger::call::{Access, MAX_STATEMENTS, MAX_TABLES};

use machine::{Machine, Place, Sink};
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
    /// Its statements in the order of the text, at most [`MAX_STATEMENTS`]. Those within blocks are here one by one; the body of a
    /// procedure belongs to the CREATE PROCEDURE. Empty when `kind` and `tables` say all of the only statement.
    pub statements: Vec<Statement>,
    /// There are more statements. `tables` has theirs, too.
    pub statements_truncated: bool,
    /// It sets `@@dataset_id` or `@@dataset_project_id`: what unqualified names stand for is not known.
    pub sets_defaults: bool,
}

/// One statement of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// BigQuery's `statementType`. What BigQuery has no word for has the word that it begins with: `DECLARE`, `SET`,
    /// `EXECUTE_IMMEDIATE`, and `IF`, `WHILE`, `FOR` for a condition that names a table. `None` when it begins like nothing
    /// that is known.
    pub kind: Option<&'static str>,
    /// The places of its tables in [`Scan::tables`], each once.
    pub tables: Vec<usize>,
    /// It names more tables, which [`Scan::tables`] has no room for.
    pub truncated: bool,
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
    scan.statements_truncated |= !whole;
    let only_one = matches!(&scan.statements[..], [only] if only.kind == scan.kind);
    if only_one && !scan.statements_truncated {
        scan.statements.clear();
    }
    scan
}

/// Collects statements and tables within bounds.
#[derive(Default)]
struct Collector<'s> {
    sql: &'s str,
    scan: Scan,
    /// Where in the list of tables each is.
    places: HashMap<Named, usize>,
    /// For each table of the list, the last statement that has it.
    listed: Vec<usize>,
    /// How many statements there were.
    statements: usize,
    temporary: HashSet<String>,
}

impl Collector<'_> {
    fn named(&self, table: &Table) -> Option<Named> {
        let mut named = name::named(self.sql, table.start, table.form, table.access)?;
        named.temporary = named.dataset.is_none() && self.temporary.contains(&named.table);
        Some(named)
    }

    fn begin(&mut self, kind: Option<&'static str>) {
        self.statements += 1;
        if self.statements <= MAX_STATEMENTS {
            self.scan.statements.push(Statement { kind, ..Statement::default() });
        } else {
            self.scan.statements_truncated = true;
        }
    }

    fn add(&mut self, table: &Table) {
        // None: longer than any name that BigQuery has.
        let place = self.named(table).and_then(|named| self.place(named));
        self.scan.truncated |= place.is_none();
        let listed = self.statements <= MAX_STATEMENTS;
        let Some(statement) = self.scan.statements.last_mut().filter(|_| listed) else { return };
        match place {
            None => statement.truncated = true,
            Some(place) if self.listed[place] == self.statements => (),
            Some(place) => {
                self.listed[place] = self.statements;
                statement.tables.push(place);
            }
        }
    }

    /// Where the table is in the list; `None` when there is no room for it.
    fn place(&mut self, named: Named) -> Option<usize> {
        if let Some(place) = self.places.get(&named) {
            return Some(*place);
        }
        let place = Some(self.scan.tables.len()).filter(|place| *place < MAX_TABLES)?;
        self.places.insert(named.clone(), place);
        self.scan.tables.push(named);
        self.listed.push(0);
        Some(place)
    }
}

impl Sink for Collector<'_> {
    fn statement(&mut self, place: Place, tables: Vec<Table>) {
        match place {
            Place::Statement(kind) => self.begin(kind),
            Place::Condition(word) if !tables.is_empty() => self.begin(Some(word)),
            Place::Condition(_) | Place::Before => (),
        }
        tables.iter().for_each(|table| self.add(table));
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
mod script_tests;
#[cfg(test)]
mod tests;
