//! The programs as they ship, in a pod whose connections are redirected, and everything that may go wrong around a call. After
//! each fault the ledger is audited (`audit`): what reached "BigQuery" is what the log says, each call has its outcome or is
//! named in `session.lost`, and what the recorder acknowledged is in a log that verifies. Needs root.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use bqwitness_tests::audit::Account;
use bqwitness_tests::canned::Canned;
use bqwitness_tests::front::{Drip, Fault};
use bqwitness_tests::gate::Passing;
use bqwitness_tests::log::{self, Logged};
use bqwitness_tests::memory::MemoryLimit;
use bqwitness_tests::namespace::Namespace;
use bqwitness_tests::pod::{Ended, World};
use bqwitness_tests::programs::Recorder;
use bqwitness_tests::skip;
use bqwitness_tests::tools::Tools;
use http::StatusCode;
use ledger::statement::{SessionLost, kind};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::task::JoinHandle;

/// Nobody waits here: a recorder that is slow on a busy machine must not fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a test waits for a refusal. A call that is to pass must be recorded within it, on a busy machine too.
const SHORT: Duration = Duration::from_secs(5);

/// A condition that doesn't come true by then never will. Sessions are lost after 30 seconds.
const LIMIT: Duration = Duration::from_secs(90);

const SQL: &str = "SELECT n FROM billing.numbers";

/// What came of a call, as the agent saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Seen {
    status: Option<u16>,
    reason: Option<String>,
    error: Option<String>,
}

impl Seen {
    fn is_answered(&self) -> bool {
        self.status == Some(200)
    }

    fn is_refused(&self, status: u16, reason: &str) -> bool {
        self.status == Some(status) && self.reason.as_deref() == Some(reason)
    }
}

/// A pod, and what answers behind its front.
struct Stage {
    world: World,
    _canned: Canned,
}

impl Stage {
    async fn set(patience: Duration) -> Self {
        let canned = Canned::start().await.unwrap();
        let tools = Tools::find().unwrap();
        let world = World::start(&tools, canned.upstream(), patience).await.unwrap();
        Self { world, _canned: canned }
    }

    /// Calls of an agent, one line of what it saw for each.
    async fn calls(&self, arguments: &[&str]) -> Vec<Seen> {
        self.calling(arguments).await.unwrap()
    }

    /// The same, while the test goes on.
    fn calling(&self, arguments: &[&str]) -> JoinHandle<Vec<Seen>> {
        let agent = self.world.agent.clone();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        tokio::spawn(async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let finished = agent.calls(&arguments).await.unwrap();
            assert!(finished.success(), "{}", finished.said());
            finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        })
    }

    async fn arrived(&self, count: usize) {
        until(&format!("{count} requests at the front"), || self.world.front.arrivals().len() >= count).await;
    }

    /// What `session.lost` says, once it is in the log.
    async fn lost(&self) -> SessionLost {
        let data = self.world.recorder.data();
        let find = || entries(data).into_iter().find_map(|entry| entry.statement.body.lost);
        until("session.lost", || find().is_some()).await;
        find().unwrap()
    }

    async fn end(self) -> Ended {
        self.world.end().await.unwrap()
    }

    async fn end_without_sidecar(self) -> Ended {
        self.world.end_without_sidecar().await.unwrap()
    }
}

fn entries(data: &std::path::Path) -> Vec<Logged> {
    log::read(data).unwrap()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "no {what} after {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn answered(count: usize) -> Account {
    Account { answered: count, ..Account::default() }
}

