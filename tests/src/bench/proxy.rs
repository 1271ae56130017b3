//! The proxy's figures: calls of agents directly, through HAProxy, through the proxy with a recorder that costs nothing, and
//! through the proxy with the real one. The one in the middle has cores of its own; "BigQuery", agents and recorder
//! have the others.

mod swap;

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use super::agents::{self, Load};
use super::bigquery::{self, HOST};
use super::cores::Cores;
use super::figure::{Figure, Reach};
use super::haproxy::{self, HaProxy};
use super::serve::Server;
use super::stub;
use super::usage::Usage;
use super::wire::Route;
use crate::ca::TestCa;
use crate::identity::{Cluster, Pod};
use crate::programs::{Recorder, RecorderAt, Sidecar};
use crate::trouble::{Doing as _, Result};

const PART: &str = "proxy";

/// Connections that call without a pause.
const CONNECTIONS: usize = 8;

/// Connections whose memory is asked for.
const MANY: usize = 1000;

/// Before it is measured, each way is used for this long,
const WARM_UP: Duration = Duration::from_secs(1);

/// and then for this long.
const MEASURED: Duration = Duration::from_secs(5);

/// One agent calls alone for this long: what most pods have.
const ALONE: Duration = Duration::from_secs(2);

/// The sidecar may wait for its recorder.
const PATIENCE: Duration = Duration::from_secs(10);

static REQUEST: LazyLock<Vec<u8>> = LazyLock::new(|| bigquery::request("agents-placeholder-token"));

/// The names of one way's figures.
struct Names {
    rate: &'static str,
    p50: &'static str,
    p99: &'static str,
    p50_added: &'static str,
    p99_added: &'static str,
    alone: &'static str,
    cpu: &'static str,
    share: &'static str,
    idle: &'static str,
    many: &'static str,
    after: &'static str,
}

/// What all ways share.
struct Stand<'a> {
    folder: &'a Path,
    cores: &'a Cores,
    load_cores: &'a Cores,
    google: TestCa,
    upstream: Server,
    cluster: Cluster,
    ca: TestCa,
}

/// What one way came to.
struct Way {
    load: Load,
    /// Of one agent alone.
    alone: Load,
    /// CPU of the one in the middle, over the load.
    cpu: Duration,
    /// Before the first connection.
    idle: Usage,
    /// After the load.
    after: Usage,
    /// With many connections open.
    many: Usage,
}

/// Takes all of the proxy's figures, with files in `folder`. The proxy runs on `cores`, the rest on `load_cores`, where this
/// process must be already.
///
/// # Errors
/// Something does not run, or a call is not answered with 200.
pub(crate) async fn figures(folder: &Path, cores: &Cores, load_cores: &Cores) -> Result<Vec<Figure>> {
    let own = |name: &str| {
        let path = folder.join(name);
        std::fs::create_dir(&path).doing(format!("making {}", path.display())).map(|()| path)
    };
    let google = TestCa::new(&own("google")?, "Test CA in Google's place")?;
    let upstream = bigquery::start(&google).await?;
    let cluster = Cluster::new("https://kubernetes.default.svc.cluster.local")?;
    let ca = TestCa::new(&own("recorder-ca")?, "Test CA of the recorder")?;
    let stand = Stand { folder, cores, load_cores, google, upstream, cluster, ca };
    let (mut figures, direct) = direct(&stand).await?;
    let (through_haproxy, haproxy) = through_haproxy(&stand, &direct).await?;
    figures.extend(through_haproxy);
    let bases = Bases { direct, haproxy };
    figures.extend(with_stub(&stand, &bases).await?);
    figures.extend(with_recorder(&stand, &bases).await?);
    Ok(figures)
}

/// What the proxy's figures are compared with.
struct Bases {
    direct: Load,
    /// CPU of HAProxy for a call, in microseconds; none where it is not installed.
    haproxy: Option<f64>,
}

