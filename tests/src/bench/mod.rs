//! `make bench`: what recorder, proxy and operator can do on this machine, beside what they are to reach.
//!
//! | module | is |
//! |---|---|
//! | [`recorder`], [`proxy`], [`evidence`], [`operator`] | the phases, one function each |
//! | [`writers`], [`statements`], [`watch`] | writers of entries; what they say; what is seen meanwhile |
//! | [`agents`], [`bigquery`] | who calls through a proxy, and who answers |
//! | [`stub`], [`haproxy`] | in the recorder's place, and in the proxy's |
//! | [`raw`] | the disk without us |
//! | [`wire`], [`serve`] | a client and a server that cost little |
//! | [`figure`], [`spread`], [`usage`], [`machine`], [`cores`] | numbers, and where they come from |

mod agents;
mod bigquery;
mod cores;
mod evidence;
mod figure;
mod haproxy;
mod machine;
mod operator;
mod proxy;
mod raw;
mod recorder;
mod serve;
mod spread;
mod statements;
mod stub;
mod usage;
mod watch;
mod wire;
mod writers;

use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit};
use tempfile::TempDir;

pub use self::figure::{Figure, Ratio, Reach, Report};
pub use self::machine::Machine;

use self::cores::Cores;
use crate::cluster::ControlPlane;
use crate::trouble::{Doing as _, Result, Trouble};

/// What to measure, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Only the figures of one part.
    pub only: Option<Part>,
    /// Entries of the log that is searched, exported and verified.
    pub entries: u64,
    /// How often all of it; the figures are then medians.
    pub runs: usize,
    /// Cores of the proxy, and of HAProxy in its place. The load runs on the others.
    pub cores: String,
    /// Where the data lies while it runs: on a disk.
    pub folder: PathBuf,
}

/// A part of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The recorder's.
    Recorder,
    /// The proxy's.
    Proxy,
    /// An auditor's: searches, exports, verification.
    Evidence,
    /// The webhook's, asked by a real API server.
    Operator,
}

/// Takes the figures. `tell` hears what is going on.
///
/// # Errors
/// Something does not run, or does not answer as it must: then there are no figures.
pub async fn run(settings: &Settings, tell: impl Fn(&str)) -> Result<Report> {
    if cfg!(debug_assertions) {
        return Err(Trouble::new("figures of a build without optimisation mean nothing: run `make bench`"));
    }
    let machine = Machine::here()?;
    let (all, proxys) = (Cores::all(machine.cores), Cores::these(&settings.cores));
    let loads = proxys.others(machine.cores)?;
    let setting = vec![
        format!("Recorder: it, its load and its disk share cores {all}."),
        format!("Proxy (or HAProxy): cores {proxys}. Agents, \"BigQuery\" and the recorder: cores {loads}."),
        format!("Operator: it, the API server, etcd and the load share cores {all}."),
        format!("Data below {}.", settings.folder.display()),
    ];
    let mut skipped = Vec::new();
    let wanted = |part| settings.only.is_none_or(|only| only == part);
    if wanted(Part::Proxy) && haproxy::find().is_none() {
        skipped.push("SKIPPED: HAProxy is not installed (tests/setup/bench.sh).".into());
    }
    let operators = wanted(Part::Operator) && ControlPlane::is_built();
    if wanted(Part::Operator) && !operators {
        skipped.push("SKIPPED: no Kubernetes control plane for the operator (make setup-cluster).".into());
    }
    allow_many_files()?;
    let mut runs = Vec::new();
    for number in 1..=settings.runs {
        let mut figures = Vec::new();
        if wanted(Part::Recorder) {
            tell(&format!("run {number} of {}: recorder, about 90 s", settings.runs));
            let folder = folder_in(&settings.folder)?;
            all.take_this_process()?;
            figures.extend(recorder::figures(folder.path(), &all).await?);
        }
        if wanted(Part::Proxy) {
            tell(&format!("run {number} of {}: proxy, about 60 s", settings.runs));
            let folder = folder_in(&settings.folder)?;
            loads.take_this_process()?;
            figures.extend(proxy::figures(folder.path(), &proxys, &loads).await?);
        }
        if wanted(Part::Evidence) {
            let (entries, needs) = (settings.entries, evidence::needs_mib(settings.entries));
            tell(&format!(
                "run {number} of {}: evidence, a log of {entries} entries; {needs} MiB below {} meanwhile",
                settings.runs,
                settings.folder.display()
            ));
            let folder = folder_in(&settings.folder)?;
            all.take_this_process()?;
            figures.extend(evidence::figures(folder.path(), entries).await?);
        }
        if operators {
            tell(&format!("run {number} of {}: operator, about 60 s", settings.runs));
            let folder = folder_in(&settings.folder)?;
            all.take_this_process()?;
            figures.extend(operator::figures(folder.path()).await?);
        }
        runs.push(figures);
    }
    Ok(Report { machine, setting, skipped, figures: figure::medians(runs) })
}

/// A thousand connections have a thousand files, here and in the proxy, which inherits the limit.
fn allow_many_files() -> Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(Resource::Nofile, raised).doing("raising the limit of open files")
}

/// A folder on a disk, which goes when it is dropped.
fn folder_in(place: &Path) -> Result<TempDir> {
    std::fs::create_dir_all(place).doing(format!("making {}", place.display()))?;
    machine::must_be_a_disk(place)?;
    TempDir::with_prefix_in("bench-", place).doing(format!("making a folder in {}", place.display()))
}
