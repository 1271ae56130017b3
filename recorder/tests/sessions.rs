//! Sessions: repeated deliveries, holes, silence.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bqwitness_recorder::metrics::Metrics;
use bqwitness_recorder::store::files::LocalFiles;
use bqwitness_recorder::store::recover;
use common::{Client, Site, join, refusal, verify};
use jiff::Timestamp;
use ledger::batch::Batch;
use ledger::call::Access;
use ledger::entry::{Entry, Envelope, Role, Subject, Workload, encode};
use ledger::statement::{Hole, SessionLost, Statement};
use prometheus::Registry;
use uuid::Uuid;

/// A sidecar that runs for months speaks in one session: how old its id is matters only when it begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_live_for_months() {
    let site = Site::new();
    let mut speaker = site.speaker("agents", "billing");
    let token = speaker.token.clone();
    let begun = u64::try_from(Timestamp::now().as_second() - 30 * 24 * 3600).unwrap();
    speaker.session = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, begun, 0));
    let start = speaker.start(300);
    begun_long_ago(&site, &start);

    let recorder = site.start().await;
    let call = speaker.seq;
    let intent = speaker.intent("SELECT 1", "SELECT", "a.b", Access::Read);
    recorder.client.record(&token, &join([start.clone(), intent])).await;
    tokio::time::sleep(Duration::from_millis(1500)).await; // a sweep for sessions to forget
    recorder.client.record(&token, &speaker.heartbeat()).await;
    recorder.stop().await;

    let recorder = site.start().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    recorder.client.record(&token, &speaker.outcome(call, 1)).await;
    let end = speaker.end();
    let (places, _) = recorder.client.record(&token, &end).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (again, _) = recorder.client.record(&token, &end).await;
    assert_eq!(again, places, "its end can be delivered again");
    let mut unknown = speaker.clone();
    unknown.session = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, begun, 1));
    (unknown.seq, unknown.prev) = (0, None);
    assert_eq!(
        refusal(&recorder.client.post(&token, unknown.start(10).encode()).await),
        (400, "bad_session".into()),
        "that old, none begins"
    );
    recorder.stop().await;
    verify(Arc::new(LocalFiles::open(&site.data()).unwrap()), &Vec::new());
}

/// A log that has this session's start, received when its id was made.
fn begun_long_ago(site: &Site, start: &Batch) {
    let files = Arc::new(LocalFiles::open(&site.data()).unwrap());
    let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
    let mut opened = recover::open(files, common::ORIGIN, metrics).unwrap();
    let statement = Statement::parse(&start.statements[0]).unwrap();
    let received = Timestamp::from_second(
        i64::try_from(statement.session.get_timestamp().unwrap().to_unix().0).unwrap(),
    );
    let workload = Workload {
        cluster: "test".into(),
        namespace: "agents".into(),
        service_account: "billing".into(),
        pod: "billing-0".into(),
        pod_uid: "uid-of-billing-0".into(),
        node: None,
    };
    let envelope =
        Envelope { received: received.unwrap(), subject: Subject::Workload(workload), role: Role::Sidecar };
    let leaf: Arc<[u8]> = encode(&envelope, &start.statements[0]).unwrap().into();
    opened.tail.add([leaf], []);
    opened.publisher.publish(&opened.tail).unwrap();
}

