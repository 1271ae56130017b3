//! A running recorder's log, fetched over TLS and checked by Go's `golang.org/x/mod/sumdb`: no file of it is looked at.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bqwitness_tests::agent::Finished;
use bqwitness_tests::ca::TestCa;
use bqwitness_tests::foreign::Foreign;
use bqwitness_tests::heartbeats::record;
use bqwitness_tests::identity::{Cluster, Pod};
use bqwitness_tests::programs::{AUDIENCE, Recorder};
use ledger::checkpoint::Checkpoint;
use ledger::note::VerifierKey;
use tempfile::TempDir;

/// Enough for a full tile and bundle, and a second level.
const STATEMENTS: u64 = 300;

struct Stand {
    folder: TempDir,
    ca: TestCa,
    cluster: Cluster,
    recorder: Recorder,
}

impl Stand {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = TestCa::new(folder.path(), "Test CA of the served log").unwrap();
        let cluster = Cluster::new("https://kubernetes.default.svc.cluster.local").unwrap();
        let recorder =
            Recorder::start(folder.path(), &ca, &cluster, &Pod::of("audit", "auditor")).await.unwrap();
        Self { folder, ca, cluster, recorder }
    }

    fn token(&self, pod: &Pod) -> PathBuf {
        let path = self.folder.path().join(&pod.name);
        self.cluster.write_token(pod, AUDIENCE, &path).unwrap();
        path
    }

    fn vkey(&self) -> String {
        fs::read_to_string(self.recorder.key()).unwrap()
    }

    fn log(&self) -> PathBuf {
        self.recorder.data().join("log")
    }

    /// Records a session, and waits for a checkpoint over it.
    async fn record(&self) {
        let token = self.token(&Pod::of("agents", "billing"));
        record(&self.recorder, &token, STATEMENTS).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.published() < STATEMENTS {
            assert!(Instant::now() < deadline, "no checkpoint over what was recorded");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn published(&self) -> u64 {
        let note = fs::read(self.log().join("checkpoint")).unwrap();
        Checkpoint::verify(&note, &self.vkey().trim().parse::<VerifierKey>().unwrap()).unwrap().size
    }

    /// What `check` says while a byte of this file is another; of a folder, of the edge that is in it. When a look takes so long that the
    /// log says in between that somebody looked, the edge is another file, and it is looked at again.
    fn refused_with_a_flipped_byte(&self, name: &str, check: impl Fn() -> Finished) -> Finished {
        loop {
            let size = self.published();
            let mut path = self.log().join(name);
            if path.is_dir() {
                path = path.join((size % 256).to_string());
            }
            let said = with_a_flipped_byte(&path, &check);
            if self.published() == size {
                return said;
            }
        }
    }
}

/// Flips one byte of a file in place while `check` runs.
fn with_a_flipped_byte<T>(path: &Path, check: impl FnOnce() -> T) -> T {
    let whole = fs::read(path).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    fs::write(path, changed).unwrap();
    let said = check();
    fs::write(path, whole).unwrap();
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn go_checks_a_log_over_https() {
    let Some(go) = Foreign::find().unwrap() else { return };
    let stand = Stand::new().await;
    stand.record().await;
    let url = format!("{}/log", stand.recorder.url());
    let reader = stand.token(&Pod::of("audit", "auditor"));
    let check = || go.served(&url, &stand.vkey(), &stand.ca.path(), &reader).unwrap();

    let size = stand.published();
    let whole = check();
    assert!(whole.success(), "{}", whole.said());
    assert!(whole.stdout.starts_with(&format!("verified {size} entries, root ")), "{}", whole.stdout);
    // That it was read is an entry of its own; further looks within a minute belong to it.
    let begun = std::time::Instant::now();
    while stand.published() == size {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "no entry says that the log was read");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    for (name, named) in
        [("tile/0/000", "tile/0/000"), ("tile/entries/000", "entry 1"), ("tile/0/001.p", "tile/1/000.p/1")]
    {
        let refused = stand.refused_with_a_flipped_byte(name, check);
        assert_eq!(refused.code, Some(1), "{name}: {}", refused.said());
        assert!(refused.stderr.starts_with("NOT VERIFIED: "), "{name}: {}", refused.said());
        assert!(refused.stderr.contains(named), "{name}: {}", refused.said());
    }
    assert!(check().success(), "all is as before");

    let agent = stand.token(&Pod::of("agents", "billing"));
    let unread = go.served(&url, &stand.vkey(), &stand.ca.path(), &agent).unwrap();
    assert_eq!(unread.code, Some(2), "an agent may not read entries: {}", unread.said());
    assert!(unread.stderr.contains("tile/entries/") && unread.stderr.contains("403"), "{}", unread.said());
    let key = "example.com/other+00000000+AAAA";
    assert_eq!(go.served(&url, key, &stand.ca.path(), &reader).unwrap().code, Some(2), "no key");
    stand.recorder.stop().await.unwrap();
}
