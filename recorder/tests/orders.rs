//! Orders: a text deleted for good, a key changed while entries come, a copy that can be gone on with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bqwitness_recorder::backup::{self, NoBackup};
use bqwitness_recorder::orders::give::give;
use bqwitness_recorder::orders::{Answer, Order, What};
use bqwitness_recorder::store::files::LocalFiles;
use common::{Client, LogFiles, PATIENCE, Running, Site, Speaker, join, refusal};
use ledger::batch::Batch;
use ledger::call::Access;
use ledger::checkpoint::Checkpoint;
use ledger::digest::Digest;
use ledger::entry::Entry;
use ledger::log_keys::{KeyNotes, LogKeys};
use ledger::receipt::Receipt;
use ledger::statement::{Statement, kind};
use ledger::verify::{Report, verify_log};

/// A word that nothing else has, and that is never searched for: every search is an entry, with what was asked for.
const SECRET: &str = "zebrafish_roe";

/// Another one of the same text, to search for.
const SEARCHED: &str = "medaka_roe";

async fn order(site: &Site, what: What) -> Answer {
    let order = Order { by: "security".into(), reason: "a customer asked".into(), what };
    let data = site.data();
    tokio::task::spawn_blocking(move || give(&data, &order, PATIENCE).unwrap()).await.unwrap()
}

fn verify(data: &Path, keys: &LogKeys) -> Report {
    verify_log(&LogFiles(Arc::new(LocalFiles::open(data).unwrap())), keys, |_| ()).unwrap()
}

fn keys(data: &Path) -> LogKeys {
    std::fs::read_to_string(data.join("log.vkey")).unwrap().parse().unwrap()
}

/// Every file below `folder` that holds `text`, in whatever case. A recorder that runs may take files away meanwhile.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let there = |error: std::io::Error| assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(there).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if let Ok(bytes) = std::fs::read(&path).map_err(there) {
            let bytes = bytes.to_ascii_lowercase();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

