//! Minutes in seconds.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

/// Time passes in steps of this. It is well below every limit that is not meant to be reached.
const STEP: Duration = Duration::from_secs(1);

/// A step takes this long by the machine's clock: what is on its way between two sockets arrives within a few of them, on a busy
/// machine too.
const PACE: Duration = Duration::from_millis(4);

/// Drives a future while time passes quickly. Of what the stand waits for after this, its clock is ahead of the machine's.
pub async fn quickly<F: Future>(future: F) -> F::Output {
    // While a thread that may block is busy, tokio's clock does not jump ahead by itself, past what is on its way between two
    // sockets.
    let (release, held) = std::sync::mpsc::channel::<Infallible>();
    let holding = tokio::task::spawn_blocking(move || held.recv().is_err());
    tokio::time::pause();
    let output = tokio::select! {
        output = future => output,
        never = steps() => match never {},
    };
    tokio::time::resume();
    drop(release);
    assert!(holding.await.unwrap());
    output
}

async fn steps() -> Infallible {
    loop {
        tokio::time::advance(STEP).await;
        tokio::task::spawn_blocking(|| std::thread::sleep(PACE)).await.unwrap();
    }
}