async fn direct(stand: &Stand<'_>) -> Result<(Vec<Figure>, Load)> {
    let route = Route::new(stand.upstream.address(), HOST, false, &stand.google.path())?;
    let connections = agents::open(&route, CONNECTIONS, &REQUEST).await?;
    let (connections, _) = agents::call(connections, WARM_UP, &REQUEST).await?;
    let (mut connections, load) = agents::call(connections, MEASURED, &REQUEST).await?;
    connections.truncate(1);
    let (_, alone) = agents::call(connections, ALONE, &REQUEST).await?;
    let figures = vec![
        figure("calls, direct (agents and BigQuery on the load's cores)", load.rate(), "/s"),
        figure("- direct: p50", load.took.millis(0.5), "ms"),
        figure("- direct: p99", load.took.millis(0.99), "ms"),
        figure("- direct: p50 of an agent alone", alone.took.millis(0.5), "ms"),
    ];
    Ok((figures, load))
}

async fn through_haproxy(stand: &Stand<'_>, direct: &Load) -> Result<(Vec<Figure>, Option<f64>)> {
    let Some(program) = haproxy::find() else { return Ok((Vec::new(), None)) };
    let (upstream, ca) = (stand.upstream.address(), &stand.google);
    let running = HaProxy::start(&program, stand.cores, stand.folder, ca, upstream).await?;
    let route = Route::new(running.address(), HOST, false, &stand.google.path())?;
    let way = measure(running.id(), &route, &REQUEST).await?;
    let names = Names {
        rate: "calls, HAProxy (TLS on both sides, no recording)",
        p50: "- HAProxy: p50",
        p99: "- HAProxy: p99",
        p50_added: "- HAProxy: p50 added to direct",
        p99_added: "- HAProxy: p99 added to direct",
        alone: "- HAProxy: p50 of an agent alone",
        cpu: "- HAProxy: CPU for a call",
        share: "- HAProxy: its cores' time that it used",
        idle: "- HAProxy: resident memory idle",
        many: "- HAProxy: with 1,000 connections",
        after: "- HAProxy: after the load",
    };
    Ok((way.figures(&names, direct, stand.cores)?.into(), Some(way.cpu_of_a_call())))
}

async fn with_stub(stand: &Stand<'_>, bases: &Bases) -> Result<Vec<Figure>> {
    let (_serving, recorder, taken) = stub::start(stand.folder, &stand.ca).await?;
    let way = stand.through_proxy("stub", &recorder).await?;
    let grouped = figure("- statements in a batch, those of an agent alone included", taken.grouped(), "");
    let swap = swap::figures(stand, &recorder).await?;
    let names = Names {
        rate: "calls, proxy with an instant recorder",
        p50: "- instant recorder: p50",
        p99: "- instant recorder: p99",
        p50_added: "- instant recorder: p50 added to direct",
        p99_added: "- instant recorder: p99 added to direct",
        alone: "- instant recorder: p50 of an agent alone",
        cpu: "- instant recorder: proxy's CPU for a call",
        share: "- instant recorder: its cores' time that it used",
        idle: "- proxy: resident memory idle",
        many: "- proxy: with 1,000 connections",
        after: "- proxy: after the load",
    };
    let [rate, p50, p99, p50_added, p99_added, alone, cpu, share, idle, after, many] =
        way.figures(&names, &bases.direct, stand.cores)?;
    let per_core = figure("calls for a second of the proxy's CPU", 1e6 / cpu.value, "/s");
    let cpu = against_haproxy(cpu, bases);
    let least = 6000.0 * stand.cores.count()? as f64;
    let (rate, idle) = (rate.reach(Reach::AtLeast(least)), idle.reach(Reach::AtMost(30.0)));
    let mut figures =
        vec![rate, per_core, grouped, p50, p99, p50_added, p99_added, alone, cpu, share, idle, after, many];
    figures.extend(swap);
    Ok(figures)
}

