use super::*;
use proptest::prelude::*;

/// `KIND read read; written`, with the tables in the order of the text.
fn summary(sql: &str) -> String {
    let scan = scan(sql);
    let list = |access| {
        let tables = scan.tables.iter().filter(|table| table.access == access).map(|table| {
            let parts = [table.project.as_deref(), table.dataset.as_deref(), Some(table.table.as_str())];
            let name = parts.into_iter().flatten().collect::<Vec<_>>().join(".");
            if table.temporary { format!(" ~{name}") } else { format!(" {name}") }
        });
        tables.collect::<String>()
    };
    format!("{}{} >{}", scan.kind.unwrap_or("-"), list(Access::Read), list(Access::Write))
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        assert_eq!(summary(sql), *expected, "{sql}");
    }
}

#[test]
fn the_two_statements_of_the_readme() {
    check(&[
        (
            "SELECT account_id, status FROM billing.invoices WHERE status = \"overdue\"",
            "SELECT billing.invoices >",
        ),
        ("DELETE FROM staging.imports WHERE batch_id = 42", "DELETE > staging.imports"),
    ]);
}

#[test]
fn queries() {
    check(&[
        ("SELECT 1", "SELECT >"),
        ("select * from billing.invoices;", "SELECT billing.invoices >"),
        ("SELECT * FROM `my-project.billing.invoices` AS i", "SELECT my-project.billing.invoices >"),
        ("SELECT * FROM my-project.billing.invoices i WHERE i.x = 1", "SELECT my-project.billing.invoices >"),
        ("SELECT * FROM invoices", "SELECT invoices >"),
        ("SELECT * FROM a.b, c.d AS x, `e`.f", "SELECT a.b c.d e.f >"),
        ("SELECT * FROM a.b JOIN c.d USING (id) LEFT JOIN e.f ON b.x = f.y, g.h", "SELECT a.b c.d e.f g.h >"),
        ("SELECT * FROM a.b CROSS JOIN c.d FULL OUTER JOIN e.f USING (x)", "SELECT a.b c.d e.f >"),
        ("SELECT * FROM ((a.b JOIN c.d ON TRUE) JOIN e.f ON TRUE)", "SELECT a.b c.d e.f >"),
        ("SELECT * FROM (SELECT * FROM a.b) AS x JOIN (SELECT 1 AS y) ON TRUE", "SELECT a.b >"),
        ("SELECT * FROM ((SELECT * FROM a.b) UNION ALL (SELECT * FROM c.d)) u, e.f", "SELECT a.b c.d e.f >"),
        ("SELECT * FROM ((SELECT 1) UNION ALL SELECT * FROM c.d)", "SELECT c.d >"),
        ("(SELECT * FROM a.b) UNION DISTINCT (SELECT * FROM c.d)", "SELECT a.b c.d >"),
        (
            "SELECT * FROM a.b EXCEPT DISTINCT SELECT * FROM c.d INTERSECT DISTINCT SELECT * FROM e.f",
            "SELECT a.b c.d e.f >",
        ),
        ("SELECT * EXCEPT (x) REPLACE (1 AS y) FROM a.b", "SELECT a.b >"),
        ("SELECT (SELECT MAX(x) FROM a.b), ARRAY(SELECT y FROM c.d) FROM e.f", "SELECT a.b c.d e.f >"),
        (
            "SELECT 1 FROM a.b WHERE x IN (SELECT y FROM c.d) AND EXISTS (SELECT 1 FROM e.f)",
            "SELECT a.b c.d e.f >",
        ),
        ("SELECT * FROM a.b WHERE z IN UNNEST([1, 2])", "SELECT a.b >"),
        (
            "SELECT DISTINCT x FROM a.b GROUP BY ROLLUP(x) HAVING COUNT(*) > 1 QUALIFY ROW_NUMBER() OVER w = 1 WINDOW w AS (PARTITION BY x) ORDER BY x, y LIMIT 10, 5",
            "SELECT a.b >",
        ),
        ("SELECT AS STRUCT x FROM a.b", "SELECT a.b >"),
        ("SELECT a.b.c, t.d FROM x.t", "SELECT x.t >"),
        ("SELECT `from` FROM a.b", "SELECT a.b >"),
        ("SELECT t.from, t.join FROM a.t", "SELECT a.t >"),
        ("SELECT 1FROM a.b", "SELECT a.b >"),
        ("SELECT 'FROM x.y' AS \"a\", r'\\' FROM x.y' FROM a.b", "SELECT a.b >"),
        ("SELECT 1 -- FROM x.y\nFROM a.b # JOIN z\n/* , c.d */ WHERE TRUE", "SELECT a.b >"),
        ("SELECT * FROM\n/* c */ a /* d */ . /* e */ b", "SELECT a.b >"),
    ]);
}

