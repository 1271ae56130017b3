use super::*;
use crate::bigquery::recognise;
use http::HeaderMap;
use proptest::prelude::*;

fn head(verb: &str, path: &str) -> Recognised {
    let target = format!("/bigquery/v2/projects/p/{path}").parse().expect("path");
    recognise(&verb.parse().expect("verb"), "bigquery.googleapis.com", &target, &HeaderMap::new())
}

fn query(status: u16, body: &str) -> Answer {
    read_answer(&head("POST", "queries"), status, body.as_bytes(), false)
}

fn job(body: &str) -> Answer {
    read_answer(&head("POST", "jobs"), 200, body.as_bytes(), false)
}

const ROWS: &str = r#"{"kind":"bigquery#queryResponse","schema":{"fields":[{"name":"account_id","type":"INTEGER"},{"name":"status","type":"STRING"},{"name":"lines","type":"RECORD","fields":[{"name":"inner","type":"STRING"}]}]},"jobReference":{"projectId":"p","jobId":"job_1","location":"US"},"totalRows":"3","pageToken":"x","rows":[{"f":[{"v":"1"},{"v":"overdue"}]},{"f":[{"v":"2"},{"v":"overdue"}]}],"totalBytesProcessed":"4096","jobComplete":true,"cacheHit":false}"#;

#[test]
fn rows_of_a_query() {
    let answer = query(200, ROWS);
    let report = answer.reported.expect("a report");
    assert_eq!(
        report.job,
        Some(JobReference { project: Some("p".into()), id: "job_1".into(), location: Some("US".into()) })
    );
    assert_eq!((report.rows, report.total_rows, report.bytes_processed), (Some(2), Some(3), Some(4096)));
    assert_eq!(report.columns, ["account_id", "status", "lines"]);
    assert_eq!((answer.reason, answer.error_message, report.truncated), (None, None, false));
}

