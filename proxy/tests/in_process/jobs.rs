//! Calls that belong together, and calls that take long: uploads and results find their job, rows are counted, and what
//! goes on says how far it is.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use ledger::call::{Access, Joined, Progress, RowsSent};
use ledger::digest::Digest;
use serde_json::json;

use crate::stand::client::{self, Agent, nothing, request, request2, text};
use crate::stand::upstream::{empty, full};
use crate::stand::{BIGQUERY, PATIENCE, Stand};

const UPLOADS: &str = "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable";

#[tokio::test]
async fn the_requests_of_a_resumable_upload_are_joined_with_their_job() {
    let stand = Stand::new().await;
    stand.upstream.answer(|request| async move {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let (begins, last) = (request.method() == "POST", request.headers().contains_key("x-last"));
        let _read = request.into_body().collect().await.unwrap();
        let job =
            json!({"jobReference": {"projectId": "p", "jobId": "load_1"}, "status": {"state": "RUNNING"}});
        let answer = Response::builder();
        if begins {
            let id = if query.contains("second") { "TWO" } else { "S3CRET-ID" };
            let location = format!("https://{BIGQUERY}{UPLOADS}&upload_id={id}");
            answer.header("location", location).body(empty()).unwrap()
        } else if last {
            answer.body(full(job.to_string())).unwrap()
        } else {
            answer.status(308).header("range", "bytes=0-7").body(empty()).unwrap()
        }
    });
    let job = json!({"jobReference": {"projectId": "p", "jobId": "load_1"}, "configuration": {"load":
        {"destinationTable": {"projectId": "p", "datasetId": "d", "tableId": "t"}}}})
    .to_string();
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let (head, _) = agent.ask(request("POST", BIGQUERY, UPLOADS).body(text(job)).unwrap()).await;
    let location = head.headers["location"].to_str().unwrap().to_owned();
    let path = location.strip_prefix(&format!("https://{BIGQUERY}")).unwrap().to_owned();
    for last in [false, false, true] {
        let mut put = request("PUT", BIGQUERY, &path);
        if last {
            put = put.header("x-last", "1");
        }
        agent.ask(put.body(text("a,b\n1,2\n")).unwrap()).await;
    }
    let second = r#"{"configuration":{"load":{}}}"#;
    agent.ask(request("POST", BIGQUERY, &format!("{UPLOADS}&n=second")).body(text(second)).unwrap()).await;
    agent
        .ask(request("PUT", BIGQUERY, &format!("{UPLOADS}&upload_id=never-begun")).body(text("x")).unwrap())
        .await;

    let calls = stand.calls(6).await;
    let upload = calls[0].outcome().upload.unwrap();
    assert_eq!((calls[0].intent.upload, calls[0].intent.joined), (None, None));
    for (number, put) in calls[1..4].iter().enumerate() {
        assert_eq!((put.intent.upload, put.intent.joined), (Some(upload), Some(Joined::Upload)));
        assert_eq!(put.intent.job.as_ref().unwrap().id, "load_1");
        assert_eq!(put.intent.statement_kind.as_deref(), Some("LOAD"));
        assert_eq!((put.intent.tables[0].table.as_str(), put.intent.tables[0].access), ("t", Access::Write));
        assert_eq!(put.outcome().sent.unwrap().digest, Some(Digest::of(b"a,b\n1,2\n")));
        assert_eq!(put.outcome().status, Some(if number == 2 { 200 } else { 308 }));
    }
    assert_eq!(calls[3].outcome().reported.as_ref().unwrap().job.as_ref().unwrap().id, "load_1");
    let other = calls[4].outcome().upload.unwrap();
    let stray = &calls[5].intent;
    assert!(other != upload && stray.upload.is_some_and(|stray| stray != upload && stray != other));
    assert_eq!((&stray.job, stray.joined), (&None, None));
    let record = serde_json::to_string(&stand.recorder.statements()).unwrap();
    assert!(!record.contains("S3CRET-ID"), "whoever has the id may send data");
    assert!(!record.contains(&Digest::of(b"S3CRET-ID").to_string()), "its digest has a salt");
}

#[tokio::test]
async fn a_result_that_is_read_from_its_table_is_joined_with_its_job() {
    let stand = Stand::new().await;
    stand.upstream.answer(|request| async move {
        let table = json!({"projectId": "p", "datasetId": "_f00", "tableId": "anon1"});
        let job = json!({"jobReference": {"projectId": "p", "jobId": "j1"}, "status": {"state": "DONE"},
            "configuration": {"query": {"destinationTable": table}}});
        let rows = json!({"rows": [{}, {}], "totalRows": "2"});
        Response::new(full(if request.method() == "POST" { job } else { rows }.to_string()))
    });
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let list = |table: &str| {
        let path = format!("/bigquery/v2/projects/p/datasets/_f00/tables/{table}/data");
        request("GET", BIGQUERY, &path).body(nothing()).unwrap()
    };
    agent.ask(list("anon1")).await;
    let asked = r#"{"configuration":{"query":{"query":"SELECT 1"}}}"#;
    agent.ask(request("POST", BIGQUERY, "/bigquery/v2/projects/p/jobs").body(text(asked)).unwrap()).await;
    stand.calls(2).await; // what an answer said is known once it has been read
    agent.ask(list("anon1")).await;
    agent.ask(list("anon2")).await;
    let calls = stand.calls(4).await;
    let joined: Vec<_> = calls
        .iter()
        .map(|call| (call.intent.job.as_ref().map(|job| job.id.clone()), call.intent.joined))
        .collect();
    assert_eq!(joined, [(None, None), (None, None), (Some("j1".into()), Some(Joined::Table)), (None, None)]);
}

