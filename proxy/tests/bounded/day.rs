//! Streams that take a day.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bqwitness_proxy::limits;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use ledger::call::{CallResult, Progress};
use ledger::digest::Digest;
use tokio::time::Instant;
use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::EnvFilter;

use crate::stand::client::{Agent, nothing, request, request2};
use crate::stand::clock::{Steps, in_steps};
use crate::stand::{BIGQUERY, Stand};
use crate::{TURN, resident};

const ROWS: &str = "/bigquery/v2/projects/p/datasets/d/tables/t/data";

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// One step of the clock: as often BigQuery is asked for a sign of life. What is due more often (heartbeats, looks at the log) comes
/// once in a step. Timers are rounded up.
const STEP: Duration = limits::UPSTREAM_PING_INTERVAL.saturating_add(Duration::from_millis(5));
const STEPS: Steps = Steps { size: STEP, pace: Duration::from_millis(1), paces: [2, 5000] };

/// Between two pieces of an answer; longer than every limit that there is for something else.
const PAUSE: Duration = Duration::from_secs(15 * 60);
const PIECES: u64 = DAY.as_secs() / PAUSE.as_secs() + 1;
const PIECE: &[u8] = b"{\"f\":[{\"v\":\"1\"}]},";

/// What a day may add to this process beside what the recorder keeps: far less than a kilobyte for each of its 5,760 batches and looks.
const GROWTH: usize = 4 << 20;

/// HTTP/2's signs of life on every connection of this process, as h2 logs them. The sockets don't know that time passes quickly: the
/// next step is due when what was asked is answered.
#[derive(Clone, Default)]
struct Pings(Arc<[AtomicUsize; 2]>);

impl Pings {
    fn listen(&self) -> (DefaultGuard, Dispatch) {
        let own = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("h2::codec=debug"))
            .with_ansi(false)
            .with_writer(move || own.clone());
        let listening = tracing::subscriber::set_default(subscriber.finish());
        // With one subscriber alone, whichever thread comes by a line first decides for all whether it is heard.
        (listening, Dispatch::new(tracing_subscriber::registry()))
    }

    fn seen(&self) -> [usize; 2] {
        [0, 1].map(|which| self.0[which].load(Ordering::SeqCst))
    }
}

impl io::Write for Pings {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        for (which, said) in
            ["send frame=Ping { ack: false", "received frame=Ping { ack: true"].iter().enumerate()
        {
            self.0[which].fetch_add(usize::from(text.contains(said)), Ordering::SeqCst);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What there is at one time.
#[derive(Debug)]
struct Seen {
    resident: usize,
    kept: usize,
    tasks: usize,
}

fn look(stand: &Stand) -> Seen {
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    Seen { resident: resident(), kept: stand.recorder.kept(), tasks }
}

/// An answer over each version of HTTP, a piece every quarter of an hour, for a day of tokio's clock: sockets are real, and so is
/// everything else; a timer fires up to a step late, and none is left out. The record says how far they are every minute, and neither
/// memory nor the number of tasks grows.
#[tokio::test]
async fn a_stream_may_take_a_day() {
    let _turn = TURN.lock().await;
    let pings = Pings::default();
    let _listening = pings.listen();
    let stand = Stand::with(&["--progress-interval=60"]).await;
    stand.upstream.answer(|_| async {
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
        tokio::spawn(async move {
            sender.send_data(Bytes::from_static(PIECE)).await.unwrap();
            for _ in 1..PIECES {
                tokio::time::sleep(PAUSE).await;
                sender.send_data(Bytes::from_static(PIECE)).await.unwrap();
            }
        });
        Response::new(body.map_err(Into::into).boxed_unsync())
    });
    let mut one = Agent::http1(&stand, BIGQUERY).await;
    let mut two = Agent::http2(&stand, BIGQUERY).await;
    let first = one.send(request("GET", BIGQUERY, ROWS).body(nothing()).unwrap()).await.unwrap();
    let second = two.send(request2("GET", BIGQUERY, ROWS).body(nothing()).unwrap()).await.unwrap();
    let begun = Instant::now();
    let watched = async {
        tokio::time::sleep_until(begun + HOUR).await;
        let early = look(&stand);
        tokio::time::sleep_until(begun + DAY - HOUR).await;
        (early, look(&stand))
    };
    let mut before = (stand.recorder.looks(), stand.recorder.kept());
    let settled = || {
        let [asked, answered] = pings.seen();
        let now = (stand.recorder.looks(), stand.recorder.kept());
        let done = asked == answered && now.0 > before.0 && now.1 > before.1;
        before = if done { now } else { before };
        done
    };
    let all = async { tokio::join!(first.collect(), second.collect(), watched) };
    let (first, second, (early, late)) = in_steps(STEPS, settled, all).await;
    assert!(begun.elapsed() >= DAY, "{:?}", begun.elapsed());
    let least = usize::try_from(DAY.as_secs() / (STEP * 2).as_secs()).unwrap();
    assert!(pings.seen()[0] >= least, "it was asked for signs of life all day: {:?}", pings.seen());

    let whole = PIECE.repeat(usize::try_from(PIECES).unwrap());
    for answer in [first, second] {
        assert!(answer.expect("a clean end").to_bytes() == whole, "every byte came");
    }
    said_how_far_they_were(&stand, &whole).await;
    assert_eq!(early.tasks, late.tasks, "{early:?} {late:?}");
    let grown = late.resident.saturating_sub(early.resident);
    assert!(grown < late.kept - early.kept + GROWTH, "{early:?} {late:?}");
}

async fn said_how_far_they_were(stand: &Stand, whole: &[u8]) {
    let calls = stand.calls(2).await;
    let statements = stand.recorder.statements();
    for call in &calls {
        let outcome = call.outcome();
        assert_eq!(outcome.result, CallResult::Answered);
        assert_eq!(outcome.answer.unwrap().digest, Some(Digest::of(whole)));
        assert!(outcome.duration_micros >= u64::try_from(DAY.as_micros()).unwrap(), "{outcome:?}");
        let own = statements.iter().filter_map(|said| said.body.progress.as_ref());
        let said: Vec<&Progress> = own.filter(|progress| progress.call == call.statement.seq).collect();
        for pair in said.windows(2) {
            let apart = Duration::from_micros(pair[1].duration_micros - pair[0].duration_micros);
            assert!(apart <= Duration::from_secs(60) + STEP, "{pair:?}");
            let [before, after] = [pair[0], pair[1]].map(|progress| progress.answer.unwrap().wire_bytes);
            assert!(before <= after && after <= outcome.answer.unwrap().wire_bytes, "{pair:?}");
        }
        let last = Duration::from_micros(said.last().unwrap().duration_micros);
        assert!(
            last + Duration::from_secs(60) + STEP >= DAY && said.len() >= 24 * 50,
            "{} entries",
            said.len()
        );
    }
}
