//! Agents without a key, as they ship: real clients, our programs, stand-ins of Google's that take nothing but their own
//! tokens, and an emulator that says whose call it was.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bqwitness_tests::agent::{Agent, Finished};
use bqwitness_tests::ca::TestCa;
use bqwitness_tests::emulator::Emulator;
use bqwitness_tests::front::{Arrival, Front};
use bqwitness_tests::google::metadata::MetadataServer;
use bqwitness_tests::google::{Behaviour, Google, service_account};
use bqwitness_tests::identity::{Cluster, Pod};
use bqwitness_tests::log::{self, Logged};
use bqwitness_tests::namespace::Namespace;
use bqwitness_tests::programs::{Credential, PROVIDER, Recorder, STS_TOKEN, Sidecar, Start};
use bqwitness_tests::skip;
use bqwitness_tests::tools::{EmulatorKind, Tools};
use ledger::entry::Subject;
use ledger::statement::kind;
use tempfile::TempDir;

const WHO: &str = "SELECT SESSION_USER() AS who";

/// Nobody waits here: a machine that is busy must not fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pod that shares nothing with the next but the emulator. Dropped from the top: programs before their namespace.
struct World {
    sidecar: Sidecar,
    recorder: Recorder,
    agent: Agent,
    pod: Pod,
    front: Front,
    google: Google,
    metadata: Option<MetadataServer>,
    namespace: Namespace,
    folder: TempDir,
}

/// Where the pod's credential comes from.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Federated,
    WorkloadIdentity,
}

impl World {
    async fn new(tools: &Tools, emulator: &Emulator, service_account_name: &str, mode: Mode) -> Self {
        let folder = TempDir::with_prefix("bqwitness-").unwrap();
        let own = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let namespace = Namespace::make().unwrap();
        let outside = |port| SocketAddr::new(namespace.outside(), port);
        let ca = TestCa::new(&own("google"), "Test CA in Google's place").unwrap();
        let cluster = Cluster::new("https://kubernetes.default.svc.cluster.local").unwrap();
        let pod = Pod::of("agents", service_account_name);
        let google = Google::start_at(outside(0), &ca).await.unwrap();
        google.set_up(PROVIDER, &cluster, &pod);
        let front = Front::start_at(outside(443), &ca, emulator.upstream()).await.unwrap();
        front.demand(google.tokens());
        let metadata = match mode {
            Mode::Federated => None,
            Mode::WorkloadIdentity => {
                namespace.lead_metadata_outside().unwrap();
                let account = service_account(&pod);
                Some(MetadataServer::start(outside(80), google.tokens(), &account).await.unwrap())
            }
        };
        let recorder_ca = TestCa::new(&own("recorder-ca"), "Test CA of the recorder").unwrap();
        let reader = Pod::of("audit", "auditor");
        let recorder =
            Recorder::start_at(namespace.outside(), folder.path(), &recorder_ca, &cluster, &reader)
                .await
                .unwrap();
        let place = recorder.place();
        let credential = match mode {
            Mode::Federated => Credential::Federated(&google),
            Mode::WorkloadIdentity => Credential::WorkloadIdentity,
        };
        let start = Start {
            folder: folder.path(),
            pod: &pod,
            cluster: &cluster,
            recorder: &place,
            patience: PATIENCE,
            credential,
            log_level: "info",
        };
        let sidecar = start.inside(&namespace, &ca).await.unwrap();
        let agent =
            Agent::redirected(tools, folder.path().join("agent"), &namespace, sidecar.bundle()).unwrap();
        let agent = agent.keyless(Vec::new());
        Self { sidecar, recorder, agent, pod, front, google, metadata, namespace, folder }
    }

    /// Ends everything in order. What the log says then, and what arrived.
    async fn end(self) -> (Vec<Logged>, Vec<Arrival>) {
        let (data, arrivals) = (self.recorder.data().to_owned(), self.front.arrivals());
        self.sidecar.stop().await.unwrap();
        self.recorder.stop().await.unwrap();
        (log::read(&data).unwrap(), arrivals)
    }
}

