//! Whether acknowledgements wait for the search index: the same calls at the same pace, by turns with the index fed and with
//! its feeding held up. Held up is what SQLite does for whoever asks: there is one writer at a time, and that is the bench.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{PACE, steady};
use crate::bench::figure::{Figure, Reach};
use crate::bench::recorder::{Phase, Stand, figure};
use crate::bench::spread::Spread;
use crate::bench::statements::Content;
use crate::bench::usage::Usage;
use crate::bench::watch;
use crate::programs::Recorder;
use crate::trouble::{Doing as _, Result, Trouble};

/// How often: what happens to one turn alone is not in the median.
const TURNS: u32 = 9;

/// How long each half of a turn is: several checkpoints, and less than the indexer waits for a writer before it gives up.
const HALF: Duration = Duration::from_millis(1500);

/// Between the halves: the index catches up on what it was held from.
const CATCH_UP: Duration = Duration::from_millis(1000);

/// How long the writers write: all turns, and a moment more for what comes late.
const TIME: Duration = HALF
    .saturating_mul(2)
    .saturating_add(CATCH_UP)
    .saturating_mul(TURNS)
    .saturating_add(Duration::from_secs(2));

/// How long the bench waits for the indexer to finish a transaction.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// A part of the time, and the recorder's processor time within it.
struct Window {
    from: Instant,
    to: Instant,
    cpu: Duration,
}

/// A turn: the index fed, and held up.
struct Turn {
    fed: Window,
    held: Window,
}

/// Takes these figures.
pub(super) async fn figures(stand: &Stand<'_>) -> Result<Vec<Figure>> {
    let running = stand.recorder("by-turns").await?;
    let writers = stand.writers(&running, steady(Content::CallsWithSql, TIME)).await?;
    let (phase, turns) = tokio::join!(stand.write_only(&running, writers), turns(&running));
    let (phase, turns) = (phase?, turns?);
    running.stop().await?;
    let late = turns.last().is_none_or(|turn| phase.until() < Some(turn.fed.to));
    if late {
        return Err(Trouble::new("the writers ended before the last turn did"));
    }

    let took = |window: &Window, part| phase.within(window).millis(part);
    let slower = |part| median(&turns, |turn| 100.0 * (took(&turn.fed, part) / took(&turn.held, part) - 1.0));
    let cpu = |window: &Window| {
        let entries = (window.to - window.from).as_secs_f64() * PACE as f64;
        window.cpu.as_secs_f64() * 1000.0 / entries
    };
    Ok(vec![
        figure("by turns, index fed: p50", median(&turns, |turn| took(&turn.fed, 0.5)), "ms"),
        figure("- index held up: p50", median(&turns, |turn| took(&turn.held, 0.5)), "ms"),
        figure("- acknowledgements slower with the index, p50", slower(0.5), "%").reach(Reach::AtMost(10.0)),
        figure("- acknowledgements slower with the index, p99", slower(0.99), "%"),
        figure("- recorder's CPU for 1,000 entries, fed", median(&turns, |turn| cpu(&turn.fed)), "s"),
        figure("- the same, held up", median(&turns, |turn| cpu(&turn.held)), "s"),
    ])
}

/// Holds the index up and lets it go on, by turns.
async fn turns(running: &Recorder) -> Result<Vec<Turn>> {
    let mut index = open(&running.data().join("index.sqlite"))?;
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let held = held(running, &mut index).await?;
        tokio::time::sleep(CATCH_UP).await;
        let fed = window(running).await?;
        let behind = behind(running).await?;
        if behind > PACE as u64 {
            return Err(Trouble::new(format!("the index was to be fed, and is {behind} entries behind")));
        }
        turns.push(Turn { fed, held });
    }
    Ok(turns)
}

fn open(path: &Path) -> Result<Connection> {
    let index = Connection::open(path).doing(format!("opening {}", path.display()))?;
    index.busy_timeout(LOCK_LIMIT).doing("waiting for the index's writer")?;
    Ok(index)
}

/// A window in which nobody but the bench may write to the index, which it doesn't.
async fn held(running: &Recorder, index: &mut Connection) -> Result<Window> {
    tokio::task::block_in_place(|| index.execute_batch("BEGIN IMMEDIATE")).doing("holding the index up")?;
    let window = window(running).await?;
    let behind = behind(running).await?;
    index.execute_batch("ROLLBACK").doing("letting the index go on")?;
    // What was published since, which is less than what was written.
    if (behind as f64) < PACE as f64 * HALF.as_secs_f64() / 2.0 {
        return Err(Trouble::new(format!("the index was held up, and is only {behind} entries behind")));
    }
    Ok(window)
}

async fn window(running: &Recorder) -> Result<Window> {
    let (from, before) = (Instant::now(), Usage::of(running.id())?);
    tokio::time::sleep(HALF).await;
    let (to, after) = (Instant::now(), Usage::of(running.id())?);
    Ok(Window { from, to, cpu: after.cpu.saturating_sub(before.cpu) })
}

async fn behind(running: &Recorder) -> Result<u64> {
    let (covered, published) = watch::index_now(running.ports().admin).await?;
    Ok(published.saturating_sub(covered))
}

fn median(turns: &[Turn], of: impl Fn(&Turn) -> f64) -> f64 {
    let mut values: Vec<f64> = turns.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Phase {
    /// How long batches took that were sent and acknowledged in a window.
    fn within(&self, window: &Window) -> Spread {
        let acks = self.written.acks.iter();
        let inside = acks.filter(|ack| ack.at - ack.took >= window.from && ack.at <= window.to);
        Spread::of(inside.map(|ack| ack.took))
    }

    /// When the last batch was acknowledged.
    fn until(&self) -> Option<Instant> {
        self.written.acks.iter().map(|ack| ack.at).max()
    }
}
