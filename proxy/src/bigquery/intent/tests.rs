use super::*;
use crate::bigquery::{BodyPlan, recognise};
use http::HeaderMap;
use proptest::prelude::*;

fn head(verb: &str, path: &str) -> Recognised {
    let target = path.parse().expect("path");
    recognise(&verb.parse().expect("verb"), "bigquery.googleapis.com", &target, &HeaderMap::new())
}

fn understood(path: &str, body: &str) -> Understood {
    intent(&head("POST", path), Some(body.as_bytes())).expect("understood")
}

fn tables(call: &Understood) -> String {
    let sign = |table: &TableUse| if table.access == Access::Write { ">" } else { "" };
    call.intent.tables.iter().map(|table| format!("{}{table}", sign(table))).collect::<Vec<_>>().join(" ")
}

const QUERIES: &str = "/bigquery/v2/projects/p/queries?prettyPrint=false";
const JOBS: &str = "/bigquery/v2/projects/p/jobs?alt=json";

/// What `bq query` sends.
#[test]
fn bq_query() {
    let call = understood(
        JOBS,
        r#"{"configuration":{"query":{"continuous":false,"query":"SELECT account_id, status FROM billing.invoices WHERE status = \"overdue\"","useLegacySql":false}},"jobReference":{"jobId":"bqjob_r5d7d3d1b_0000019_1","projectId":"p"}}"#,
    );
    assert_eq!(call.intent.method, "jobs.insert");
    assert_eq!(call.intent.project.as_deref(), Some("p"));
    assert_eq!(call.intent.statement_kind.as_deref(), Some("SELECT"));
    assert_eq!(call.intent.job.map(|job| job.id).as_deref(), Some("bqjob_r5d7d3d1b_0000019_1"));
    assert_eq!(
        call.sql.as_deref(),
        Some("SELECT account_id, status FROM billing.invoices WHERE status = \"overdue\"")
    );
    assert!(!call.intent.dry_run && !call.intent.tables_truncated);
}

/// What Python's `query_and_wait` and Node's `query` send.
#[test]
fn query_and_wait() {
    let call = understood(
        QUERIES,
        r#"{"query":"DELETE FROM staging.imports WHERE batch_id = @b","useLegacySql":false,"formatOptions":{"useInt64Timestamp":true},"requestId":"9f6e5c1e-3b52-4f0c-8f58-2f8f0a5a4f2e","queryParameters":[{"name":"b","parameterType":{"type":"INT64"},"parameterValue":{"value":42}}],"labels":{"run":"r-17","team":"billing"},"defaultDataset":{"datasetId":"crm","projectId":"q"},"dryRun":false}"#,
    );
    assert_eq!(
        (call.intent.method.as_str(), call.intent.statement_kind.as_deref()),
        ("jobs.query", Some("DELETE"))
    );
    assert_eq!(tables(&call), ">staging.imports");
    assert_eq!(call.labels.get("run").map(String::as_str), Some("r-17"));
    assert!(!call.intent.dry_run);
}