#[test]
fn words_that_only_look_like_from() {
    check(&[
        ("SELECT EXTRACT(YEAR FROM ts), TRIM(FROM x), SUBSTRING(s FROM 2) FROM a.b", "SELECT a.b >"),
        ("SELECT EXTRACT(DATE FROM (SELECT MAX(ts) FROM c.d)) FROM a.b", "SELECT c.d a.b >"),
        ("SELECT x IS DISTINCT FROM y, z IS NOT DISTINCT FROM w FROM a.b", "SELECT a.b >"),
        ("SELECT 1 FROM a.b WHERE x IS NOT DISTINCT FROM y AND c = 1", "SELECT a.b >"),
        (
            "SELECT SUM(x) OVER (PARTITION BY EXTRACT(DAY FROM d) ORDER BY d ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM a.b",
            "SELECT a.b >",
        ),
    ]);
}

#[test]
fn common_table_expressions() {
    check(&[
        ("WITH x AS (SELECT * FROM a.b) SELECT * FROM x", "SELECT a.b >"),
        (
            "WITH x AS (SELECT * FROM a.b), y AS (SELECT * FROM x JOIN c.d USING (i)) SELECT * FROM X, `y`",
            "SELECT a.b c.d >",
        ),
        ("WITH invoices AS (SELECT * FROM invoices) SELECT * FROM invoices", "SELECT invoices >"),
        (
            "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t",
            "SELECT >",
        ),
        ("WITH x AS (SELECT 1) SELECT * FROM x.y", "SELECT x.y >"),
        ("SELECT * FROM (WITH x AS (SELECT * FROM a.b) SELECT * FROM x), x", "SELECT a.b x >"),
        (
            "WITH x AS (WITH y AS (SELECT * FROM a.b) SELECT * FROM y) SELECT * FROM x JOIN y ON TRUE",
            "SELECT a.b y >",
        ),
        ("WITH x AS (SELECT 1) SELECT (SELECT 1 FROM x) UNION ALL SELECT * FROM x", "SELECT >"),
        ("WITH x AS (SELECT 1) SELECT 1; SELECT * FROM x", "SCRIPT x >"),
        ("WITH offset AS (SELECT * FROM a.b) SELECT * FROM offset", "SELECT a.b >"),
        ("SELECT ARRAY(WITH x AS (SELECT * FROM a.b) SELECT v FROM x)", "SELECT a.b >"),
    ]);
}

#[test]
fn aliases_and_arrays() {
    check(&[
        ("SELECT * FROM a.orders o, o.items", "SELECT a.orders >"),
        ("SELECT * FROM a.orders, orders.items i, i.parts AS p, p.x", "SELECT a.orders >"),
        (
            "SELECT * FROM a.orders AS o CROSS JOIN UNNEST(o.items) AS item WITH OFFSET AS n, item.parts",
            "SELECT a.orders >",
        ),
        ("SELECT (SELECT COUNT(*) FROM o.items) FROM a.orders o", "SELECT a.orders >"),
        ("SELECT (SELECT COUNT(*) FROM orders.items) FROM a.orders", "SELECT a.orders >"),
        (
            "SELECT 1 FROM a.orders o WHERE EXISTS (SELECT 1 FROM o.items i, i.x WHERE EXISTS (SELECT 1 FROM o.y, i.z))",
            "SELECT a.orders >",
        ),
        ("SELECT * FROM UNNEST([STRUCT(1 AS x)]) AS u, u.v", "SELECT >"),
        ("SELECT * FROM UNNEST(ARRAY(SELECT x FROM a.b)) AS u", "SELECT a.b >"),
        ("DELETE FROM a.orders WHERE EXISTS (SELECT 1 FROM orders.items)", "DELETE > a.orders"),
        ("SELECT * FROM (a.orders o JOIN o.items i ON TRUE), i.parts", "SELECT a.orders >"),
        ("SELECT * FROM t.f(1) AS x, x.y", "SELECT >"),
    ]);
}

