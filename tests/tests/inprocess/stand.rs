//! The stand: a recorder and a sidecar as libraries, "BigQuery" as a function, an agent as an HTTP client.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bqwitness_proxy::app::Running;
use bqwitness_proxy::config::Flags;
use bqwitness_recorder::app::App;
use bqwitness_recorder::config::Args;
use bqwitness_tests::ca::TestCa;
use bqwitness_tests::identity::{Cluster, Pod};
use bqwitness_tests::process::free_port;
use bqwitness_tests::programs::{AUDIENCE, CLUSTER, ORIGIN};
use bytes::Bytes;
use clap::Parser as _;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub(crate) const HOST: &str = "bigquery.googleapis.com";
pub(crate) const STORAGE: &str = "bigquerystorage.googleapis.com";

/// What does not change when a recorder is stopped and started.
pub(crate) struct Stand {
    pub(crate) folder: TempDir,
    pub(crate) cluster: Cluster,
    pub(crate) pod: Pod,
    pub(crate) google: TestCa,
    recorder_ca: TestCa,
}

/// A recorder that runs in this process.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Stand {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let google = TestCa::new(&own("google"), "Test CA in Google's place").unwrap();
        let recorder_ca = TestCa::new(&own("recorder-ca"), "Test CA of the recorder").unwrap();
        let cluster = Cluster::new("https://kubernetes.default.svc").unwrap();
        cluster.write_jwks(&folder.path().join("jwks.json")).unwrap();
        let pod = Pod::of("agents", "billing");
        cluster.write_token(&pod, AUDIENCE, &folder.path().join("token")).unwrap();
        Self { folder, cluster, pod, google, recorder_ca }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn recorder_ca(&self) -> PathBuf {
        self.recorder_ca.path()
    }

    /// Starts a recorder on the log in `data`, at `address` (port 0: any that it may have again after a restart).
    pub(crate) async fn recorder(&self, data: &Path, address: &str) -> Recorder {
        self.recorder_with(data, address, &[]).await
    }

    /// The same, with more arguments.
    pub(crate) async fn recorder_with(&self, data: &Path, address: &str, more: &[String]) -> Recorder {
        let leaf = self.recorder_ca.leaf(&["127.0.0.1"]).unwrap();
        let address = match address {
            "127.0.0.1:0" => free_port().unwrap().to_string(),
            again => again.to_owned(),
        };
        let arguments = [
            "bqwitness-recorder".into(),
            format!("--data={}", data.display()),
            format!("--listen={address}"),
            "--admin=127.0.0.1:0".into(),
            format!("--origin={ORIGIN}"),
            format!("--tls-cert={}", leaf.certificate.display()),
            format!("--tls-key={}", leaf.key.display()),
            format!("--issuer={}", self.cluster.issuer()),
            format!("--audience={AUDIENCE}"),
            format!("--jwks={}", self.path("jwks.json").display()),
            format!("--cluster={CLUSTER}"),
            "--reader=audit/auditor".into(),
        ];
        let arguments = arguments.into_iter().chain(more.iter().cloned());
        let app = App::start(Args::parse_from(arguments).check().unwrap()).await.unwrap();
        let (address, admin) = (app.listen, app.admin);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let shutdown = async {
                let _asked = stopped.await.is_ok();
            };
            app.run(shutdown).await.unwrap();
        });
        Recorder { address, admin, stop, running }
    }

    /// Starts the sidecar, in front of a "BigQuery" at `upstream`.
    pub(crate) async fn sidecar(&self, recorder: &Recorder, upstream: SocketAddr) -> Running {
        self.sidecar_with(recorder, upstream, &["--credential=passthrough".into()]).await
    }

    /// The same with these settings too.
    pub(crate) async fn sidecar_with(
        &self,
        recorder: &Recorder,
        upstream: SocketAddr,
        more: &[String],
    ) -> Running {
        let flags = [
            "bqwitness-proxy".into(),
            "--listen=127.0.0.1:0".into(),
            "--admin=127.0.0.1:0".into(),
            format!("--recorder=https://{}", recorder.address),
            format!("--recorder-ca={}", self.recorder_ca().display()),
            format!("--recorder-key={}", self.data().join("log.vkey").display()),
            format!("--token-file={}", self.path("token").display()),
            format!("--ca-dir={}", self.path("ca").display()),
            format!("--bundle={}", self.path("bundle.pem").display()),
            "--connection=agents/warehouse".into(),
            format!("--resolve={HOST}:443={upstream},{STORAGE}:443={upstream}"),
            format!("--upstream-ca={}", self.google.path().display()),
            // Nobody waits so long but where the recorder is away: a busy machine must not fail a test.
            "--deliver-timeout=30".into(),
        ];
        let name = |flag: &String| flag.split('=').next().unwrap_or_default().to_owned();
        let said: Vec<_> = more.iter().map(name).collect();
        let flags = flags.iter().filter(|flag| !said.contains(&name(flag)));
        let flags = Flags::parse_from(flags.chain(more));
        bqwitness_proxy::app::start(flags.validate().unwrap()).await.unwrap()
    }

    /// A TLS server in BigQuery's place that answers every request with what `answer` makes of its path.
    pub(crate) async fn bigquery<F>(&self, answer: F) -> Upstream
    where
        F: Fn(&str) -> (StatusCode, String) + Send + Sync + 'static,
    {
        self.bigquery_by_head(move |head| answer(head.uri().path())).await
    }

    /// The same, of its head.
    pub(crate) async fn bigquery_by_head<F>(&self, answer: F) -> Upstream
    where
        F: Fn(&Request<Incoming>) -> (StatusCode, String) + Send + Sync + 'static,
    {
        let tls = TlsAcceptor::from(Arc::new(self.google.server(&[HOST, STORAGE]).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, arrived) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&arrived);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, answer, count) = (tls.clone(), Arc::clone(&answer), Arc::clone(&count));
                tokio::spawn(async move {
                    let stream = TokioIo::new(tls.accept(stream).await.unwrap());
                    let service = service_fn(move |request: Request<Incoming>| {
                        count.fetch_add(1, Ordering::SeqCst);
                        let (status, body) = answer(&request);
                        async move {
                            request.into_body().collect().await?;
                            let mut answer = Response::new(Full::new(Bytes::from(body)));
                            *answer.status_mut() = status;
                            Ok::<_, hyper::Error>(answer)
                        }
                    });
                    // The sidecar closes when the agent does.
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ended = server.serve_connection(stream, service).await.is_ok();
                });
            }
        });
        Upstream { address, arrived, serving }
    }
}

