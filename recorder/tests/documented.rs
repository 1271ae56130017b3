//! docs/operations.md knows what the code knows: every category that a stop can have, and every metric.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;

use bqwitness_recorder::metrics::Metrics;
use prometheus::Registry;

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// Where the categories come from.
const SOURCES: [&str; 2] = [include_str!("../src/app.rs"), include_str!("../src/store/error.rs")];

/// Never the category of a stop: of two threads that stop, the one that failed is asked.
const UNSEEN: &str = "stopping";

/// The words of every `fn category`.
fn in_code() -> BTreeSet<&'static str> {
    let body = |source: &'static str| {
        let (_, rest) = source.split_once("fn category(&self) -> &'static str {").unwrap();
        rest.split_once("\n    }\n").unwrap().0
    };
    let words = SOURCES.into_iter().flat_map(|source| body(source).split("=> \"").skip(1));
    words
        .filter_map(|rest| rest.split_once('"'))
        .map(|(word, _)| word)
        .filter(|word| *word != UNSEEN)
        .collect()
}

/// The first column of the table of categories.
fn documented() -> BTreeSet<&'static str> {
    let (_, table) = OPERATIONS.split_once("| category |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn operations_lists_every_category() {
    let code = in_code();
    assert!(code.contains("corrupt") && code.contains("bad_tls"), "{code:?}");
    assert_eq!(documented(), code);
}

#[test]
fn operations_lists_every_metric() {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    metrics.batches.with_label_values(&["recorded"]).reset();
    metrics.witness_answers.with_label_values(&["w", "cosigned"]).reset();
    let row =
        |family: &prometheus::proto::MetricFamily| format!("| `{}` | {} |\n", family.name(), family.help());
    let table: String = registry.gather().iter().map(row).collect();
    assert!(OPERATIONS.contains(&table), "docs/operations.md lacks this table:\n{table}");
}