/// An alias that is chosen to look like a data set must not hide a table of that data set.
#[test]
fn aliases_hide_nothing() {
    check(&[
        ("SELECT * FROM billing.invoices, x.billing", "SELECT billing.invoices x.billing >"),
        ("SELECT * FROM x.y AS billing, (SELECT * FROM billing.invoices)", "SELECT x.y billing.invoices >"),
        (
            "SELECT 1 FROM x.y AS billing UNION ALL SELECT 1 FROM billing.invoices",
            "SELECT x.y billing.invoices >",
        ),
        ("SELECT 1 FROM x.y AS billing; SELECT 1 FROM billing.invoices", "SCRIPT x.y billing.invoices >"),
        (
            "WITH c AS (SELECT * FROM billing.invoices) SELECT 1 FROM c AS billing",
            "SELECT billing.invoices >",
        ),
        (
            "SELECT * FROM (SELECT (SELECT 1 FROM billing.invoices)) JOIN x.y AS billing ON TRUE",
            "SELECT billing.invoices x.y >",
        ),
        (
            "SELECT * FROM (billing.invoices JOIN a.b ON TRUE), x.billing",
            "SELECT billing.invoices a.b x.billing >",
        ),
        (
            "SELECT (SELECT 1 FROM x.y AS billing), (SELECT 1 FROM billing.invoices)",
            "SELECT x.y billing.invoices >",
        ),
        ("CREATE TABLE t.u CLONE billing.invoices", "CREATE_TABLE billing.invoices > t.u"),
        (r"SELECT * FROM `b\x69lling`.`invoices`", "SELECT billing.invoices >"),
    ]);
}

#[test]
fn other_items_of_a_from_clause() {
    check(&[
        (
            "SELECT * FROM a.b FOR SYSTEM_TIME AS OF TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 HOUR), c.d",
            "SELECT a.b c.d >",
        ),
        ("SELECT * FROM a.b AS x FOR SYSTEM_TIME AS OF '2026-01-01' JOIN c.d ON TRUE", "SELECT a.b c.d >"),
        ("SELECT * FROM a.b TABLESAMPLE SYSTEM (10 PERCENT), c.d", "SELECT a.b c.d >"),
        ("SELECT * FROM a.b PIVOT(SUM(x) FOR q IN ('Q1', 'Q2')) AS p, p.z, c.d", "SELECT a.b c.d >"),
        ("SELECT * FROM a.b UNPIVOT INCLUDE NULLS (x FOR q IN (q1, q2)), c.d", "SELECT a.b c.d >"),
        ("SELECT * FROM a.pivot JOIN c.d pivot ON TRUE", "SELECT a.pivot c.d >"),
        ("SELECT * FROM (SELECT * FROM a.b) PIVOT(COUNT(*) FOR y IN (1))", "SELECT a.b >"),
        ("SELECT * FROM `a.events_*` WHERE _TABLE_SUFFIX > '2026'", "SELECT a.events_* >"),
        ("SELECT * FROM ML.PREDICT(MODEL a.m, TABLE c.d), e.f", "SELECT c.d e.f >"),
        (
            "SELECT * FROM ML.PREDICT(MODEL a.m, (SELECT * FROM c.d), STRUCT(0.5 AS threshold)) JOIN e.f USING (x)",
            "SELECT c.d e.f >",
        ),
        (
            "SELECT * FROM VECTOR_SEARCH(TABLE a.b, 'v', (SELECT * FROM c.d), top_k => 5) AS r",
            "SELECT a.b c.d >",
        ),
        ("SELECT * FROM APPENDS(TABLE a.b, NULL, NULL)", "SELECT a.b >"),
        ("WITH c AS (SELECT 1) SELECT * FROM f(TABLE c)", "SELECT >"),
        ("SELECT * FROM EXTERNAL_QUERY('us.c', 'SELECT * FROM x.y')", "SELECT >"),
        ("SELECT * FROM p.d.INFORMATION_SCHEMA.TABLES", "SELECT p.d.INFORMATION_SCHEMA.TABLES >"),
        (
            "SELECT * FROM `region-us`.INFORMATION_SCHEMA.JOBS_BY_PROJECT j",
            "SELECT region-us.INFORMATION_SCHEMA.JOBS_BY_PROJECT >",
        ),
        ("SELECT * FROM region-us.INFORMATION_SCHEMA.JOBS", "SELECT region-us.INFORMATION_SCHEMA.JOBS >"),
        ("SELECT * FROM a.b JOIN LATERAL c.d ON TRUE", "SELECT a.b c.d >"),
    ]);
}