fn impossible() -> bool {
    Namespace::missing().inspect(|why| skip::skipped(why)).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorder_is_down_then_too_slow() {
    if impossible() {
        return;
    }
    let stage = Stage::set(SHORT).await;
    assert!(stage.calls(&["1", SQL]).await[0].is_answered());
    let too_slow = Passing::Slow(SHORT + Duration::from_secs(1));
    for (passing, count) in [(Passing::Down, 1), (too_slow, 2)] {
        stage.world.gate.set(passing);
        let refused = stage.calls(&["1", SQL, "--at-once", "3"]).await;
        assert_eq!(refused.len(), 3);
        assert!(refused.iter().all(|seen| seen.is_refused(503, "backendError")), "{passing:?}: {refused:?}");
        assert_eq!(stage.world.front.arrivals().len(), count, "nothing left while {passing:?}");
        stage.world.gate.set(Passing::Open);
        // A batch may still be under way as slowly as it began.
        let again = async { while !stage.calls(&["1", SQL]).await[0].is_answered() {} };
        tokio::time::timeout(LIMIT, again).await.expect("a recorder that is back is used");
    }
    let account = stage.end().await.account;
    assert!(account.answered == 3 && account.refused >= 6 && account.lost == 0, "{account:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorder_is_slow() {
    if impossible() {
        return;
    }
    let stage = Stage::set(PATIENCE).await;
    stage.world.gate.set(Passing::Slow(Duration::from_secs(1)));
    let seen = stage.calls(&["2", SQL, "--at-once", "4"]).await;
    assert!(seen.len() == 8 && seen.iter().all(Seen::is_answered), "{seen:?}");
    assert_eq!(stage.end().await.account, answered(8));
}

/// Killed in the middle of calls, and the answers that it gave before are lost on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorder_is_killed_and_started_again() {
    if impossible() {
        return;
    }
    let mut stage = Stage::set(PATIENCE).await;
    for round in 0..3 {
        stage.world.gate.set(Passing::LoseAnswers(2));
        let calls = stage.calling(&["10", SQL, "--at-once", "4"]);
        stage.arrived(round * 40 + 5).await;
        kill_and_start(&mut stage.world.recorder).await;
        let seen = calls.await.unwrap();
        assert!(seen.len() == 40 && seen.iter().all(Seen::is_answered), "{seen:?}");
    }
    let ended = stage.end().await;
    assert_eq!(ended.account, answered(120));
    let starts = entries(&ended.data).iter().filter(|entry| entry.statement.kind == kind::LOG_START).count();
    assert_eq!(starts, 4);
}

async fn kill_and_start(recorder: &mut Recorder) {
    recorder.kill().unwrap();
    recorder.start_again().await.unwrap();
}

/// Busy: calls wait, then are refused. It doesn't want us: they are refused at once, for another reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorder_refuses() {
    if impossible() {
        return;
    }
    let stage = Stage::set(SHORT).await;
    for (status, reason, refusal) in [
        (StatusCode::SERVICE_UNAVAILABLE, "busy", (503, "backendError")),
        (StatusCode::TOO_MANY_REQUESTS, "busy", (503, "backendError")),
        (StatusCode::FORBIDDEN, "kind_not_allowed", (403, "accessDenied")),
    ] {
        stage.world.gate.set(Passing::Refuse(status, reason));
        let seen = stage.calls(&["1", SQL, "--at-once", "2"]).await;
        assert!(seen.iter().all(|seen| seen.is_refused(refusal.0, refusal.1)), "{status}: {seen:?}");
        assert_eq!(stage.world.front.arrivals(), [], "{status}");
    }
    stage.world.gate.set(Passing::Open);
    let again = async { while !stage.calls(&["1", SQL]).await[0].is_answered() {} };
    tokio::time::timeout(LIMIT, again).await.expect("a recorder that takes entries again is used");
    let account = stage.end().await.account;
    assert!(account.answered == 1 && account.refused >= 4 && account.lost == 0, "{account:?}");
}

/// Those whose end takes its time, all at once: a session is lost after 30 seconds, a drain gives up after 25.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sidecar_ends_in_the_middle_of_calls() {
    if impossible() {
        return;
    }
    tokio::join!(killed(), out_of_memory(), never_drained(), session_refused());
}

/// Two calls that have arrived at "BigQuery", whose answers are held back.
async fn two_open_calls(stage: &Stage) -> JoinHandle<Vec<Seen>> {
    let before = stage.world.front.arrivals().len();
    stage.world.front.hold(true);
    let calls = stage.calling(&["1", SQL, "--at-once", "2"]);
    stage.arrived(before + 2).await;
    calls
}

async fn killed() {
    let mut stage = Stage::set(PATIENCE).await;
    assert!(stage.calls(&["1", SQL]).await[0].is_answered());
    let calls = two_open_calls(&stage).await;
    stage.world.sidecar.process().kill().unwrap();
    stage.world.front.hold(false);
    let seen = calls.await.unwrap();
    assert!(seen.len() == 2 && seen.iter().all(|seen| seen.error.is_some()), "{seen:?}");
    let lost = stage.lost().await;
    assert_eq!((lost.open, lost.open_intents.len()), (2, 2), "{lost:?}");
    assert_eq!(stage.end_without_sidecar().await.account, Account { lost: 2, ..answered(1) });
}

