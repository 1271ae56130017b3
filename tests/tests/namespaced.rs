//! Agents in a network namespace like a pod's, whose environment names no proxy: unmodified clients are recorded all the
//! same, and going round the sidecar leads nowhere.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bqwitness_tests::agent::{Agent, Finished};
use bqwitness_tests::ca::TestCa;
use bqwitness_tests::emulator::Emulator;
use bqwitness_tests::front::{Front, Upstream};
use bqwitness_tests::identity::{Cluster, Pod};
use bqwitness_tests::log::{self, Logged};
use bqwitness_tests::namespace::{self, Namespace};
use bqwitness_tests::process;
use bqwitness_tests::programs::{Recorder, Sidecar};
use bqwitness_tests::tools::Tools;
use bqwitness_tests::tunnel::Tunnel;
use bqwitness_tests::{audit, skip};
use ledger::entry::Subject;
use ledger::statement::kind;
use tempfile::TempDir;
use tokio::net::TcpListener;

const OVERDUE: &str = "SELECT account_id FROM billing.invoices WHERE status = 'overdue' ORDER BY account_id";

/// Nobody waits here: a recorder that is slow on a busy machine must not fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pod with an agent and a sidecar, "Google" and a recorder. Dropped from the top: programs before their namespace.
struct Pods {
    sidecar: Sidecar,
    recorder: Recorder,
    agent: Agent,
    pod: Pod,
    front: Front,
    google: TestCa,
    namespace: Namespace,
    _folder: TempDir,
}

impl Pods {
    async fn start(tools: &Tools, upstream: Upstream) -> Self {
        Self::start_in(Namespace::make().unwrap(), tools, upstream).await
    }

    async fn start_in(namespace: Namespace, tools: &Tools, upstream: Upstream) -> Self {
        let folder = TempDir::with_prefix("bqwitness-").unwrap();
        let own = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let google = TestCa::new(&own("google"), "Test CA in Google's place").unwrap();
        let address = SocketAddr::new(namespace.outside(), 443);
        let front = Front::start_at(address, &google, upstream).await.unwrap();
        let cluster = Cluster::new("https://kubernetes.default.svc.cluster.local").unwrap();
        let recorder_ca = TestCa::new(&own("recorder-ca"), "Test CA of the recorder").unwrap();
        let (reader, pod) = (Pod::of("audit", "auditor"), Pod::of("agents", "billing"));
        let recorder =
            Recorder::start_at(namespace.outside(), folder.path(), &recorder_ca, &cluster, &reader)
                .await
                .unwrap();
        let place = recorder.place();
        let sidecar = Sidecar::start_in(&namespace, folder.path(), &pod, &cluster, &place, &google, PATIENCE);
        let sidecar = sidecar.await.unwrap();
        let agent =
            Agent::redirected(tools, folder.path().join("agent"), &namespace, sidecar.bundle()).unwrap();
        Self { sidecar, recorder, agent, pod, front, google, namespace, _folder: folder }
    }

