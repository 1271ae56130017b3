//! The statements that the proxy's scanner is held to (`tests/sql/statements.txt`; its own tests demand every one of them)
//! are what GoogleSQL's parser says too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write as _;
use std::process::Command;

use bqwitness_tests::skip;
use bqwitness_tests::tools::{Tools, root};

/// What is compared, and as many statements as were asked for; fewer would make the agreement worth less.
const COMPARED: [(&str, u32); 4] =
    [("kinds", 300), ("tables", 300), ("kinds within scripts", 100), ("tables within scripts", 100)];

#[test]
fn the_scanners_statements_agree_with_the_parser_of_googlesql() {
    let Some(python) = Tools::find().unwrap().parser_python else {
        return skip::skipped("GoogleSQL's parser (PyPI: zetasql) is not installed here");
    };
    let checked = Command::new(python).arg(root().join("tests/sql/check.py")).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    let errors = String::from_utf8_lossy(&checked.stderr);
    for (of, least) in COMPARED {
        let begins = format!("agreement of {of}: ");
        let agreement = said.lines().find_map(|line| line.strip_prefix(&begins));
        let agreement = agreement.unwrap_or_else(|| panic!("no agreement of {of} in:\n{said}{errors}"));
        // Not `eprintln!`, which the test harness captures.
        writeln!(
            std::io::stderr(),
            "GoogleSQL's parser and the scanner's statements agree on {of}: {agreement}"
        )
        .unwrap();
        let (share, count) = agreement.split_once(" % of ").unwrap();
        assert!(share.parse::<f64>().unwrap() >= 99.0, "{said}");
        assert!(count.strip_suffix(" statements").unwrap().parse::<u32>().unwrap() >= least, "{said}");
    }
    assert!(checked.status.success(), "{said}{errors}");
}
