//! What the unmodified clients do without us: through a plain tunnel to the front and the emulator. When this fails, the
//! stand is broken, not the product.
#![allow(clippy::unwrap_used, clippy::panic)]

use bqwitness_tests::agent::{Agent, TOKEN};
use bqwitness_tests::ca::TestCa;
use bqwitness_tests::emulator::Emulator;
use bqwitness_tests::front::{Arrival, Front};
use bqwitness_tests::skip;
use bqwitness_tests::tools::Tools;
use bqwitness_tests::tunnel::Tunnel;
use ledger::digest::Digest;

const OVERDUE: &str = "SELECT account_id FROM billing.invoices WHERE status = 'overdue' ORDER BY account_id";

#[tokio::test]
async fn clients_reach_bigquery_through_a_plain_tunnel() {
    let tools = Tools::find().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = TestCa::new(folder.path(), "Test CA").unwrap();
    let emulator = Emulator::launch(&tools, folder.path()).unwrap().furnished().await.unwrap();
    let front = Front::start(&ca, emulator.upstream()).await.unwrap();
    let tunnel = Tunnel::start(front.address()).await.unwrap();
    let agent = Agent::new(&tools, folder.path().join("agent"), tunnel.address(), &ca.path()).unwrap();

    front.gzip(true);
    let rest = agent.python_query(OVERDUE).await.unwrap();
    assert!(rest.success(), "{}", rest.said());
    assert_eq!(rest.stdout.trim(), r#"[{"account_id": "A-17"}, {"account_id": "A-19"}]"#);

    front.gzip(false); // gRPC compresses for itself
    let grpc = agent.python_read_rows("staging.imports").await.unwrap();
    assert!(grpc.success(), "{}", grpc.said());
    assert_eq!(grpc.stdout.trim(), "5");

    let seen: Vec<String> = front.arrivals().iter().map(request_line).collect();
    assert_eq!(
        seen,
        [
            "POST bigquery.googleapis.com/bigquery/v2/projects/acme-data/queries?prettyPrint=false",
            "POST bigquerystorage.googleapis.com/google.cloud.bigquery.storage.v1.BigQueryRead/CreateReadSession",
            "POST bigquerystorage.googleapis.com/google.cloud.bigquery.storage.v1.BigQueryRead/ReadRows",
        ]
    );
    let token = Digest::of(format!("Bearer {TOKEN}").as_bytes());
    assert!(front.arrivals().iter().all(|arrival| arrival.authorization == Some(token)));

    if !agent.has_bq() {
        return skip::skipped("no bq (Google Cloud CLI) on this machine");
    }
    front.gzip(true);
    let bq = agent.bq_query(OVERDUE).await.unwrap();
    assert!(bq.success(), "{}", bq.said());
    assert_eq!(bq.stdout.trim(), r#"[{"account_id":"A-17"},{"account_id":"A-19"}]"#);
    let seen: Vec<String> = front.arrivals().iter().skip(3).map(request_line).collect();
    assert_eq!(seen[0], "POST bigquery.googleapis.com/bigquery/v2/projects/acme-data/jobs?alt=json");
    // It asks as long as the job runs.
    let asks = "GET bigquery.googleapis.com/bigquery/v2/projects/acme-data/queries/bqjob_";
    assert!(seen.len() >= 2 && seen[1..].iter().all(|line| line.starts_with(asks)), "{seen:?}");
}

fn request_line(arrival: &Arrival) -> String {
    format!("{} {}{}", arrival.verb, arrival.host, arrival.path)
}