/// A session with a call whose SQL has the secret word, and many others. Gives the batch of that call and its index.
async fn some_calls(client: &Client, speaker: &mut Speaker) -> (Batch, u64) {
    client.record(&speaker.token.clone(), &speaker.start(60)).await;
    for number in 0..20 {
        let call = speaker.seq;
        let sql = format!("SELECT {number} FROM crm.people WHERE town = 'town_{number}'");
        let batch =
            join([speaker.intent(&sql, "SELECT", "crm.people", Access::Read), speaker.outcome(call, 1)]);
        client.record(&speaker.token.clone(), &batch).await;
    }
    let sql = format!(
        "SELECT * FROM crm.people WHERE name = '{SECRET}' AND fish = '{SEARCHED}' AND town = 'town_7'"
    );
    let batch = speaker.intent(&sql, "SELECT", "crm.people", Access::Read);
    let (receipt, _) = client.record(&speaker.token.clone(), &batch).await;
    (batch, receipt[0].index)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_text_is_gone_everywhere_and_the_log_says_so() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut speaker = site.speaker("agents", "billing");
    let (batch, index) = some_calls(client, &mut speaker).await;
    let found = client.search(&format!("words={SEARCHED}&wait={}", index + 1)).await;
    assert_eq!(found.calls.len(), 1);
    assert!(!holding(&site.data(), SECRET).is_empty(), "it was there");

    let answer = order(&site, What::DeleteTexts { entry: index }).await;
    assert!(answer.done, "{}", answer.message);
    assert_eq!(holding(&site.data(), SECRET), Vec::<PathBuf>::new());
    let digest = batch.blobs[0].digest();
    let gone = client.get(&format!("/v1/blobs/{}", digest.hex())).await;
    assert_eq!(refusal(&gone), (410, "blob_deleted".into()));
    let body: serde_json::Value = serde_json::from_slice(gone.body()).unwrap();
    assert_eq!(body["error"]["entry"], answer.entries[0]);
    assert_eq!(client.search(&format!("words={SEARCHED}")).await.calls, []);
    assert_eq!(
        client.search("words=town_7").await.calls.len(),
        1,
        "the words of other calls are still there"
    );
    let call = &client.search("table=crm.people&limit=1").await.calls[0];
    assert_eq!((call.index, &call.sql), (index, &None), "the call itself is");

    // The same batch again, as a sidecar that heard no answer sends it: its receipt, and no text.
    client.record(&speaker.token, &batch).await;
    let entry = client.get(&format!("/v1/entries/{}", answer.entries[0])).await;
    let entry = Entry::parse(entry.body()).unwrap().statement.to_vec();
    let said = Statement::parse(&entry).unwrap();
    let deleted = said.body.deleted.unwrap();
    assert_eq!((said.kind.as_str(), deleted.by.as_str()), (kind::LOG_DELETED, "security"));
    assert_eq!((deleted.digest, deleted.entries, deleted.named), (digest, vec![index], 1));
    let again = order(&site, What::DeleteTexts { entry: index }).await;
    assert!(!again.done && again.message.contains("deleted before"), "{}", again.message);
    recorder.stop().await;

    let report = verify(&site.data(), &keys(&site.data()));
    assert!(report.is_verified(), "{:?}", report.findings);
    assert_eq!((report.blobs_verified, report.blobs_absent, report.blobs_deleted), (20, 1, 1));
    // Somebody brings the file back from a copy: the next start takes it away.
    let file = site.data().join(bqwitness_recorder::store::publish::blob_path(&digest));
    std::fs::write(&file, batch.blobs[0].as_bytes()).unwrap();
    let recorder = site.start().await;
    assert!(!file.exists());
    assert_eq!(recorder.client.search(&format!("words={SEARCHED}")).await.calls, []);
    recorder.stop().await;
    assert_eq!(holding(&site.data(), SECRET), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_make_no_sense_are_refused() {
    let site = Site::new();
    let recorder = site.start().await;
    for (what, why) in [
        (What::DeleteTexts { entry: 0 }, "names no text"),
        (What::DeleteTexts { entry: 99 }, "no entry 99"),
        (What::DeleteBlob { digest: Digest([1; 32]) }, "no entry of the log names"),
        (What::RetireKey, "add another one first"),
    ] {
        let answer = order(&site, what.clone()).await;
        assert!(!answer.done && answer.message.contains(why), "{what:?}: {}", answer.message);
    }
    let nameless = Order { by: String::new(), reason: "x".into(), what: What::AddKey };
    let data = site.data();
    let answer = tokio::task::spawn_blocking(move || give(&data, &nameless, PATIENCE).unwrap());
    assert!(answer.await.unwrap().message.contains("who orders it"));
    assert_eq!(std::fs::read_dir(site.data().join("orders")).unwrap().count(), 0, "nothing is left");
    recorder.stop().await;
    let said = verify(&site.data(), &keys(&site.data())).checkpoint.size;
    assert_eq!(said, 2, "that the recorder began and ended, and nothing between");
    let empty = Order { by: "security".into(), reason: "x".into(), what: What::AddKey };
    assert!(give(&site.path("nowhere"), &empty, PATIENCE).is_err());
}

/// Records until it is told to stop; every receipt must be by these keys. Gives how many there were.
async fn under_load(client: Client, mut speaker: Speaker, held: LogKeys, stop: Arc<AtomicBool>) -> u64 {
    let token = speaker.token.clone();
    client.record(&token, &speaker.start(60)).await;
    let mut receipts = 0;
    // On a busy machine the key may be changed before the second one.
    while receipts < 2 || !stop.load(Ordering::SeqCst) {
        let batch = speaker.heartbeat();
        let answer = client.post(&token, batch.encode()).await;
        assert_eq!(answer.status(), 200, "{:?}", answer.body());
        let said: ledger::receipt::Acknowledgement = serde_json::from_slice(answer.body()).unwrap();
        Receipt::verify(said.receipt.as_bytes(), &held).unwrap();
        receipts += 1;
    }
    receipts
}

async fn checkpoint(client: &Client) -> Vec<u8> {
    client.get_as("/log/checkpoint", None).await.body().to_vec()
}

fn covers(note: &[u8], keys: &LogKeys) -> u64 {
    Checkpoint::verify(note, keys).unwrap().size
}

async fn notes(client: &Client) -> KeyNotes {
    serde_json::from_slice(client.get_as("/log/keys", None).await.body()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_changed_under_load() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let old = keys(&site.data());
    let stop = Arc::new(AtomicBool::new(false));
    // Who holds the old key alone goes on until that is retired.
    let speaker = site.speaker("agents", "billing");
    let load = tokio::spawn(under_load(client.clone(), speaker, old.clone(), Arc::clone(&stop)));
    assert_eq!(notes(client).await, KeyNotes::default());

    let added = order(&site, What::AddKey).await;
    assert!(added.done, "{}", added.message);
    let both = keys(&site.data());
    let new: LogKeys = both.keys()[0].clone().into();
    assert_eq!((both.keys().len(), &both.keys()[1]), (2, &old.keys()[0]));
    let note = checkpoint(client).await;
    assert!(covers(&note, &both) > added.entries[0], "an order is done when it is published");
    for holder in [&old, &new, &both] {
        Checkpoint::verify(&note, holder).unwrap();
    }
    assert_eq!(notes(client).await.follow(&old), both, "who holds the old one learns of the new one");
    let twice = order(&site, What::AddKey).await;
    assert!(!twice.done && twice.message.contains("retire"), "{}", twice.message);
    stop.store(true, Ordering::SeqCst);
    assert!(load.await.unwrap() > 1, "it went on");

    let retired = order(&site, What::RetireKey).await;
    assert!(retired.done, "{}", retired.message);
    assert_eq!(keys(&site.data()), new);
    let note = checkpoint(client).await;
    assert!(covers(&note, &new) > retired.entries[0]);
    assert!(Checkpoint::verify(&note, &old).is_err());
    Checkpoint::verify(&note, &notes(client).await.follow(&old)).unwrap();
    for index in [added.entries[0], retired.entries[0]] {
        let entry = client.get(&format!("/v1/entries/{index}")).await;
        let entry = Entry::parse(entry.body()).unwrap().statement.to_vec();
        assert_eq!(Statement::parse(&entry).unwrap().kind, kind::LOG_KEY);
    }
    recorder.stop().await;

    // It goes on with the new key; what was said of the old one, and the index, are still there.
    let notes_file = std::fs::read(site.data().join("log.keys")).unwrap();
    let recorder = site.start().await;
    assert_eq!(serde_json::from_slice::<KeyNotes>(&notes_file).unwrap(), notes(&recorder.client).await);
    assert_eq!(notes(&recorder.client).await.notes.len(), 2);
    recorder.stop().await;
    let report = verify(&site.data(), &new);
    assert!(report.is_verified(), "old entries are verified by the new key: {:?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_verified_and_can_be_gone_on_with() {
    let site = Site::new();
    let recorder = site.start().await;
    let mut speaker = site.speaker("agents", "billing");
    let (_, index) = some_calls(&recorder.client, &mut speaker).await;
    recorder.client.log_of(index + 1).await;
    let copy = site.path("copy");
    let backup = |with_key| {
        let (data, copy) = (site.data(), copy.clone());
        tokio::task::spawn_blocking(move || backup::copy(&data, &copy, with_key))
    };
    let first = backup(false).await.unwrap().unwrap();
    assert!(first.report.is_verified() && first.report.checkpoint.size > index, "{first}");
    assert_eq!((first.report.blobs_verified, first.removed), (21, 0));
    assert!(!copy.join("log.key").exists(), "a secret is not copied unless that is asked for");

    // The next one copies what is new, and forgets what was deleted.
    assert!(order(&site, What::DeleteTexts { entry: index }).await.done);
    let second = backup(true).await.unwrap().unwrap();
    assert!(second.report.is_verified() && second.files < first.files, "{second}");
    assert_eq!(second.removed, 1);
    assert_eq!(holding(&copy, SECRET), Vec::<PathBuf>::new());
    let end = second.report.checkpoint.size;
    recorder.stop().await;

    // The volume is gone: the copy takes its place.
    std::fs::rename(site.data(), site.path("lost")).unwrap();
    std::fs::rename(&copy, site.data()).unwrap();
    let recorder: Running = site.start().await;
    assert!(recorder.client.log_size().await >= end);
    for _ in 0..5 {
        recorder.client.record(&speaker.token.clone(), &speaker.heartbeat()).await;
    }
    recorder.stop().await;
    assert!(verify(&site.data(), &keys(&site.data())).is_verified());
    let older = backup::copy(&site.path("lost"), &site.data(), false);
    assert!(matches!(older, Err(NoBackup::Other(..))), "a copy never goes back: {older:?}");
}
