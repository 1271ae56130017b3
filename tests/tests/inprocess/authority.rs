//! Under whose authority: what operators said is in a bundle, whatever was asked for, and a namespace's reader has its own.

use bqwitness_tests::identity::Pod;
use bqwitness_tests::programs::{AUDIENCE, CLUSTER};
use bqwitness_tests::speaker::{Speaker, connection};
use jiff::Timestamp;
use ledger::operator::{Accepted, CoverageState, PodCoverage, Requester};
use ledger::statement::{Body, Connection, kind};
use serde_json::{Value, json};

use crate::evidence::Desk;
use crate::stand::{Recorder, Stand};

const OTHERS: [&str; 3] = ["analyst-b", "SELECT 'pear'", "of-sales"];

fn spec(namespace: &str) -> Value {
    json!({"project": format!("project-of-{namespace}")})
}

fn speaker(stand: &Stand, recorder: &Recorder, pod: &Pod, about: Option<Connection>) -> Speaker {
    let token = stand.cluster.sign(&stand.cluster.claims(pod, AUDIENCE)).unwrap();
    Speaker::new(&format!("https://{}", recorder.address), &stand.recorder_ca(), token, about).unwrap()
}

/// Two namespaces: in each a spec that somebody asked for, and a pod without a sidecar.
async fn operator_speaks(stand: &Stand, recorder: &Recorder) {
    let mut operator = speaker(stand, recorder, &Pod::of("system", "operator"), None);
    operator.starts().await.unwrap();
    for (namespace, user) in [("agents", "analyst-a"), ("sales", "analyst-b")] {
        operator.connection = Some(connection(namespace, "warehouse", &spec(namespace)));
        let by = Requester { user: user.into(), ..Requester::default() };
        let accepted = Accepted { spec: spec(namespace), by: Some(by), superseded: false };
        let body = Body { accepted: Some(accepted), ..Body::default() };
        operator.says(kind::CONNECTION_ACCEPTED, body).await.unwrap();
        let now = Timestamp::now();
        let coverage = PodCoverage {
            namespace: namespace.into(),
            pod: format!("of-{namespace}"),
            pod_uid: format!("uid-of-{namespace}"),
            service_account: "billing".into(),
            created: now,
            since: now,
            state: CoverageState::Uncovered,
            reason: Some("no_sidecar".into()),
        };
        let body = Body { coverage: Some(coverage), ..Body::default() };
        operator.says(kind::COVERAGE_POD, body).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_says_who_authorized_it() {
    let stand = Stand::new();
    let grant = json!({"grants": [{"of": CLUSTER, "users": ["system:serviceaccount:audit:of-agents"], "cluster": CLUSTER,
        "namespaces": ["agents"], "exports": true}]});
    std::fs::write(stand.path("readers.json"), grant.to_string()).unwrap();
    let more = [
        "--operator=system/operator".to_owned(),
        format!("--readers={}", stand.path("readers.json").display()),
    ];
    let recorder = stand.recorder_with(&stand.data(), "127.0.0.1:0", &more).await;
    operator_speaks(&stand, &recorder).await;
    // What is asked for begins after that: whoever was authorized before goes on.
    let since = Timestamp::now().to_string();
    let mut last = 0;
    for (namespace, sql) in [("agents", "SELECT 'apple'"), ("sales", "SELECT 'pear'")] {
        let about = connection(namespace, "warehouse", &spec(namespace));
        let mut sidecar = speaker(&stand, &recorder, &Pod::of(namespace, "billing"), Some(about));
        sidecar.starts().await.unwrap();
        last = sidecar.calls(sql).await.unwrap();
    }
    let desk = Desk::new(&stand, &recorder);
    let of_agents = Desk::of(&stand, &recorder, "of-agents");
    assert_eq!(desk.run(&["search", "--wait", &(last + 1).to_string()]).await.code, Some(0));

    for (who, asked, entries) in [
        // start and call; accepted and uncovered
        (&desk, &["--connection", "agents/warehouse"][..], 4),
        (&desk, &["--connection", "agents/warehouse", "--since", &since], 4),
        (&desk, &["--agent", "agents/billing", "--since", &since], 4),
        (&of_agents, &["-n", "agents"], 4),
        (&of_agents, &["-n", "agents", "--since", &since], 4),
        // the pod that made no call is not asked for
        (&desk, &["--words", "apple"], 3),
        (&of_agents, &["--words", "apple", "--since", &since], 3),
    ] {
        let exported = who.export(&[asked, &["-o", "some.bqw"]].concat()).await;
        assert_eq!(exported["entries"], entries, "{asked:?}: {exported}");
        told_of_who_asked(who, asked, entries == 4).await;
    }

    // Everything of a time: what was so when it began comes before it.
    let everything = desk.export(&["--since", &since, "-o", "some.bqw"]).await;
    let (code, told) = desk.verify("some.bqw").await;
    assert_eq!(code, Some(0), "{told}");
    let by = |generation: &Value| generation["accepted"]["by"].as_str().unwrap().to_owned();
    let generations = told["authority"]["generations"].as_array().unwrap();
    assert_eq!(generations.iter().map(by).collect::<Vec<_>>(), ["analyst-a", "analyst-b"], "{told}");
    assert!(everything["entries"].as_u64().unwrap() >= 4 + 4, "{everything}");
    recorder.stop().await;
    // Who exported by these words is on record, and the words are in no entry.
    let leaves = bqwitness_tests::log::leaves(&stand.data()).unwrap();
    let leaves: Vec<_> = leaves.iter().map(|leaf| String::from_utf8_lossy(leaf)).collect();
    assert!(leaves.iter().all(|leaf| !leaf.contains("apple")), "{leaves:#?}");
    let exports = leaves.iter().filter(|leaf| leaf.contains("read.export") && leaf.contains("words=*"));
    assert_eq!(exports.count(), 2, "{leaves:#?}");
}

/// The bundle follows the call to analyst-a, in words and on its page; and has nothing of the other namespace.
async fn told_of_who_asked(desk: &Desk<'_>, asked: &[&str], uncovered: bool) {
    let (code, told) = desk.verify("some.bqw").await;
    assert_eq!((code, &told["verified"]), (Some(0), &true.into()), "{asked:?}: {told}");
    let generations = told["authority"]["generations"].as_array().unwrap();
    assert_eq!(generations.len(), 1, "{asked:?}: {told}");
    assert_eq!(generations[0]["accepted"]["by"], "analyst-a", "{asked:?}: {told}");
    let said = desk.run(&["verify", "some.bqw", "--page", "some.html"]).await.stdout;
    let words = "1 call ran under agents/warehouse, generation 1, which analyst-a had asked the cluster for";
    assert!(said.contains(words) && said.contains("page.html shows what the entries say"), "{said}");
    let page = std::fs::read_to_string(desk.file("some.html")).unwrap();
    for part in ["Authority", "analyst-a (entry ", "accepted, asked for by analyst-a"] {
        assert!(page.contains(part), "{asked:?}: {part}: {page}");
    }
    assert_eq!(page.contains("uncovered: no_sidecar"), uncovered, "{asked:?}: {page}");
    let bytes = std::fs::read(desk.file("some.bqw")).unwrap();
    for other in OTHERS {
        assert!(!bytes.windows(other.len()).any(|part| part == other.as_bytes()), "{asked:?}: {other}");
    }
}
