//! What operators said of a namespace is its readers': found, read and proved, and nothing of others'.

use std::sync::Arc;

use ledger::checkpoint::Checkpoint;
use ledger::entry::Entry;
use ledger::operator::CoverageState;
use ledger::proof::{TileSource, prove_inclusion, verify_inclusion};
use ledger::search::cluster::{ConnectionAnswer, CoverageAnswer};
use ledger::statement::Statement;
use ledger::tile::{Level, Tile, parse_hashes};
use ledger::tree::{Hash, leaf_hash};

use crate::common::operator::{accepted_in, pod_in};
use crate::common::{Client, Site};
use crate::stand::{ALL, ApiServer, Asks, start};

/// The hash tiles of a small log.
struct Edge(Tile, Vec<Hash>);

impl TileSource for Edge {
    type Error = String;

    fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, String> {
        if tile == self.0 { Ok(self.1.clone()) } else { Err(format!("{tile} of a small log")) }
    }
}

/// That the reader gets this entry, and can prove it by what everybody may have.
async fn proved(client: &Client, reader: &Asks<'_>, index: u64) -> Statement {
    let answer = reader.get(&format!("/v1/entries/{index}")).await;
    assert_eq!(answer.status(), 200, "{index}: {:?}", answer.body());
    client.log_of(index + 1).await;
    // Our own read makes the log grow: an edge may be gone before we have it.
    let (checkpoint, tile, hashes) = loop {
        let note = client.get_as("/log/checkpoint", None).await;
        let checkpoint = Checkpoint::verify(note.body(), &client.vkey).unwrap();
        let tile = Tile::at(Level::Hashes(0), 0, checkpoint.size).unwrap();
        let hashes = client.get_as(&format!("/log/{tile}"), None).await;
        if hashes.status() == 200 {
            break (checkpoint, tile, hashes);
        }
    };
    let edge = Edge(tile, parse_hashes(tile, hashes.body()).unwrap());
    let proof = prove_inclusion(&edge, index, checkpoint.size).unwrap();
    let hash = leaf_hash(answer.body());
    verify_inclusion(&hash, index, checkpoint.size, &proof, &checkpoint.root).unwrap();
    Statement::parse(Entry::parse(answer.body()).unwrap().statement).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespaces_reader_has_what_operators_said_of_it_with_proofs() {
    let site = Site::new();
    let server = Arc::new(ApiServer::default());
    let recorder = start(&site, &server).await;
    let client = &recorder.client;
    let mut operator = site.speaker("system", "operator");
    let token = operator.token.clone();
    let started = client.record(&token, &operator.start(300)).await.0[0].index;
    // No sidecar ever spoke in these namespaces: what there is to read is the operator's.
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for (namespace, uid, places) in [("agents", "one", &mut mine), ("sales", "two", &mut theirs)] {
        for batch in [
            accepted_in(&mut operator, namespace, uid, 1),
            pod_in(&mut operator, namespace, &format!("of-{namespace}"), CoverageState::Uncovered),
        ] {
            places.push(client.record(&token, &batch).await.0[0].index);
        }
    }
    let size = theirs[1] + 1;
    client.log_of(size).await;
    client.search(&format!("wait={size}")).await;
    let account = |name: &str| format!("system:serviceaccount:audit:{name}");
    server.grant(&account("agents-auditor"), ALL, "agents");
    server.grant(&account("everybodys"), ALL, "");
    let asks = |name: &str| Asks { client, token: site.issuer.token("audit", name) };
    let [one, all, nobody] = ["agents-auditor", "everybodys", "nobody"].map(asks);

    for namespace in ["", "&namespace=agents"] {
        let told: CoverageAnswer = one.json(&format!("/v1/coverage?wait={size}{namespace}")).await;
        let told: Vec<_> = told.entries.iter().map(|told| (told.index, told.coverage.pod.as_str())).collect();
        assert_eq!(told, [(mine[1], "of-agents")]);
        let told: ConnectionAnswer = one.json(&format!("/v1/connections?wait={size}{namespace}")).await;
        let told: Vec<_> =
            told.entries.iter().map(|told| (told.index, told.connection.uid.as_str())).collect();
        assert_eq!(told, [(mine[0], "one")]);
    }
    let told: CoverageAnswer = all.json("/v1/coverage").await;
    assert_eq!(told.entries.len(), 2);
    for query in ["connection=sales/billing", "pod=of-sales"] {
        let told: CoverageAnswer = one.json(&format!("/v1/coverage?{query}")).await;
        assert!(told.entries.is_empty(), "{query}: {told:?}");
    }

    assert!(proved(client, &one, mine[0]).await.body.accepted.is_some());
    assert!(proved(client, &one, mine[1]).await.body.coverage.is_some());
    let readable = one.places().await;
    assert!(mine.iter().all(|index| readable.contains(index)), "{readable:?}");
    for foreign in theirs.iter().chain([&started]) {
        assert_eq!(one.refused(&format!("/v1/entries/{foreign}")).await, (404, "not_found".into()));
        assert!(!readable.contains(foreign), "{readable:?}");
    }
    for path in ["/v1/coverage", "/v1/connections", "/v1/coverage?namespace=agents"] {
        assert_eq!(nobody.refused(path).await, (403, "not_a_reader".into()), "{path}");
    }
    for path in ["/v1/coverage?namespace=sales", "/v1/connections?namespace=sales"] {
        assert_eq!(one.refused(path).await, (403, "not_a_reader".into()), "{path}");
    }
    recorder.stop().await;
}
