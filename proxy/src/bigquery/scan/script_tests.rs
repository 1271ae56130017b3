use super::*;

/// The statements of a text as `KIND reads >writes`, one after the other.
fn listed(sql: &str) -> Vec<String> {
    let scan = scan(sql);
    let one = |statement: &Statement| {
        let tables = statement.tables.iter().map(|place| {
            let table = &scan.tables[*place];
            let arrow = if table.access == Access::Write { ">" } else { "" };
            let parts = [table.project.as_deref(), table.dataset.as_deref(), Some(table.table.as_str())];
            format!("{arrow}{}", parts.into_iter().flatten().collect::<Vec<_>>().join("."))
        });
        let words = [statement.kind.unwrap_or("-").to_owned()].into_iter().chain(tables);
        words.collect::<Vec<_>>().join(" ")
    };
    scan.statements.iter().map(one).collect()
}

#[test]
fn one_statement_needs_no_list() {
    for sql in [
        "",
        ";",
        "SELECT * FROM a.b",
        "DELETE a.b WHERE TRUE;",
        ";; SELECT 1 ;;",
        "nonsense here",
        "BEGIN",
        "CALL d.p(1)",
        "CREATE PROCEDURE a.p() BEGIN DELETE c.d WHERE TRUE; SELECT * FROM e.f; END",
    ] {
        assert!(listed(sql).is_empty(), "{sql}");
    }
    // `SCRIPT` alone does not say what it is.
    assert_eq!(listed("EXECUTE IMMEDIATE 'DELETE FROM a.b WHERE TRUE'"), ["EXECUTE_IMMEDIATE"]);
    assert_eq!(listed("BEGIN DELETE a.b WHERE TRUE; END"), ["DELETE >a.b"]);
}

#[test]
fn a_transaction() {
    let sql =
        "BEGIN TRANSACTION; INSERT INTO d.done SELECT * FROM d.queue; DELETE FROM d.queue WHERE TRUE; COMMIT";
    let expected = ["BEGIN_TRANSACTION", "INSERT >d.done d.queue", "DELETE >d.queue", "COMMIT_TRANSACTION"];
    assert_eq!(listed(sql), expected);
    let handled = "BEGIN\n BEGIN; UPDATE a.b SET x = 1 WHERE TRUE; COMMIT TRANSACTION;\n\
                   EXCEPTION WHEN ERROR THEN ROLLBACK; RAISE; END;";
    let expected =
        ["BEGIN_TRANSACTION", "UPDATE >a.b", "COMMIT_TRANSACTION", "ROLLBACK_TRANSACTION", "RAISE"];
    assert_eq!(listed(handled), expected);
}

/// A block is not a statement; what it asks of a table is.
#[test]
fn statements_within_blocks_stand_alone() {
    assert_eq!(
        listed(
            "IF EXISTS (SELECT 1 FROM a.b) THEN DELETE FROM c.d WHERE TRUE; ELSEIF x THEN SELECT 1; \
             ELSE UPDATE i.j SET x = CASE WHEN y THEN 1 END WHERE TRUE; END IF"
        ),
        ["IF a.b", "DELETE >c.d", "SELECT", "UPDATE >i.j"]
    );
    assert_eq!(
        listed(
            "outer: LOOP SELECT * FROM a.b; IF x THEN LEAVE outer; END IF; ITERATE; END LOOP outer; SELECT 2"
        ),
        ["SELECT a.b", "BREAK", "CONTINUE", "SELECT"]
    );
    assert_eq!(
        listed("REPEAT DELETE a.b WHERE TRUE; UNTIL (SELECT COUNT(*) FROM c.d) = 0 END REPEAT"),
        ["DELETE >a.b", "UNTIL c.d"]
    );
    assert_eq!(
        listed(
            "FOR r IN (SELECT x FROM a.b) DO INSERT c.d VALUES (r.x); END FOR; WHILE (SELECT x FROM e.f) DO BREAK; END WHILE"
        ),
        ["FOR a.b", "INSERT >c.d", "WHILE e.f", "BREAK"]
    );
    assert_eq!(
        listed(
            "CASE (SELECT 1 FROM a.b) WHEN 1 THEN DROP TABLE c.d; WHEN (SELECT 2 FROM e.f) THEN SELECT 1; ELSE RETURN; END CASE"
        ),
        ["CASE a.b", "DROP_TABLE >c.d", "WHEN e.f", "SELECT", "RETURN"]
    );
}