/// A container's memory limit: here of 4 MiB more than the sidecar has when it is idle.
async fn out_of_memory() {
    let limit = match MemoryLimit::make() {
        Ok(limit) => limit,
        Err(why) => {
            return skip::skipped(&format!(
                "{why}. Nothing runs out of memory here; that the sidecar is killed is tested with SIGKILL"
            ));
        }
    };
    let mut stage = Stage::set(PATIENCE).await;
    let calls = two_open_calls(&stage).await;
    limit.hold(stage.world.sidecar.id(), 4 << 20).unwrap();
    let large = stage.calling(&["1", SQL, "--at-once", "16", "--pad", "1500000"]);
    let ended = stage.world.sidecar.process().ended(LIMIT).await.unwrap();
    assert_eq!(ended.signal(), Some(Signal::KILL.as_raw()));
    assert!(limit.kills().unwrap() >= 1, "by the kernel, for want of memory");
    stage.world.front.hold(false);
    let seen = [calls.await.unwrap(), large.await.unwrap()].concat();
    assert!(seen.iter().all(|seen| seen.error.is_some()), "{seen:?}");
    let lost = stage.lost().await;
    assert!(lost.open_intents.len() >= 2, "{lost:?}");
    let account = stage.end_without_sidecar().await.account;
    assert_eq!(account, Account { lost: lost.open_intents.len(), ..Account::default() });
}

/// SIGTERM, and "BigQuery" never answers: the sidecar ends all the same, and says so of each call.
async fn never_drained() {
    let mut stage = Stage::set(PATIENCE).await;
    let calls = two_open_calls(&stage).await;
    stage.world.sidecar.process().signal(Signal::TERM).unwrap();
    stage.world.sidecar.process().ended(LIMIT).await.unwrap();
    let seen = calls.await.unwrap();
    assert!(seen.len() == 2 && seen.iter().all(|seen| seen.error.is_some()), "{seen:?}");
    let ended = stage.end_without_sidecar().await;
    assert_eq!(ended.account, Account { aborted: 2, ..Account::default() });
}

/// The recorder says that what it was sent is no batch: that session is over, the next begins, and who was calling meanwhile
/// is named.
async fn session_refused() {
    let stage = Stage::set(PATIENCE).await;
    let calls = two_open_calls(&stage).await;
    stage.world.gate.set(Passing::Refuse(StatusCode::BAD_REQUEST, "malformed_batch"));
    let refused = stage.calls(&["1", SQL]).await;
    assert!(!refused[0].is_answered(), "{refused:?}");
    assert_eq!(stage.world.front.arrivals().len(), 2);
    stage.world.gate.set(Passing::Open);
    stage.world.front.hold(false);
    let seen = calls.await.unwrap();
    assert_eq!(seen.len(), 2, "answered, or broken off where the record ended: {seen:?}");
    let again = async { while !stage.calls(&["1", SQL]).await[0].is_answered() {} };
    tokio::time::timeout(LIMIT, again).await.expect("a new session");
    let lost = stage.lost().await;
    assert_eq!(lost.open_intents.len(), 2, "{lost:?}");
    let ended = stage.end().await;
    assert!(ended.account.answered >= 1 && ended.account.lost == 2, "{:?}", ended.account);
}

/// SIGTERM as Kubernetes sends it: calls in progress end as they would have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_calls_end() {
    if impossible() {
        return;
    }
    let mut stage = Stage::set(PATIENCE).await;
    let calls = two_open_calls(&stage).await;
    stage.world.sidecar.process().signal(Signal::TERM).unwrap();
    let late = stage.calls(&["1", SQL, "--timeout", "2"]).await;
    assert!(!late[0].is_answered(), "no new calls: {late:?}");
    stage.world.front.hold(false);
    let seen = calls.await.unwrap();
    assert!(seen.len() == 2 && seen.iter().all(Seen::is_answered), "{seen:?}");
    assert!(stage.world.sidecar.process().ended(LIMIT).await.unwrap().success());
    let ended = stage.end_without_sidecar().await;
    assert_eq!((ended.account.answered, ended.account.lost), (2, 0), "{:?}", ended.account);
    assert!(entries(&ended.data).iter().any(|entry| entry.statement.kind == kind::SESSION_END));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_goes_away() {
    if impossible() {
        return;
    }
    let stage = Stage::set(PATIENCE).await;
    // Before there is an answer.
    stage.world.front.hold(true);
    let waiting = stage.calling(&["1", SQL, "--at-once", "2", "--timeout", "8"]);
    stage.arrived(2).await;
    let seen = waiting.await.unwrap();
    assert!(seen.iter().all(|seen| seen.error.is_some()), "{seen:?}");
    stage.world.front.hold(false);
    // In the middle of one, that would take an hour.
    stage.world.front.drip(Some(Drip { bytes: 1, pause: Duration::from_secs(1) }));
    let left = stage.calls(&["1", SQL, "--leave"]).await;
    assert_eq!(left[0].error.as_deref(), Some("left"), "{left:?}");
    stage.world.front.drip(None);
    assert!(stage.calls(&["1", SQL]).await[0].is_answered());
    assert_eq!(stage.end().await.account, Account { aborted: 3, ..answered(1) });
}

