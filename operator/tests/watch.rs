//! A watch whose place is lost (410 Gone, as after a compaction of etcd) begins anew, and what went meanwhile is noticed. The API server is a
//! stand-in, because a real one says 410 when it likes.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bqwitness_operator::metrics::Metrics;
use bqwitness_operator::watch::{self, Seen};
use connection::BigQueryConnection;
use futures::StreamExt as _;
use kube::runtime::reflector::Store;
use kube::{Api, Client, Config, ResourceExt as _};
use prometheus::Registry;
use serde_json::{Value, json};

const PATH: &str = "/apis/bqwitness.dev/v1alpha1/bigqueryconnections";

fn connection(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "bqwitness.dev/v1alpha1", "kind": "BigQueryConnection",
        "metadata": {"namespace": "agents", "name": name, "uid": name, "resourceVersion": version},
        "spec": {"pods": {"serviceAccountName": "billing"}, "identity": {"mode": "Passthrough"}},
    })
}

/// What was asked, in order: `list`, or the resource version that a watch began at.
type Asked = Arc<Mutex<Vec<String>>>;

/// First there are `kept` and `gone`, at version 10, and a watch from there is told 410. Then there is `kept` alone, at version 20.
async fn answer(State(asked): State<Asked>, Query(query): Query<HashMap<String, String>>) -> Response {
    let watched =
        query.get("watch").filter(|watch| *watch == "true").and(query.get("resourceVersion").cloned());
    let lists = asked.lock().unwrap().iter().filter(|one| *one == "list").count();
    asked.lock().unwrap().push(watched.clone().unwrap_or_else(|| "list".into()));
    let Some(version) = watched else {
        let (version, items) = match lists {
            0 => ("10", vec![connection("kept", "9"), connection("gone", "10")]),
            _ => ("20", vec![connection("kept", "9")]),
        };
        let list = json!({"apiVersion": "bqwitness.dev/v1alpha1", "kind": "BigQueryConnectionList",
                          "metadata": {"resourceVersion": version}, "items": items});
        return axum::Json(list).into_response();
    };
    let event = match version.as_str() {
        "10" => {
            json!({"type": "ERROR", "object": {"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
                       "code": 410, "reason": "Expired", "message": "too old resource version: 10 (15)"}})
        }
        _ => json!({"type": "ADDED", "object": connection("new", "21")}),
    };
    let first = futures::stream::iter([Ok::<_, std::io::Error>(format!("{event}\n"))]);
    Body::from_stream(first.chain(futures::stream::pending())).into_response()
}

fn names(store: &Store<BigQueryConnection>) -> Vec<String> {
    let mut names: Vec<_> = store.state().iter().map(|one| one.name_any()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_watch_whose_place_is_gone_lists_anew() {
    let asked = Asked::default();
    let router = Router::new().route(PATH, get(answer)).with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let store =
        watch::all(Api::<BigQueryConnection>::all(client), "bigqueryconnections", metrics, move |seen| {
            let said = match seen {
                Seen::There(one) => one.name_any(),
                Seen::Gone(one) => format!("-{}", one.name_any()),
                Seen::Listed => "listed".into(),
            };
            tell.send(said).unwrap();
        });
    let mut seen = Vec::new();
    while !seen.contains(&"new".to_owned()) {
        let next = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
        seen.push(next.unwrap_or_else(|_| panic!("only {seen:?} of {asked:?}")).unwrap());
    }
    assert_eq!(seen, ["kept", "gone", "listed", "kept", "listed", "new"]);
    assert_eq!(names(&store), ["kept", "new"], "what went while nobody watched is gone");
    assert_eq!(*asked.lock().unwrap(), ["list", "10", "list", "20"]);
}
