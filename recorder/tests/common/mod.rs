//! What the recorder's tests share: an issuer of tokens, a recorder in a temporary directory, a speaker, a client.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "test code")]

pub mod memory;
pub mod operator;
pub mod program;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bqwitness_recorder::app::{App, AppError};
use bqwitness_recorder::authn::source::Location;
use bqwitness_recorder::authn::verifier::{Means, Rules};
use bqwitness_recorder::config::Config;
use bqwitness_recorder::store::files::Files;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ledger::batch::{Batch, MEDIA_TYPE};
use ledger::blob::{Blob, BlobRef};
use ledger::call::{Access, CallResult, Intent, Outcome, Reported, TableUse};
use ledger::digest::Digest;
use ledger::log_keys::LogKeys;
use ledger::receipt::{Acknowledgement, Receipt, ReceiptEntry};
use ledger::statement::{
    Body, Claimed, Connection, Observed, SessionEnd, SessionStart, Statement, VERSION, kind,
};
use runtime::client::HttpsClient;
use runtime::telemetry::LogFormat;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use uuid::Uuid;

pub const ORIGIN: &str = "recorder.example.com/test";
pub const ISSUER: &str = "https://issuer.example.com";
pub const AUDIENCE: &str = "bqwitness-recorder";

/// Signs tokens as a cluster does.
pub struct Issuer {
    key: rcgen::KeyPair,
    key_id: String,
}

impl Issuer {
    pub fn new() -> Self {
        Self::with_key_id("k1")
    }

    pub fn with_key_id(id: &str) -> Self {
        Self { key: rcgen::KeyPair::generate().unwrap(), key_id: id.into() }
    }

    pub fn jwks(&self) -> String {
        let point = self.key.public_key_raw();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.key_id,
            "x": part(&point[1..33]), "y": part(&point[33..65])}]})
        .to_string()
    }

    /// The claims of a good token for a pod of `namespace`/`account`.
    pub fn claims(namespace: &str, account: &str) -> Value {
        let now = Timestamp::now().as_second();
        json!({
            "iss": ISSUER, "aud": [AUDIENCE], "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "iat": now, "nbf": now, "exp": now + 3600,
            "kubernetes.io": {
                "namespace": namespace,
                "node": {"name": "node-1", "uid": "n"},
                "pod": {"name": format!("{account}-0"), "uid": format!("uid-of-{account}-0")},
                "serviceaccount": {"name": account, "uid": "s"},
            },
        })
    }

    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        self.sign_with(&header, claims)
    }

    pub fn sign_with(&self, header: &Header, claims: &Value) -> String {
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(header, claims, &key).unwrap()
    }

    pub fn token(&self, namespace: &str, account: &str) -> String {
        self.sign(&Self::claims(namespace, account))
    }
}

/// Files of a recorder: certificates, keys, and its data directory.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub issuer: Issuer,
}

impl Site {
    pub fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap(), issuer: Issuer::new() };
        let certificate =
            rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        std::fs::write(site.path("tls.crt"), certificate.cert.pem()).unwrap();
        std::fs::write(site.path("tls.key"), certificate.signing_key.serialize_pem()).unwrap();
        std::fs::write(site.path("jwks.json"), site.issuer.jwks()).unwrap();
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub fn config(&self) -> Config {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        Config {
            data: self.data(),
            listen: any,
            admin: any,
            origin: ORIGIN.into(),
            tls_cert: self.path("tls.crt"),
            tls_key: self.path("tls.key"),
            rules: Rules {
                issuer: ISSUER.into(),
                audience: AUDIENCE.into(),
                reader_audience: AUDIENCE.into(),
                cluster: "test".into(),
                operators: [("system".to_owned(), "operator".to_owned())].into(),
                readers: [("audit".to_owned(), "auditor".to_owned())].into(),
            },
            means: Means::Keys(Location::File(self.path("jwks.json"))),
            access: None,
            clusters: None,
            others: Vec::new(),
            readers: None,
            issuers: Vec::new(),
            grants: Vec::new(),
            witness_policy: None,
            wait_for_witnesses: Duration::ZERO,
            port_file: None,
            log_level: "info".into(),
            log_format: LogFormat::Text,
            print_config: false,
        }
    }

    /// Starts a recorder in this process.
    pub async fn start(&self) -> Running {
        self.try_start().await.unwrap()
    }

    pub async fn try_start(&self) -> Result<Running, AppError> {
        self.try_run(self.config()).await
    }

    pub async fn run(&self, config: Config) -> Running {
        self.try_run(config).await.unwrap()
    }

    async fn try_run(&self, config: Config) -> Result<Running, AppError> {
        let app = App::start(config).await?;
        let client = self.client(app.listen);
        let admin = app.admin;
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async {
            let _stopped = stopped.await.is_ok();
        }));
        Ok(Running { client, admin, stop, running })
    }

    /// For connections by hand, over HTTP/1.1: trusts the certificate that the site has now, and no other.
    pub fn connector(&self) -> tokio_rustls::TlsConnector {
        let roots = runtime::tls::pinned_roots(&self.path("tls.crt")).unwrap();
        Arc::new(runtime::tls::client_config(roots, &[b"http/1.1"]).unwrap()).into()
    }

    pub fn client(&self, address: SocketAddr) -> Client {
        let roots = runtime::tls::pinned_roots(&self.path("tls.crt")).unwrap();
        let tls = runtime::tls::client_config(roots, &[]).unwrap();
        let vkey = std::fs::read_to_string(self.data().join("log.vkey")).unwrap().parse().unwrap();
        let reader = self.issuer.token("audit", "auditor");
        Client { https: HttpsClient::new(tls, Duration::from_secs(30), 64 << 20), address, vkey, reader }
    }

    pub fn speaker(&self, namespace: &str, account: &str) -> Speaker {
        Speaker::new(self.issuer.token(namespace, account))
    }
}