#[test]
fn pipe_syntax() {
    check(&[
        ("FROM a.b |> WHERE x > 1 |> AGGREGATE COUNT(*) GROUP BY y", "SELECT a.b >"),
        ("FROM a.b |> JOIN c.d USING (id) |> SELECT x, y |> ORDER BY x, y", "SELECT a.b c.d >"),
        ("FROM a.b AS o |> EXTEND (SELECT COUNT(*) FROM o.items) AS n", "SELECT a.b >"),
        ("FROM a.b |> UNION ALL (FROM c.d |> LIMIT 1), (SELECT * FROM e.f)", "SELECT a.b c.d e.f >"),
        (
            "SELECT * FROM (FROM a.b |> WHERE x) JOIN c.d ON EXISTS(FROM e.f |> WHERE TRUE)",
            "SELECT a.b c.d e.f >",
        ),
        ("WITH x AS (FROM a.b |> LIMIT 1) FROM x |> CROSS JOIN c.d", "SELECT a.b c.d >"),
        ("FROM a.b |> AS t |> CROSS JOIN t.items", "SELECT a.b >"),
        ("CREATE TABLE x.y AS FROM a.b |> SELECT z", "CREATE_TABLE_AS_SELECT a.b > x.y"),
        ("INSERT INTO x.y FROM a.b |> SELECT z", "INSERT a.b > x.y"),
        (
            "FROM a.b |> DROP c |> SET d = 1 |> RENAME e AS f |> CALL ML.PREDICT(MODEL m, TABLE g.h)",
            "SELECT a.b >",
        ),
    ]);
}

