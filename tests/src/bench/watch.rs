//! Watches a recorder while it works: its checkpoints, its index, its memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::wire::Route;
use super::writers::Ack;
use crate::trouble::{Doing as _, Result, Trouble};

/// A task that looks again and again until it is asked for what it saw.
pub(crate) struct Watch<T> {
    enough: Arc<Notify>,
    task: JoinHandle<Result<T>>,
}

impl<T> Watch<T> {
    /// What was seen.
    pub(crate) async fn seen(self) -> Result<T> {
        self.enough.notify_one();
        self.task.await.doing("watching a recorder")?
    }
}

/// A size and when it was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) size: u64,
}

/// Looks at the newest checkpoint every `interval`.
pub(crate) async fn checkpoints(route: &Route, interval: Duration) -> Result<Watch<Vec<Seen>>> {
    let mut connection = route.open().await?;
    let enough = Arc::new(Notify::new());
    let told = enough.clone();
    let task = tokio::spawn(async move {
        let mut seen: Vec<Seen> = Vec::new();
        while !is_told(&told, interval).await {
            let note = connection.ask(b"GET /log/checkpoint HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await?;
            let size = std::str::from_utf8(note).ok().and_then(|note| note.lines().nth(1)?.parse().ok());
            let size = size.ok_or_else(|| Trouble::new("a checkpoint without a size"))?;
            seen.push(Seen { at: Instant::now(), size });
        }
        Ok(seen)
    });
    Ok(Watch { enough, task })
}

/// From each acknowledgement to the first checkpoint seen that covers it; those that none covers are left out, and
/// counted.
pub(crate) fn covered_after(acks: &[Ack], checkpoints: &[Seen]) -> (Vec<Duration>, usize) {
    let lag = |ack: &Ack| {
        let first = checkpoints.partition_point(|seen| seen.size <= ack.last);
        checkpoints.get(first).map(|seen| seen.at.saturating_duration_since(ack.at))
    };
    let lags: Vec<Duration> = acks.iter().filter_map(lag).collect();
    let uncovered = acks.len() - lags.len();
    (lags, uncovered)
}

/// Looks every `interval` at how much of the log the index covers, and how much of it is published: (covered, published).
pub(crate) fn index(admin: SocketAddr, interval: Duration) -> Watch<Vec<(Seen, u64)>> {
    let enough = Arc::new(Notify::new());
    let told = enough.clone();
    let task = tokio::spawn(async move {
        let mut seen = Vec::new();
        while !is_told(&told, interval).await {
            let (size, published) = index_now(admin).await?;
            seen.push((Seen { at: Instant::now(), size }, published));
        }
        Ok(seen)
    });
    Watch { enough, task }
}

/// How much of the log the index covers now, and how much of it is published.
pub(crate) async fn index_now(admin: SocketAddr) -> Result<(u64, u64)> {
    let text = metrics(admin).await?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).ok_or_else(|| Trouble::new(format!("no metric {name}")))
    };
    Ok((value("bqwitness_recorder_index_size")?, value("bqwitness_recorder_checkpoint_size")?))
}

async fn metrics(admin: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(admin).await.doing("asking for metrics")?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.doing("asking for metrics")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.doing("reading metrics")?;
    Ok(text)
}

async fn is_told(told: &Notify, interval: Duration) -> bool {
    tokio::time::timeout(interval, told.notified()).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_covered_by_the_first_checkpoint_above_it() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let acks = [0, 9, 10, 30].map(|last| Ack { at: at(100), took: Duration::ZERO, last });
        let seen = [(50, 1), (150, 10), (300, 30)].map(|(millis, size)| Seen { at: at(millis), size });
        let (lags, uncovered) = covered_after(&acks, &seen);
        assert_eq!(lags, [0, 50, 200].map(Duration::from_millis));
        assert_eq!(uncovered, 1);
    }
}
