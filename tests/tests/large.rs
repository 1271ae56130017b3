//! A gibibyte down and a gibibyte up through the sidecar as it ships, which holds a few pieces of it at a time.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bqwitness_tests::ca::TestCa;
use bqwitness_tests::identity::{Cluster, Pod};
use bqwitness_tests::log;
use bqwitness_tests::programs::{Recorder, Sidecar};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use ledger::call::CallResult;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const HOST: &str = "bigquery.googleapis.com";
const GIBIBYTE: u64 = 1 << 30;

/// The most that the sidecar may ever hold, in KiB.
const MEMORY_KIB: u64 = 64 * 1024;

/// Nobody waits here: a recorder that is slow on a busy machine must not fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// So many bytes, of which nobody holds more than a piece.
struct Many(u64);

impl Body for Many {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        static PIECE: [u8; 1 << 16] = [b'x'; 1 << 16];
        let piece = self.0.min(PIECE.len() as u64);
        self.0 -= piece;
        let piece = usize::try_from(piece).unwrap();
        Poll::Ready((piece > 0).then(|| Ok(Frame::data(Bytes::from_static(&PIECE[..piece])))))
    }
}

async fn length<B>(mut body: B) -> u64
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Debug,
{
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
    }
    length
}

/// Answers GET with a gibibyte, and everything else with the length of what came.
async fn bigquery(ca: &TestCa) -> SocketAddr {
    let tls = TlsAcceptor::from(Arc::new(ca.server(&[HOST]).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let service = service_fn(|request: Request<hyper::body::Incoming>| async {
                    if request.method() == http::Method::GET {
                        return Ok::<_, std::io::Error>(Response::new(Many(GIBIBYTE).boxed()));
                    }
                    let text = length(request.into_body()).await.to_string();
                    Ok(Response::new(
                        http_body_util::Full::from(text).map_err(|never| match never {}).boxed(),
                    ))
                });
                let stream = TokioIo::new(tls.accept(stream).await.unwrap());
                auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await.map_err(drop)
            });
        }
    });
    address
}

/// A tunnel through the sidecar, with TLS in it.
async fn agent(sidecar: &Sidecar, alpn: &[u8]) -> TokioIo<TlsStream<TcpStream>> {
    let mut stream = TcpStream::connect(sidecar.listen()).await.unwrap();
    stream
        .write_all(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = [0; 19];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n\r\n");
    let roots = runtime::tls::pinned_roots(sidecar.bundle()).unwrap();
    let tls = TlsConnector::from(Arc::new(runtime::tls::client_config(roots, &[alpn]).unwrap()));
    TokioIo::new(tls.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap())
}

/// The most that a process ever held, in KiB.
fn peak(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_down_and_up_within_64_mib() {
    let folder = tempfile::tempdir().unwrap();
    let own = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let google = TestCa::new(&own("google"), "Test CA in Google's place").unwrap();
    let ca = TestCa::new(&own("recorder-ca"), "Test CA of the recorder").unwrap();
    let cluster = Cluster::new("https://kubernetes.default.svc.cluster.local").unwrap();
    let (reader, pod) = (Pod::of("audit", "auditor"), Pod::of("agents", "billing"));
    let recorder = Recorder::start(folder.path(), &ca, &cluster, &reader).await.unwrap();
    let upstream = (bigquery(&google).await, &google);
    let sidecar = Sidecar::start(folder.path(), &pod, &cluster, &recorder, upstream, PATIENCE).await.unwrap();

    let io = agent(&sidecar, b"http/1.1").await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let asked = Request::get("/bigquery/v2/projects/p/datasets/d/tables/t/data").header("host", HOST);
    let answer = sender.send_request(asked.body(Many(0)).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(length(answer.into_body()).await, GIBIBYTE);
    let down = peak(sidecar.id());

    let io = agent(&sidecar, b"h2").await;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let path = "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable&upload_id=x";
    let asked = Request::put(format!("https://{HOST}{path}")).body(Many(GIBIBYTE)).unwrap();
    let answer = sender.send_request(asked).await.unwrap();
    let said = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(said, GIBIBYTE.to_string());
    let up = peak(sidecar.id());
    assert!(down <= MEMORY_KIB && up <= MEMORY_KIB, "{down} KiB after the download, {up} after the upload");
    shown(&format!("resident at most: {} MiB after the download, {} after the upload", down >> 10, up >> 10));

    drop(sender);
    let data = recorder.data().to_owned();
    sidecar.stop().await.unwrap();
    recorder.stop().await.unwrap();
    let entries = log::read(&data).unwrap();
    let outcomes: Vec<_> = entries.iter().filter_map(|entry| entry.statement.body.outcome.as_ref()).collect();
    assert!(outcomes.iter().all(|outcome| outcome.result == CallResult::Answered), "{outcomes:?}");
    let (down, up) = (outcomes[0].answer.unwrap(), outcomes[1].sent.unwrap());
    assert_eq!((down.wire_bytes, up.wire_bytes), (GIBIBYTE, GIBIBYTE));
    assert!(down.digest.is_some() && down.digest == up.digest, "the same bytes went down and up");
}

#[allow(clippy::print_stdout)] // shown with --nocapture
fn shown(line: &str) {
    println!("{line}");
}