/// Each of this machine's clients asks who it is; answers what it was told.
async fn everybody_asks(agent: &Agent) -> Vec<(&'static str, Finished)> {
    let mut said = vec![
        ("python", agent.python_query(WHO).await.unwrap()),
        ("python job", agent.python_job(WHO).await.unwrap()),
    ];
    if agent.has_node() {
        said.push(("node", agent.node_query(WHO).await.unwrap()));
    } else {
        skip::skipped("no Node with its BigQuery client on this machine");
    }
    if agent.has_bq() {
        said.push(("bq", agent.bq_query(WHO).await.unwrap()));
    } else {
        skip::skipped("no bq (Google Cloud CLI) on this machine");
    }
    said
}

fn each_was(said: &[(&'static str, Finished)], principal: &str) {
    for (client, finished) in said {
        assert!(finished.success(), "{client}: {}", finished.said());
        assert!(finished.stdout.contains(principal), "{client} is not {principal}: {}", finished.said());
    }
}

fn every_call_was(entries: &[Logged], arrivals: &[Arrival], pod: &Pod, mode: &str) {
    let principal = service_account(pod);
    assert!(!arrivals.is_empty());
    for arrival in arrivals {
        assert_eq!(arrival.principal.as_ref(), Some(&principal), "{arrival:?}");
    }
    let intents: Vec<_> = entries.iter().filter(|entry| entry.statement.kind == kind::CALL_INTENT).collect();
    assert_eq!(intents.len(), arrivals.len());
    for intent in intents {
        let Subject::Workload(subject) = &intent.envelope.subject else { panic!("{intent:?}") };
        assert_eq!(subject.pod_uid, pod.uid.to_string());
        let observed = &intent.statement.observed;
        assert_eq!(observed.principal.as_ref(), Some(&principal));
        assert_eq!(observed.credential.as_deref(), Some(mode));
        assert_eq!(intent.statement.claimed.credential, None, "the agent had nothing to show: {intent:?}");
    }
}

/// Names of variables that hold a key or token, or say where one is.
const FORBIDDEN: [&str; 6] = ["TOKEN", "CREDENTIAL", "KEY", "SECRET", "METADATA", "PROXY"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_without_a_key_are_two_principals() {
    if let Some(why) = Namespace::missing() {
        return skip::skipped(&why);
    }
    let tools = Tools::find().unwrap();
    if tools.emulator != EmulatorKind::LocalBigquery {
        return skip::skipped("this machine's emulator knows no SESSION_USER()");
    }
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::launch(&tools, folder.path()).unwrap().furnished().await.unwrap();
    let (billing, etl) = tokio::join!(
        World::new(&tools, &emulator, "billing", Mode::Federated),
        World::new(&tools, &emulator, "etl", Mode::Federated),
    );
    for world in [&billing, &etl] {
        for name in world.agent.variables() {
            assert!(!FORBIDDEN.iter().any(|part| name.contains(part)), "{name}");
        }
    }
    let (hers, his) = tokio::join!(everybody_asks(&billing.agent), everybody_asks(&etl.agent));
    each_was(&hers, "billing@acme-data.iam.gserviceaccount.com");
    each_was(&his, "etl@acme-data.iam.gserviceaccount.com");
    assert_eq!((billing.google.asked("sts"), billing.google.asked("iam")), (1, 1));

    // The pod's token for Google is not the agent's to read, nor is there another way to Google's services.
    let token = etl.sidecar.folder().join(STS_TOKEN).display().to_string();
    let read = etl.agent.go_round(&["read", &token]).await.unwrap();
    assert!(read.stdout.contains("refused: "), "{}", read.said());

    for world in [billing, etl] {
        let pod = world.pod.clone();
        let (entries, arrivals) = world.end().await;
        every_call_was(&entries, &arrivals, &pod, "federated");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_gke_the_credential_comes_from_the_nodes_metadata_server() {
    if let Some(why) = Namespace::missing() {
        return skip::skipped(&why);
    }
    let tools = Tools::find().unwrap();
    if tools.emulator != EmulatorKind::LocalBigquery {
        return skip::skipped("this machine's emulator knows no SESSION_USER()");
    }
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::launch(&tools, folder.path()).unwrap().furnished().await.unwrap();
    let world = World::new(&tools, &emulator, "billing", Mode::WorkloadIdentity).await;
    let said = everybody_asks(&world.agent).await;
    each_was(&said, "billing@acme-data.iam.gserviceaccount.com");
    let given = world.metadata.as_ref().unwrap().tokens_given();
    assert_eq!(given, 1, "to the sidecar; agents don't reach that server");
    // By its address outside, past the rule for 169.254.169.254, the agent meets the redirect too.
    let outside = world.namespace.outside().to_string();
    let around = world.agent.go_round(&["http", &outside, "80", "metadata.google.internal"]).await.unwrap();
    assert!(around.stdout.contains("refused: "), "{}", around.said());
    assert_eq!(world.metadata.as_ref().unwrap().tokens_given(), given);
    let (pod, kept) = (world.pod.clone(), world.folder.path().to_owned());
    let (entries, arrivals) = world.end().await;
    every_call_was(&entries, &arrivals, &pod, "workload-identity");
    drop(kept);
}

/// Where there is no redirect, variables name the way; none of them is a credential.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_variables_instead_of_a_redirect() {
    let tools = Tools::find().unwrap();
    if tools.emulator != EmulatorKind::LocalBigquery {
        return skip::skipped("this machine's emulator knows no SESSION_USER()");
    }
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::launch(&tools, folder.path()).unwrap().furnished().await.unwrap();
    let beside = Beside::new(&folder, &emulator).await;
    let variables = beside.sidecar.variables().unwrap();
    let agent =
        Agent::new(&tools, folder.path().join("agent"), beside.sidecar.listen(), beside.sidecar.bundle());
    let agent = agent.unwrap().keyless(variables);
    let said = everybody_asks(&agent).await;
    each_was(&said, "billing@acme-data.iam.gserviceaccount.com");
    let (pod, arrivals) = (beside.pod.clone(), beside.front.arrivals());
    let entries = beside.end().await;
    every_call_was(&entries, &arrivals, &pod, "federated");
}

/// A pod on this machine's own network.
struct Beside {
    sidecar: Sidecar,
    recorder: Recorder,
    google: Google,
    front: Front,
    pod: Pod,
    cluster: Cluster,
    ca: TestCa,
}

impl Beside {
    async fn new(folder: &TempDir, emulator: &Emulator) -> Self {
        let own = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let ca = TestCa::new(&own("google"), "Test CA in Google's place").unwrap();
        let recorder_ca = TestCa::new(&own("recorder-ca"), "Test CA of the recorder").unwrap();
        let cluster = Cluster::new("https://kubernetes.default.svc.cluster.local").unwrap();
        let (reader, pod) = (Pod::of("audit", "auditor"), Pod::of("agents", "billing"));
        let google = Google::start(&ca).await.unwrap();
        google.set_up(PROVIDER, &cluster, &pod);
        let front = Front::start(&ca, emulator.upstream()).await.unwrap();
        front.demand(google.tokens());
        let recorder = Recorder::start(folder.path(), &recorder_ca, &cluster, &reader).await.unwrap();
        let start = Start {
            folder: folder.path(),
            pod: &pod,
            cluster: &cluster,
            recorder: &recorder.place(),
            patience: PATIENCE,
            credential: Credential::Federated(&google),
            log_level: "debug",
        };
        let sidecar = start.beside(&[], (front.address(), &ca)).await.unwrap();
        Self { sidecar, recorder, google, front, pod, cluster, ca }
    }

    async fn end(self) -> Vec<Logged> {
        let data = self.recorder.data().to_owned();
        self.sidecar.stop().await.unwrap();
        self.recorder.stop().await.unwrap();
        log::read(&data).unwrap()
    }
}

/// Secrets of every kind are planted wherever a request, a token file or an answer of Google's has room for one. None of them
/// is in an entry, a blob, the index, a log (at level debug), a metric or an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_credential_is_written_anywhere() {
    let tools = Tools::find().unwrap();
    let folder = TempDir::with_prefix("bqwitness-").unwrap();
    let emulator = Emulator::launch(&tools, folder.path()).unwrap().furnished().await.unwrap();
    let beside = Beside::new(&folder, &emulator).await;
    let planted: Vec<String> = ["key", "secret", "other"]
        .map(|name| format!("planted-{name}-{}", uuid::Uuid::now_v7().simple()))
        .into();
    let jwt = beside.cluster.sign(&beside.cluster.claims(&beside.pod, "planted")).unwrap();
    let agent =
        Agent::new(&tools, folder.path().join("agent"), beside.sidecar.listen(), beside.sidecar.bundle());
    let agent = agent.unwrap().keyless(beside.sidecar.variables().unwrap());
    let metadata = beside.sidecar.metadata().unwrap().to_string();
    let words: Vec<&str> = [&metadata, &jwt].into_iter().chain(&planted).map(String::as_str).collect();
    let said = agent.plant(&words).await.unwrap();
    assert!(said.success(), "{}", said.said());
    let lines: Vec<&str> = said.stdout.lines().collect();
    let placeholder = lines[0].strip_prefix("placeholder ").unwrap().to_owned();
    let statuses: Vec<&str> = lines[1..].iter().map(|line| &line[..3]).collect();
    assert_eq!(
        statuses,
        ["200", "200", "200", "200", "401", "200", "403", "403", "200", "403"],
        "{}",
        said.said()
    );

    // Google's services say no, and repeat what they were sent.
    let unknown = beside.cluster.rotated().unwrap();
    let forged = unknown.sign(&unknown.claims(&beside.pod, "planted")).unwrap();
    beside.google.behave(Behaviour { blabbing: true, ..Behaviour::default() });
    let refused = second_sidecar(&folder, &beside, &forged).await;
    let (data, own) = (beside.recorder.data().to_owned(), beside.sidecar.folder().to_owned());
    let metrics = beside.sidecar.metrics().await.unwrap();
    let (google, arrivals) = (beside.google.tokens(), beside.front.arrivals());
    let tokens: Vec<String> =
        ["token", STS_TOKEN].map(|name| std::fs::read_to_string(own.join(name)).unwrap()).into();
    let entries = beside.end().await;
    assert!(entries.len() > 10 && arrivals.iter().all(|arrival| arrival.principal.is_some()), "{arrivals:?}");

    let mut texts =
        vec![("metrics".to_owned(), metrics.into_bytes()), ("readiness".into(), refused.into_bytes())];
    texts.push(("what the agent was told".into(), lines[1..].join("\n").into_bytes()));
    files(&data, &mut texts);
    let logs = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let logs: Vec<_> = logs.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    logs.iter().filter(|path| !path.ends_with("emulator.log")).for_each(|path| {
        texts.push((path.display().to_string(), std::fs::read(path).unwrap()));
    });
    assert!(
        texts.iter().any(|(name, _)| name.contains("blobs/"))
            && texts.iter().any(|(name, _)| name.ends_with(".log"))
    );

    // Of a JWT the signature is the secret; what is in front of it is what it claims, which may be said.
    let signature = |token: &String| token.rsplit('.').next().unwrap().to_owned();
    let secrets: BTreeSet<String> = planted
        .iter()
        .cloned()
        .chain([&jwt, &forged].into_iter().chain(&tokens).map(signature))
        .chain([placeholder.strip_prefix("bqwitness-placeholder-").unwrap().to_owned()])
        .collect();
    assert_eq!(secrets.len(), planted.len() + 5);
    for (name, bytes) in &texts {
        for secret in &secrets {
            // What is answered to the agent may hold its own placeholder.
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(
                !found || (name.starts_with("what") && placeholder.contains(secret)),
                "{secret} is in {name}"
            );
        }
        // Access tokens of Google's, whichever: JWTs of that issuer.
        let text = String::from_utf8_lossy(bytes);
        let jwts = text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
        for word in jwts.filter(|word| word.starts_with("eyJ") && word.split('.').count() == 3) {
            let headers = http::HeaderMap::from_iter([(
                http::header::AUTHORIZATION,
                format!("Bearer {word}").parse().unwrap(),
            )]);
            assert!(google.bearer(&headers).is_err(), "an access token is in {name}");
        }
    }
}

/// Another start with a token that Google refuses: what it says of itself.
async fn second_sidecar(folder: &TempDir, beside: &Beside, token: &str) -> String {
    let pod = Pod { name: "billing-1".into(), ..beside.pod.clone() };
    let start = Start {
        folder: folder.path(),
        pod: &pod,
        cluster: &beside.cluster,
        recorder: &beside.recorder.place(),
        patience: Duration::from_secs(1),
        credential: Credential::Federated(&beside.google),
        log_level: "debug",
    };
    start.unready(&beside.ca, token, "sts_refused").await.unwrap()
}

fn files(folder: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}
