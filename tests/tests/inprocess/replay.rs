//! Replay: two sidecars of one pod, one after the other, and two runs at once, told alike by a recorder and by a bundle.

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::evidence::Desk;
use crate::stand::{HOST, Stand, ask, post};

/// A job's insert and its results, by path: `GET .../queries/<job>` is a page.
fn answer(path: &str) -> (StatusCode, String) {
    let job = path.rsplit('/').next().filter(|_| path.contains("/queries/")).unwrap_or("job-a");
    let reference = json!({ "projectId": "acme-data", "jobId": job, "location": "US" });
    let body = json!({ "kind": "bigquery#queryResponse", "jobComplete": true, "totalRows": "1",
        "rows": [{ "f": [{ "v": "1" }] }], "jobReference": reference });
    (StatusCode::OK, body.to_string())
}

/// The names of the runs of the first pod, each with its steps' calls counted.
fn runs(told: &Value) -> Vec<(Option<&str>, Vec<usize>)> {
    let counted = |run: &'_ Value| -> Vec<usize> {
        run["steps"].as_array().unwrap().iter().map(|step| step["calls"].as_array().unwrap().len()).collect()
    };
    told["pods"][0]["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| (run["name"].as_str(), counted(run)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_a_bundle_tells_what_that_of_the_recorder_does() {
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let bigquery = stand
        .bigquery_by_head(|head| {
            let name = head.headers().get("x-job").and_then(|name| name.to_str().ok()).map(str::to_owned);
            answer(&name.map_or_else(|| head.uri().path().to_owned(), |name| format!("/queries/{name}")))
        })
        .await;
    let insert = |job: &'static str, run: &str| {
        let body = json!({ "query": format!("SELECT '{job}'"), "labels": { "bqwitness-run": run } });
        Request::post("/bigquery/v2/projects/acme-data/queries")
            .header("host", HOST)
            .header("x-job", job)
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .unwrap()
    };
    let page = |job: &str| {
        Request::get(format!("/bigquery/v2/projects/acme-data/queries/{job}?pageToken=p"))
            .header("host", HOST)
            .body(Full::default())
            .unwrap()
    };
    // Two runs of one agent at once: their calls alternate. The polls claim nothing.
    let first = stand.sidecar(&recorder, bigquery.address).await;
    for request in [insert("job-m", "morning"), insert("job-e", "evening"), page("job-m"), page("job-e")] {
        assert_eq!(ask(&stand, &first, HOST, request).await.0, StatusCode::OK);
    }
    assert!(first.stop("restart").await);
    let second = stand.sidecar(&recorder, bigquery.address).await;
    assert_eq!(ask(&stand, &second, HOST, page("job-m")).await.0, StatusCode::OK);
    assert_eq!(post(&stand, &second, json!({ "query": "SELECT 1" }).to_string()).await.0, StatusCode::OK);
    assert!(second.stop("test").await);

    let desk = Desk::new(&stand, &recorder);
    let sessions = desk.run(&["--output", "json", "sessions", "--wait", "19"]).await.json();
    let oldest =
        sessions["sessions"].as_array().unwrap().last().unwrap()["session"].as_str().unwrap().to_owned();
    let one = desk.run(&["--output", "json", "replay", &oldest]).await.json();
    assert_eq!(runs(&one), [(Some("morning"), vec![2]), (Some("evening"), vec![2])], "{one}");
    let all = desk.run(&["--output", "json", "replay", &oldest, "--successors"]).await.json();
    assert_eq!(all["pods"][0]["sessions"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(
        runs(&all),
        [(Some("morning"), vec![3]), (Some("evening"), vec![2]), (None, vec![1])],
        "a run goes on when the sidecar is restarted: {all}"
    );
    let pod = &stand.pod.name;
    let told = desk.run(&["replay", "--pod", pod]).await;
    assert_eq!(told.code, Some(0), "{}{}", told.stdout, told.stderr);
    for part in [
        "== Run morning, as its label bqwitness-run claims: 3 calls",
        "The session before had ended in order. Session ",
        "GET jobs.getQueryResults, next page",
        "POST jobs.query",
    ] {
        assert!(told.stdout.contains(part), "{part} is not in {}", told.stdout);
    }
    assert_eq!(desk.run(&["export", "-o", "all.bqw"]).await.code, Some(0));
    recorder.stop().await; // nobody is asked from here on

    let bundled = desk.run(&["--output", "json", "replay", "all.bqw", "--pod", pod]).await.json();
    assert_eq!(bundled["bundle"]["verified"], true, "{bundled}");
    assert_eq!(bundled["pods"], all["pods"], "the same, by a verified bundle");
    let from_file = desk.run(&["replay", "all.bqw", "--pod", pod]).await;
    let (head, rest) = from_file.stdout.split_once("\n\n").unwrap();
    assert!(head.ends_with("VERIFIED"), "{head}");
    assert_eq!(rest, told.stdout, "with the same look");
    let mut bytes = std::fs::read(stand.path("all.bqw")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(stand.path("changed.bqw"), bytes).unwrap();
    let refused = desk.run(&["replay", "changed.bqw"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stdout.starts_with("NOT VERIFIED"), "{}", refused.stdout);
}