#[test]
fn what_scripts_are_made_of() {
    assert_eq!(
        listed(
            "DECLARE n INT64 DEFAULT (SELECT 1 FROM a.b); SET n = (SELECT 2 FROM c.d); EXECUTE IMMEDIATE 'DELETE FROM e.f' INTO n; CALL d.p(n); ASSERT TRUE"
        ),
        ["DECLARE a.b", "SET c.d", "EXECUTE_IMMEDIATE", "CALL", "ASSERT"]
    );
    assert_eq!(
        listed("CREATE TEMP FUNCTION f() AS (1); SELECT f() FROM a.b"),
        ["CREATE_FUNCTION", "SELECT a.b"]
    );
    assert_eq!(listed("what is this; SELECT 1"), ["-", "SELECT"]);
}

/// What a procedure will do is not done by its creation: it is not on the list by itself.
#[test]
fn the_body_of_a_procedure_belongs_to_its_creation() {
    assert_eq!(
        listed(
            "SELECT 1; CREATE PROCEDURE a.p() BEGIN IF x THEN INSERT c.d SELECT * FROM e.f; END IF; \
             BEGIN DELETE g.h WHERE TRUE; END; END; DELETE a.b WHERE TRUE"
        ),
        ["SELECT", "CREATE_PROCEDURE >c.d e.f >g.h", "DELETE >a.b"]
    );
}

#[test]
fn a_text_that_ends_in_the_middle() {
    assert_eq!(listed("SELECT * FROM a.b; DELETE FROM"), ["SELECT a.b", "DELETE"]);
    assert_eq!(
        listed("SELECT * FROM a.b; INSERT c.d SELECT * FROM (SELECT 1 FROM e.f"),
        ["SELECT a.b", "INSERT >c.d e.f"]
    );
    assert_eq!(listed("SELECT 1; IF (SELECT x FROM a.b"), ["SELECT", "IF a.b"]);
    assert_eq!(listed("SELECT 1; SELECT 'x; DELETE FROM a.b"), ["SELECT", "SELECT"]);
    assert_eq!(
        listed("SELECT 1; CREATE PROCEDURE a.p() BEGIN DELETE c.d WHERE TRUE"),
        ["SELECT", "CREATE_PROCEDURE >c.d"]
    );
}

#[test]
fn a_semicolon_in_a_text_or_a_comment_ends_nothing() {
    assert_eq!(
        listed(
            "SELECT 'a; DELETE FROM x.y', \"\"\"b;\"\"\" FROM `a;b`.c -- ; DROP TABLE x.y\n WHERE TRUE /* ; */ # ;\n; DELETE d.e WHERE x = r'\\';' OR y"
        ),
        ["SELECT a;b.c", "DELETE >d.e"]
    );
}

/// The list ends; the tables of what is beyond it are still those of the text.
#[test]
fn ten_thousand_statements_are_bounded() {
    let sql = "SELECT 1 FROM a.b; ".repeat(10_000) + "DELETE FROM c.d WHERE TRUE";
    let found = scan(&sql);
    assert_eq!(
        (found.statements.len(), found.statements_truncated, found.truncated),
        (MAX_STATEMENTS, true, false)
    );
    assert!(found.statements.iter().all(|one| one.kind == Some("SELECT") && one.tables == [0]));
    assert_eq!(found.tables.iter().map(|table| table.table.as_str()).collect::<Vec<_>>(), ["b", "d"]);

    let exact = scan(&"SELECT 1;".repeat(MAX_STATEMENTS));
    assert_eq!((exact.statements.len(), exact.statements_truncated), (MAX_STATEMENTS, false));
}

/// A statement says itself that there was no room for its tables.
#[test]
fn a_statement_whose_tables_have_no_room_says_so() {
    let many: Vec<_> = (0..MAX_TABLES).map(|number| format!("d.t{number}")).collect();
    let found =
        scan(&format!("SELECT * FROM {}; SELECT * FROM d.t0; DELETE x.y WHERE TRUE", many.join(", ")));
    let said: Vec<_> = found.statements.iter().map(|one| (one.tables.len(), one.truncated)).collect();
    assert_eq!(said, [(MAX_TABLES, false), (1, false), (0, true)]);
    assert!(found.truncated && !found.statements_truncated);
}