#[test]
fn changes_of_rows() {
    check(&[
        ("INSERT INTO a.b (x, y) VALUES (1, 2), (3, (SELECT MAX(z) FROM c.d))", "INSERT c.d > a.b"),
        ("INSERT a.b SELECT * FROM c.d", "INSERT c.d > a.b"),
        ("INSERT `p`.a.b(x) WITH y AS (SELECT * FROM c.d) SELECT * FROM y", "INSERT c.d > p.a.b"),
        ("INSERT INTO a.b (x) (SELECT y FROM c.d)", "INSERT c.d > a.b"),
        ("DELETE a.b WHERE TRUE", "DELETE > a.b"),
        ("DELETE FROM a.b AS t WHERE t.x IN (SELECT y FROM c.d)", "DELETE c.d > a.b"),
        ("UPDATE a.b SET x = 1 WHERE y = 2", "UPDATE > a.b"),
        (
            "UPDATE a.b t SET x = s.x, y = (SELECT MAX(z) FROM e.f) FROM c.d s, g.h JOIN i.j USING (k) WHERE t.i = s.i",
            "UPDATE e.f c.d g.h i.j > a.b",
        ),
        (
            "MERGE INTO a.b t USING c.d s ON t.i = s.i WHEN MATCHED THEN UPDATE SET x = s.x WHEN NOT MATCHED THEN INSERT (x) VALUES (x)",
            "MERGE c.d > a.b",
        ),
        (
            "MERGE a.b USING (SELECT * FROM c.d JOIN e.f USING (z)) AS s ON FALSE WHEN NOT MATCHED BY TARGET THEN INSERT ROW WHEN NOT MATCHED BY SOURCE THEN DELETE",
            "MERGE c.d e.f > a.b",
        ),
        ("TRUNCATE TABLE a.b", "TRUNCATE_TABLE > a.b"),
        ("LOAD DATA INTO a.b FROM FILES (format = 'CSV', uris = ['gs://x/y'])", "LOAD_DATA > a.b"),
        ("LOAD DATA OVERWRITE a.b (x INT64) PARTITION BY x FROM FILES (format = 'CSV')", "LOAD_DATA > a.b"),
        ("EXPORT DATA OPTIONS (uri = 'gs://x/*', format = 'CSV') AS SELECT * FROM a.b", "EXPORT_DATA a.b >"),
        (
            "EXPORT DATA WITH CONNECTION p.us.c OPTIONS (uri = 's3://x') AS (SELECT * FROM a.b)",
            "EXPORT_DATA a.b >",
        ),
        ("EXPORT TABLE METADATA FROM a.b", "EXPORT_METADATA a.b >"),
        ("EXPORT MODEL a.m OPTIONS (uri = 'gs://x')", "EXPORT_MODEL >"),
    ]);
}

