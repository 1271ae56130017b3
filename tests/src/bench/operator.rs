//! What recorded pods cost whoever creates them: a real API server, which asks the operator about pods of two connections, one in
//! each mode, and about those of another namespace nobody. All by turns, so that what the machine does meanwhile meets all.
//!
//! The promise (p99 of the mutating webhook below 10 ms) is asked of the webhook as its client sees it: all that the operator does,
//! and TLS. The same calls as the API server measures them hold what that does besides, most of it (it writes the pod as JSON, reads
//! the patch, applies it and reads the pod again), on the same cores: shown beside it,
//! between two bounds of its histogram.
//! How much longer a creation takes has nothing to reach: it is a difference of two p99, which differs from run to run by more than
//! it is, and holds the validating webhook and a larger pod as well.

mod asked;
mod creations;
mod histogram;
mod stand;

use std::path::Path;
use std::time::Duration;

use self::creations::Pods;
use self::stand::{Counted, Stand};
use super::figure::{Figure, Reach};
use super::spread::Spread;
use crate::cluster::ControlPlane;
use crate::trouble::{Result, Trouble};

const PART: &str = "operator";

/// The webhook's p99 is to be at most this, in milliseconds.
const MOST_MILLIS: f64 = 10.0;

/// How many pods.
#[derive(Clone, Copy, Debug)]
struct Amount {
    /// Created before anything is measured, of each kind.
    warm_up: usize,
    /// Each kind has its turn this often.
    turns: usize,
    /// In one turn, one after the other.
    singly: usize,
    /// In one turn, [`AT_ONCE`] at a time.
    together: usize,
}

const AMOUNT: Amount = Amount { warm_up: 100, turns: 5, singly: 100, together: 160 };

/// As a Deployment's controller creates many.
const AT_ONCE: usize = 8;

