//! A disk that is really full: a small tmpfs, which only root can mount.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bqwitness_recorder::store::files::LocalFiles;
use common::{Acknowledged, Client, Site, Speaker, skipped, verify};
use ledger::batch::Batch;
use ledger::call::Access;

const DISK: &str = "size=8m";

/// A file system of a few MiB. It is there until this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(at).output();
        let output = mount.map_err(|error| format!("no mount: {error}"))?;
        if output.status.success() {
            return Ok(Self(at.into()));
        }
        Err(format!("a tmpfs can't be mounted: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Takes what is left, to the last page.
    fn fill(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status().is_ok();
    }
}

/// Records calls with long statements until one is not acknowledged, which it returns.
async fn record_until_full(client: &Client, speaker: &mut Speaker, acknowledged: &mut Acknowledged) -> Batch {
    let token = speaker.token.clone();
    loop {
        let sql = format!("SELECT '{}'", "x".repeat(60_000));
        let batch = speaker.intent(&sql, "SELECT", "a.b", Access::Read);
        match client.https.send(client.batch_request(&token, batch.encode())).await {
            Ok(answer) if answer.status() == 200 => {
                let (entries, _) = client.check(&batch, answer.body());
                acknowledged.extend(entries.into_iter().zip(batch.statements));
            }
            Ok(answer) => {
                assert_eq!(common::refusal(&answer), (503, "stopping".into()));
                return batch;
            }
            Err(_gone) => return batch,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_recorder_and_loses_nothing() {
    let site = Site::new();
    let disk = match SmallDisk::mount(&site.data()) {
        Ok(disk) => disk,
        Err(why) => return skipped(&why),
    };
    std::fs::write(disk.0.join("ballast"), vec![0; 4 << 20]).unwrap();
    let recorder = site.start().await;
    let mut speaker = site.speaker("agents", "billing");
    let start = speaker.start(300);
    let (entries, _) = recorder.client.record(&speaker.token.clone(), &start).await;
    let mut acknowledged: Acknowledged = entries.into_iter().zip(start.statements).collect();
    let client = recorder.client.clone();
    let refused = record_until_full(&client, &mut speaker, &mut acknowledged).await;
    assert!(acknowledged.len() > 10, "{} are too few to fill a disk", acknowledged.len());

    // It stops and says why.
    let ended = tokio::time::timeout(Duration::from_secs(30), recorder.ended()).await.unwrap();
    let error = ended.expect_err("a full disk ends it");
    assert_eq!(error.category(), "storage_full", "{error}");
    assert!(error.to_string().contains("Make room on the volume"), "{error}");

    // While the disk is full it does not start, and says the same; nothing gets worse by trying.
    let filler = disk.fill("filler");
    for _ in 0..3 {
        let error = site.try_start().await.err().expect("there is no room");
        assert_eq!(error.category(), "storage_full", "{error}");
    }

    // With room it goes on where it was; what was not acknowledged is delivered again.
    std::fs::remove_file(filler).unwrap();
    std::fs::remove_file(disk.0.join("ballast")).unwrap();
    let recorder = site.start().await;
    let (entries, _) = recorder.client.record(&speaker.token.clone(), &refused).await;
    acknowledged.extend(entries.into_iter().zip(refused.statements));
    recorder.stop().await;
    verify(Arc::new(LocalFiles::open(&site.data()).unwrap()), &acknowledged);
}
