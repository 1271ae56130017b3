//! Talks to a recorder, as sidecars and readers do.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use ledger::batch::{Batch, MEDIA_TYPE};
use ledger::log_keys::LogKeys;
use ledger::receipt::{Acknowledgement, Receipt, ReceiptEntry};
use runtime::client::HttpsClient;

use super::PATIENCE;

/// Talks to a recorder.
#[derive(Clone)]
pub struct Client {
    pub https: HttpsClient,
    pub address: SocketAddr,
    pub vkey: LogKeys,
    pub reader: String,
}

impl Client {
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        self.https.send(request).await.unwrap()
    }

    pub async fn get_as(&self, path: &str, token: Option<&str>) -> Response<Bytes> {
        let mut request = Request::get(format!("https://{}{path}", self.address));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(request.body(Full::default()).unwrap()).await
    }

    /// As a reader.
    pub async fn get(&self, path: &str) -> Response<Bytes> {
        self.get_as(path, Some(&self.reader)).await
    }

    pub async fn search(&self, query: &str) -> ledger::search::Answer {
        let answer = self.get(&format!("/v1/search?{query}")).await;
        assert_eq!(answer.status(), 200, "{:?}", answer.body());
        serde_json::from_slice(answer.body()).unwrap()
    }

    pub fn batch_request(&self, token: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
        Request::post(format!("https://{}/v1/batches", self.address))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", MEDIA_TYPE)
            .body(Full::from(body))
            .unwrap()
    }

    pub async fn post(&self, token: &str, body: Vec<u8>) -> Response<Bytes> {
        self.send(self.batch_request(token, body)).await
    }

    /// Sends a batch, which must be recorded, and checks its receipt.
    pub async fn record(&self, token: &str, batch: &Batch) -> (Vec<ReceiptEntry>, Acknowledgement) {
        let answer = self.post(token, batch.encode()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
        self.check(batch, answer.body())
    }

    pub fn check(&self, batch: &Batch, answer: &[u8]) -> (Vec<ReceiptEntry>, Acknowledgement) {
        let acknowledgement: Acknowledgement = serde_json::from_slice(answer).unwrap();
        let receipt = Receipt::verify(acknowledgement.receipt.as_bytes(), &self.vkey).unwrap();
        receipt.check(&acknowledgement.envelopes, &batch.statements).unwrap();
        (receipt.entries, acknowledgement)
    }

    /// The entries of the published log, once it has at least `size`.
    pub async fn log_of(&self, size: u64) -> Vec<Vec<u8>> {
        self.entries(self.log_size_of(size).await).await
    }

    /// Entries that the newest checkpoint covers, once it covers at least `size`.
    pub async fn log_size_of(&self, size: u64) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let covered = self.log_size().await;
            if covered >= size {
                return covered;
            }
            assert!(Instant::now() < deadline, "the log has {covered} entries, and never {size}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Entries that the newest checkpoint covers.
    pub async fn log_size(&self) -> u64 {
        let note = self.get_as("/log/checkpoint", None).await;
        ledger::checkpoint::Checkpoint::verify(note.body(), &self.vkey).unwrap().size
    }

    async fn entries(&self, size: u64) -> Vec<Vec<u8>> {
        use ledger::tile::{Level, Tile, parse_bundle};
        let mut entries = Vec::new();
        for index in 0..size.div_ceil(256) {
            let tile = Tile::at(Level::Entries, index, size).unwrap();
            let answer = self.get(&format!("/log/{tile}")).await;
            assert_eq!(answer.status(), 200, "{tile}");
            entries.extend(parse_bundle(tile, answer.body()).unwrap().into_iter().map(<[u8]>::to_vec));
        }
        entries
    }
}