/// Go escapes these characters; Python sends others as escapes.
#[test]
fn escaped_sql_is_decoded() {
    let call = understood(QUERIES, r#"{"query":"SELECT \u0022\u003c\u00e9\u0026\u0022 FROM `a`.b\n"}"#);
    assert_eq!(call.sql.as_deref(), Some("SELECT \"<é&\" FROM `a`.b\n"));
    assert_eq!(tables(&call), "a.b");
}

#[test]
fn defaults_complete_what_the_sql_leaves_out() {
    let with_default = r#"{"query":"SELECT * FROM invoices JOIN crm.accounts USING (id) JOIN q.x.y USING (id)","defaultDataset":{"projectId":"p2","datasetId":"billing"}"#;
    assert_eq!(
        tables(&understood(QUERIES, &format!("{with_default}}}"))),
        "p2.billing.invoices crm.accounts q.x.y"
    );
    let property = r#","connectionProperties":[{"key":"dataset_project_id","value":"p3"}]}"#;
    assert_eq!(
        tables(&understood(QUERIES, &format!("{with_default}{property}"))),
        "p2.billing.invoices p3.crm.accounts q.x.y"
    );
    let set = r#"{"query":"SET @@dataset_id = 'x'; SELECT * FROM t","defaultDataset":{"datasetId":"d"}}"#;
    assert_eq!(tables(&understood(QUERIES, set)), "t");
    let temporary = r#"{"query":"CREATE TEMP TABLE t AS SELECT 1; SELECT * FROM t, u","defaultDataset":{"datasetId":"d"}}"#;
    assert_eq!(tables(&understood(QUERIES, temporary)), ">t t d.u");
    let external = r#"{"configuration":{"query":{"query":"SELECT * FROM sheet, t","defaultDataset":{"datasetId":"d"},"tableDefinitions":{"sheet":{"sourceUris":["gs://x"]}}}}}"#;
    assert_eq!(tables(&understood(JOBS, external)), "sheet d.t");
    let legacy = r#"{"query":"SELECT * FROM [p2:billing.invoices]"}"#;
    assert_eq!(tables(&understood(QUERIES, legacy)), "p2.billing.invoices");
}

#[test]
fn jobs_without_sql() {
    let reference = |table: &str| format!(r#"{{"projectId":"p","datasetId":"d","tableId":"{table}"}}"#);
    let load = format!(
        r#"{{"configuration":{{"load":{{"destinationTable":{},"sourceFormat":"CSV"}},"labels":{{"a":"b"}}}}}}"#,
        reference("t")
    );
    let load = understood("/upload/bigquery/v2/projects/p/jobs?uploadType=resumable", &load);
    assert_eq!((load.intent.statement_kind.as_deref(), tables(&load).as_str()), (Some("LOAD"), ">p.d.t"));
    assert_eq!(load.labels.len(), 1);

    let copy = format!(
        r#"{{"configuration":{{"copy":{{"sourceTables":[{},{}],"destinationTable":{},"writeDisposition":"WRITE_TRUNCATE"}}}}}}"#,
        reference("a"),
        reference("b"),
        reference("c")
    );
    let copy = understood(JOBS, &copy);
    assert_eq!(
        (copy.intent.statement_kind.as_deref(), tables(&copy).as_str()),
        (Some("COPY"), "p.d.a p.d.b >p.d.c")
    );

    let extract = format!(
        r#"{{"configuration":{{"extract":{{"sourceTable":{},"destinationUris":["gs://x"]}}}}}}"#,
        reference("a")
    );
    let extract = understood(JOBS, &extract);
    assert_eq!(
        (extract.intent.statement_kind.as_deref(), tables(&extract).as_str()),
        (Some("EXTRACT"), "p.d.a")
    );
}

#[test]
fn a_query_with_a_destination_writes_it() {
    let body = r#"{"configuration":{"dryRun":true,"query":{"query":"SELECT * FROM a.b","destinationTable":{"projectId":"p","datasetId":"c","tableId":"d"}}}}"#;
    let call = understood(JOBS, body);
    assert_eq!(tables(&call), "a.b >p.c.d");
    assert!(call.intent.dry_run);
}

#[test]
fn views_made_by_rest_name_their_tables() {
    let body = r#"{"tableReference":{"projectId":"p","datasetId":"d","tableId":"v"},"view":{"query":"SELECT * FROM billing.invoices","useLegacySql":false}}"#;
    let call = understood("/bigquery/v2/projects/p/datasets/d/tables", body);
    assert_eq!(
        (call.intent.method.as_str(), tables(&call).as_str()),
        ("tables.insert", ">p.d.v billing.invoices")
    );
    assert_eq!(call.sql.as_deref(), Some("SELECT * FROM billing.invoices"));
    let table = understood(
        "/bigquery/v2/projects/p/datasets/d/tables",
        r#"{"tableReference":{"datasetId":"d","tableId":"t"}}"#,
    );
    assert_eq!((tables(&table).as_str(), table.sql), (">d.t", None));
}

#[test]
fn calls_without_a_deciding_body() {
    let get = intent(&head("GET", "/bigquery/v2/projects/p/queries/j?location=EU&maxResults=0"), None)
        .expect("understood");
    assert_eq!(get.intent.method, "jobs.getQueryResults");
    assert_eq!(get.intent.job.and_then(|job| job.location).as_deref(), Some("EU"));
    let rows = intent(&head("POST", "/bigquery/v2/projects/p/datasets/d/tables/t/insertAll"), None)
        .expect("understood");
    assert_eq!(tables(&rows), ">p.d.t");
    let cancel =
        intent(&head("POST", "/bigquery/v2/projects/p/jobs/j/cancel"), Some(b"")).expect("understood");
    assert_eq!(cancel.intent.method, "jobs.cancel");
    let put = "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable&upload_id=x";
    assert_eq!(intent(&head("PUT", put), None).expect("understood").intent.method, "jobs.insert");
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (path, body, category) in [
        (QUERIES, r#"{"query":"SELECT 1","query":"DROP TABLE a.b"}"#, "ambiguous_body"),
        (QUERIES, r#"{"query":"SELECT 1","dryRun":true,"dry_run":false}"#, "ambiguous_body"),
        (
            QUERIES,
            r#"{"query":"SELECT 1","defaultDataset":{},"default_dataset":{"datasetId":"d"}}"#,
            "ambiguous_body",
        ),
        (JOBS, r#"{"configuration":{"query":{"query":"SELECT 1"},"copy":{}}}"#, "ambiguous_body"),
        (QUERIES, r#"{"query":["SELECT 1"]}"#, "malformed_body"),
        (QUERIES, r#"[]"#, "malformed_body"),
        (QUERIES, r#""SELECT 1""#, "malformed_body"),
        (QUERIES, r#"{"query":"SELECT 1","dryRun":"yes"}"#, "malformed_body"),
        (QUERIES, "query=SELECT+1", "malformed_body"),
        (QUERIES, "", "malformed_body"),
        (JOBS, "", "malformed_body"),
        ("/mcp", r#"{"method":"tools/call"}"#, "unknown_method"),
        ("/bigquery/v2/projects/p/queries?$req=x", "{}", "ambiguous_request"),
    ] {
        let refused =
            intent(&head("POST", path), Some(body.as_bytes())).map_err(|refusal| refusal.category());
        assert_eq!(refused.map(|call| call.intent), Err(category), "{path} {body}");
    }
    // Whatever it is, a body that is recorded has one reading.
    let patch = head("PATCH", "/bigquery/v2/projects/p/datasets/d");
    assert!(intent(&patch, Some(br#"{"labels":{"a":"1","a":"2"}}"#)).is_err());
}

#[test]
fn members_in_snake_case_are_read_too() {
    let body = r#"{"query":"SELECT * FROM t","default_dataset":{"project_id":"p","dataset_id":"d"},"dry_run":"true"}"#;
    let call = understood(QUERIES, body);
    assert_eq!((tables(&call).as_str(), call.intent.dry_run), ("p.d.t", true));
}

#[test]
fn labels_are_texts() {
    let call = understood(QUERIES, r#"{"query":"SELECT 1","labels":{"a":"b","c":1,"d":null,"e":{"f":[]}}}"#);
    assert_eq!(call.labels.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "b".to_owned())]);
    assert!(understood(QUERIES, r#"{"query":"SELECT 1","labels":null}"#).labels.is_empty());
}

#[test]
fn the_plan_says_what_to_read() {
    assert_eq!(head("POST", QUERIES).body, BodyPlan::Deciding);
    assert_eq!(head("PATCH", "/bigquery/v2/projects/p/datasets/d").body, BodyPlan::Deciding);
}

/// What names stand for is the same in the list of statements as in that of tables.
#[test]
fn a_script_says_what_each_of_its_statements_does() {
    let call = understood(
        QUERIES,
        r#"{"query":"DECLARE n INT64; IF n > 1 THEN DELETE FROM invoices WHERE TRUE; END IF; SELECT * FROM crm.customers","defaultDataset":{"datasetId":"billing","projectId":"q"}}"#,
    );
    assert_eq!(call.intent.statement_kind.as_deref(), Some("SCRIPT"));
    assert!(!call.intent.statements_truncated);
    let said = serde_json::to_value(&call.intent.statements).expect("JSON");
    assert_eq!(
        said,
        serde_json::json!([
            {"kind": "DECLARE"},
            {"kind": "DELETE", "tables": [{"project": "q", "dataset": "billing", "table": "invoices", "access": "write"}]},
            {"kind": "SELECT", "tables": [{"dataset": "crm", "table": "customers", "access": "read"}]},
        ])
    );
    let one = understood(QUERIES, r#"{"query":"DELETE FROM a.b WHERE TRUE;"}"#);
    assert!(one.intent.statements.is_empty());
    assert!(!serde_json::to_string(&one.intent).expect("JSON").contains("statements"));
}

/// The most that a request can put into an entry leaves room for the rest of it.
#[test]
fn an_intent_fits_its_entry() {
    let nasty = "\u{1}\"".repeat(120);
    let tables: Vec<_> = (0..500).map(|number| format!("`{}{number}`", "x".repeat(900))).collect();
    let labels: BTreeMap<_, _> = (0..500).map(|number| (format!("{nasty}{number}"), nasty.clone())).collect();
    let script = format!(
        "SELECT * FROM {};{}",
        tables.join(","),
        format!("CREATE MATERIALIZED VIEW {} AS SELECT 1;", tables[0]).repeat(200)
    );
    let body = serde_json::json!({
        "jobReference": {"jobId": "j".repeat(1024), "projectId": "p".repeat(1024), "location": "l".repeat(1024)},
        "configuration": {"labels": labels, "query": {"query": script}},
    });
    let path = format!("{JOBS}&x={}", "\"".repeat(0) + &"y".repeat(20_000));
    let call = understood(&path, &body.to_string());
    assert!(call.intent.tables_truncated && call.intent.statements_truncated);
    assert!(call.intent.statements.iter().skip(1).all(|statement| statement.tables_truncated));
    let size = serde_json::to_string(&call.intent).expect("JSON").len()
        + serde_json::to_string(&call.labels).expect("JSON").len();
    assert!(size < 54 * 1024, "{size}");
}

proptest! {
    #[test]
    fn any_body_is_understood_or_refused(body: Vec<u8>) {
        for path in [QUERIES, JOBS, "/bigquery/v2/projects/p/datasets/d/tables"] {
            let _either = intent(&head("POST", path), Some(&body)).is_ok();
        }
    }

    #[test]
    fn the_sql_is_what_was_sent(sql: String) {
        let body = serde_json::json!({"query": sql}).to_string();
        prop_assert_eq!(understood(QUERIES, &body).sql, Some(sql));
    }
}

fn sister(host: &str, target: &str, body: &str) -> Understood {
    let target = target.parse().expect("target");
    let call = recognise(&http::Method::POST, host, &target, &http::HeaderMap::new());
    intent(&call, Some(body.as_bytes())).expect("understood")
}

#[test]
fn a_scheduled_query_is_a_statement() {
    let call = sister(
        "bigquerydatatransfer.googleapis.com",
        "/v1/projects/p/locations/us/transferConfigs",
        r#"{"dataSourceId":"scheduled_query","destinationDatasetId":"reports","schedule":"every 24 hours","params":{
            "query":"SELECT * FROM billing.invoices JOIN daily USING (id)",
            "destination_table_name_template":"copy_{run_date}","write_disposition":"WRITE_TRUNCATE"}}"#,
    );
    assert_eq!(call.sql.as_deref(), Some("SELECT * FROM billing.invoices JOIN daily USING (id)"));
    assert_eq!(call.intent.statement_kind.as_deref(), Some("SELECT"));
    let named: Vec<_> = call.intent.tables.iter().map(|table| (table.to_string(), table.access)).collect();
    assert_eq!(
        named,
        [
            ("billing.invoices".to_owned(), Access::Read),
            ("daily".to_owned(), Access::Read),
            ("reports.copy_{run_date}".to_owned(), Access::Write)
        ]
    );
    assert_eq!((call.redacted, call.intent.redacted), (None, false));
}

#[test]
fn a_connection_s_password_is_not_recorded() {
    let call = sister(
        "bigqueryconnection.googleapis.com",
        "/v1/projects/p/locations/us/connections",
        r#"{"cloudSql":{"instanceId":"p:us:db","credential":{"username":"u","password":"s3cret"}}}"#,
    );
    assert!(call.intent.redacted);
    assert_eq!(
        String::from_utf8(call.redacted.expect("redacted")).expect("UTF-8"),
        r#"{"cloudSql":{"instanceId":"p:us:db","credential":{"username":"u","password":"REDACTED"}}}"#
    );
}
