//! Minutes in seconds.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

/// How time passes.
#[derive(Clone, Copy)]
pub struct Steps {
    /// By so much at once.
    pub size: Duration,
    /// A step takes this long by the machine's clock,
    pub pace: Duration,
    /// so many times at least, and so many at most, unless what it has begun is done.
    pub paces: [u32; 2],
}

/// Steps well below every limit that is not meant to be reached; what is on its way between two sockets arrives within a few
/// of them, on a busy machine too.
const SMALL: Steps = Steps { size: Duration::from_secs(1), pace: Duration::from_millis(4), paces: [1, 1] };

/// Drives a future while time passes quickly. Of what the stand waits for after this, its clock is ahead of the machine's.
pub async fn quickly<F: Future>(future: F) -> F::Output {
    in_steps(SMALL, || true, future).await
}

/// The same in other steps: the next is due when `settled` says that what the last one has begun is done.
pub async fn in_steps<F: Future>(steps: Steps, settled: impl FnMut() -> bool, future: F) -> F::Output {
    // While a thread that may block is busy, tokio's clock does not jump ahead by itself, past what is on its way between two
    // sockets.
    let (release, held) = std::sync::mpsc::channel::<Infallible>();
    let holding = tokio::task::spawn_blocking(move || held.recv().is_err());
    tokio::time::pause();
    let output = tokio::select! {
        output = future => output,
        never = take(steps, settled) => match never {},
    };
    tokio::time::resume();
    drop(release);
    assert!(holding.await.unwrap());
    output
}

async fn take(
    Steps { size, pace, paces: [least, most] }: Steps,
    mut settled: impl FnMut() -> bool,
) -> Infallible {
    let pause = async || tokio::task::spawn_blocking(move || std::thread::sleep(pace)).await.unwrap();
    loop {
        tokio::time::advance(size).await;
        let (mut taken, mut done) = (0, false);
        while taken < least || (taken < most && !done) {
            pause().await;
            (taken, done) = (taken + 1, done || settled());
        }
    }
}
