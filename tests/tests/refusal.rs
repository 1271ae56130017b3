//! What `bq` prints while the recorder is away. (The story asks the Python client; `bq` tries for longer.)
#![allow(clippy::unwrap_used, clippy::panic)]

use bqwitness_tests::skip;
use bqwitness_tests::stage::{Stage, WayIn};

#[tokio::test]
async fn bq_says_why_its_query_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::set(folder.path(), WayIn::of_this_machine()).await.unwrap();
    if !stage.billing.agent.has_bq() {
        return skip::skipped("no bq (Google Cloud CLI) on this machine");
    }
    stage.recorder.stop().await.unwrap();
    let refused = stage.billing.agent.bq_query("SELECT 1").await.unwrap();
    assert!(!refused.success(), "{refused:?}");
    let said = refused.said();
    for part in
        ["bqwitness: this call was not sent to BigQuery", "could not be recorded", "Nothing was executed"]
    {
        // bq breaks its lines where it likes.
        assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains(part), "{part}: {said}");
    }
    assert_eq!(stage.front.arrivals(), []);
}
