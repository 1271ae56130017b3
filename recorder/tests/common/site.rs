//! A recorder in a temporary directory, run in this process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bqwitness_recorder::app::{App, AppError};
use bqwitness_recorder::authn::source::Location;
use bqwitness_recorder::authn::verifier::{Means, Rules};
use bqwitness_recorder::config::Config;
use runtime::client::HttpsClient;
use runtime::telemetry::LogFormat;
use tokio::sync::oneshot;

use super::{AUDIENCE, Client, ISSUER, Issuer, ORIGIN, Speaker};

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
