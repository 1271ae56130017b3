//! What the search index costs: whether it keeps up, and whether acknowledgements wait for it.

mod turns;

use std::time::{Duration, Instant};

use super::{Stand, figure};
use crate::bench::figure::{Figure, Reach};
use crate::bench::spread::Spread;
use crate::bench::statements::Content;
use crate::bench::watch;
use crate::bench::writers::Plan;
use crate::programs::Recorder;
use crate::trouble::{Result, Trouble};

/// How long the index has to keep up.
const SUSTAINED: Duration = Duration::from_secs(20);

/// Entries per second in all of these.
const PACE: usize = 5000;

/// How often the index is looked at.
const INDEX_LOOKS: Duration = Duration::from_millis(100);

/// How long the index may take to catch up before that is trouble.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

/// Takes the index's figures.
pub(super) async fn figures(stand: &Stand<'_>) -> Result<Vec<Figure>> {
    let mut figures = keeps_up(stand).await?;
    figures.extend(turns::figures(stand).await?);
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

fn steady(content: Content, time: Duration) -> Plan {
    let most = PACE * usize::try_from(time.as_secs() + 1).unwrap_or(1);
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