/// A recorder in this process.
pub struct Running {
    pub client: Client,
    pub admin: SocketAddr,
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<Result<(), AppError>>,
}

impl Running {
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap();
    }

    /// Waits for it to end by itself.
    pub async fn ended(self) -> Result<(), AppError> {
        let Self { stop, running, .. } = self;
        let ended = running.await.unwrap();
        drop(stop); // which would have asked it to stop
        ended
    }
}

/// What the admin server answers, head and all.
pub async fn admin(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The value of one metric, named with its labels.
pub async fn admin_metric(address: SocketAddr, name: &str) -> u64 {
    let metrics = admin(address, "GET /metrics").await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} is not in {metrics}")).parse().unwrap()
}

/// Says that a test is left out and why. Where `CI=true` none may be: it would be a hole that nobody sees.
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "{test} would be skipped, and CI allows none: {why}");
    // Not `eprintln!`, which the test harness captures.
    let line = format!("SKIPPED {test}: {why}\n");
    let _written = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).is_ok();
}

/// Talks to a recorder.
#[derive(Clone)]
pub struct Client {
    pub https: HttpsClient,
    pub address: SocketAddr,
    pub vkey: LogKeys,
    reader: String,
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
        for _ in 0..200 {
            let note = self.get_as("/log/checkpoint", None).await;
            let checkpoint = ledger::checkpoint::Checkpoint::verify(note.body(), &self.vkey).unwrap();
            if checkpoint.size >= size {
                return self.entries(checkpoint.size).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no checkpoint of {size} within 4 s");
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

/// A server behind the site's certificate.
pub async fn serve(site: &Site, router: axum::Router) -> SocketAddr {
    let tls = runtime::tls::server_config(&site.path("tls.crt"), &site.path("tls.key")).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let stream = hyper_util::rt::TokioIo::new(acceptor.accept(stream).await.unwrap());
                let service = hyper_util::service::TowerToHyperService::new(router);
                let builder =
                    hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ended = builder.serve_connection(stream, service).await.is_ok();
            });
        }
    });
    address
}

/// The reason of a refusal.
pub fn refusal(answer: &Response<Bytes>) -> (u16, String) {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    (answer.status().as_u16(), body["error"]["reason"].as_str().unwrap_or("").to_owned())
}

/// One session of one workload.
#[derive(Clone)]
pub struct Speaker {
    pub token: String,
    pub session: Uuid,
    pub seq: u64,
    pub prev: Option<Digest>,
}

impl Speaker {
    pub fn new(token: String) -> Self {
        Self { token, session: Uuid::now_v7(), seq: 0, prev: None }
    }