impl Recorder {
    /// Stops it in order.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
    }
}

/// "BigQuery", and how many requests reached it.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    arrived: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Upstream {
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Asks the sidecar for one query, over a connection of its own: CONNECT, TLS, HTTP/1.1. The answer's status and body.
pub(crate) async fn query(stand: &Stand, sidecar: &Running, sql: &str) -> (StatusCode, String) {
    post(stand, sidecar, serde_json::json!({ "query": sql, "useLegacySql": false }).to_string()).await
}

/// The same with a body of any form.
pub(crate) async fn post(stand: &Stand, sidecar: &Running, body: String) -> (StatusCode, String) {
    let request = Request::post("/bigquery/v2/projects/acme-data/queries")
        .header("host", HOST)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    ask(stand, sidecar, HOST, request).await
}

/// One request to a host, over a connection of its own.
pub(crate) async fn ask(
    stand: &Stand,
    sidecar: &Running,
    host: &'static str,
    request: Request<Full<Bytes>>,
) -> (StatusCode, String) {
    let tunnel = connect(sidecar.listen, host).await;
    let roots = runtime::tls::pinned_roots(&stand.path("bundle.pem")).unwrap();
    let tls = TlsConnector::from(Arc::new(runtime::tls::client_config(roots, &[b"http/1.1"]).unwrap()));
    let stream = tls.connect(ServerName::try_from(host).unwrap(), tunnel).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driving = tokio::spawn(connection);
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    driving.abort();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

pub(crate) async fn connect(sidecar: SocketAddr, host: &str) -> TokioIo<hyper::upgrade::Upgraded> {
    let stream = TokioIo::new(TcpStream::connect(sidecar).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::connect(format!("{host}:443")).body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    TokioIo::new(hyper::upgrade::on(answer).await.unwrap())
}