    /// Ends everything in order. What the log says then.
    async fn end(self) -> Vec<Logged> {
        let data = self.recorder.data().to_owned();
        self.sidecar.stop().await.unwrap();
        self.recorder.stop().await.unwrap();
        log::read(&data).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unmodified_clients_are_recorded_without_a_proxy_variable() {
    if let Some(why) = Namespace::missing() {
        return skip::skipped(&why);
    }
    let tools = Tools::find().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::launch(&tools, folder.path()).unwrap().furnished().await.unwrap();
    let pods = Pods::start(&tools, emulator.upstream()).await;
    pods.front.gzip(true);

    let direct = Front::start(&pods.google, emulator.upstream()).await.unwrap();
    let tunnel = Tunnel::start(direct.address()).await.unwrap();
    let home = folder.path().join("agent");
    let unrecorded = Agent::new(&tools, home, tunnel.address(), &pods.google.path()).unwrap();

    let recorded = everything(&pods.agent).await;
    assert_eq!(recorded, everything(&unrecorded).await, "with and without the sidecar");

    let arrivals = pods.front.arrivals();
    assert_eq!(calls(&pods.front), calls(&direct), "{arrivals:#?}");
    let pod = pods.pod.clone();
    let entries = pods.end().await;
    audit::balance(&entries, &arrivals).unwrap();
    every_call_was_redirected_and_is_the_pods(&entries, &pod, arrivals.len());
}

/// What reached "BigQuery", by method. How often a client asks about a job depends on how long that takes.
fn calls(front: &Front) -> BTreeMap<String, usize> {
    let mut counts = front.counts();
    counts.retain(|method, _| !["jobs.get", "jobs.getQueryResults"].contains(&method.as_str()));
    counts
}

/// What the clients of this machine answer to the same question, and to one that has no answer.
async fn everything(agent: &Agent) -> Vec<(&'static str, bool, String)> {
    let mut said = Vec::new();
    let mut note = |client, finished: Finished| {
        let answer = if finished.success() { finished.stdout.trim().to_owned() } else { String::new() };
        said.push((client, finished.success(), answer));
        if client != "nothing" {
            assert!(finished.success() && finished.stdout.contains("A-17"), "{client}: {}", finished.said());
        }
    };
    note("query_and_wait", agent.python_query(OVERDUE).await.unwrap());
    note("query", agent.python_job(OVERDUE).await.unwrap());
    note("nothing", agent.python_query("SELECT x FROM billing.nothing").await.unwrap());
    if agent.has_bq() {
        note("bq", agent.bq_query(OVERDUE).await.unwrap());
    } else {
        skip::skipped("no bq (Google Cloud CLI) on this machine");
    }
    if agent.has_node() {
        note("node", agent.node_query(OVERDUE).await.unwrap());
    } else {
        skip::skipped("no Node with its BigQuery client on this machine");
    }
    said
}

/// A pod that has IPv6 and nothing else: the kernel's other way to tell where a connection wanted to go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_ipv6_the_same_holds() {
    if let Some(why) = Namespace::missing_ipv6() {
        return skip::skipped(&why);
    }
    let tools = Tools::find().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::launch(&tools, folder.path()).unwrap().furnished().await.unwrap();
    let pods = Pods::start_in(Namespace::make_ipv6().unwrap(), &tools, emulator.upstream()).await;
    let google = pods.namespace.outside().to_string();
    assert!(google.contains(':'), "{google}");
    let finished = pods.agent.python_query(OVERDUE).await.unwrap();
    assert!(finished.success() && finished.stdout.contains("A-17"), "{}", finished.said());

    let bigquery = "bigquery.googleapis.com";
    let honest = pods.agent.go_round(&["tls", &google, "443", bigquery, bigquery]).await.unwrap();
    assert!(honest.stdout.starts_with("answered: HTTP/1.1 "), "{}", honest.said());
    let recorded = pods.front.arrivals();
    let user = namespace::SIDECAR.to_string();
    for attempt in [
        &["tls", &google, "443", "-", bigquery][..],
        &["http", &google, "80", bigquery],
        &["connect", &google, "8443"],
        &["tls", "::1", "15001", bigquery, bigquery],
        &["connect", &pods.namespace.inside().to_string(), "15001"],
        &["uid", &user],
    ] {
        let finished = pods.agent.go_round(attempt).await.unwrap();
        assert_eq!(finished.code, Some(1), "{attempt:?}: {}", finished.said());
    }
    assert_eq!(pods.front.arrivals(), recorded, "nothing reached Google's HTTPS");
    // Where a connection wanted to go is where it is spliced to, when it is nothing of Google's.
    let other = pods.agent.go_round(&["tls", &google, "443", "pypi.example", "pypi.example"]).await.unwrap();
    assert!(other.stdout.starts_with("answered: HTTP/1.1 "), "{}", other.said());
    let metrics = pods.sidecar.metrics().await.unwrap();
    for way in ["spliced", "name_absent", "plain_http", "not_redirected"] {
        let line = format!("bqwitness_connections_total{{way=\"{way}\"}} 1\n");
        assert!(metrics.contains(&line), "no {line} in:\n{metrics}");
    }
    let (pod, entries) = (pods.pod.clone(), pods.end().await);
    audit::balance(&entries, &recorded).unwrap();
    every_call_was_redirected_and_is_the_pods(&entries, &pod, recorded.len());
}

fn every_call_was_redirected_and_is_the_pods(entries: &[Logged], pod: &Pod, calls: usize) {
    let intents: Vec<_> = entries.iter().filter(|entry| entry.statement.kind == kind::CALL_INTENT).collect();
    assert_eq!(intents.len(), calls);
    for intent in intents {
        let observed = &intent.statement.observed;
        assert_eq!(observed.interception.as_deref(), Some("redirect"), "{intent:?}");
        let Subject::Workload(subject) = &intent.envelope.subject else { panic!("{intent:?}") };
        assert_eq!((&subject.namespace, &subject.pod), (&pod.namespace, &pod.name));
        assert_eq!(subject.pod_uid, pod.uid.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_round_the_sidecar_leads_nowhere() {
    if let Some(why) = Namespace::missing() {
        return skip::skipped(&why);
    }
    let tools = Tools::find().unwrap();
    // Nothing is behind the front: it notes what reaches it, and hangs up; the sidecar answers 502 then.
    let nowhere = process::free_port().unwrap();
    let pods = Pods::start(&tools, Upstream { rest: nowhere, grpc: nowhere }).await;
    let outside = pods.namespace.outside();
    let reached = [(80, Reached::at(outside, 80).await), (8443, Reached::at(outside, 8443).await)];

    let google = outside.to_string();
    let bigquery = "bigquery.googleapis.com";
    let (sidecar, redirect) = (pods.sidecar.listen().port().to_string(), ("127.0.0.1", "15001"));
    let itself = &pods.namespace.redirect().to_string();
    let user = namespace::SIDECAR.to_string();
    let token = pods.sidecar.folder().join("token").display().to_string();
    for attempt in [
        &["tls", &google, "443", "-", bigquery][..], // curl -k https://ADDRESS/ -H 'Host: ...'
        &["http", &google, "443", bigquery],
        &["http", &google, "80", bigquery],
        &["http", &google, "80", "storage.googleapis.com"],
        &["tls", &google, "8443", bigquery, bigquery],
        &["connect", &google, "8443"],
        &["tls", redirect.0, redirect.1, bigquery, bigquery],
        &["tunnel", "127.0.0.1", &sidecar, itself],
        &["connect", &pods.namespace.inside().to_string(), redirect.1],
        &["uid", &user],
        &["read", &token],
        &["rules"],
    ] {
        let finished = pods.agent.go_round(attempt).await.unwrap();
        assert_eq!(finished.code, Some(1), "{attempt:?}: {}", finished.said());
        assert!(finished.stdout.contains("refused: "), "{attempt:?}: {}", finished.said());
    }
    assert_eq!(pods.front.arrivals(), [], "nothing reached Google's HTTPS");
    for (port, reached) in &reached {
        assert_eq!(reached.count(), 0, "port {port}");
    }
    let metrics = pods.sidecar.metrics().await.unwrap();
    for (way, count) in [("name_absent", 1), ("plain_http", 2), ("not_redirected", 2)] {
        let line = format!("bqwitness_connections_total{{way=\"{way}\"}} {count}");
        assert!(metrics.contains(&line), "no {line} in:\n{metrics}");
    }

    // The same script gets through where it names BigQuery throughout, and then it is recorded.
    let honest = pods.agent.go_round(&["tls", &google, "443", bigquery, bigquery]).await.unwrap();
    assert!(honest.stdout.starts_with("answered: HTTP/1.1 502"), "{}", honest.said());
    // One Google host in the ClientHello, and another in the request, is no way out either.
    let storage = "storage.googleapis.com";
    for (sni, host) in [(bigquery, storage), (storage, bigquery)] {
        let mixed = pods.agent.go_round(&["tls", &google, "443", sni, host]).await.unwrap();
        assert!(mixed.stdout.starts_with("answered: HTTP/1.1 421"), "{}", mixed.said());
    }
    let arrivals = pods.front.arrivals();
    assert_eq!(arrivals.len(), 1, "{arrivals:?}");
    let (pod, entries) = (pods.pod.clone(), pods.end().await);
    every_call_was_redirected_and_is_the_pods(&entries, &pod, 3);
}

/// Counts connections to a port where nobody should come.
struct Reached(Arc<AtomicUsize>);

impl Reached {
    async fn at(address: std::net::IpAddr, port: u16) -> Self {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self(count)
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
