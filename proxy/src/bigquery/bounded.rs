//! Lists that fit an entry, whatever the request or the answer has in it.

use std::collections::{BTreeMap, BTreeSet};

use ledger::call::{MAX_TABLES, StatementUse, TableUse};
use ledger::statement::MAX_CLAIM;

use super::path::cut;
use super::scan;

/// What the tables of an entry may take in its JSON, in bytes (24 KiB of the 60 that it has): those of the call first, then those
/// of a script's statements. The rest is left out, and the list, or the statement, is marked as truncated.
const MAX_TABLE_BYTES: usize = 24 * 1024;

/// What the names of columns may take, in bytes. The rest is left out, and the report is marked as truncated.
const MAX_COLUMN_BYTES: usize = 12 * 1024;

/// How many names of columns are kept.
const MAX_COLUMNS: usize = 128;

/// How many labels are kept (BigQuery takes 64 on a job), and what they may take, in bytes. The rest is in the request's
/// blob only.
const MAX_LABELS: usize = 64;
const MAX_LABEL_BYTES: usize = 8 * 1024;

/// Tables, each once, in the order of their first naming.
#[derive(Default)]
pub(super) struct Tables {
    list: Vec<TableUse>,
    seen: BTreeSet<TableUse>,
    bytes: usize,
    pub(super) truncated: bool,
}

impl Tables {
    pub(super) fn push(&mut self, table: TableUse) {
        if self.seen.contains(&table) {
            return;
        }
        let bytes = json_len(&table);
        if self.list.len() == MAX_TABLES || self.bytes + bytes > MAX_TABLE_BYTES {
            self.truncated = true;
            return;
        }
        self.bytes += bytes;
        self.seen.insert(table.clone());
        self.list.push(table);
    }

    /// The statements of a script, with what the list leaves of the room for tables. `named` is what the places in `found`
    /// stand for. All kinds are kept: 128 of them take less than 8 KiB.
    pub(super) fn statements(&mut self, found: &[scan::Statement], named: &[TableUse]) -> Vec<StatementUse> {
        let statements = found.iter().map(|statement| {
            let mut listed = StatementUse {
                kind: statement.kind.map(str::to_owned),
                tables_truncated: statement.truncated,
                ..StatementUse::default()
            };
            for table in statement.tables.iter().filter_map(|place| named.get(*place)) {
                let bytes = json_len(table);
                if self.bytes + bytes > MAX_TABLE_BYTES {
                    listed.tables_truncated = true;
                    break;
                }
                self.bytes += bytes;
                listed.tables.push(table.clone());
            }
            listed
        });
        statements.collect()
    }

    pub(super) fn into_list(self) -> Vec<TableUse> {
        self.list
    }
}

/// Names of columns.
#[derive(Default)]
pub(super) struct Columns {
    pub(super) list: Vec<String>,
    bytes: usize,
    pub(super) truncated: bool,
}

impl Columns {
    pub(super) fn push(&mut self, name: &str) {
        let bytes = json_len(name);
        if self.list.len() == MAX_COLUMNS || self.bytes + bytes > MAX_COLUMN_BYTES {
            self.truncated = true;
        } else {
            self.bytes += bytes;
            self.list.push(name.to_owned());
        }
    }
}

/// Labels within bounds, each text cut at [`MAX_CLAIM`].
pub(super) fn labels(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut bytes = 0;
    let texts = labels.into_iter().map(|(key, value)| (cut(key, MAX_CLAIM), cut(value, MAX_CLAIM)));
    let fitting = texts.take(MAX_LABELS).take_while(|(key, value)| {
        bytes += json_len(key.as_str()) + json_len(value.as_str());
        bytes <= MAX_LABEL_BYTES
    });
    fitting.collect()
}

/// Bytes as JSON, with the comma after it.
fn json_len<T: serde::Serialize + ?Sized>(value: &T) -> usize {
    serde_json::to_string(value).map_or(usize::MAX / 2, |json| json.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::call::Access;

    fn table(name: String) -> TableUse {
        TableUse { project: None, dataset: None, table: name, access: Access::Read }
    }

    #[test]
    fn tables_are_listed_once_and_within_bounds() {
        let mut tables = Tables::default();
        (0..3).for_each(|_| tables.push(table("t".into())));
        assert!(!tables.truncated);
        (0..MAX_TABLES).for_each(|number| tables.push(table(number.to_string())));
        assert!(tables.truncated);
        assert_eq!(tables.into_list().len(), MAX_TABLES);

        let mut long = Tables::default();
        (0..MAX_TABLES).for_each(|number| long.push(table(format!("{number}{}", "\u{1}".repeat(500)))));
        assert!(long.truncated);
        let json = serde_json::to_string(&long.into_list()).expect("JSON");
        assert!(json.len() <= MAX_TABLE_BYTES + 1 && json.len() > MAX_TABLE_BYTES / 2);
    }

    #[test]
    fn statements_take_what_the_tables_leave() {
        let named: Vec<_> =
            (0..MAX_TABLES).map(|number| table(format!("{number:03}{}", "x".repeat(150)))).collect();
        let found: Vec<_> = (0..MAX_TABLES)
            .map(|place| scan::Statement { kind: Some("DELETE"), tables: vec![place], truncated: false })
            .collect();
        let mut tables = Tables::default();
        named.iter().take(20).cloned().for_each(|table| tables.push(table));
        let listed = tables.statements(&found, &named);
        assert_eq!(listed.len(), MAX_TABLES);
        let whole = listed.iter().take_while(|statement| !statement.tables_truncated).count();
        assert!(whole > 50 && whole < MAX_TABLES, "{whole}");
        for (place, statement) in listed.iter().enumerate() {
            assert_eq!(statement.kind.as_deref(), Some("DELETE"));
            assert_eq!(statement.tables.first(), named.get(place).filter(|_| place < whole));
            assert_eq!(statement.tables_truncated, place >= whole);
        }
        let bytes = serde_json::to_string(&listed).expect("JSON").len();
        assert!(bytes < MAX_TABLE_BYTES + 8 * 1024, "{bytes}");
    }

    #[test]
    fn labels_and_columns_are_bounded() {
        let many = (0..1000).map(|number| (format!("k{number}"), "v".repeat(1000))).collect();
        let kept = labels(many);
        assert!(kept.len() <= MAX_LABELS && kept.values().all(|value| value.len() == MAX_CLAIM));
        let mut columns = Columns::default();
        (0..MAX_COLUMNS).for_each(|number| columns.push(&number.to_string()));
        assert!(!columns.truncated);
        columns.push("one more");
        assert!(columns.truncated && columns.list.len() == MAX_COLUMNS);
    }
}