    /// The next statement's bytes.
    pub fn say(&mut self, kind: &str, body: Body, blobs: BTreeMap<String, BlobRef>) -> Vec<u8> {
        let statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: Timestamp::now(),
            connection: Some(Connection {
                namespace: "agents".into(),
                name: "main".into(),
                uid: String::new(),
                generation: 0,
                spec_digest: None,
            }),
            session: self.session,
            seq: self.seq,
            prev: self.prev,
            observed: Observed::default(),
            claimed: Claimed::default(),
            blobs,
            body,
        };
        let bytes = statement.to_bytes().unwrap();
        (self.seq, self.prev) = (self.seq + 1, Some(Digest::of(&bytes)));
        bytes
    }

    pub fn start(&mut self, heartbeat_seconds: u64) -> Batch {
        let start = SessionStart { version: "test".into(), heartbeat_seconds, ..SessionStart::default() };
        only(self.say(kind::SESSION_START, Body { start: Some(start), ..Body::default() }, BTreeMap::new()))
    }

    pub fn end(&mut self) -> Batch {
        let end = SessionEnd { reason: "shutdown".into(), ..SessionEnd::default() };
        only(self.say(kind::SESSION_END, Body { end: Some(end), ..Body::default() }, BTreeMap::new()))
    }

    pub fn heartbeat(&mut self) -> Batch {
        let heartbeat = Some(ledger::statement::Heartbeat::default());
        only(self.say(kind::SESSION_HEARTBEAT, Body { heartbeat, ..Body::default() }, BTreeMap::new()))
    }

    /// An intent with its SQL.
    pub fn intent(&mut self, sql: &str, kind_of: &str, table: &str, access: Access) -> Batch {
        let blob = Blob::new(Digest::of(Uuid::now_v7().as_bytes()).0, sql.as_bytes()).unwrap();
        let (dataset, table) = table.split_once('.').unwrap();
        let intent = Intent {
            method: "jobs.query".into(),
            project: Some("acme".into()),
            statement_kind: Some(kind_of.into()),
            tables: vec![TableUse {
                project: None,
                dataset: Some(dataset.into()),
                table: table.into(),
                access,
            }],
            ..Intent::default()
        };
        let body = Body { intent: Some(intent), ..Body::default() };
        let statement = self.say(kind::CALL_INTENT, body, BTreeMap::from([("sql".into(), blob.reference())]));
        Batch { blobs: vec![blob], statements: vec![statement] }
    }

    pub fn outcome(&mut self, call: u64, rows: u64) -> Batch {
        let reported = Reported { total_rows: Some(rows), ..Reported::default() };
        let outcome = Outcome {
            call,
            result: CallResult::Answered,
            forwarded: true,
            status: Some(200),
            reported: Some(reported),
            duration_micros: 1234,
            ..Outcome::default()
        };
        only(self.say(
            kind::CALL_OUTCOME,
            Body { outcome: Some(outcome), ..Body::default() },
            BTreeMap::new(),
        ))
    }
}

pub fn only(statement: Vec<u8>) -> Batch {
    Batch { blobs: Vec::new(), statements: vec![statement] }
}

pub fn join(batches: impl IntoIterator<Item = Batch>) -> Batch {
    let mut joined = Batch::default();
    for batch in batches {
        joined.blobs.extend(batch.blobs);
        joined.statements.extend(batch.statements);
    }
    joined
}

/// Copies a directory tree.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A log as the store has it, for the one verifier.
pub struct LogFiles(pub Arc<dyn Files>);

impl ledger::verify::LogSource for LogFiles {
    type Error = String;

    fn checkpoint(&self) -> Result<Vec<u8>, String> {
        self.0.read("log/checkpoint").map_err(|error| error.to_string())
    }

    fn tile(&self, tile: ledger::tile::Tile) -> Result<Option<Vec<u8>>, String> {
        bqwitness_recorder::store::reader::read_tile(&*self.0, tile).map_err(|error| error.to_string())
    }

    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, String> {
        match self.0.read(&bqwitness_recorder::store::publish::blob_path(&digest)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What was acknowledged: the promise and the statement.
pub type Acknowledged = Vec<(ReceiptEntry, Vec<u8>)>;

/// Every acknowledged entry is in the log, at its index; no statement is there twice; the log and every blob verify.
/// Gives the log's size.
pub fn verify(files: Arc<dyn Files>, acknowledged: &Acknowledged) -> u64 {
    use ledger::tile::{Level, TILE_WIDTH, Tile, parse_bundle};
    use ledger::verify::LogSource as _;
    let source = LogFiles(files);
    let vkey: LogKeys = String::from_utf8(source.0.read("log.vkey").unwrap()).unwrap().parse().unwrap();
    let report = ledger::verify::verify_log(&source, &vkey, |_| ()).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.blobs_absent, 0);
    let size = report.checkpoint.size;
    let mut seen = std::collections::HashMap::new();
    let mut leaves = Vec::new();
    for index in 0..size.div_ceil(TILE_WIDTH) {
        let tile = Tile::at(Level::Entries, index, size).unwrap();
        let bytes = source.tile(tile).unwrap().unwrap();
        for leaf in parse_bundle(tile, &bytes).unwrap() {
            let statement = ledger::entry::Entry::parse(leaf).unwrap().statement.to_vec();
            let twice = seen.insert(statement, leaves.len());
            assert_eq!(twice, None, "entry {} is there twice", leaves.len());
            leaves.push(leaf.to_vec());
        }
    }
    for (promise, statement) in acknowledged {
        let leaf = leaves.get(usize::try_from(promise.index).unwrap());
        let leaf = leaf.unwrap_or_else(|| panic!("entry {} was acknowledged and is lost", promise.index));
        assert_eq!(ledger::tree::leaf_hash(leaf), promise.leaf_hash, "entry {}", promise.index);
        assert_eq!(ledger::entry::Entry::parse(leaf).unwrap().statement, statement);
    }
    size
}