async fn with_recorder(stand: &Stand<'_>, bases: &Bases) -> Result<Vec<Figure>> {
    let reader = Pod::of("audit", "auditor");
    let under = stand.load_cores.under();
    let recorder = Recorder::start_under(&under, stand.folder, &stand.ca, &stand.cluster, &reader).await?;
    let before = Usage::of(recorder.id())?;
    let way = stand.through_proxy("recorded", &recorder.place()).await?;
    let spent = Usage::of(recorder.id())?.cpu.saturating_sub(before.cpu);
    recorder.stop().await?;
    let names = Names {
        rate: "calls, proxy with durable recording",
        p50: "- durable: p50",
        p99: "- durable: p99",
        p50_added: "- durable: p50 added to direct",
        p99_added: "- durable: p99 added to direct",
        alone: "- durable: p50 of an agent alone",
        cpu: "- durable: proxy's CPU for a call",
        share: "- durable: its cores' time that it used",
        idle: "- durable: proxy's memory idle",
        many: "- durable: with 1,000 connections",
        after: "- durable: after the load",
    };
    let [rate, p50, p99, p50_added, p99_added, alone, cpu, share, _idle, after, many] =
        way.figures(&names, &bases.direct, stand.cores)?;
    let cpu = against_haproxy(cpu, bases);
    let share_of_recorder = spent.as_secs_f64() / (WARM_UP + MEASURED + ALONE).as_secs_f64();
    let recorder_share =
        figure("- durable: a core's time that the recorder used", share_of_recorder * 100.0, "%");
    Ok(vec![rate, p50, p99, p50_added, p99_added, alone, cpu, share, recorder_share, after, many])
}

impl Stand<'_> {
    async fn passthrough(&self, name: &str, recorder: &RecorderAt) -> Result<Sidecar> {
        let (folder, pod) = (self.own(name)?, Pod::of("agents", "billing"));
        let upstream = (self.upstream.address(), &self.google);
        let under = self.cores.under();
        Sidecar::start_under(&under, &folder, &pod, &self.cluster, recorder, upstream, PATIENCE).await
    }

    async fn through_proxy(&self, name: &str, recorder: &RecorderAt) -> Result<Way> {
        let sidecar = self.passthrough(name, recorder).await?;
        let route = Route::new(sidecar.listen(), HOST, true, sidecar.bundle())?;
        measure(sidecar.id(), &route, &REQUEST).await
    }
}

async fn measure(id: u32, route: &Route, request: &'static [u8]) -> Result<Way> {
    let idle = Usage::of(id)?;
    let connections = agents::open(route, CONNECTIONS, request).await?;
    let (connections, _) = agents::call(connections, WARM_UP, request).await?;
    let before = Usage::of(id)?;
    let (mut connections, load) = agents::call(connections, MEASURED, request).await?;
    let after = Usage::of(id)?;
    let only = connections.split_off(CONNECTIONS - 1);
    let (_kept, alone) = agents::call(only, ALONE, request).await?;
    let _open = agents::open(route, MANY - CONNECTIONS, request).await?;
    let many = Usage::of(id)?;
    drop(connections); // they counted among the many
    Ok(Way { load, alone, cpu: after.cpu.saturating_sub(before.cpu), idle, after, many })
}

impl Way {
    /// In microseconds.
    fn cpu_of_a_call(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.load.calls as f64
    }

    fn figures(&self, names: &Names, direct: &Load, cores: &Cores) -> Result<[Figure; 11]> {
        let Self { load, alone, cpu, idle, after, many } = self;
        let share = cpu.as_secs_f64() / load.time.as_secs_f64() / cores.count()? as f64;
        let added = |part| load.took.millis(part) - direct.took.millis(part);
        Ok([
            figure(names.rate, load.rate(), "/s").against("direct", direct.rate()),
            figure(names.p50, load.took.millis(0.5), "ms"),
            figure(names.p99, load.took.millis(0.99), "ms"),
            figure(names.p50_added, added(0.5), "ms"),
            figure(names.p99_added, added(0.99), "ms"),
            figure(names.alone, alone.took.millis(0.5), "ms"),
            figure(names.cpu, self.cpu_of_a_call(), "us"),
            figure(names.share, share * 100.0, "%"),
            figure(names.idle, idle.resident, "MiB"),
            figure(names.after, after.resident, "MiB"),
            figure(names.many, many.resident, "MiB"),
        ])
    }
}

fn against_haproxy(cpu: Figure, bases: &Bases) -> Figure {
    match bases.haproxy {
        Some(base) => cpu.against("HAProxy", base),
        None => cpu,
    }
}

fn figure(name: &'static str, value: f64, unit: &'static str) -> Figure {
    Figure::new(PART, name, value, unit)
}
