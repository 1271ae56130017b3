//! The README's commands by hand, as they are written there: with a real API server's keys and tokens, and the real `bq`.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bqwitness_tests::ca::TestCa;
use bqwitness_tests::cluster::{ControlPlane, Kubectl};
use bqwitness_tests::emulator::{Emulator, PROJECT};
use bqwitness_tests::front::Front;
use bqwitness_tests::process::{Process, free_port};
use bqwitness_tests::programs::{AUDIENCE, program};
use bqwitness_tests::skip;
use bqwitness_tests::tools::{Tools, root};

/// A command may take this long on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_readmes_commands_by_hand_do_what_it_says() {
    let Some(plane) = ControlPlane::shared().unwrap() else { return };
    let tools = Tools::find().unwrap();
    if tools.bq.is_none() {
        return skip::skipped("no bq (Google Cloud CLI) on this machine");
    }
    let folder = tempfile::tempdir().unwrap();
    let kubectl = plane.kubectl();
    let mut hands = Hands::ready(&tools, folder.path()).await;
    pods(&kubectl, &hands.path("pod.token")).await;

    let mut said = Vec::new();
    for command in commands() {
        let output = hands.follow(&command, &kubectl).await;
        said.push((command, output));
    }

    let answer = |begins: &str| {
        let found = said.iter().find(|(command, _)| command.contains(begins));
        found.unwrap_or_else(|| panic!("the README has no command `{begins}`")).1.clone()
    };
    assert!(answer("bq query").contains("overdue"));
    assert!(answer("bqwitness search").contains("agents/billing"));
    assert!(answer("bqwitness show").contains("agents/billing"));
    assert!(answer("bqwitness sessions").contains("agents/billing"));
    assert!(answer("bqwitness replay").contains("SELECT account_id, status FROM billing.invoices"));
    assert!(answer("bqwitness verify-log").contains("signed by its key"));
    hands.all_words_were_there();
}

/// The auditor's and the agent's service accounts, and a token as the kubelet writes it for the agent's pod.
async fn pods(kubectl: &Kubectl, token_file: &Path) {
    let object = |kind: &str, namespace: &str, name: &str| {
        serde_json::json!({ "apiVersion": "v1", "kind": kind,
            "metadata": { "namespace": namespace, "name": name } })
    };
    let mut pod = object("Pod", "agents", "billing-0");
    pod["spec"] = serde_json::json!({ "serviceAccountName": "billing", "nodeName": "node-1",
        "containers": [{ "name": "agent", "image": "example.com/agent:1" }] });
    let namespace = |name: &str| serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    let items = [
        namespace("agents"),
        namespace("audit"),
        object("ServiceAccount", "agents", "billing"),
        object("ServiceAccount", "audit", "auditor"),
        pod,
    ];
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items });
    kubectl.apply(&list.to_string()).await.unwrap();
    let create = ["-n", "agents", "create", "token", "billing", "--audience", AUDIENCE];
    let bound = ["--bound-object-kind", "Pod", "--bound-object-name", "billing-0"];
    let token = kubectl.say(&[&create[..], &bound[..]].concat()).await.unwrap();
    std::fs::write(token_file, token.trim()).unwrap();
}

/// The commands of the README's section, one string each.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme.split("## Use it by hand").nth(1).unwrap();
    let block = section.split("```console").nth(1).unwrap().split("```").next().unwrap();
    let joined = block.replace("\\\n", " ");
    joined.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// Somebody who types the README's commands.
