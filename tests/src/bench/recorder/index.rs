//! What the search index costs: whether it keeps up, and whether acknowledgements wait for it.

use std::time::{Duration, Instant};

use super::{Phase, Stand, figure};
use crate::bench::figure::{Figure, Reach};
use crate::bench::spread::Spread;
use crate::bench::statements::Content;
use crate::bench::watch;
use crate::bench::writers::Plan;
use crate::programs::Recorder;
use crate::trouble::{Result, Trouble};

/// How long the index has to keep up.
const SUSTAINED: Duration = Duration::from_secs(20);

/// How often the same bytes are written indexed and not indexed, by turns: a machine that changes meanwhile favours neither,
/// and what happens to one turn alone is not in the median.
const TURNS: usize = 5;

/// How long each half of a turn is.
const TURN: Duration = Duration::from_secs(3);

/// Entries per second in all of these.
const PACE: usize = 5000;

/// How often the index is looked at.
const INDEX_LOOKS: Duration = Duration::from_millis(100);

/// How long the index may take to catch up before that is trouble.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

/// Takes the index's figures.
pub(super) async fn figures(stand: &Stand<'_>) -> Result<Vec<Figure>> {
    let mut figures = keeps_up(stand).await?;
    figures.extend(slows_down(stand).await?);
    Ok(figures)
}

/// Calls with SQL at a steady pace: how far behind the index is.
async fn keeps_up(stand: &Stand<'_>) -> Result<Vec<Figure>> {
    let running = stand.recorder("indexed").await?;
    let writers = stand.writers(&running, steady(Content::CallsWithSql, SUSTAINED)).await?;
    let looks = watch::index(running.ports().admin, INDEX_LOOKS);
    let begun = Instant::now();
    let with = stand.write_only(&running, writers).await?;
    let written_until = begun + with.written.time;
    let caught_up = catch_up(&running).await?;
    let idle = stand.idle(&running).await?;
    let seen = looks.seen().await?;
    running.stop().await?;

    let behind = seen.iter().filter(|(seen, _)| seen.at <= written_until);
    let behind = behind.map(|(seen, published)| published.saturating_sub(seen.size)).max().unwrap_or(0);
    let took = Spread::of(with.times());
    Ok(vec![
        figure("calls with SQL, 50 writers, batches of 2", with.written.rate(), "/s")
            .reach(Reach::AtLeast(PACE as f64 * 0.98)),
        figure("- index behind the log at worst", behind as f64 / PACE as f64, "s").reach(Reach::AtMost(2.0)),
        figure("- index caught up after the last entry", caught_up.as_secs_f64(), "s")
            .reach(Reach::AtMost(2.0)),
        figure("- time of a batch, p50", took.millis(0.5), "ms"),
        figure("- time of a batch, p99", took.millis(0.99), "ms"),
        figure("- with SQL and index: most memory", with.after.peak, "MiB").reach(Reach::AtMost(64.0)),
        figure("- with SQL and index: idle memory after", idle.resident, "MiB").reach(Reach::AtMost(64.0)),
    ])
}

/// A turn: the same bytes and blobs in kinds that are indexed, and in one that the index passes over.
struct Turn {
    indexed: Phase,
    not_indexed: Phase,
}

async fn slows_down(stand: &Stand<'_>) -> Result<Vec<Figure>> {
    let mut turns = Vec::new();
    for number in 0..TURNS {
        turns.push(turn(stand, number).await?);
    }
    let slower =
        |part| median(&turns, |turn| 100.0 * (turn.indexed.took(part) / turn.not_indexed.took(part) - 1.0));
    Ok(vec![
        figure("by turns, indexed: p50", median(&turns, |turn| turn.indexed.took(0.5)), "ms"),
        figure("- same bytes not indexed: p50", median(&turns, |turn| turn.not_indexed.took(0.5)), "ms"),
        figure("- acknowledgements slower with the index, p50", slower(0.5), "%").reach(Reach::AtMost(10.0)),
        figure("- acknowledgements slower with the index, p99", slower(0.99), "%"),
        figure(
            "- recorder's CPU for 1,000 calls' entries",
            median(&turns, |turn| turn.indexed.cpu_per_thousand()),
            "s",
        ),
        figure(
            "- recorder's CPU for 1,000 not indexed",
            median(&turns, |turn| turn.not_indexed.cpu_per_thousand()),
            "s",
        ),
    ])
}

/// Every other turn begins with the other half.
async fn turn(stand: &Stand<'_>, number: usize) -> Result<Turn> {
    if number.is_multiple_of(2) {
        let not_indexed = half(stand, &format!("not-indexed-{number}"), Content::NotIndexed).await?;
        Ok(Turn {
            indexed: half(stand, &format!("indexed-{number}"), Content::CallsWithSql).await?,
            not_indexed,
        })
    } else {
        let indexed = half(stand, &format!("indexed-{number}"), Content::CallsWithSql).await?;
        Ok(Turn {
            indexed,
            not_indexed: half(stand, &format!("not-indexed-{number}"), Content::NotIndexed).await?,
        })
    }
}

async fn half(stand: &Stand<'_>, name: &str, content: Content) -> Result<Phase> {
    let running = stand.recorder(name).await?;
    let writers = stand.writers(&running, steady(content, TURN)).await?;
    let phase = stand.write_only(&running, writers).await?;
    running.stop().await?;
    Ok(phase)
}

fn median(turns: &[Turn], of: impl Fn(&Turn) -> f64) -> f64 {
    let mut values: Vec<f64> = turns.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn steady(content: Content, time: Duration) -> Plan {
    let most = PACE * usize::try_from(time.as_secs()).unwrap_or(1);
    Plan { writers: 50, batch: 2, content, time, most, pace: Some(PACE) }
}

/// Waits until the index covers all that is published, and the checkpoint all that was written.
async fn catch_up(running: &Recorder) -> Result<Duration> {
    let begun = Instant::now();
    let mut last = None;
    while begun.elapsed() < CATCH_UP_LIMIT {
        let now = watch::index_now(running.ports().admin).await?;
        if now.0 == now.1 && last == Some(now) {
            return Ok(begun.elapsed().saturating_sub(INDEX_LOOKS));
        }
        last = Some(now);
        tokio::time::sleep(INDEX_LOOKS).await;
    }
    Err(Trouble::new(format!("the index has not caught up after {CATCH_UP_LIMIT:?}: {last:?}")))
}

impl Phase {
    /// Milliseconds that this part of the batches took at most.
    fn took(&self, part: f64) -> f64 {
        Spread::of(self.times()).millis(part)
    }
}
