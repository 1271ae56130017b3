use super::*;
use proptest::prelude::*;

use crate::bigquery::method_table::STATEMENT_TYPES;

/// What [`scan`] says of the whole text, as `tests/sql/statements.txt` writes it.
fn summary(sql: &str) -> String {
    let scan = scan(sql);
    line(scan.kind, &scan.tables.iter().collect::<Vec<_>>())
}

/// The same, and below it a line for each statement of a script.
fn listing(sql: &str) -> String {
    let scan = scan(sql);
    let whole = line(scan.kind, &scan.tables.iter().collect::<Vec<_>>());
    let statements = scan.statements.iter().map(|statement| {
        let tables = statement.tables.iter().map(|place| &scan.tables[*place]);
        format!("\n+ {}", line(statement.kind, &tables.collect::<Vec<_>>()))
    });
    whole + &statements.collect::<String>()
}

/// `KIND | reads | writes`
fn line(kind: Option<&str>, tables: &[&Named]) -> String {
    let list = |access| {
        let tables = tables.iter().filter(|table| table.access == access).map(|table| {
            let parts = [table.project.as_deref(), table.dataset.as_deref(), Some(table.table.as_str())];
            let name = parts.into_iter().flatten().collect::<Vec<_>>().join(".");
            if table.temporary { format!("~{name}") } else { name }
        });
        let list = tables.collect::<Vec<_>>().join(" ");
        if list.is_empty() { "-".to_owned() } else { list }
    };
    format!("{} | {} | {}", kind.unwrap_or("-"), list(Access::Read), list(Access::Write))
}

/// The statements of the whole system's tests, with what is expected of them.
const STATEMENTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/sql/statements.txt"));

fn statements() -> Vec<(String, String)> {
    let mut statements = Vec::<(String, String)>::new();
    for line in STATEMENTS.lines() {
        if let Some(expected) = line.strip_prefix("= ") {
            statements.push((expected.to_owned(), String::new()));
        } else if line.starts_with("## ") {
            statements.push(Default::default()); // what follows a heading is no statement
        } else if let Some((expected, sql)) = statements.last_mut() {
            if sql.is_empty() && line.starts_with("+ ") {
                expected.extend(["\n", line]);
            } else {
                sql.extend([line, "\n"]);
            }
        }
    }
    statements.retain(|(expected, _)| !expected.is_empty());
    statements
}

