//! Unmodified clients do a little of everything, straight to "BigQuery" and through the sidecar: they print the same, and send
//! it the same. Needs root.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use bqwitness_tests::agent::{Agent, Finished};
use bqwitness_tests::audit;
use bqwitness_tests::emulator::Emulator;
use bqwitness_tests::front::{Arrival, Front};
use bqwitness_tests::log::{self, Logged};
use bqwitness_tests::namespace::Namespace;
use bqwitness_tests::plain::plain;
use bqwitness_tests::pod::{Ended, World};
use bqwitness_tests::skip;
use bqwitness_tests::tools::{EmulatorKind, Tools};
use bqwitness_tests::tunnel::Tunnel;
use ledger::receipt::ReceiptEntry;

/// Nobody waits here: a recorder that is slow on a busy machine must not fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_no_difference_with_local_bigquery() {
    compared(EmulatorKind::LocalBigquery).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_no_difference_with_bqemulator() {
    compared(EmulatorKind::Bqemulator).await;
}

async fn compared(kind: EmulatorKind) {
    if let Some(why) = Namespace::missing() {
        return skip::skipped(&why);
    }
    let Some(tools) = Tools::find().unwrap().with(kind) else {
        return skip::skipped(&format!("no {kind} on this machine"));
    };
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::launch(&tools, folder.path()).unwrap().furnished().await.unwrap();
    let world = World::start(&tools, emulator.upstream(), PATIENCE).await.unwrap();
    let direct = Front::start(&world.google, emulator.upstream()).await.unwrap();
    let tunnel = Tunnel::start(direct.address()).await.unwrap();
    let home = folder.path().join("agent");
    let unrecorded = Agent::new(&tools, home, tunnel.address(), &world.google.path()).unwrap();
    world.front.gzip(true);
    direct.gzip(true);

    for client in ["python", "node", "bq"] {
        let before = (counts(&direct), counts(&world.front));
        let straight = everything(&unrecorded, client, "straight");
        let recorded = everything(&world.agent, client, "recorded");
        // One after the other: emulators mix up what two ask at once.
        let (straight, recorded) = (straight.await, recorded.await);
        let (Some(straight), Some(recorded)) = (straight, recorded) else { continue };
        assert_eq!(
            plain(&recorded.stdout, "recorded"),
            plain(&straight.stdout, "straight"),
            "{client}, {kind}"
        );
        assert_eq!(recorded.code, straight.code, "{client}: {}", recorded.stderr);
        assert!(recorded.stdout.lines().count() >= 10, "{client} did next to nothing: {}", recorded.said());
        let sent = |before: &BTreeMap<String, usize>,
                    after: BTreeMap<String, usize>|
         -> BTreeMap<String, usize> {
            let less = |(method, count)| (String::clone(&method), count - before.get(&method).unwrap_or(&0));
            // How often a client asks about a job depends on how long that takes.
            let asks = |method: &str| ["jobs.get", "jobs.getQueryResults"].contains(&method);
            after.into_iter().map(less).filter(|(method, count)| *count > 0 && !asks(method)).collect()
        };
        let methods = sent(&before.1, counts(&world.front));
        assert_eq!(methods, sent(&before.0, counts(&direct)), "{client}, {kind}");
        assert!(!methods.contains_key("unknown"), "{methods:?}");
        shown(&format!("{client} with {kind}: {:.1} s, {methods:?}", recorded.took.as_secs_f32()));
    }
    let arrived = world.front.arrivals().len();
    let (arrivals, receipts) = (world.front.arrivals(), world.gate.receipts());
    let ended = world.end().await.unwrap();
    assert_eq!(ended.account.answered, arrived, "{:?}", ended.account);
    the_audit_can_fail(&ended, arrivals, receipts);
}

/// One request more or less than the log has, or one promise that it did not keep, and the audit says so.
fn the_audit_can_fail(ended: &Ended, mut arrivals: Vec<Arrival>, mut receipts: Vec<ReceiptEntry>) {
    let (entries, leaves) = (log::read(&ended.data).unwrap(), log::leaves(&ended.data).unwrap());
    audit::balance(&entries, &arrivals).unwrap();
    audit::promised(&leaves, &receipts).unwrap();
    assert!(receipts.len() >= 2 * arrivals.len(), "an intent and an outcome each");

    let first_call = |entry: &&Logged| entry.statement.body.outcome.is_some();
    let without_outcome: Vec<Logged> = {
        let gone = entries.iter().find(first_call).unwrap().statement.seq;
        entries.iter().filter(|entry| entry.statement.seq != gone).cloned().collect()
    };
    assert!(audit::balance(&without_outcome, &arrivals).is_err(), "an outcome is missing");
    let twice: Vec<Logged> = entries.iter().chain(entries.iter().find(first_call)).cloned().collect();
    assert!(audit::balance(&twice, &arrivals).is_err(), "two outcomes");
    arrivals.push(arrivals[0].clone());
    assert!(audit::balance(&entries, &arrivals).is_err(), "one request too many");
    arrivals.truncate(arrivals.len() - 2);
    assert!(audit::balance(&entries, &arrivals).is_err(), "one request too few");
    receipts[0].leaf_hash[0] ^= 1;
    assert!(audit::promised(&leaves, &receipts).is_err(), "another entry in its place");
    assert!(audit::promised(&leaves[..1], &receipts[1..]).is_err(), "an entry is missing");
}

fn counts(front: &Front) -> BTreeMap<String, usize> {
    front.counts()
}

async fn everything(agent: &Agent, client: &str, dataset: &str) -> Option<Finished> {
    let dataset = format!("{dataset}_{client}");
    match client {
        "python" => Some(agent.python_everything(&dataset).await.unwrap()),
        "node" if agent.has_node() => Some(agent.node_everything(&dataset).await.unwrap()),
        "bq" if agent.has_bq() => Some(agent.bq_everything(&dataset).await.unwrap()),
        _ => {
            skip::skipped(&format!("no {client} on this machine"));
            None
        }
    }
}

#[allow(clippy::print_stdout)] // shown with --nocapture
fn shown(line: &str) {
    println!("{line}");
}