fn statements(log: &[Vec<u8>]) -> Vec<Statement> {
    log.iter().map(|leaf| Statement::parse(Entry::parse(leaf).unwrap().statement).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_delivery_gets_its_first_receipt() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut speaker = site.speaker("agents", "billing");
    let token = speaker.token.clone();
    let (start, intent) = (speaker.start(60), speaker.intent("SELECT 1", "SELECT", "a.b", Access::Read));
    let first = join([start.clone(), intent.clone()]);
    let (places, acknowledgement) = client.record(&token, &first).await;
    // At once, all of it; then old and new together, the blob sent along again; then old alone, without its blob.
    let (again, repeated) = client.record(&token, &first).await;
    assert_eq!(again, places);
    assert_eq!(repeated.receipt, acknowledgement.receipt, "the very same receipt");
    let mixed = join([intent.clone(), speaker.heartbeat()]);
    let (both, _) = client.record(&token, &mixed).await;
    assert_eq!((both[0], both[1].index), (places[1], places[1].index + 1));
    let (alone, _) = client.record(&token, &common::only(intent.statements[0].clone())).await;
    assert_eq!(alone, [places[1]]);
    // The same from the log, when it is no longer in memory.
    client.log_size_of(both[1].index + 1).await;
    let (again, _) = client.record(&token, &first).await;
    assert_eq!(again, places);
    // Sent twenty times at one moment, a batch is recorded once.
    let next = speaker.heartbeat();
    let sends = (0..20).map(|_| {
        let (client, token, next) = (client.clone(), token.clone(), next.clone());
        tokio::spawn(async move { client.record(&token, &next).await.0 })
    });
    for send in sends.collect::<Vec<_>>() {
        assert_eq!(send.await.unwrap()[0].index, both[1].index + 1);
    }
    recorder.stop().await;
    verify(Arc::new(LocalFiles::open(&site.data()).unwrap()), &Vec::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_an_entry() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut speaker = site.speaker("agents", "billing");
    let token = speaker.token.clone();
    client.record(&token, &speaker.start(60)).await;
    let call = speaker.seq;
    let lost = speaker.intent("SELECT 1", "SELECT", "a.b", Access::Read);
    speaker.heartbeat();
    let outcome = speaker.outcome(call, 1);
    let (places, _) = client.record(&token, &outcome).await;
    assert_eq!(
        refusal(&client.post(&token, lost.encode()).await),
        (409, "seq_too_old".into()),
        "it was reported missing"
    );
    let log = client.log_of(places[0].index + 1).await;
    let hole = &statements(&log)[usize::try_from(places[0].index - 1).unwrap()];
    assert_eq!(hole.body.hole, Some(Hole { session: speaker.session, from: 1, to: 2 }));
    // Restarted, the recorder knows it from the log.
    recorder.stop().await;
    let recorder = site.start().await;
    let client = &recorder.client;
    assert_eq!(refusal(&client.post(&token, lost.encode()).await), (409, "seq_too_old".into()));
    client.record(&token, &speaker.heartbeat()).await;
    recorder.stop().await;
    verify(Arc::new(LocalFiles::open(&site.data()).unwrap()), &Vec::new());
}

/// What the log says of the first session that fell silent.
async fn lost(client: &Client) -> SessionLost {
    let mut size = 0;
    loop {
        let log = client.log_of(size + 1).await;
        size = log.len() as u64;
        if let Some(lost) = statements(&log).into_iter().find_map(|statement| statement.body.lost) {
            return lost;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_session_is_closed_and_its_open_calls_are_named() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let (mut silent, mut lively) = (site.speaker("agents", "silent"), site.speaker("agents", "lively"));
    let (token, lively_token) = (silent.token.clone(), lively.token.clone());
    client.record(&lively_token, &lively.start(60)).await;
    let (answered, open) = (1, 2);
    let batch = join([
        silent.start(1),
        silent.intent("SELECT 1", "SELECT", "a.b", Access::Read),
        silent.intent("SELECT 2", "SELECT", "a.b", Access::Read),
        silent.outcome(answered, 1),
    ]);
    client.record(&token, &batch).await;
    let next = silent.heartbeat();
    let lost = lost(client).await;
    assert_eq!(
        (lost.session, lost.last_seq, lost.open_intents, lost.open),
        (silent.session, 3, vec![open], 1)
    );
    assert_eq!(refusal(&client.post(&token, next.encode()).await), (409, "session_closed".into()));
    let (again, _) = client.record(&token, &batch).await;
    assert_eq!(again.len(), 4, "what was recorded is still acknowledged again");
    recorder.stop().await;

    // Closed it stays; and the lively one goes on.
    let recorder = site.start().await;
    let client = &recorder.client;
    assert_eq!(refusal(&client.post(&token, next.encode()).await), (409, "session_closed".into()));
    client.record(&lively_token, &lively.heartbeat()).await;
    recorder.stop().await;
    verify(Arc::new(LocalFiles::open(&site.data()).unwrap()), &Vec::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorder_speaks_in_its_own_name() {
    let site = Site::new();
    site.start().await.stop().await;
    let recorder = site.start().await;
    let log = recorder.client.log_of(3).await;
    let roles: Vec<_> = log.iter().map(|leaf| Entry::parse(leaf).unwrap().envelope).collect();
    assert!(roles.iter().all(|e| e.role == Role::Recorder && e.subject.to_string() == common::ORIGIN));
    let said = statements(&log);
    assert_eq!((said[0].session, said[1].seq), (said[1].session, 1), "one run, one session");
    assert_ne!(said[1].session, said[2].session);
    let start = said[2].body.log.clone().unwrap();
    assert_eq!((start.size, start.recovered, start.torn_bytes), (2, false, 0));
    recorder.stop().await;
}