#[test]
fn definitions() {
    check(&[
        (
            "CREATE TABLE a.b (x INT64 NOT NULL, y STRUCT<z ARRAY<STRING>>) PARTITION BY DATE(t) CLUSTER BY x OPTIONS (description = 'd')",
            "CREATE_TABLE > a.b",
        ),
        (
            "CREATE OR REPLACE TABLE a.b AS SELECT * FROM c.d WHERE x LIKE 'y'",
            "CREATE_TABLE_AS_SELECT c.d > a.b",
        ),
        (
            "CREATE TABLE IF NOT EXISTS a.b PARTITION BY x AS (SELECT * FROM c.d)",
            "CREATE_TABLE_AS_SELECT c.d > a.b",
        ),
        (
            "CREATE TABLE a.b AS WITH x AS (SELECT * FROM c.d) SELECT * FROM x",
            "CREATE_TABLE_AS_SELECT c.d > a.b",
        ),
        ("CREATE TABLE a.b LIKE c.d", "CREATE_TABLE c.d > a.b"),
        ("CREATE TABLE a.b COPY c.d", "CREATE_TABLE c.d > a.b"),
        (
            "CREATE SNAPSHOT TABLE a.b CLONE c.d FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP() OPTIONS (x = 1)",
            "CREATE_SNAPSHOT_TABLE c.d > a.b",
        ),
        (
            "CREATE EXTERNAL TABLE a.b WITH PARTITION COLUMNS OPTIONS (format = 'CSV')",
            "CREATE_EXTERNAL_TABLE > a.b",
        ),
        (
            "CREATE OR REPLACE VIEW a.v (x OPTIONS (description = 'd')) AS SELECT * FROM c.d",
            "CREATE_VIEW c.d > a.v",
        ),
        (
            "CREATE MATERIALIZED VIEW IF NOT EXISTS a.v AS SELECT * FROM c.d",
            "CREATE_MATERIALIZED_VIEW c.d > a.v",
        ),
        ("CREATE MATERIALIZED VIEW a.v AS REPLICA OF c.d", "CREATE_MATERIALIZED_VIEW c.d > a.v"),
        ("CREATE FUNCTION a.f(x INT64) AS ((SELECT MAX(y) FROM c.d))", "CREATE_FUNCTION c.d >"),
        (
            "CREATE TEMP FUNCTION f(x STRING) RETURNS STRING LANGUAGE js AS \"\"\"return x; // FROM x.y\"\"\"; SELECT f(y) FROM a.b",
            "SELECT a.b >",
        ),
        ("CREATE TEMP FUNCTION f() AS (1); DELETE FROM a.b WHERE TRUE", "SCRIPT > a.b"),
        (
            "CREATE TABLE FUNCTION a.f(x INT64) RETURNS TABLE<y INT64> AS SELECT y FROM c.d",
            "CREATE_TABLE_FUNCTION c.d >",
        ),
        ("CREATE MODEL a.m OPTIONS (model_type = 'x') AS SELECT * FROM c.d", "CREATE_MODEL c.d >"),
        ("CREATE SCHEMA IF NOT EXISTS a", "CREATE_SCHEMA >"),
        ("CREATE SEARCH INDEX i ON a.b (ALL COLUMNS)", "CREATE_SEARCH_INDEX > a.b"),
        (
            "CREATE ROW ACCESS POLICY p ON a.b GRANT TO ('user:x') FILTER USING (r IN (SELECT r FROM c.d))",
            "CREATE_ROW_ACCESS_POLICY c.d > a.b",
        ),
        ("DROP ALL ROW ACCESS POLICIES ON a.b", "DROP_ROW_ACCESS_POLICY > a.b"),
        ("DROP TABLE IF EXISTS a.b", "DROP_TABLE > a.b"),
        ("DROP VIEW a.v", "DROP_VIEW > a.v"),
        ("DROP SNAPSHOT TABLE a.b", "DROP_SNAPSHOT_TABLE > a.b"),
        ("DROP SCHEMA a CASCADE", "DROP_SCHEMA >"),
        ("DROP FUNCTION a.f", "DROP_FUNCTION >"),
        ("ALTER TABLE a.b ADD COLUMN x INT64, DROP COLUMN y", "ALTER_TABLE > a.b"),
        ("ALTER TABLE IF EXISTS a.b SET OPTIONS (expiration_timestamp = NULL)", "ALTER_TABLE > a.b"),
        ("ALTER VIEW a.v SET OPTIONS (x = 1)", "ALTER_VIEW > a.v"),
        ("GRANT `roles/bigquery.dataViewer`, `x` ON TABLE a.b TO 'user:x@y'", "GRANT_ON_TABLE > a.b"),
        ("GRANT `x` ON SCHEMA a TO 'user:x'", "GRANT_ON_SCHEMA >"),
        ("REVOKE `x` ON VIEW a.v FROM 'user:x', 'user:y'", "REVOKE_ON_VIEW > a.v"),
        ("UNDROP SCHEMA a", "UNDROP_SCHEMA >"),
    ]);
}

