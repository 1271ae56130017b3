//! Parentheses: what is open, and what may come next in it.

use std::collections::HashSet;

use ledger::call::Access;

/// One pair of parentheses, or the statement itself.
#[derive(Default)]
pub(super) struct Frame {
    /// The frame that has the FROM clause: itself, or the one around it for `FROM (a JOIN b)`.
    pub(super) owner: usize,
    /// Names before this one are of an outer query.
    pub(super) opened: usize,
    /// The same for the part of it behind the last UNION.
    pub(super) part: usize,
    /// A query: FROM is a clause here, not a word of EXTRACT.
    pub(super) query: bool,
    /// Nothing outside can be referred to from inside, nor the other way round.
    pub(super) closed: bool,
    /// An item of a FROM clause: an alias may follow it.
    pub(super) item: bool,
    /// Arguments of a function.
    pub(super) call: bool,
    /// Arguments of a table function: `TABLE` names a table.
    pub(super) table_function: bool,
    /// A list of tables: one comes behind each comma.
    pub(super) tables: bool,
    /// A token was seen in it.
    pub(super) begun: bool,
    /// Between FROM and the next clause: a comma is followed by a table.
    pub(super) from: bool,
    /// Behind a common table expression: a comma is followed by another one. True when they are recursive.
    pub(super) with: Option<bool>,
    /// The common table expression that it defines when it ends.
    pub(super) defines: Option<String>,
    /// Common table expressions that end with it.
    pub(super) expressions: Vec<String>,
    /// Aliases of its FROM clause, in lower case.
    pub(super) aliases: HashSet<String>,
    pub(super) expect: Expect,
}

/// What may come next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Expect {
    /// Anything.
    #[default]
    Anything,
    /// A table.
    Table(Item),
    /// AS, or an alias; else this one holds.
    Alias(Option<String>),
    /// An alias, behind AS.
    AliasName,
    /// Arguments of an item of a FROM clause; of a table function when true.
    Arguments(bool),
}

/// What a table may be where it is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// An item of a FROM clause.
    From,
    /// A name, perhaps with an alias, of a table that is read or written.
    Name(Access, bool),
}

/// Words that are never a name without backticks.
const RESERVED: [&str; 95] = [
    "ALL",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "ASC",
    "ASSERT_ROWS_MODIFIED",
    "AT",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COLLATE",
    "CONTAINS",
    "CREATE",
    "CROSS",
    "CUBE",
    "CURRENT",
    "DEFAULT",
    "DEFINE",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "ENUM",
    "ESCAPE",
    "EXCEPT",
    "EXCLUDE",
    "EXISTS",
    "EXTRACT",
    "FALSE",
    "FETCH",
    "FOLLOWING",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "GROUPING",
    "GROUPS",
    "HASH",
    "HAVING",
    "IF",
    "IGNORE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOOKUP",
    "MERGE",
    "NATURAL",
    "NEW",
    "NO",
    "NOT",
    "NULL",
    "NULLS",
    "OF",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PRECEDING",
    "PROTO",
    "QUALIFY",
    "RANGE",
    "RECURSIVE",
    "RESPECT",
    "RIGHT",
    "ROLLUP",
    "ROWS",
    "SELECT",
    "SET",
    "SOME",
    "STRUCT",
    "TABLESAMPLE",
    "THEN",
    "TO",
    "TREAT",
    "TRUE",
    "UNBOUNDED",
    "UNION",
    "UNNEST",
    "USING",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

/// Longest reserved word.
const LONGEST: usize = 20;

/// A word in upper case, for comparison; empty when it is longer than any keyword.
pub(super) struct Upper {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Upper {
    pub(super) fn new(word: &str) -> Self {
        let mut bytes = [0; LONGEST];
        let length = if word.is_ascii() && word.len() <= LONGEST { word.len() } else { 0 };
        bytes[..length].copy_from_slice(&word.as_bytes()[..length]);
        bytes.make_ascii_uppercase();
        Self { bytes, length }
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }

    pub(super) fn is_reserved(&self) -> bool {
        RESERVED.binary_search(&self.as_str()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_words_in_any_case() {
        assert!(RESERVED.is_sorted());
        assert!(RESERVED.iter().all(|word| word.len() <= LONGEST && Upper::new(word).is_reserved()));
        assert!(Upper::new("Select").is_reserved() && Upper::new("assert_rows_modified").is_reserved());
        for name in ["", "orders", "selectx", "ſelect", "a_very_long_name_of_a_table", "update", "offset"] {
            assert!(!Upper::new(name).is_reserved(), "{name}");
        }
    }
}