#[test]
fn a_dml_statement() {
    let answer = query(
        200,
        r#"{"jobReference":{"projectId":"p","jobId":"j"},"totalRows":"0","numDmlAffectedRows":"17","dmlStats":{"deletedRowCount":"17"},"jobComplete":true,"statementType":"DELETE"}"#,
    );
    let report = answer.reported.expect("a report");
    assert_eq!((report.affected_rows, report.statement_kind.as_deref()), (Some(17), Some("DELETE")));
    let only_stats = query(200, r#"{"dmlStats":{"insertedRowCount":"2","updatedRowCount":3}}"#);
    assert_eq!(only_stats.reported.and_then(|report| report.affected_rows), Some(5));
}

/// `jobs.get` as a client polls it.
#[test]
fn a_finished_job() {
    let body = r#"{"kind":"bigquery#job","id":"p:US.j","jobReference":{"projectId":"p","jobId":"j","location":"US"},"configuration":{"jobType":"QUERY","query":{"query":"MERGE x","destinationTable":{"projectId":"p","datasetId":"_0123abc","tableId":"anon0f"}}},"status":{"state":"DONE"},"statistics":{"totalBytesProcessed":"10","query":{"statementType":"MERGE","totalBytesProcessed":"12","referencedTables":[{"projectId":"p","datasetId":"billing","tableId":"invoices"},{"projectId":"p","datasetId":"crm","tableId":"accounts"}],"ddlTargetTable":{"projectId":"p","datasetId":"d","tableId":"t"},"numDmlAffectedRows":"2","schema":{"fields":[{"name":"x"}]},"queryPlan":[{"name":"S00","steps":[{"kind":"READ"}]}]}},"user_email":"a@b"}"#;
    let report = job(body).reported.expect("a report");
    let tables: Vec<_> = report.tables.iter().map(|table| (table.to_string(), table.access)).collect();
    assert_eq!(
        tables,
        [
            ("p._0123abc.anon0f".to_owned(), Access::Write),
            ("p.billing.invoices".to_owned(), Access::Read),
            ("p.crm.accounts".to_owned(), Access::Read),
            ("p.d.t".to_owned(), Access::Write),
        ]
    );
    assert_eq!((report.statement_kind.as_deref(), report.state.as_deref()), (Some("MERGE"), Some("DONE")));
    assert_eq!((report.affected_rows, report.bytes_processed, report.columns.len()), (Some(2), Some(12), 1));
}

#[test]
fn a_load_and_a_copy() {
    let load = job(
        r#"{"jobReference":{"jobId":"j"},"configuration":{"jobType":"LOAD","load":{"destinationTable":{"projectId":"p","datasetId":"d","tableId":"t"}}},"status":{"state":"DONE"},"statistics":{"load":{"outputRows":"20"}}}"#,
    );
    let load = load.reported.expect("a report");
    assert_eq!(
        (load.statement_kind.as_deref(), load.affected_rows, load.tables.len()),
        (Some("LOAD"), Some(20), 1)
    );
    let copy = job(
        r#"{"configuration":{"copy":{"sourceTables":[{"datasetId":"d","tableId":"a"},{"datasetId":"d","tableId":"b"}],"destinationTable":{"datasetId":"d","tableId":"c"}}}}"#,
    );
    let accesses: Vec<_> =
        copy.reported.expect("a report").tables.into_iter().map(|table| table.access).collect();
    assert_eq!(accesses, [Access::Read, Access::Read, Access::Write]);
}

#[test]
fn errors() {
    let refused = query(
        404,
        r#"{"error":{"code":404,"message":"Not found: Table p:billing.nothing","errors":[{"message":"Not found: Table p:billing.nothing","domain":"global","reason":"notFound"}],"status":"NOT_FOUND"}}"#,
    );
    assert_eq!(refused.reason.as_deref(), Some("notFound"));
    assert_eq!(refused.error_message.as_deref(), Some("Not found: Table p:billing.nothing"));
    assert_eq!(refused.reported, None);

    let second_format = query(403, r#"{"error":{"code":403,"message":"no","status":"PERMISSION_DENIED"}}"#);
    assert_eq!(
        (second_format.reason.as_deref(), second_format.error_message.as_deref()),
        (Some("PERMISSION_DENIED"), Some("no"))
    );
    let oauth = query(401, r#"{"error":"invalid_token","error_description":"expired"}"#);
    assert_eq!(
        (oauth.reason.as_deref(), oauth.error_message.as_deref()),
        (Some("invalid_token"), Some("expired"))
    );
    assert_eq!(query(502, "<html>Bad gateway</html>"), Answer::default());
}

/// A failed job is a 200: only its status tells.
#[test]
fn a_failed_job() {
    let failed = job(
        r#"{"jobReference":{"projectId":"p","jobId":"j"},"status":{"errorResult":{"reason":"invalidQuery","location":"query","message":"Syntax error"},"errors":[{"reason":"invalidQuery","message":"Syntax error"}],"state":"DONE"}}"#,
    );
    assert_eq!(
        (failed.reason.as_deref(), failed.error_message.as_deref()),
        (Some("invalidQuery"), Some("Syntax error"))
    );
    assert_eq!(failed.reported.and_then(|report| report.state).as_deref(), Some("DONE"));
}

#[test]
fn errors_beside_a_result_are_warnings() {
    let failed = query(
        200,
        r#"{"jobReference":{"projectId":"p","jobId":"j"},"jobComplete":true,"errors":[{"reason":"invalidQuery","message":"no such table"}]}"#,
    );
    assert_eq!(
        (failed.reason.as_deref(), failed.error_message.as_deref()),
        (Some("invalidQuery"), Some("no such table"))
    );
    let warned = query(
        200,
        r#"{"errors":[{"reason":"invalid","message":"one row was odd"}],"schema":{"fields":[{"name":"x"}]},"totalRows":"1","rows":[{}]}"#,
    );
    assert_eq!((warned.reason, warned.reported.and_then(|report| report.rows)), (None, Some(1)));
}

#[test]
fn inserted_rows() {
    let insert = head("POST", "datasets/d/tables/t/insertAll");
    let fine = read_answer(&insert, 200, br#"{"kind":"bigquery#tableDataInsertAllResponse"}"#, false);
    assert_eq!(fine, Answer::default());
    let body = br#"{"insertErrors":[{"index":0,"errors":[{"reason":"stopped","message":""}]},{"index":1,"errors":[{"reason":"invalid","message":"no such field: x","location":"x"}]}]}"#;
    let refused = read_answer(&insert, 200, body, false);
    assert_eq!(
        (refused.reason.as_deref(), refused.error_message.as_deref()),
        (Some("invalid"), Some("no such field: x"))
    );
}

#[test]
fn pages_of_a_table_and_of_a_query() {
    let page =
        br#"{"kind":"bigquery#tableDataList","totalRows":"3","rows":[{"f":[{"v":"1"}]},{"f":[{"v":"2"}]}]}"#;
    let list =
        read_answer(&head("GET", "datasets/d/tables/t/data"), 200, page, false).reported.expect("a report");
    assert_eq!((list.rows, list.total_rows), (Some(2), Some(3)));
    let results =
        read_answer(&head("GET", "queries/j"), 200, ROWS.as_bytes(), false).reported.expect("a report");
    assert_eq!(results.rows, Some(2));
    // With `fields=`, and none left.
    let last = read_answer(&head("GET", "queries/j"), 200, br#"{"rows":[],"totalRows":"0"}"#, false);
    assert_eq!(last.reported.and_then(|report| report.rows), Some(0));
}

#[test]
fn a_cut_answer_says_so_and_has_no_count_of_rows() {
    let cut = &ROWS[..ROWS.find("\"2\"").expect("second row")];
    let report = read_answer(&head("POST", "queries"), 200, cut.as_bytes(), true).reported.expect("a report");
    assert!(report.truncated);
    assert_eq!((report.rows, report.total_rows, report.columns.len()), (None, Some(3), 3));
    assert_eq!(report.job.map(|job| job.id).as_deref(), Some("job_1"));
    // Broken off without anybody saying so.
    let broken =
        read_answer(&head("POST", "queries"), 200, cut.as_bytes(), false).reported.expect("a report");
    assert!(broken.truncated);
    // A table that was cut in the middle of its reference is not half a table.
    let half = br#"{"statistics":{"query":{"referencedTables":[{"projectId":"p","datasetId":"d","tableId":"t"},{"projectId":"q","tab"#;
    let report = read_answer(&head("POST", "jobs"), 200, half, true).reported.expect("a report");
    assert_eq!(report.tables.len(), 1);
}

#[test]
fn other_answers_are_left_alone() {
    let table = br#"{"kind":"bigquery#table","schema":{"fields":[{"name":"x"}]}}"#;
    assert_eq!(read_answer(&head("GET", "datasets/d/tables/t"), 200, table, false), Answer::default());
    assert_eq!(query(200, "callback({})"), Answer::default());
    assert_eq!(query(200, ""), Answer::default());
    assert_eq!(query(200, "{}"), Answer::default());
    // A dry run has no job id.
    let dry = query(
        200,
        r#"{"jobReference":{"projectId":"p","location":"US"},"totalBytesProcessed":"0","jobComplete":true}"#,
    );
    assert_eq!(dry.reported.map(|report| (report.job, report.bytes_processed)), Some((None, Some(0))));
}

#[test]
fn a_report_fits_its_entry() {
    let field = format!(r#"{{"name":"{}"}}"#, "\\u0001".repeat(300));
    let table = format!(r#"{{"projectId":"p","datasetId":"{0}","tableId":"{0}%"}}"#, "x".repeat(1000));
    let tables: Vec<_> = (0..500).map(|number| table.replace('%', &number.to_string())).collect();
    let body = format!(
        r#"{{"schema":{{"fields":[{}]}},"statistics":{{"query":{{"referencedTables":[{}]}}}},"status":{{"state":"{}"}}}}"#,
        vec![field; 500].join(","),
        tables.join(","),
        "S".repeat(100_000)
    );
    let report = job(&body).reported.expect("a report");
    assert!(report.truncated);
    assert!(serde_json::to_string(&report).expect("JSON").len() < 45 * 1024);
}

#[test]
fn deep_answers_end_the_reading_not_the_process() {
    let deep = format!(r#"{{"jobReference":{{"jobId":"j"}},"schema":{}"#, r#"{"fields":["#.repeat(100_000));
    let report = query(200, &deep).reported.expect("a report");
    assert!(report.truncated);
}

proptest! {
    #[test]
    fn any_answer_is_read(body: Vec<u8>, status in 100u16..600, truncated: bool) {
        let _answer = read_answer(&head("POST", "queries"), status, &body, truncated);
    }

    /// Wherever an answer is cut, what is reported was in it, and it is marked.
    #[test]
    fn a_prefix_never_says_more(end in 0usize..ROWS.len()) {
        let whole = query(200, ROWS).reported.expect("a report");
        if let Some(report) = read_answer(&head("POST", "queries"), 200, &ROWS.as_bytes()[..end], true).reported {
            prop_assert!(report.truncated);
            prop_assert!(report.rows.is_none() || report.rows == whole.rows);
            prop_assert!(report.total_rows.is_none() || report.total_rows == whole.total_rows);
            prop_assert!(whole.columns.starts_with(&report.columns));
        }
    }
}
