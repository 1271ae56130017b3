//! The stand: one proxy with all that it needs, and clients that go through it.

pub mod client;
pub mod clock;
pub mod log;
pub mod many;
pub mod recorder;
pub mod upstream;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bqwitness_proxy::app::{self, Running};
use bqwitness_proxy::config::Flags;
use clap::Parser as _;
use ledger::call::{CallResult, Intent, Outcome};
use ledger::statement::Statement;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;

use self::recorder::Recorder;
use self::upstream::Upstream;

pub const BIGQUERY: &str = "bigquery.googleapis.com";
pub const STORAGE: &str = "bigquerystorage.googleapis.com";
pub const CONNECTION: &str = "bigqueryconnection.googleapis.com";
pub const CLOUD_STORAGE: &str = "storage.googleapis.com";
pub const OAUTH: &str = "oauth2.googleapis.com";

/// The names under which the upstream answers.
const GOOGLES: [&str; 6] = [BIGQUERY, STORAGE, CONNECTION, CLOUD_STORAGE, OAUTH, "www.googleapis.com"];

/// The longest that anything here takes; a test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// For tests that wait for a call to be refused, since it can't be recorded. One that is to pass must be recorded within it, on a
/// busy machine too.
pub const SHORT: &str = "--deliver-timeout=3";

pub struct Stand {
    pub proxy: Running,
    pub recorder: Recorder,
    pub upstream: Upstream,
    pub bundle: PathBuf,
    dir: TempDir,
}

impl Stand {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// A stand whose proxy has these flags too.
    pub async fn with(more: &[&str]) -> Self {
        Self::build(more, &[b"h2", b"http/1.1"]).await
    }

    /// A stand whose upstream speaks HTTP/1.1 alone.
    pub async fn with_http1_upstream() -> Self {
        Self::build(&[], &[b"http/1.1"]).await
    }

    async fn build(more: &[&str], upstream_alpn: &[&[u8]]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = TestCa::new(dir.path());
        let mut google = ServerConfig::clone(&ca.server(&GOOGLES));
        google.alpn_protocols = upstream_alpn.iter().map(|name| name.to_vec()).collect();
        let upstream = Upstream::start(Arc::new(google)).await;
        let recorder = Recorder::start(ca.server(&["localhost"])).await;
        let path = |name: &str| dir.path().join(name).display().to_string();
        fs::write(path("log.vkey"), format!("{}\n", recorder.verifier())).unwrap();
        fs::write(path("token"), "header.claims.signature").unwrap();
        let mut flags = vec![
            "bqwitness-proxy".to_owned(),
            "--listen=127.0.0.1:0".into(),
            "--admin=127.0.0.1:0".into(),
            format!("--recorder=https://localhost:{}", recorder.address.port()),
            format!("--recorder-ca={}", path("ca.pem")),
            format!("--recorder-key={}", path("log.vkey")),
            format!("--token-file={}", path("token")),
            format!("--ca-dir={}", path("private")),
            format!("--bundle={}", path("bundle.pem")),
            "--connection=agents/billing".into(),
            format!("--upstream-ca={}", path("ca.pem")),
            format!("--deliver-timeout={}", PATIENCE.as_secs()),
            "--credential=passthrough".into(),
        ];
        for name in GOOGLES {
            flags.push(format!("--resolve={name}:443={}", upstream.address));
        }
        flags.push("--drain-timeout=5".into());
        let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
        let said: Vec<_> = more.iter().map(|flag| name(flag)).filter(|name| name != "--resolve").collect();
        flags.retain(|flag| !said.contains(&name(flag)));
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let config = Flags::parse_from(flags).validate().unwrap();
        let proxy = app::start(config).await.unwrap();
        Self { proxy, recorder, upstream, bundle: dir.path().join("bundle.pem"), dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until `count` outcomes are recorded; answers calls in the order of their intents.
    pub async fn calls(&self, count: usize) -> Vec<Call> {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let calls = self.recorded();
                if calls.iter().filter(|call| call.outcome.is_some()).count() >= count {
                    return calls;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{count} calls were not recorded, but {:?}", self.recorded()))
    }

    /// Waits for the only call.
    pub async fn call(&self) -> Call {
        let mut calls = self.calls(1).await;
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }

    pub fn recorded(&self) -> Vec<Call> {
        let statements = self.recorder.statements();
        let outcome = |intent: &Statement| {
            let own = statements.iter().filter(|s| s.session == intent.session);
            let seq = intent.seq;
            let mut found = own.filter_map(|s| s.body.outcome.clone()).filter(|outcome| outcome.call == seq);
            let outcome = found.next();
            assert!(found.next().is_none(), "two outcomes of call {seq}");
            outcome
        };
        let intents = statements.iter().filter_map(|s| s.body.intent.clone().map(|intent| (s, intent)));
        intents.map(|(s, intent)| Call { outcome: outcome(s), intent, statement: s.clone() }).collect()
    }

    /// The text of the call's blob in this role.
    pub fn blob(&self, call: &Call, role: &str) -> Option<String> {
        let named = call.statement.blobs.get(role)?;
        Some(String::from_utf8(self.recorder.blob(named.digest)).unwrap())
    }

    pub async fn metrics(&self) -> String {
        client::get_plain(self.proxy.admin, "/metrics").await
    }

    pub fn address(&self) -> SocketAddr {
        self.proxy.listen
    }
}

/// An intent with its outcome.
#[derive(Clone, Debug)]
pub struct Call {
    pub intent: Intent,
    pub outcome: Option<Outcome>,
    pub statement: Statement,
}

impl Call {
    pub fn outcome(&self) -> &Outcome {
        self.outcome.as_ref().unwrap()
    }

    pub fn result(&self) -> CallResult {
        self.outcome().result
    }
}

pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
}

impl TestCa {
    /// Makes one, with its certificate in `ca.pem` of this directory.
    pub fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key) }
    }

    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(runtime::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}
