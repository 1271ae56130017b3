//! Evidence, taken out with the command line as it ships, and verified by it without a recorder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bqwitness_tests::foreign::Tessera;
use bqwitness_tests::identity::Pod;
use bqwitness_tests::programs::{AUDIENCE, program};
use http::StatusCode;
use serde_json::Value;

use crate::stand::{Recorder, Stand, query};

pub(crate) const ANSWER: &str = r#"{"kind":"bigquery#queryResponse","jobComplete":true,"totalRows":"1","rows":[{"f":[{"v":"1"}]}],
    "schema":{"fields":[{"name":"n","type":"INTEGER"}]},"jobReference":{"projectId":"acme-data","jobId":"j","location":"US"}}"#;

/// What the command line said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{}{}", self.stdout, self.stderr))
    }
}

/// An auditor: a token, a key, and a folder of files.
pub(crate) struct Desk<'a> {
    stand: &'a Stand,
    recorder: String,
    token: PathBuf,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(stand: &'a Stand, recorder: &Recorder) -> Self {
        Self::of(stand, recorder, "auditor")
    }

    /// The same of another service account of namespace `audit`.
    pub(crate) fn of(stand: &'a Stand, recorder: &Recorder, name: &str) -> Self {
        let token = stand.path(&format!("{name}.token"));
        stand.cluster.write_token(&Pod::of("audit", name), AUDIENCE, &token).unwrap();
        Self { stand, recorder: format!("https://{}", recorder.address), token }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.stand.path(name)
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        self.run_as(program("bqwitness").unwrap().as_os_str(), arguments, &[]).await
    }

    /// Runs a program as if it were the command line, or one that runs it, with these variables.
    pub(crate) async fn run_as(&self, program: &OsStr, arguments: &[&str], more: &[(&str, &str)]) -> Said {
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).current_dir(self.stand.folder.path()).stdin(Stdio::null());
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
        command.env("BQWITNESS_RECORDER", &self.recorder);
        command.env("BQWITNESS_RECORDER_CA", self.stand.recorder_ca());
        command.env("BQWITNESS_TOKEN_FILE", &self.token);
        command.env("BQWITNESS_KEY", self.stand.data().join("log.vkey"));
        command.envs(more.iter().copied());
        let output = command.output().await.unwrap();
        Said {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) async fn export(&self, arguments: &[&str]) -> Value {
        let said = self.run(&[&["--output", "json", "export"][..], arguments].concat()).await;
        assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
        said.json()
    }

    pub(crate) async fn verify(&self, file: &str) -> (Option<i32>, Value) {
        let said = self.run(&["--output", "json", "verify", file]).await;
        (said.code, said.json())
    }
}

