//! The log's key is changed, and a text deleted, while a sidecar records: it goes on, and what was taken out before, between and
//! after is verified by who holds either key.

use std::time::Duration;

use bqwitness_recorder::orders::give::give;
use bqwitness_recorder::orders::{Answer, Order, What};
use bqwitness_tests::log;
use http::StatusCode;

use crate::evidence::{ANSWER, Desk};
use crate::formats::the_schema_holds;
use crate::stand::{Stand, query};

async fn order(stand: &Stand, what: What) -> Answer {
    let order = Order { by: "security".into(), reason: "a customer asked".into(), what };
    let data = stand.data();
    let given = tokio::task::spawn_blocking(move || give(&data, &order, Duration::from_secs(60)).unwrap());
    let answer = given.await.unwrap();
    assert!(answer.done, "{}", answer.message);
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_goes_on_and_bundles_hold_by_either_key() {
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    let ask = async |sql: &str| assert_eq!(query(&stand, &sidecar, sql).await.0, StatusCode::OK, "{sql}");
    let copy = |name: &str| std::fs::copy(stand.data().join("log.vkey"), stand.path(name)).unwrap();
    let desk = Desk::new(&stand, &recorder);
    let export = async |key: &str, file: &str| {
        let said = desk.run(&["export", "--agent", "agents/billing", "--key", key, "-o", file]).await;
        assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    };
    ask("SELECT 'before'").await;
    copy("old.vkey");
    export("old.vkey", "before.bqw").await;
    assert_eq!(desk.run(&["monitor", "--key", "old.vkey", "--state", "seen"]).await.code, Some(0));

    order(&stand, What::AddKey).await;
    ask("SELECT 'between'").await;
    export("old.vkey", "between.bqw").await;
    let keys = desk.run(&["keys", "--key", "old.vkey", "-o", "both.vkey"]).await;
    assert!(keys.stdout.contains("yours") && keys.stdout.contains("vouches for it"), "{}", keys.stdout);

    // The sidecar's key file is the data directory's here: as a mounted ConfigMap, it changes under it.
    order(&stand, What::RetireKey).await;
    copy("new.vkey");
    ask("SELECT 'after'").await;
    let monitored = desk.run(&["monitor", "--key", "old.vkey", "--state", "seen"]).await;
    assert_eq!(monitored.code, Some(0), "{}{}", monitored.stdout, monitored.stderr);
    assert!(monitored.stdout.contains("signs with a new key"), "{}", monitored.stdout);
    let sessions = desk.run(&["--output", "json", "sessions"]).await.json();
    assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(1), "the session goes on: {sessions}");

    // A text goes; what is taken out then says who had it deleted.
    let found = desk.run(&["--output", "json", "search", "--words", "before"]).await.json();
    let index = found["calls"][0]["index"].as_u64().unwrap();
    let deleted = order(&stand, What::DeleteTexts { entry: index }).await;
    export("new.vkey", "after.bqw").await;
    assert!(sidecar.stop("test").await);
    let shown = desk.run(&["show", &index.to_string(), "--key", "new.vkey"]).await;
    assert!(shown.stdout.contains("(deleted)"), "{}", shown.stdout);
    recorder.stop().await;

    for (file, key, holds) in [
        ("before.bqw", "old.vkey", true),
        ("before.bqw", "new.vkey", false),
        ("between.bqw", "old.vkey", true),
        ("between.bqw", "new.vkey", true),
        ("between.bqw", "both.vkey", true),
        ("after.bqw", "old.vkey", false),
        ("after.bqw", "new.vkey", true),
        ("after.bqw", "both.vkey", true),
    ] {
        let said = desk.run(&["verify", file, "--key", key]).await;
        assert_eq!(said.code, Some(i32::from(!holds)), "{file} by {key}: {}{}", said.stdout, said.stderr);
    }
    let told = desk.run(&["--output", "json", "verify", "after.bqw", "--key", "new.vkey"]).await.json();
    let contents = &told["manifest"]["contents"];
    assert_eq!(contents["blobsAbsent"], contents["blobsDeleted"], "{told}");
    let said_by = contents["deletions"][0]["index"].as_u64().unwrap();
    assert!(deleted.entries.contains(&said_by), "{told}");
    let not_proved = told["notProved"].to_string();
    assert!(not_proved.contains("that security had deleted"), "{not_proved}");
    let data = stand.data().display().to_string();
    let whole = desk.run(&["verify-log", &data, "--key", "old.vkey"]).await;
    assert_eq!(whole.code, Some(0), "the old key vouches for the new one: {}", whole.stdout);
    assert!(whole.stdout.contains("deleted by security"), "{}", whole.stdout);
    let kinds = the_schema_holds(&log::leaves(&stand.data()).unwrap());
    assert!(kinds.contains("log.key") && kinds.contains("log.deleted"), "{kinds:?}");
}
