//! Agents: connections that are kept, and on each one call after the other.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::spread::Spread;
use super::wire::{Connection, Route};
use crate::trouble::{Doing as _, Result};

/// Connections that are opened at one time.
const OPENING: usize = 16;

/// What a load came to.
pub(crate) struct Load {
    /// Calls that were answered.
    pub(crate) calls: usize,
    /// How long it ran.
    pub(crate) time: Duration,
    /// How long each call took.
    pub(crate) took: Spread,
}

impl Load {
    /// Calls per second.
    pub(crate) fn rate(&self) -> f64 {
        self.calls as f64 / self.time.as_secs_f64()
    }
}

/// Opens so many connections, and makes one call on each.
///
/// # Errors
/// One is refused.
pub(crate) async fn open(route: &Route, count: usize, request: &'static [u8]) -> Result<Vec<Connection>> {
    let mut tasks: JoinSet<Result<Vec<Connection>>> = JoinSet::new();
    for part in 0..OPENING.min(count) {
        let (route, own) = (route.clone(), (part..count).step_by(OPENING).count());
        tasks.spawn(async move {
            let mut connections = Vec::with_capacity(own);
            for _ in 0..own {
                let mut connection = route.open().await?;
                connection.ask(request).await?;
                connections.push(connection);
            }
            Ok(connections)
        });
    }
    let mut connections = Vec::with_capacity(count);
    while let Some(opened) = tasks.join_next().await {
        connections.extend(opened.doing("opening connections")??);
    }
    Ok(connections)
}

/// Calls on every connection for `time`, and gives the connections back.
///
/// # Errors
/// A call is not answered with 200.
pub(crate) async fn call(
    connections: Vec<Connection>,
    time: Duration,
    request: &'static [u8],
) -> Result<(Vec<Connection>, Load)> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        tasks.spawn(async move {
            let mut took = Vec::new();
            while start.elapsed() < time {
                let sent = Instant::now();
                connection.ask(request).await?;
                took.push(sent.elapsed());
            }
            Ok((connection, took))
        });
    }
    let (mut connections, mut took): (_, Vec<Duration>) = (Vec::new(), Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (connection, own) = ended.doing("an agent")??;
        connections.push(connection);
        took.extend(own);
    }
    Ok((connections, Load { calls: took.len(), time: start.elapsed(), took: Spread::of(took) }))
}