fn flip(file: &Path, place: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[place] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_leaves_the_recorder_and_stands_alone() {
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    for number in 0..3 {
        query(&stand, &sidecar, &format!("SELECT n FROM billing.invoices WHERE n = {number}")).await;
    }
    query(&stand, &sidecar, "DELETE FROM staging.imports WHERE TRUE").await;
    assert!(sidecar.stop("test").await);
    let desk = Desk::new(&stand, &recorder);

    // log.start, and the session's eleven: an export has what a checkpoint covers.
    assert_eq!(desk.run(&["search", "--wait", "12"]).await.code, Some(0));
    let all = desk.export(&["-o", "all.bqw"]).await;
    let some = desk.export(&["--table", "billing.invoices", "-o", "some.bqw"]).await;
    let session = desk.export(&["--agent", "agents/billing", "-o", "session.bqw"]).await;
    let covered = desk.run(&["--output", "json", "coverage", "--from", "1h"]).await.json();
    assert_eq!(covered["pods"][0]["gaps"][0]["reason"], "not_begun", "{covered}");
    assert_eq!(covered["pods"][0]["recorded"].as_array().map(Vec::len), Some(1), "{covered}");
    recorder.stop().await; // nobody is asked from here on

    let (code, told) = desk.verify("all.bqw").await;
    assert_eq!((code, &told["verified"]), (Some(0), &Value::Bool(true)), "{told}");
    assert_eq!(told["manifest"]["scope"]["kind"], "everything");
    assert_eq!((&told["manifest"]["contents"]["calls"], &all["calls"]), (&4.into(), &4.into()));
    assert_eq!(told["export"]["reader"], "audit/auditor");
    assert_eq!(told["manifest"]["contents"]["coverage"][0]["subject"]["serviceAccount"], "billing");

    let (code, told) = desk.verify("some.bqw").await;
    assert_eq!((code, &told["manifest"]["contents"]["calls"]), (Some(0), &3.into()), "{told}");
    assert_eq!(told["manifest"]["scope"]["kind"], "calls");
    assert!(told["notProved"][0].as_str().unwrap().contains("no other call"), "{told}");
    assert!(
        some["export"].as_u64() > all["export"].as_u64(),
        "each export is an entry, after those of its reads"
    );

    let (code, told) = desk.verify("session.bqw").await;
    assert_eq!((code, &told["manifest"]["scope"]["kind"]), (Some(0), &"sessions".into()), "{told}");
    // session.start, a heartbeat, four intents with their outcomes, session.end.
    assert_eq!((session["calls"].as_u64(), session["entries"].as_u64()), (Some(4), Some(11)));

    // The page is what the entries make of themselves, and can be made again.
    let said = desk.run(&["verify", "all.bqw", "--page", "page.html"]).await;
    assert!(said.stdout.contains("page.html shows what the entries say"), "{}", said.stdout);
    let page = std::fs::read_to_string(desk.file("page.html")).unwrap();
    for part in ["agents/billing", "DELETE FROM staging.imports WHERE TRUE", "under recording"] {
        assert!(page.contains(part), "{part}: {page}");
    }

    // The text for people says what rests on whom.
    let said = desk.run(&["verify", "some.bqw"]).await;
    for part in ["Proved:", "Not proved:", "Rests on others:", "No witness", "VERIFIED"] {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }

    // Another tool reads it, and another byte is found.
    let listed = std::process::Command::new("tar").arg("tf").arg(desk.file("all.bqw")).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    assert!(
        String::from_utf8(listed.stdout)
            .unwrap()
            .starts_with("manifest.json\nREADME.txt\nkeys/log.vkey\npage.html\n")
    );
    let length = std::fs::read(desk.file("all.bqw")).unwrap().len();
    for place in [0, 600, length / 3, length / 2, length - 1] {
        flip(&desk.file("all.bqw"), place);
        let (code, told) = desk.verify("all.bqw").await;
        assert_eq!((code, &told["verified"]), (Some(1), &Value::Bool(false)), "byte {place}: {told}");
        flip(&desk.file("all.bqw"), place);
    }
    assert_eq!(desk.run(&["verify", "nothing.bqw"]).await.code, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tesseras_fsck_believes_the_served_log_and_no_other() {
    let Some(tessera) = Tessera::find().unwrap() else { return };
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    for number in 0..130 {
        query(&stand, &sidecar, &format!("SELECT {number}")).await; // two entries each: a full tile and more
    }
    assert!(sidecar.stop("test").await);
    let desk = Desk::new(&stand, &recorder);
    let _covers_all = desk.export(&["-o", "all.bqw"]).await;
    let vkey = std::fs::read_to_string(stand.data().join("log.vkey")).unwrap();
    let url = format!("https://{}/log/", recorder.address);
    let fsck = || tessera.fsck(&url, &stand.recorder_ca(), &desk.file("auditor.token"), &vkey).unwrap();
    let checked = fsck();
    assert_eq!((checked.code, checked.stdout.trim()), (Some(0), "verified"), "{}", checked.said());
    for (name, place) in [("log/tile/entries/000", 700), ("log/tile/0/000", 40)] {
        flip(&stand.data().join(name), place);
        let checked = fsck();
        assert_eq!(checked.code, Some(1), "{name}: {}", checked.said());
        flip(&stand.data().join(name), place);
    }
    assert_eq!(fsck().code, Some(0), "it is whole again");
    recorder.stop().await;
}
