//! Drain: one signal to stop, heard everywhere; the process ends when all who hold a [`Watch`] are done or time is up.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Starts the drain and waits for its end.
#[derive(Debug)]
pub struct Drain {
    start: watch::Sender<bool>,
    done: mpsc::Receiver<()>,
}

/// Hears the drain. Work that must be finished before the process ends keeps a clone.
#[derive(Clone, Debug)]
pub struct Watch {
    started: watch::Receiver<bool>,
    _working: mpsc::Sender<()>,
}

/// A drain and its first watch.
#[must_use]
pub fn channel() -> (Drain, Watch) {
    let (start, started) = watch::channel(false);
    let (working, done) = mpsc::channel(1);
    (Drain { start, done }, Watch { started, _working: working })
}

impl Drain {
    /// Tells every watch, then waits until all are dropped, at most `limit`. False when time was up first.
    pub async fn run(mut self, limit: Duration) -> bool {
        self.start.send_replace(true);
        tokio::time::timeout(limit, self.done.recv()).await.is_ok()
    }
}

impl Watch {
    /// Has it started?
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.started.borrow()
    }

    /// Waits until it starts.
    pub async fn draining(&mut self) {
        // An error means that the process's end is near: the drain itself is gone.
        let _ended = self.started.wait_for(|started| *started).await.is_err();
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When the system refuses the handlers.
pub async fn shutdown_signal() -> std::io::Result<&'static str> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_drain_waits_for_its_watches() {
        let (drain, mut watch) = channel();
        let worker = tokio::spawn(async move {
            watch.draining().await;
            tokio::task::yield_now().await;
            assert!(watch.is_draining());
        });
        assert!(drain.run(Duration::from_secs(10)).await);
        worker.await.expect("the worker saw the drain");
    }

    #[tokio::test(start_paused = true)]
    async fn the_drain_ends_when_time_is_up() {
        let (drain, watch) = channel();
        assert!(!drain.run(Duration::from_secs(1)).await);
        drop(watch);
    }
}
