//! What it costs that agents hold no key: the same calls through a sidecar that passes the agent's token, and through one that
//! replaces its placeholder by the cached credential. Both run from the beginning to the end, and are used by turns: a machine
//! that changes meanwhile favours neither.

use std::time::Duration;

use super::{HOST, PATIENCE, REQUEST, Stand, WARM_UP, figure};
use crate::bench::agents::{self, Load};
use crate::bench::bigquery;
use crate::bench::figure::{Figure, Reach};
use crate::bench::usage::Usage;
use crate::bench::wire::{Connection, Route};
use crate::google::Google;
use crate::identity::Pod;
use crate::programs::{Credential, PROVIDER, RecorderAt, Sidecar, Start};
use crate::trouble::{Doing as _, Result};

/// Odd, so that there is a middle one.
const TURNS: usize = 7;

/// In a turn each side is used for this long by all agents,
const BUSY: Duration = Duration::from_millis(1000);

/// and for this long by one alone.
const ALONE: Duration = Duration::from_millis(500);

/// A sidecar with its agents.
struct Side {
    sidecar: Sidecar,
    request: &'static [u8],
    agents: Vec<Connection>,
    /// The services that it gets its credential from.
    _google: Option<Google>,
}

/// One side's part of a turn.
struct Part {
    /// Milliseconds.
    p50: f64,
    /// Of an agent alone, in milliseconds.
    alone: f64,
    /// The sidecar's, for a call, in microseconds.
    cpu: f64,
}

struct Turn {
    passed: Part,
    swapped: Part,
}

/// Takes the figures, with a recorder that costs nothing.
///
/// # Errors
/// A sidecar does not run, or a call is not answered with 200.
pub(super) async fn figures(stand: &Stand<'_>, recorder: &RecorderAt) -> Result<Vec<Figure>> {
    let mut passing = passing(stand, recorder).await?;
    let mut swapping = swapping(stand, recorder).await?;
    let mut turns = Vec::new();
    for number in 0..TURNS {
        turns.push(turn(&mut passing, &mut swapping, number).await?);
    }
    let of = |each: fn(&Turn) -> f64| median(turns.iter().map(each).collect());
    let (passed, swapped) = (of(|turn| turn.passed.p50), of(|turn| turn.swapped.p50));
    let added = of(|turn| turn.swapped.p50 - turn.passed.p50);
    let added_alone = of(|turn| turn.swapped.alone - turn.passed.alone);
    // What differs by less than the same thing does from turn to turn can't be measured.
    let measurable = |each: fn(&Turn) -> f64| Reach::AtMost(spread(turns.iter().map(each).collect()));
    let cpu = figure("- agents without a key: proxy's CPU for a call", of(|turn| turn.swapped.cpu), "us");
    Ok(vec![
        figure("agents without a key, by turns with passthrough: p50", swapped, "ms")
            .against("passthrough", passed),
        figure("- p50 that the cached swap adds", added, "ms").reach(measurable(|turn| turn.passed.p50)),
        figure("- the same of an agent alone", added_alone, "ms").reach(measurable(|turn| turn.passed.alone)),
        cpu.against("passthrough", of(|turn| turn.passed.cpu)),
    ])
}

/// Every other turn begins with the other side.
async fn turn(passing: &mut Side, swapping: &mut Side, number: usize) -> Result<Turn> {
    if number.is_multiple_of(2) {
        let passed = passing.part().await?;
        Ok(Turn { passed, swapped: swapping.part().await? })
    } else {
        let swapped = swapping.part().await?;
        Ok(Turn { passed: passing.part().await?, swapped })
    }
}

async fn passing(stand: &Stand<'_>, recorder: &RecorderAt) -> Result<Side> {
    let sidecar = stand.passthrough("swap-none", recorder).await?;
    Side::open(sidecar, &REQUEST, None).await
}

async fn swapping(stand: &Stand<'_>, recorder: &RecorderAt) -> Result<Side> {
    let folder = stand.own("swap")?;
    let pod = Pod::of("agents", "billing");
    let google = Google::start(&stand.google).await?;
    google.set_up(PROVIDER, &stand.cluster, &pod);
    let start = Start {
        folder: &folder,
        pod: &pod,
        cluster: &stand.cluster,
        recorder,
        patience: PATIENCE,
        credential: Credential::Federated(&google),
        log_level: "info",
    };
    let sidecar = start.beside(&stand.cores.under(), (stand.upstream.address(), &stand.google)).await?;
    // Connections outlive this function's view of them; one request for each run of the bench is not much to keep.
    let request = bigquery::request(&sidecar.placeholder().await?).leak();
    Side::open(sidecar, request, Some(google)).await
}

impl Side {
    async fn open(sidecar: Sidecar, request: &'static [u8], google: Option<Google>) -> Result<Self> {
        let route = Route::new(sidecar.listen(), HOST, true, sidecar.bundle())?;
        let agents = agents::open(&route, super::CONNECTIONS, request).await?;
        let (agents, _) = agents::call(agents, WARM_UP, request).await?;
        Ok(Self { sidecar, request, agents, _google: google })
    }

    async fn part(&mut self) -> Result<Part> {
        let before = Usage::of(self.sidecar.id())?;
        let busy = self.call(super::CONNECTIONS, BUSY).await?;
        let spent = Usage::of(self.sidecar.id())?.cpu.saturating_sub(before.cpu);
        let alone = self.call(1, ALONE).await?;
        let cpu = spent.as_secs_f64() * 1e6 / busy.calls as f64;
        Ok(Part { p50: busy.took.millis(0.5), alone: alone.took.millis(0.5), cpu })
    }

    async fn call(&mut self, count: usize, time: Duration) -> Result<Load> {
        let calling = self.agents.split_off(self.agents.len() - count);
        let (back, load) = agents::call(calling, time, self.request).await?;
        self.agents.extend(back);
        Ok(load)
    }
}

impl Stand<'_> {
    /// A folder for a sidecar.
    pub(super) fn own(&self, name: &str) -> Result<std::path::PathBuf> {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).doing(format!("making {}", folder.display())).map(|()| folder)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Between the least and the most.
fn spread(values: Vec<f64>) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    values.into_iter().fold(least, f64::max) - least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_spread() {
        let values = vec![3.0, 1.0, 2.5];
        assert!((median(values.clone()) - 2.5).abs() < 1e-9 && (spread(values) - 2.0).abs() < 1e-9);
    }
}