/// An answer that breaks off must not look whole to anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bigquery_breaks_off() {
    if impossible() {
        return;
    }
    let stage = Stage::set(PATIENCE).await;
    stage.world.front.fail(1, Fault::HangUp);
    let seen = stage.calls(&["1", SQL]).await;
    assert_eq!(seen[0].status, Some(502), "{seen:?}");
    for fault in [Fault::Reset, Fault::HalfClose] {
        stage.world.front.fail(1, fault);
        let seen = stage.calls(&["1", SQL]).await;
        assert!(seen[0].error.is_some(), "{fault:?}: {seen:?}");
    }
    stage.world.front.fail(1, Fault::Stall);
    let seen = stage.calls(&["1", SQL, "--timeout", "8"]).await;
    assert_eq!(seen[0].error.as_deref(), Some("TimeoutError"), "{seen:?}");
    // A real client notices too.
    for fault in [Fault::HangUp, Fault::Reset] {
        stage.world.front.fail(1, fault);
        let finished = stage.world.agent.python_query(SQL).await.unwrap();
        assert!(!finished.success(), "{fault:?}: {}", finished.said());
    }
    // A call that breaks off is one attempt of the agent's; what it tries again is another call.
    let arrived = stage.world.front.arrivals().len();
    let account = stage.end().await.account;
    assert_eq!((account.aborted, account.failed), (1, arrived - 1), "{account:?}");
    assert!(arrived >= 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bigquery_is_slow() {
    if impossible() {
        return;
    }
    let stage = Stage::set(PATIENCE).await;
    stage.world.front.delay(Duration::from_millis(500));
    stage.world.front.drip(Some(Drip { bytes: 512, pause: Duration::from_millis(50) }));
    stage.world.front.keep_running(2);
    stage.world.front.gzip(true);
    let finished = stage.world.agent.python_job(SQL).await.unwrap();
    assert!(finished.success() && finished.stdout.contains(r#"{"n": 199}"#), "{}", finished.said());
    let seen = stage.calls(&["1", SQL, "--at-once", "4"]).await;
    assert!(seen.len() == 4 && seen.iter().all(Seen::is_answered), "{seen:?}");
    let counts = stage.world.front.counts();
    assert!(counts["jobs.get"] + counts["jobs.getQueryResults"] >= 4, "it was asked again: {counts:?}");
    let arrived = stage.world.front.arrivals().len();
    assert_eq!(stage.end().await.account, answered(arrived));
}

/// Google's front ends close kept-alive connections whenever they like. A request that meets that is never sent twice by us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bigquery_closes_kept_alive_connections() {
    if impossible() {
        return;
    }
    let stage = Stage::set(PATIENCE).await;
    let calls = stage.calling(&["100", SQL, "--at-once", "4"]);
    while !calls.is_finished() {
        stage.world.front.close_idle();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seen = calls.await.unwrap();
    assert_eq!(seen.len(), 400);
    let met = |seen: &&Seen| seen.status == Some(502) || seen.error.is_some();
    let whole = seen.iter().filter(|seen| seen.is_answered()).count();
    assert!(whole >= 40, "few calls meet a connection that is just closing: {whole} of 400 passed");
    assert_eq!(seen.iter().filter(met).count(), 400 - whole, "{seen:?}");
    let account = stage.end().await.account;
    assert_eq!(account.answered, whole, "{account:?}");
    let ended = account.answered + account.failed + account.aborted;
    assert!(ended <= 400 && account.lost == 0 && account.refused == 0, "{account:?}");
}
