//! docs/operations.md lists every metric of the sidecar, and no other.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

const OPERATIONS: &str = include_str!("../../docs/operations.md");

const SOURCES: [&str; 3] = [
    include_str!("../src/metrics.rs"),
    include_str!("../src/identity/metrics.rs"),
    include_str!("../../deliver/src/metrics.rs"),
];

#[test]
fn operations_lists_every_metric() {
    let named =
        |code: &'static str| code.split("\"bqwitness_").skip(1).map(|rest| rest.split('"').next().unwrap());
    let in_code: BTreeSet<_> = SOURCES.into_iter().flat_map(named).collect();
    assert!(in_code.contains("calls_total") && in_code.contains("delivery_seconds"), "{in_code:?}");
    let (_, section) = OPERATIONS.split_once("## The sidecar's metrics\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `bqwitness_"));
    let documented: BTreeSet<_> = rows.map(|row| row.split('`').next().unwrap()).collect();
    assert_eq!(documented, in_code);
}
