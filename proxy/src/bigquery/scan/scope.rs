//! Which names are tables: not common table expressions, and not arrays of a row that an alias stands for.
//!
//! `(SELECT COUNT(*) FROM o.items)` reads a table `items` of the data set `o`, unless the query around it has, perhaps further
//! on, a `FROM orders AS o`. So qualified names wait until the queries around them have ended. Every name is put on the list
//! once and taken off once, so the time is linear.

use std::collections::HashMap;

use ledger::call::Access;

use super::name::{Form, Span};

/// A name that is a table, unless an alias around it says otherwise.
struct Candidate {
    table: Table,
    /// Its first part in [`Scope::names`], when it can be an alias.
    first: Option<usize>,
    /// The frame whose FROM clause it is in.
    owner: usize,
    dropped: bool,
}

/// A table in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) start: usize,
    pub(super) form: Form,
    pub(super) access: Access,
}

/// All names of a statement.
#[derive(Default)]
pub(super) struct Scope {
    waiting: Vec<Candidate>,
    /// First parts of names, and for each the places in `waiting` that have it, in ascending order.
    names: HashMap<String, usize>,
    places: Vec<Vec<usize>>,
    /// Common table expressions in force, and how often.
    expressions: HashMap<String, usize>,
    /// Tables for good.
    found: Vec<Table>,
}

impl Scope {
    /// Where the names of a query that begins now begin.
    pub(super) fn mark(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn define(&mut self, expression: &str) {
        *self.expressions.entry(expression.to_owned()).or_default() += 1;
    }

    pub(super) fn undefine(&mut self, expression: &str) {
        if let Some(count) = self.expressions.get_mut(expression) {
            *count -= 1;
            if *count == 0 {
                self.expressions.remove(expression);
            }
        }
    }

    pub(super) fn is_expression(&self, span: &Span) -> bool {
        !span.qualified && self.expressions.contains_key(&span.first)
    }

    /// A name that is written, or otherwise can only be a table.
    pub(super) fn table(&mut self, table: Table) {
        self.found.push(table);
    }

    /// A name in the FROM clause of the frame `owner`.
    pub(super) fn candidate(&mut self, span: &Span, table: Table, owner: usize) {
        let place = self.waiting.len();
        let first = span.qualified.then(|| {
            let fresh = self.places.len();
            let first = *self.names.entry(span.first.clone()).or_insert(fresh);
            if first == fresh {
                self.places.push(Vec::new());
            }
            self.places[first].push(place);
            first
        });
        self.waiting.push(Candidate { table, first, owner, dropped: false });
    }

    /// A query part of the frame `owner` ended, which began at `mark`: names within it that begin with its `alias` are
    /// arrays, but for those in its own FROM clause, which were looked at there.
    pub(super) fn resolve(&mut self, alias: &str, mark: usize, owner: usize) {
        let Some(first) = self.names.get(alias) else { return };
        let places = &mut self.places[*first];
        let inside = places.partition_point(|place| *place < mark);
        let own = places.split_off(inside).into_iter().filter(|place| {
            let candidate = &mut self.waiting[*place];
            candidate.dropped |= candidate.owner != owner;
            !candidate.dropped
        });
        let own: Vec<usize> = own.collect();
        places.extend(own);
    }

    /// Nothing outside can refer into what began at `mark`: its names are tables for good.
    pub(super) fn settle(&mut self, mark: usize) {
        for candidate in self.waiting.drain(mark.min(self.waiting.len())..).rev() {
            let place = candidate.first.map(|first| &mut self.places[first]);
            if let Some(places) = place.filter(|_| !candidate.dropped) {
                places.pop();
            }
            if !candidate.dropped {
                self.found.push(candidate.table);
            }
        }
    }

    /// Ends the statement; its tables in the order of the text.
    pub(super) fn finish(&mut self) -> Vec<Table> {
        self.settle(0);
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|table| table.start);
        *self = Self::default();
        found
    }
}