struct Hands {
    folder: PathBuf,
    /// What the README says, what it is here, and whether it was met.
    words: Vec<(&'static str, String, bool)>,
    /// What was exported so far.
    exports: String,
    running: Vec<Process>,
    _emulator: Emulator,
    _front: Front,
}

impl Hands {
    /// With "BigQuery" in place, and the recorder's certificate.
    async fn ready(tools: &Tools, folder: &Path) -> Self {
        let (google, own) = (folder.join("google"), folder.join("own"));
        for path in [&google, &own] {
            std::fs::create_dir(path).unwrap();
        }
        let google = TestCa::new(&google, "Test CA in Google's place").unwrap();
        let emulator = Emulator::launch(tools, folder).unwrap().furnished().await.unwrap();
        let front = Front::start(&google, emulator.upstream()).await.unwrap();
        let ca = TestCa::new(&own, "Test CA of the recorder").unwrap();
        let leaf = ca.leaf(&["127.0.0.1"]).unwrap();
        for (from, name) in
            [(leaf.certificate, "tls.crt"), (leaf.key, "tls.key"), (ca.path(), "recorder-ca.crt")]
        {
            std::fs::copy(from, folder.join(name)).unwrap();
        }
        let (recorder, proxy) = (free_port().unwrap().to_string(), free_port().unwrap().to_string());
        let path = |name: &str| folder.join(name).display().to_string();
        let words = [
            ("/var/lib/bqwitness", path("data")),
            ("0.0.0.0:8443", recorder.clone()),
            ("recorder.example.com:8443", recorder),
            ("127.0.0.1:15080", proxy),
            ("/var/run/secrets/bqwitness/token", path("pod.token")),
            ("/run/bqwitness", path("run")),
        ];
        let words = words.map(|(written, here)| (written, here, false)).to_vec();
        let programs = program("bqwitness").unwrap().parent().unwrap().display().to_string();
        let mut exports =
            format!("export PATH={programs}:$PATH HOME={0} CLOUDSDK_CONFIG={0}/gcloud\n", folder.display());
        writeln!(exports, "export CLOUDSDK_CORE_PROJECT={PROJECT} CLOUDSDK_AUTH_ACCESS_TOKEN=agents-own")
            .unwrap();
        // Where this test differs from the README's world: BigQuery is an emulator, and ports may be taken.
        writeln!(exports, "export BQWITNESS_RESOLVE=bigquery.googleapis.com:443={}", front.address())
            .unwrap();
        writeln!(exports, "export BQWITNESS_UPSTREAM_CA={}", google.path().display()).unwrap();
        writeln!(exports, "export BQWITNESS_ADMIN=127.0.0.1:0").unwrap();
        Self {
            folder: folder.into(),
            words,
            exports,
            running: Vec::new(),
            _emulator: emulator,
            _front: front,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Types a command: what it prints.
    async fn follow(&mut self, command: &str, kubectl: &Kubectl) -> String {
        let command = self.translated(command).await;
        let first = command.split_whitespace().next().unwrap();
        match first {
            "kubectl" => self.ask_the_cluster(&command, kubectl).await,
            "export" => writeln!(self.exports, "{command}").map(|()| String::new()).unwrap(),
            "bqwitness-recorder" => {
                self.serve(&command, "0").await;
                std::fs::copy(self.path("data/log.vkey"), self.path("log.vkey")).unwrap();
                String::new()
            }
            "bqwitness-proxy" => {
                self.serve(&command, "3").await;
                String::new()
            }
            _ => {
                if command.starts_with("bqwitness search") {
                    // Somebody who types takes as long as the index.
                    let _there = self.first(&command, "/calls/0/index").await;
                }
                self.run(&command).await
            }
        }
    }

    /// The command with the places of this machine; an entry and a session where the README has an example of one.
    async fn translated(&mut self, command: &str) -> String {
        let mut command = command.to_owned();
        for (written, here, met) in &mut self.words {
            *met |= command.contains(*written);
            command = command.replace(*written, here);
        }
        if command.contains("show 1042") {
            let index = self.first("bqwitness search --agent agents/billing", "/calls/0/index").await;
            command = command.replace("1042", &index.to_string());
        }
        if command.contains("SESSION") {
            let session = self.first("bqwitness sessions --agent agents/", "/sessions/0/session").await;
            command = command.replace("SESSION", session.as_str().unwrap());
        }
        command
    }

    async fn ask_the_cluster(&self, command: &str, kubectl: &Kubectl) -> String {
        let (words, file) = command.split_once(" > ").unwrap();
        let words: Vec<&str> = words.split_whitespace().skip(1).collect();
        let said = kubectl.say(&words).await.unwrap();
        std::fs::write(self.path(file.trim()), &said).unwrap();
        said
    }

    /// A server, until it listens.
    async fn serve(&mut self, command: &str, number: &str) {
        let listen =
            command.split(" --listen ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        let mut shell = self.shell(&format!("exec {command}"));
        let mut process = Process::start(&format!("by-hand-{number}"), &mut shell, &self.folder).unwrap();
        process.until("listener", LIMIT, || async { TcpStream::connect(&listen).ok() }).await.unwrap();
        self.running.push(process);
    }

    async fn run(&self, command: &str) -> String {
        let (mut shell, shown) = (self.shell(command), command.to_owned());
        let output = tokio::task::spawn_blocking(move || shell.output()).await.unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout);
        assert!(output.status.success(), "{shown}: {}\n{said}{}", output.status, text(&output.stderr));
        said
    }

    /// What a command's JSON has at this place, once the index has it.
    async fn first(&self, command: &str, place: &str) -> serde_json::Value {
        let begun = std::time::Instant::now();
        loop {
            let said = self.run(&format!("{command} --output json")).await;
            let found = serde_json::from_str::<serde_json::Value>(&said).unwrap();
            match found.pointer(place) {
                Some(value) => return value.clone(),
                None => assert!(begun.elapsed() < LIMIT, "nothing at {place}: {said}"),
            }
        }
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(format!("{}{command}", self.exports)).current_dir(&self.folder);
        shell
    }

    fn all_words_were_there(&self) {
        let missing: Vec<_> = self.words.iter().filter(|(_, _, met)| !met).map(|(word, _, _)| word).collect();
        assert!(missing.is_empty(), "the README says no more: {missing:?}");
    }
}
