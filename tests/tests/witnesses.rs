//! Two witnesses of one log, ours and one that we did not write, all of them programs: both cosign what continues, and neither a
//! log that was rolled back, nor one that has grown again since, nor another one of the same name.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bqwitness_tests::ca::TestCa;
use bqwitness_tests::foreign::{ForeignWitness, RunningWitness};
use bqwitness_tests::heartbeats::record;
use bqwitness_tests::identity::{Cluster, Pod};
use bqwitness_tests::programs::{AUDIENCE, Recorder, program};
use ledger::note::Note;
use ledger::policy::Policy;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Child;

const LIMIT: Duration = Duration::from_secs(60);

struct Stand {
    folder: TempDir,
    ca: TestCa,
    token: PathBuf,
    policy: String,
    _ours: Child,
    _theirs: RunningWitness,
}

/// `bqwitness witness`, and the vkey and address that it says.
async fn our_witness(folder: &Path, log: &Path) -> (Child, String, String) {
    let mut command = tokio::process::Command::new(program("bqwitness").unwrap());
    command.args(["--output", "json", "witness", "--name", "ours.example/w", "--listen", "127.0.0.1:0"]);
    command.arg("--log").arg(log).arg("--state").arg(folder.join("witness"));
    let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let text = |name: &str| said[name].as_str().unwrap().to_owned();
    (process, text("vkey"), text("listen"))
}

impl Stand {
    /// A recorder that has begun a log, and two witnesses that know its key; the log is not witnessed yet.
    async fn begin(theirs: &ForeignWitness) -> (Self, Recorder) {
        let folder = tempfile::tempdir().unwrap();
        let ca = TestCa::new(folder.path(), "Test CA of the witnessed log").unwrap();
        let cluster = Cluster::new("https://kubernetes.default.svc").unwrap();
        let token = folder.path().join("token");
        cluster.write_token(&Pod::of("agents", "billing"), AUDIENCE, &token).unwrap();
        let reader = Pod::of("audit", "auditor");
        let recorder = Recorder::start(folder.path(), &ca, &cluster, &reader).await.unwrap();
        let vkey = fs::read_to_string(recorder.key()).unwrap();
        let theirs = theirs.start("theirs.example/w", &vkey).unwrap();
        let (ours, our_key, our_address) = our_witness(folder.path(), &recorder.key()).await;
        let policy = format!(
            "witness ours {our_key} http://{our_address}\nwitness theirs {} http://{}\ngroup both all ours theirs\nquorum both\n",
            theirs.vkey, theirs.listen
        );
        fs::write(folder.path().join("policy"), &policy).unwrap();
        (Self { folder, ca, token, policy, _ours: ours, _theirs: theirs }, recorder)
    }

    fn witnessed_by_both(&self) -> Vec<String> {
        vec![format!("--witness-policy={}", self.folder.path().join("policy").display())]
    }

    /// What `/log/witnessed` has, once it covers `size` entries.
    async fn witnessed(&self, recorder: &Recorder, size: u64) -> String {
        let begun = Instant::now();
        loop {
            let answer = get(&self.ca, recorder, "/log/witnessed").await;
            let covered = answer.lines().nth(1).and_then(|line| line.parse::<u64>().ok());
            if covered.is_some_and(|covered| covered >= size) {
                return answer;
            }
            assert!(begun.elapsed() < LIMIT, "not witnessed up to {size}: {answer}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn get(ca: &TestCa, recorder: &Recorder, path: &str) -> String {
    let roots = runtime::tls::pinned_roots(&ca.path()).unwrap();
    let tls = runtime::tls::client_config(roots, &[]).unwrap();
    let client = runtime::client::HttpsClient::new(tls, Duration::from_secs(10), 1 << 20);
    let request = http::Request::get(format!("{}{path}", recorder.url()));
    let answer = client.send(request.body(http_body_util::Full::default()).unwrap()).await.unwrap();
    String::from_utf8(answer.body().to_vec()).unwrap()
}

/// Waits until the recorder has been answered so by both.
async fn both_say(recorder: &Recorder, result: &str) {
    let begun = Instant::now();
    let line = |witness: &str| format!("witness_answers_total{{result=\"{result}\",witness=\"{witness}\"}}");
    loop {
        let mut stream = tokio::net::TcpStream::connect(recorder.ports().admin).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).await.unwrap();
        if metrics.contains(&line("ours")) && metrics.contains(&line("theirs")) {
            assert!(result == "cosigned" || !metrics.contains("result=\"cosigned\""), "{metrics}");
            return;
        }
        let answers = metrics.lines().filter(|line| line.contains("witness")).collect::<Vec<_>>().join("\n");
        assert!(begun.elapsed() < LIMIT, "not both said {result}:\n{answers}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_witness_cosigns_what_does_not_continue() {
    let Some(theirs) = ForeignWitness::find().unwrap() else { return };
    let (stand, recorder) = Stand::begin(&theirs).await;
    let (more, old) = (stand.witnessed_by_both(), stand.folder.path().join("old"));
    // What continues is cosigned by both; their lines are those of their keys.
    let recorder = recorder.restart(&more, |_| ()).await.unwrap();
    record(&recorder, &stand.token, 20).await.unwrap();
    both_say(&recorder, "cosigned").await;
    let note = stand.witnessed(&recorder, 20).await;
    let policy = Policy::parse(&stand.policy).unwrap();
    let checked = policy.check(&Note::parse(note.as_bytes()).unwrap()).unwrap();
    assert!(checked.enough && checked.by.len() == 2, "{checked:?}");

    // It goes on, beyond a copy that somebody keeps.
    let recorder = recorder.restart(&more, |data| copy(data, &old)).await.unwrap();
    record(&recorder, &stand.token, 300).await.unwrap();
    stand.witnessed(&recorder, 300).await;

    // The copy in its place: a rollback. It grows beyond what was cosigned: a fork.
    let aside = stand.folder.path().join("aside");
    let put_back = |data: &Path| {
        fs::rename(data, &aside).unwrap();
        copy(&old, data);
    };
    let recorder = recorder.restart(&more, put_back).await.unwrap();
    both_say(&recorder, "rolled_back").await;
    for _ in 0..2 {
        record(&recorder, &stand.token, 400).await.unwrap();
    }
    both_say(&recorder, "forked").await;
    assert!(
        get(&stand.ca, &recorder, "/log/witnessed").await.contains("not_found"),
        "none of it is witnessed"
    );

    // The log that they know is cosigned still.
    let back = |data: &Path| {
        fs::rename(data, stand.folder.path().join("fork")).unwrap();
        fs::rename(&aside, data).unwrap();
    };
    let recorder = recorder.restart(&more, back).await.unwrap();
    both_say(&recorder, "cosigned").await;
    recorder.stop().await.unwrap();
}