#[test]
fn scripts() {
    check(&[
        ("SELECT 1; SELECT * FROM a.b;", "SCRIPT a.b >"),
        (";; SELECT * FROM a.b ;;", "SELECT a.b >"),
        ("", "- >"),
        (" -- nothing", "- >"),
        ("DECLARE x INT64 DEFAULT (SELECT MAX(y) FROM a.b); SELECT x", "SCRIPT a.b >"),
        ("BEGIN TRANSACTION", "BEGIN_TRANSACTION >"),
        ("BEGIN TRANSACTION; INSERT a.b SELECT * FROM c.d; COMMIT TRANSACTION;", "SCRIPT c.d > a.b"),
        ("BEGIN SELECT * FROM a.b; EXCEPTION WHEN ERROR THEN INSERT c.d VALUES (1); END", "SCRIPT a.b > c.d"),
        (
            "IF EXISTS (SELECT 1 FROM a.b) THEN DELETE FROM c.d WHERE TRUE; ELSEIF (SELECT x FROM e.f) THEN TRUNCATE TABLE g.h; ELSE UPDATE i.j SET x = CASE WHEN y THEN 1 ELSE 2 END WHERE TRUE; END IF",
            "SCRIPT a.b e.f > c.d g.h i.j",
        ),
        ("IF CASE WHEN x THEN 1 ELSE 2 END = 1 THEN DROP TABLE a.b; END IF;", "SCRIPT > a.b"),
        (
            "WHILE x < (SELECT COUNT(*) FROM a.b) DO INSERT INTO c.d VALUES (x); SET x = x + 1; END WHILE",
            "SCRIPT a.b > c.d",
        ),
        ("LOOP SELECT * FROM a.b; IF x THEN LEAVE; END IF; END LOOP; SELECT * FROM c.d", "SCRIPT a.b c.d >"),
        ("REPEAT DELETE a.b WHERE TRUE; UNTIL (SELECT COUNT(*) FROM c.d) = 0 END REPEAT", "SCRIPT c.d > a.b"),
        ("FOR r IN (SELECT x FROM a.b) DO INSERT c.d VALUES (r.x); END FOR", "SCRIPT a.b > c.d"),
        (
            "CASE WHEN EXISTS (SELECT 1 FROM a.b) THEN DROP TABLE c.d; WHEN y THEN SELECT * FROM e.f; ELSE SELECT 1; END CASE",
            "SCRIPT a.b e.f > c.d",
        ),
        ("outer_loop: LOOP SELECT * FROM a.b; BREAK outer_loop; END LOOP outer_loop", "SCRIPT a.b >"),
        ("EXECUTE IMMEDIATE 'SELECT 1'", "SCRIPT >"),
        ("CALL a.proc((SELECT MAX(x) FROM c.d), y)", "CALL c.d >"),
        ("ASSERT EXISTS (SELECT 1 FROM a.b) AS 'message'", "ASSERT a.b >"),
        (
            "CREATE PROCEDURE a.p(x INT64, OUT y STRING) BEGIN INSERT c.d SELECT * FROM e.f; IF x THEN SELECT 1; END IF; BEGIN SELECT 2; END; END",
            "CREATE_PROCEDURE e.f > c.d",
        ),
        ("CREATE PROCEDURE a.p() BEGIN SELECT 1; END; DELETE a.b WHERE TRUE", "SCRIPT > a.b"),
        (
            "CREATE TEMP TABLE t AS SELECT * FROM a.b; SELECT * FROM t JOIN u USING (x); DROP TABLE t",
            "SCRIPT a.b ~t u > ~t",
        ),
        ("SELECT (1; DELETE FROM a.b WHERE TRUE", "SCRIPT > a.b"),
    ]);
    assert!(scan("SET @@dataset_id = 'billing'; SELECT * FROM invoices").sets_defaults);
    assert!(scan("set (@@Dataset_Project_Id, x) = ('p', 1); SELECT 1").sets_defaults);
    assert!(!scan("SET x = 1; SELECT @@dataset_id").sets_defaults);
}

#[test]
fn legacy_sql() {
    check(&[
        ("SELECT * FROM [p:d.t]", "SELECT p.d.t >"),
        ("#legacySQL\nSELECT x FROM [my-project:d.t] WHERE y = \"z\"", "SELECT my-project.d.t >"),
        ("SELECT * FROM [d.a], [d.b] JOIN EACH [d.c] AS c ON a.x = c.x", "SELECT d.a d.b d.c >"),
        ("SELECT * FROM publicdata:samples.shakespeare LIMIT 1", "SELECT publicdata.samples.shakespeare >"),
        (
            "SELECT * FROM TABLE_DATE_RANGE([p:d.events_], TIMESTAMP('2026-01-01'), CURRENT_TIMESTAMP()), d.x",
            "SELECT p.d.events_* d.x >",
        ),
        ("SELECT * FROM TABLE_QUERY(d, 'table_id CONTAINS \"x\"')", "SELECT d.* >"),
        ("SELECT * FROM FLATTEN([d.t], children), d.x", "SELECT d.t d.x >"),
        ("SELECT * FROM FLATTEN((SELECT * FROM d.t), children)", "SELECT d.t >"),
        ("SELECT * FROM (SELECT * FROM [d.t]) a JOIN each ON TRUE", "SELECT d.t each >"),
    ]);
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
            let start = std::time::Instant::now();
            let _found = scan(&sql);
            start.elapsed()
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
        prop_assert_eq!(summary(&sql), "SELECT a.b c.d >");
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
