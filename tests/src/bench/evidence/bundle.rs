//! An export of everything and its verification, by the programs as they ship.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::figure;
use crate::bench::figure::{Figure, Reach};
use crate::bench::usage::Usage;
use crate::ca::TestCa;
use crate::identity::{Cluster, Pod};
use crate::programs::{Auditor, Recorder, program};
use crate::trouble::{Doing as _, Result, Trouble};

/// How often a program's memory is looked at.
const LOOKS: Duration = Duration::from_millis(5);

/// What `bqwitness verify --output json` says.
#[derive(Deserialize)]
struct Said {
    verified: bool,
    tiles: u64,
    manifest: Manifest,
}

#[derive(Deserialize)]
struct Manifest {
    contents: Contents,
}

#[derive(Deserialize)]
struct Contents {
    entries: u64,
}

/// Exports the log in `folder/recorder`, and verifies the bundle. `hashed` is how many leaves a second a bare SHA-256 does.
pub(super) async fn figures(folder: &Path, hashed: f64) -> Result<Vec<Figure>> {
    let ca = TestCa::new(folder, "Test CA of the exported log")?;
    let (cluster, reader) = (Cluster::new("https://kubernetes.default.svc")?, Pod::of("audit", "auditor"));
    let recorder = Recorder::start(folder, &ca, &cluster, &reader).await?;
    let auditor = Auditor::new(folder, &reader, &cluster, &recorder)?;
    let (bundle, key) = (folder.join("all.bqw"), recorder.key());
    let (bundle_text, key_text) = (bundle.display().to_string(), key.display().to_string());
    let begun = Instant::now();
    let exported = auditor.bqwitness(&["export", "--key", &key_text, "-o", &bundle_text]).await?;
    let exporting = begun.elapsed();
    if !exported.success() {
        return Err(Trouble::new(format!("the export: {}", exported.said())));
    }
    recorder.stop().await?;
    let (said, verifying, peak) = verify(&bundle, &key).await?;
    std::fs::remove_file(&bundle).doing("removing the bundle")?;
    let entries = said.manifest.contents.entries as f64;
    let rate = |time: Duration| entries / time.as_secs_f64();
    Ok(vec![
        figure("export of everything", rate(exporting), "/s").against("SHA-256", hashed),
        figure("verify", rate(verifying), "/s").against("SHA-256", hashed),
        figure("- node hashes beside each leaf hash", said.tiles as f64 * 255.0 / entries, ""),
        figure("- memory at most", peak, "MiB").reach(Reach::AtMost(128.0)),
    ])
}

/// Verifies in a process of its own: what it says, how long it took, and the most memory that it held.
async fn verify(bundle: &Path, key: &Path) -> Result<(Said, Duration, f64)> {
    let mut command = tokio::process::Command::new(program("bqwitness")?);
    command.args(["--output", "json", "verify"]).arg(bundle).arg("--key").arg(key);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let begun = Instant::now();
    let child = command.spawn().doing("starting bqwitness verify")?;
    let id = child.id().ok_or_else(|| Trouble::new("bqwitness verify has ended at once"))?;
    let mut ending = Box::pin(child.wait_with_output());
    let mut peak: f64 = 0.0;
    let output = loop {
        tokio::select! {
            output = &mut ending => break output.doing("waiting for bqwitness verify")?,
            () = tokio::time::sleep(LOOKS) => {
                peak = peak.max(Usage::of(id).map_or(0.0, |usage| usage.peak));
            }
        }
    };
    let said: Said = serde_json::from_slice(&output.stdout).doing("reading what bqwitness verify says")?;
    if !said.verified {
        return Err(Trouble::new("the bundle that was exported does not verify"));
    }
    Ok((said, begun.elapsed(), peak))
}