#[tokio::test]
async fn the_rows_of_an_insert_all_are_counted() {
    let stand = Stand::new().await;
    stand.upstream.answer(|request| async {
        let _read = request.into_body().collect().await.unwrap();
        let error = json!({"reason": "invalid", "message": "no such field: x"});
        let errors =
            json!([{"index": 1, "errors": [error]}, {"index": 0, "errors": [{"reason": "stopped"}]}]);
        Response::new(full(json!({"insertErrors": errors}).to_string()))
    });
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let path = "/bigquery/v2/projects/p/datasets/d/tables/t/insertAll";
    let rows = r#"{"rows":[{"insertId":"1","json":{"a":1}},{"json":{"x":[{}]}}]}"#;
    agent.ask(request("POST", BIGQUERY, path).body(text(rows)).unwrap()).await;
    agent.ask(request("POST", BIGQUERY, path).body(text("{\"rows\":[{}")).unwrap()).await;
    let calls = stand.calls(2).await;
    let outcome = calls[0].outcome();
    assert_eq!(outcome.rows, Some(RowsSent { count: 2, with_insert_id: 1 }));
    assert_eq!(outcome.sent.unwrap().digest, Some(Digest::of(rows.as_bytes())));
    assert_eq!(
        (outcome.reported.as_ref().unwrap().row_errors, outcome.reason.as_deref()),
        (Some(2), Some("invalid"))
    );
    assert_eq!(calls[1].outcome().rows, None, "what is no JSON has no rows");
    assert!(calls[0].statement.blobs.is_empty(), "rows are not kept");
}

fn progress(stand: &Stand) -> Vec<Progress> {
    stand.recorder.statements().into_iter().filter_map(|statement| statement.body.progress).collect()
}

#[tokio::test]
async fn an_upload_says_how_far_it_is() {
    let stand = Stand::with(&["--progress-bytes=65536"]).await;
    stand.upstream.answer(|request| async {
        let _read = request.into_body().collect().await.unwrap();
        Response::new(full("{}"))
    });
    let mut agent = Agent::http2(&stand, BIGQUERY).await;
    let data = "0123456789abcdef".repeat(64 * 1024);
    let path = format!("{UPLOADS}&upload_id=x");
    let (mut sender, pieces) = Channel::<Bytes, std::io::Error>::new(1);
    let asked = request2("PUT", BIGQUERY, &path).body(client::body(pieces)).unwrap();
    let sending = async {
        for piece in data.as_bytes().chunks(16 * 1024) {
            sender.send_data(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        drop(sender);
    };
    tokio::join!(agent.ask(asked), sending);
    let call = stand.call().await;
    let said = progress(&stand);
    assert!((2..=16).contains(&said.len()), "one for each 64 KiB at most: {}", said.len());
    let mut before = 0;
    for progress in said {
        let sent = progress.sent.unwrap();
        assert_eq!((progress.call, sent.wire_bytes), (call.statement.seq, sent.content_bytes));
        assert!(sent.wire_bytes >= before + 65536);
        let so_far = usize::try_from(sent.content_bytes).unwrap();
        assert_eq!(sent.digest, Some(Digest::of(&data.as_bytes()[..so_far])));
        before = sent.wire_bytes;
    }
    let kinds: Vec<_> = stand.recorder.statements().into_iter().map(|statement| statement.kind).collect();
    let outcome = kinds.iter().position(|kind| kind == "call.outcome").unwrap();
    assert!(!kinds[outcome..].contains(&"call.progress".to_owned()), "none after the outcome");
}

#[tokio::test]
async fn long_polls_and_slow_streams_stay_visible() {
    let stand = Stand::with(&["--progress-interval=0.1"]).await;
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    let body = std::sync::Mutex::new(Some(body));
    let (release, released) = tokio::sync::watch::channel(false);
    stand.upstream.answer(move |_| {
        let (body, mut released) = (body.lock().unwrap().take().unwrap(), released.clone());
        async move {
            released.wait_for(|released| *released).await.unwrap();
            Response::new(body.map_err(Into::into).boxed_unsync())
        }
    });
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let asked = request("GET", BIGQUERY, "/bigquery/v2/projects/p/queries/j?timeoutMs=200000")
        .body(client::nothing());
    let seen = async |enough: &dyn Fn(&Progress) -> bool| {
        while !progress(&stand).iter().any(enough) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let story = async {
        seen(&|progress| progress.answer.is_none()).await;
        release.send_replace(true);
        sender.send_data(Bytes::from_static(b"{\"rows\"")).await.unwrap();
        seen(&|progress| {
            progress.answer.is_some_and(|answer| answer.digest == Some(Digest::of(b"{\"rows\"")))
        })
        .await;
        sender.send_data(Bytes::from_static(b":[]}")).await.unwrap();
        drop(sender);
    };
    let both = async { tokio::join!(agent.ask(asked.unwrap()), story) };
    let ((_, answer), ()) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert_eq!(answer, r#"{"rows":[]}"#);
    assert_eq!(stand.call().await.outcome().answer.unwrap().digest, Some(Digest::of(answer.as_bytes())));
}