/// The names of one mode's figures under one load: p50 and p99 of each.
struct Names {
    created: [&'static str; 2],
    longer: [&'static str; 2],
    asked: [&'static str; 2],
    call: [&'static str; 2],
    answer: [&'static str; 2],
    calls: &'static str,
}

macro_rules! names {
    ($what:literal) => {
        Names {
            created: [concat!($what, ": creation, p50"), concat!($what, ": creation, p99")],
            longer: [concat!($what, ": - longer by, p50"), concat!($what, ": - longer by, p99")],
            asked: [concat!($what, ": webhook, p50"), concat!($what, ": webhook, p99")],
            call: [
                concat!($what, ": - as the API server measures it, p50"),
                concat!($what, ": - as the API server measures it, p99"),
            ],
            answer: [concat!($what, ": - the operator's, p50"), concat!($what, ": - the operator's, p99")],
            calls: concat!($what, ": calls for a pod"),
        }
    };
}

/// The load, and the names for it.
struct Load {
    at_once: usize,
    plain: [&'static str; 2],
    redirect: Names,
    aliases: Names,
}

const SINGLY: Load = Load {
    at_once: 1,
    plain: ["not recorded, singly: creation, p50", "not recorded, singly: creation, p99"],
    redirect: names!("Redirect, singly"),
    aliases: names!("Aliases, singly"),
};

const TOGETHER: Load = Load {
    at_once: AT_ONCE,
    plain: ["not recorded, 8 at a time: creation, p50", "not recorded, 8 at a time: creation, p99"],
    redirect: names!("Redirect, 8 at a time"),
    aliases: names!("Aliases, 8 at a time"),
};

/// What pods of one kind took.
#[derive(Default)]
struct Taken {
    times: Vec<Duration>,
    asked: Vec<Duration>,
    counted: Counted,
}

/// Takes these figures, with files in `folder`.
///
/// # Errors
/// Something does not run, or a pod is not injected as it must be.
pub(crate) async fn figures(folder: &Path) -> Result<Vec<Figure>> {
    let plane = ControlPlane::start().await?;
    let plane = plane.ok_or_else(|| Trouble::new("no control plane (make setup-cluster)"))?;
    of(&plane, folder, AMOUNT).await
}

async fn of(plane: &ControlPlane, folder: &Path, amount: Amount) -> Result<Vec<Figure>> {
    let stand = Stand::start(plane, folder).await?;
    for pods in [&stand.plain, &stand.redirect, &stand.aliases] {
        stand.api.create_many(pods, amount.warm_up, AT_ONCE).await?;
    }
    let mut figures = Vec::new();
    for (load, count) in [(SINGLY, amount.singly), (TOGETHER, amount.together)] {
        let [mut plain, mut redirect, mut aliases] = [(); 3].map(|()| Taken::default());
        for _ in 0..amount.turns {
            turn(&stand, &stand.plain, count, load.at_once, &mut plain).await?;
            turn(&stand, &stand.redirect, count, load.at_once, &mut redirect).await?;
            turn(&stand, &stand.aliases, count, load.at_once, &mut aliases).await?;
        }
        let base = millis(plain.times);
        figures.extend(two(load.plain, base));
        figures.extend(of_mode(&load.redirect, redirect, base)?);
        figures.extend(of_mode(&load.aliases, aliases, base)?);
    }
    stand.end().await?;
    Ok(figures)
}

async fn turn(stand: &Stand, pods: &Pods, count: usize, at_once: usize, taken: &mut Taken) -> Result<()> {
    let before = stand.counted().await?;
    taken.times.extend(stand.api.create_many(pods, count, at_once).await?);
    if pods.are_injected() {
        taken.asked.extend(stand.webhook.ask_many(pods, count, at_once).await?);
    }
    taken.counted.add(&before, stand.counted().await?);
    Ok(())
}

fn of_mode(names: &Names, taken: Taken, base: [f64; 2]) -> Result<Vec<Figure>> {
    let Taken { times, asked, counted: Counted { calls, answers } } = taken;
    let pods = times.len() as f64;
    let created = millis(times);
    let [asked, worst_asked] = two(names.asked, millis(asked));
    let [call, worst_call] = two(names.call, [calls.millis(0.5)?, calls.millis(0.99)?]);
    let [longer, worst_longer] = two(names.longer, [created[0] - base[0], created[1] - base[1]]);
    let [answer, worst_answer] = two(names.answer, [answers.millis(0.5)?, answers.millis(0.99)?]);
    let [created, worst_created] = two(names.created, created);
    Ok(vec![
        created.against("not recorded", base[0]),
        worst_created.against("not recorded", base[1]),
        longer,
        worst_longer,
        asked,
        worst_asked.reach(Reach::AtMost(MOST_MILLIS)),
        call,
        worst_call,
        answer,
        worst_answer,
        Figure::new(PART, names.calls, calls.count() / pods, ""),
    ])
}

fn millis(times: Vec<Duration>) -> [f64; 2] {
    let spread = Spread::of(times);
    [0.5, 0.99].map(|part| spread.millis(part))
}

fn two(names: [&'static str; 2], values: [f64; 2]) -> [Figure; 2] {
    [0, 1].map(|place| Figure::new(PART, names[place], values[place], "ms"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The figures of a debug build mean nothing; that they can be taken does. The programs are built before the tests.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn they_can_be_taken_of_a_few_pods() {
        let Some(plane) = ControlPlane::start().await.unwrap() else { return };
        let folder = tempfile::tempdir().unwrap();
        let amount = Amount { warm_up: 8, turns: 2, singly: 5, together: 16 };
        let figures = of(&plane, folder.path(), amount).await.unwrap();
        let value = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap().value;
        for Load { plain, redirect, aliases, .. } in [SINGLY, TOGETHER] {
            let of_both = |of: fn(&Names) -> [&'static str; 2]| [of(&redirect), of(&aliases)];
            let names =
                [|names: &Names| names.created, |names: &Names| names.asked, |names: &Names| names.call]
                    .map(of_both);
            for [p50, p99] in names.into_iter().flatten().chain([plain, redirect.answer]) {
                assert!(0.0 < value(p50) && value(p50) <= value(p99), "{p50}: {figures:?}");
            }
            // One call for each pod: Kubernetes has nothing to add to what the webhook has made, about which it would ask again.
            assert_eq!([redirect.calls, aliases.calls].map(value), [1.0, 1.0], "{figures:?}");
        }
        let reached = figures.iter().filter(|figure| figure.reach.is_some());
        assert_eq!(reached.count(), 4, "each mode, under each load");
    }
}
