//! Promise 4, between sidecar and recorder: a recorder that goes back to an older log is found out, and not used any more.

use std::path::Path;
use std::time::Duration;

use deliver::{Deliver, DeliverSettings, Draft, PinnedKeys, ProgressSettings, RecorderSettings, Way};
use ledger::call::{CallResult, Intent, Outcome};
use ledger::statement::{Claimed, Connection, Observed, SessionStart};
use prometheus::Registry;

use crate::stand::{Recorder, Stand};

/// Between two looks at the log.
const FOLLOW_EVERY: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_that_rolls_back_ends_the_session() {
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let address = recorder.address.to_string();
    let (deliver, delivery) = Deliver::start(settings(&stand, &recorder), &Registry::new()).unwrap();
    call(&deliver).await.unwrap();

    // A backup, as an operator with the best intentions would take it.
    recorder.stop().await;
    let backup = stand.path("backup");
    copy(&stand.data(), &backup);
    let recorder = stand.recorder(&stand.data(), &address).await;
    for _ in 0..5 {
        call(&deliver).await.unwrap();
    }
    // All of it is published, and looked at after that.
    let entries = || bqwitness_tests::log::read(&stand.data()).map_or(0, |entries| entries.len());
    let published = async {
        while entries() < 2 + 2 * 6 {
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), published).await.expect("it is published");
    tokio::time::sleep(10 * FOLLOW_EVERY).await;
    recorder.stop().await;

    let recorder = stand.recorder(&backup, &address).await;
    let over = tokio::time::timeout(Duration::from_secs(60), delivery.over())
        .await
        .expect("the rollback is noticed");
    assert_eq!(over.category(), "log_broken", "{over}");
    assert_eq!(call(&deliver).await.unwrap_err().category(), "log_broken");
    recorder.stop().await;
}

fn settings(stand: &Stand, recorder: &Recorder) -> DeliverSettings {
    DeliverSettings {
        recorder: RecorderSettings {
            url: format!("https://{}", recorder.address).parse().unwrap(),
            way: Way::new(stand.recorder_ca()).unwrap(),
            keys: PinnedKeys::read(&stand.data().join("log.vkey")).unwrap(),
            token_file: stand.path("token"),
        },
        connection: Some(Connection {
            namespace: "agents".into(),
            name: "warehouse".into(),
            uid: String::new(),
            generation: 0,
            spec_digest: None,
        }),
        progress: ProgressSettings::default(),
        deliver_timeout: Duration::from_secs(30),
        follow_every: FOLLOW_EVERY,
        start: SessionStart { version: "test".into(), ..SessionStart::default() },
    }
}

async fn call(deliver: &Deliver) -> Result<(), deliver::NotRecorded> {
    let intent = Intent { method: "jobs.query".into(), ..Intent::default() };
    let draft =
        Draft { observed: Observed::default(), claimed: Claimed::default(), blobs: Vec::new(), intent };
    let open = deliver.intent(draft).await?;
    let outcome = Outcome {
        call: 0,
        result: CallResult::Answered,
        forwarded: true,
        status: Some(200),
        duration_micros: 0,
        ..Outcome::default()
    };
    open.finish(outcome, Vec::new());
    Ok(())
}

/// A copy of a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
