//! The recorder's figures: how many entries, how soon in a checkpoint, in how much memory, and what the index costs. Each
//! phase has a recorder of its own with an empty log, so that none pays for what another left to be indexed.

mod index;

use std::path::Path;
use std::time::Duration;

use super::cores::Cores;
use super::figure::{Figure, Reach};
use super::raw;
use super::spread::Spread;
use super::statements::Content;
use super::usage::Usage;
use super::watch;
use super::wire::Route;
use super::writers::{Plan, Writers, Written};
use crate::ca::TestCa;
use crate::identity::{Cluster, Pod};
use crate::programs::Recorder;
use crate::trouble::{Doing as _, Result, Trouble};

const PART: &str = "recorder";

/// How long writers write as fast as they can.
const AT_FULL_SPEED: Duration = Duration::from_secs(6);

/// How often the checkpoint is looked at: as exact as its lag is known.
const CHECKPOINT_LOOKS: Duration = Duration::from_millis(5);

/// An idle recorder is one that had nothing to do for this long.
const IDLE: Duration = Duration::from_secs(2);

/// What all phases share.
struct Stand<'a> {
    folder: &'a Path,
    cores: &'a Cores,
    cluster: Cluster,
    ca: TestCa,
}

/// What a phase leaves.
struct Phase {
    written: Written,
    before: Usage,
    after: Usage,
}

/// Takes all of the recorder's figures, with files in `folder` and the recorder on `cores`.
///
/// # Errors
/// Something does not run, or a batch is not acknowledged as it must be.
pub(crate) async fn figures(folder: &Path, cores: &Cores) -> Result<Vec<Figure>> {
    let cluster = Cluster::new("https://kubernetes.default.svc.cluster.local")?;
    let stand = Stand { folder, cores, cluster, ca: TestCa::new(folder, "Test CA of the recorder")? };
    let mut figures = single_entries(&stand).await?;
    figures.extend(batches_of_64(&stand).await?);
    figures.extend(index::figures(&stand).await?);
    Ok(figures)
}

/// 64 writers of single entries.
async fn single_entries(stand: &Stand<'_>) -> Result<Vec<Figure>> {
    let raw = raw::appends(stand.folder, 1)?;
    let plan = Plan {
        writers: 64,
        batch: 1,
        content: Content::Calls,
        time: AT_FULL_SPEED,
        most: 128_000,
        pace: None,
    };
    let running = stand.recorder("single").await?;
    let route = stand.route(&running)?;
    let writers = stand.writers(&running, plan).await?;
    let checkpoints = watch::checkpoints(&route, CHECKPOINT_LOOKS).await?;
    let phase = stand.write_only(&running, writers).await?;
    let idle = stand.idle(&running).await?;
    let seen = checkpoints.seen().await?;
    running.stop().await?;

    let (lags, uncovered) = watch::covered_after(&phase.written.acks, &seen);
    if uncovered > 0 {
        return Err(Trouble::new(format!(
            "{uncovered} acknowledged batches are in no checkpoint {IDLE:?} later"
        )));
    }
    let (lags, took) = (Spread::of(lags), Spread::of(phase.times()));
    Ok(vec![
        figure("raw append + fdatasync of 1 KiB", raw, "/s"),
        figure("acknowledgements, 64 writers, batches of 1", phase.written.rate(), "/s")
            .against("raw", raw)
            .reach(Reach::AtLeast(10_000.0)),
        figure("- time of one, p50", took.millis(0.5), "ms"),
        figure("- time of one, p99", took.millis(0.99), "ms"),
        figure("- recorder's CPU for 1,000 entries", phase.cpu_per_thousand(), "s"),
        figure("- from acknowledgement to checkpoint, p50", lags.millis(0.5), "ms"),
        figure("- from acknowledgement to checkpoint, p99", lags.millis(0.99), "ms"),
        figure("- from acknowledgement to checkpoint, longest", lags.millis(1.0), "ms")
            .reach(Reach::AtMost(1000.0)),
        figure("resident memory before, idle", phase.before.resident, "MiB"),
        figure("- batches of 1: most", phase.after.peak, "MiB").reach(Reach::AtMost(64.0)),
        figure("- batches of 1: idle after", idle.resident, "MiB").reach(Reach::AtMost(64.0)),
    ])
}

/// 8 writers of batches.
async fn batches_of_64(stand: &Stand<'_>) -> Result<Vec<Figure>> {
    let raw = raw::appends(stand.folder, 64)?;
    let plan = Plan {
        writers: 8,
        batch: 64,
        content: Content::Calls,
        time: AT_FULL_SPEED,
        most: 400_000,
        pace: None,
    };
    let running = stand.recorder("batches").await?;
    let writers = stand.writers(&running, plan).await?;
    let phase = stand.write_only(&running, writers).await?;
    let idle = stand.idle(&running).await?;
    running.stop().await?;
    let took = Spread::of(phase.times());
    Ok(vec![
        figure("raw append + fdatasync of 64 KiB, as entries", raw, "/s"),
        figure("entries, 8 writers, batches of 64", phase.written.rate(), "/s")
            .against("raw", raw)
            .reach(Reach::AtLeast(40_000.0)),
        figure("- time of one batch, p50", took.millis(0.5), "ms"),
        figure("- time of one batch, p99", took.millis(0.99), "ms"),
        figure("- recorder's CPU for 1,000 entries in batches", phase.cpu_per_thousand(), "s"),
        figure("- batches of 64: most memory", phase.after.peak, "MiB").reach(Reach::AtMost(64.0)),
        figure("- batches of 64: idle memory after", idle.resident, "MiB").reach(Reach::AtMost(64.0)),
    ])
}

impl Stand<'_> {
    async fn recorder(&self, phase: &str) -> Result<Recorder> {
        let folder = self.folder.join(phase);
        std::fs::create_dir(&folder).doing(format!("making {}", folder.display()))?;
        let reader = Pod::of("audit", "auditor");
        Recorder::start_under(&self.cores.under(), &folder, &self.ca, &self.cluster, &reader).await
    }

    fn route(&self, running: &Recorder) -> Result<Route> {
        Route::new(running.ports().listen, "127.0.0.1", false, &self.ca.path())
    }

    async fn writers(&self, running: &Recorder, plan: Plan) -> Result<Writers> {
        Writers::prepare(plan, &self.cluster, &self.route(running)?, key(running)?).await
    }

    async fn idle(&self, running: &Recorder) -> Result<Usage> {
        tokio::time::sleep(IDLE).await;
        Usage::of(running.id())
    }

    async fn write_only(&self, running: &Recorder, writers: Writers) -> Result<Phase> {
        let before = Usage::of(running.id())?;
        let written = writers.write().await?;
        let after = Usage::of(running.id())?;
        Ok(Phase { written, before, after })
    }
}

impl Phase {
    fn times(&self) -> impl Iterator<Item = Duration> {
        self.written.acks.iter().map(|ack| ack.took)
    }

    fn cpu_per_thousand(&self) -> f64 {
        let cpu = self.after.cpu.saturating_sub(self.before.cpu).as_secs_f64();
        cpu * 1000.0 / self.written.entries as f64
    }
}

fn key(running: &Recorder) -> Result<ledger::note::VerifierKey> {
    let path = running.key();
    let text = std::fs::read_to_string(&path).doing(format!("reading {}", path.display()))?;
    text.parse().doing(format!("reading the key in {}", path.display()))
}

fn figure(name: &'static str, value: f64, unit: &'static str) -> Figure {
    Figure::new(PART, name, value, unit)
}