#[test]
fn every_statement_of_the_collection_is_read_right() {
    let statements = statements();
    assert!(statements.len() >= 300, "{}", statements.len());
    let wrong: Vec<_> = statements
        .iter()
        .map(|(expected, sql)| (expected, sql, listing(sql)))
        .filter(|(expected, _, found)| found != *expected)
        .map(|(expected, sql, found)| format!("{sql}expected {expected}\n   found {found}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), statements.len(), wrong.join("\n\n"));
}

#[test]
fn the_collection_has_every_kind_that_bigquery_has() {
    let statements = statements();
    let kinds: HashSet<_> =
        statements.iter().filter_map(|(expected, _)| expected.split(" | ").next()).collect();
    let missing: Vec<_> = STATEMENT_TYPES.iter().filter(|kind| !kinds.contains(**kind)).collect();
    assert!(missing.is_empty(), "no statement is {missing:?}");
}

/// A statement is read alike on one line and on many, in capitals or not, with comments everywhere.
#[test]
fn layout_changes_nothing() {
    for (expected, sql) in statements() {
        let plain = !sql.contains(['\'', '"', '#', '`']) && !sql.contains("--") && !sql.contains("/*");
        if plain {
            let spread = sql.split_whitespace().collect::<Vec<_>>().join(" /* FROM x.y */\n-- it's\n");
            assert_eq!(listing(&spread), expected, "{spread}");
        }
    }
}

#[test]
fn nothing_has_no_kind() {
    for sql in [
        "",
        " ",
        ";",
        " -- nothing",
        "/* nothing */;;",
        "'text'",
        "42",
        "nonsense here",
        "CREATE",
        "CREATE NONSENSE x.y",
    ] {
        assert_eq!(summary(sql), "- | - | -", "{sql}");
    }
}

#[test]
fn scripts_that_change_defaults() {
    assert!(scan("SET @@dataset_id = 'billing'; SELECT * FROM invoices").sets_defaults);
    assert!(scan("set (@@Dataset_Project_Id, x) = ('p', 1); SELECT 1").sets_defaults);
    assert!(!scan("SET x = 1; SELECT @@dataset_id").sets_defaults);
}

#[test]
fn lists_are_bounded() {
    let many: Vec<_> = (0..MAX_TABLES + 1).map(|number| format!("d.t{number}")).collect();
    let found = scan(&format!("SELECT * FROM {}", many.join(", ")));
    assert_eq!((found.tables.len(), found.truncated), (MAX_TABLES, true));
    let exact = scan(&format!("SELECT * FROM {}", many[1..].join(", ")));
    assert_eq!((exact.tables.len(), exact.truncated), (MAX_TABLES, false));
    let twice = scan("SELECT * FROM d.t, d.t x JOIN d.t y ON TRUE");
    assert_eq!((twice.tables.len(), twice.truncated), (1, false));
}

#[test]
fn what_is_too_deep_is_passed_over_and_said() {
    let deep = format!("SELECT {}SELECT 1 FROM a.b{} FROM c.d", "(".repeat(5000), ")".repeat(5000));
    let found = scan(&deep);
    assert!(found.truncated);
    assert_eq!(found.tables.iter().map(|table| table.table.as_str()).collect::<Vec<_>>(), ["d"]);
    let long = format!("SELECT 1 FROM a.b {} FROM c.d", " ".repeat(MAX_SQL));
    assert!(scan(&long).truncated);
}

/// How long this thread has had a processor: what else the machine does counts for nothing.
fn on_processor() -> std::time::Duration {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says it");
    let nanos = said.split(' ').next().and_then(|nanos| nanos.parse().ok());
    std::time::Duration::from_nanos(nanos.expect("nanoseconds"))
}

/// Texts that would be slow, or would overflow the stack, in a scanner that looks back or recurses: eight times the text may
/// take three times eight times the time (a quadratic scanner takes 64 times).
#[test]
fn anything_takes_linear_time() {
    for unit in [
        "(",
        ")",
        "((SELECT 1 FROM a.b x) UNION ALL ",
        "(SELECT 1 FROM a.b a, (",
        "SELECT(SELECT 1 FROM o.x,",
        "WITH a AS (",
        ",a AS (SELECT 1)",
        "FROM a.b ",
        "FROM ((",
        "JOIN a.b c ",
        "a.",
        "a-",
        "`",
        "'",
        "\"\"\"",
        "/*",
        "--",
        "@",
        "@{",
        "[",
        "FROM [",
        "\\",
        "`\\x",
        "SET ",
        "SET @@x ",
        "IF x THEN ",
        "CASE ",
        "BEGIN ",
        "END ",
        "x:",
        ";",
        "CREATE PROCEDURE p() BEGIN ",
        "DELETE a.b WHERE TRUE;",
        "IF (SELECT 1 FROM a.b) THEN ",
        "SELECT 1 FROM a.b, c.d, e.f; ELSE ",
        "FROM x PIVOT(",
        "UNION ALL SELECT 1 FROM a.b a ",
        "é",
        "\u{a0}",
        "0x",
        "1e",
        "|>",
        "FROM t(TABLE ",
        "SELECT (SELECT 1 FROM a.x) FROM b.a UNION ALL ",
    ] {
        let timed = |bytes: usize| {
            let sql = format!("WITH q AS (SELECT 1) SELECT * FROM q, {}", unit.repeat(bytes / unit.len()));
            let start = on_processor();
            let _found = scan(&sql);
            on_processor() - start
        };
        let (short, long) = (timed(64 << 10), timed(512 << 10));
        assert!(
            long < short * 24 + std::time::Duration::from_millis(300),
            "{unit:?} took {short:?}, then {long:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_scanned(sql: String) {
        prop_assert!(scan(&sql).tables.len() <= MAX_TABLES);
    }

    #[test]
    fn any_tokens_are_scanned(tokens in prop::collection::vec(prop::sample::select(vec![
        "SELECT", "FROM", "JOIN", "WITH", "RECURSIVE", "x", "AS", "(", ")", ",", ".", "a.b", "`c.d`", "UNION ALL", "|>", ";", "BEGIN", "END", "IF", "THEN",
        "ELSE", "LOOP", "CREATE", "TABLE", "PROCEDURE", "TEMP", "MERGE", "USING", "ON", "DELETE", "UPDATE", "SET", "INSERT", "INTO", "VALUES", "'t'", "1",
        "[", "]", "UNNEST", "PIVOT", "EXTRACT", "DISTINCT", "EXCEPT", "FLATTEN", "TABLE_QUERY", "-", ":", "*", "GRANT", "LIKE", "CLONE", "LATERAL", "CASE",
    ]), 0..60)) {
        let sql = tokens.join(" ");
        prop_assert!(!scan(&sql).truncated);
    }

    /// Comments, white space and the case of keywords change nothing.
    #[test]
    fn spelling_changes_nothing(between in prop::sample::select(vec![" ", "\n", "\t", "/* FROM x.y */", "-- it's\n", "# \"\n", "\u{3000}"]), lower: bool) {
        let words = ["SELECT", "*", "FROM", "a.b", "AS", "o", "JOIN", "(", "SELECT", "1", "FROM", "c.d", ")", "ON", "TRUE", ",", "o.items"];
        let sql = words.map(|word| if lower { word.to_lowercase() } else { word.to_owned() }).join(between);
        prop_assert_eq!(summary(&sql), "SELECT | a.b c.d | -");
    }

    /// A table is found wherever a query of it is put.
    #[test]
    fn a_query_is_found_in_every_place(places in prop::collection::vec(0usize..8, 0..12)) {
        let mut sql = "SELECT x FROM billing.invoices".to_owned();
        for place in places {
            sql = match place {
                0 => format!("SELECT * FROM ({sql}) AS billing"),
                1 => format!("SELECT ({sql}) AS y FROM t.u"),
                2 => format!("WITH billing AS ({sql}) SELECT * FROM billing"),
                3 => format!("SELECT 1 FROM t.u WHERE EXISTS({sql})"),
                4 => format!("({sql}) UNION ALL SELECT 1 FROM t.u AS billing"),
                5 => format!("SELECT ARRAY({sql}), f(x, ({sql}))"),
                6 => format!("SELECT * FROM t.u JOIN (({sql}) UNION ALL ({sql})) ON TRUE"),
                _ => format!("FROM ({sql}) |> WHERE x IN ({sql}) |> JOIN t.u ON TRUE"),
            };
            if sql.len() > 10_000 {
                break;
            }
        }
        prop_assert!(scan(&sql).tables.iter().any(|table| table.table == "invoices"), "{}", sql);
    }
}
