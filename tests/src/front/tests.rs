#![allow(clippy::unwrap_used, clippy::panic)]
use std::convert::Infallible;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response, Version, header};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::*;

/// Answers with what it was asked: version, host, protocol, path.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| async move {
                let header =
                    |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                let host = request.uri().host().map(ToOwned::to_owned).or(header("host"));
                let text = format!(
                    "{:?} {} {} {}",
                    request.version(),
                    host.unwrap(),
                    header("x-forwarded-proto").unwrap(),
                    request.uri().path()
                );
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
            });
            let server = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { server.serve_connection(TokioIo::new(stream), service).await.is_ok() });
        }
    });
    address
}

async fn front(folder: &std::path::Path) -> (Front, TestCa) {
    let ca = TestCa::new(folder, "Test CA").unwrap();
    let address = echo().await;
    (Front::start(&ca, Upstream { rest: address, grpc: address }).await.unwrap(), ca)
}

/// One request on one connection; the answer's body, or `None` when the connection ended before it did.
async fn ask(front: &Front, ca: &TestCa, host: &'static str, alpn: &[&[u8]], gzip: bool) -> Option<Bytes> {
    let roots = runtime::tls::pinned_roots(&ca.path()).unwrap();
    let tls = TlsConnector::from(Arc::new(runtime::tls::client_config(roots, alpn).unwrap()));
    let stream = TcpStream::connect(front.address()).await.unwrap();
    let stream = tls.connect(ServerName::try_from(host).unwrap(), stream).await.unwrap();
    let mut request = Request::get(format!("https://{host}/bigquery/v2/x?y=z")).header(header::HOST, host);
    if gzip {
        request = request.header(header::ACCEPT_ENCODING, "deflate, gzip;q=1.0");
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let answer = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async { connection.await.is_ok() });
        sender.send_request(request).await
    } else {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async { connection.await.is_ok() });
        sender.send_request(request).await
    };
    let answer = answer.ok()?;
    assert_eq!(answer.headers().get(header::CONTENT_ENCODING).is_some(), gzip);
    answer.collect().await.ok().map(|body| body.to_bytes())
}

/// The request arrives, as the last of so many, and has no answer a while later.
async fn not_answered(front: &Front, count: usize, asked: impl Future<Output = Option<Bytes>>) {
    let arrives = async {
        while front.arrivals().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        answer = asked => panic!("it answered: {answer:?}"),
        in_time = tokio::time::timeout(Duration::from_secs(20), arrives) => in_time.expect("it arrives"),
    }
    assert_eq!(front.arrivals().len(), count);
}

#[tokio::test]
async fn what_arrives_is_counted_and_goes_to_the_right_port() {
    let folder = tempfile::tempdir().unwrap();
    let (front, ca) = front(folder.path()).await;
    let plain = ask(&front, &ca, "bigquery.googleapis.com", &[], false).await.unwrap();
    assert_eq!(plain, format!("{:?} bigquery.googleapis.com https /bigquery/v2/x", Version::HTTP_11));
    let storage = ask(&front, &ca, STORAGE_HOST, &[b"h2"], false).await.unwrap();
    assert!(storage.starts_with(format!("{:?}", Version::HTTP_2).as_bytes()), "{storage:?}");
    let regional = ask(&front, &ca, "us-central1-bigquery.googleapis.com", &[b"h2"], false).await.unwrap();
    assert!(regional.starts_with(format!("{:?} us-central1-", Version::HTTP_11).as_bytes()), "{regional:?}");

    let hosts: Vec<String> = front.arrivals().into_iter().map(|arrival| arrival.host).collect();
    assert_eq!(hosts, ["bigquery.googleapis.com", STORAGE_HOST, "us-central1-bigquery.googleapis.com"]);
    assert_eq!(front.arrivals()[0].path, "/bigquery/v2/x?y=z");
}

#[tokio::test]
async fn it_gzips_delays_and_hangs_up_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (front, ca) = front(folder.path()).await;
    front.gzip(true);
    let gzipped = ask(&front, &ca, NAMES[0], &[], true).await.unwrap();
    assert!(gzipped.starts_with(&[0x1f, 0x8b]), "{gzipped:?}");
    ask(&front, &ca, NAMES[0], &[], false).await.unwrap();

    front.delay(Duration::from_millis(50));
    let start = Instant::now();
    ask(&front, &ca, NAMES[0], &[], false).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));

    front.fail(2, Fault::HangUp);
    assert_eq!(ask(&front, &ca, NAMES[0], &[], false).await, None);
    assert_eq!(ask(&front, &ca, NAMES[0], &[b"h2"], false).await, None);
    ask(&front, &ca, NAMES[0], &[], false).await.unwrap();
    assert_eq!(front.arrivals().len(), 6);
}

#[tokio::test]
async fn it_breaks_off_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (front, ca) = front(folder.path()).await;
    for fault in [Fault::Reset, Fault::HalfClose] {
        front.fail(1, fault);
        assert_eq!(ask(&front, &ca, NAMES[0], &[], false).await, None, "{fault:?}");
    }
    front.fail(1, Fault::Stall);
    let stalled = ask(&front, &ca, NAMES[0], &[], false);
    tokio::pin!(stalled);
    not_answered(&front, 3, stalled.as_mut()).await;
    front.drip(Some(Drip { bytes: 10, pause: Duration::from_millis(5) }));
    let dripped = ask(&front, &ca, NAMES[0], &[], false).await.unwrap();
    assert_eq!(dripped, format!("{:?} bigquery.googleapis.com https /bigquery/v2/x", Version::HTTP_11));
    assert_eq!(front.counts(), BTreeMap::from([("unknown".to_owned(), 4)]));
}

#[tokio::test]
async fn it_holds_requests_and_closes_idle_connections() {
    let folder = tempfile::tempdir().unwrap();
    let (front, ca) = front(folder.path()).await;
    front.hold(true);
    let held = ask(&front, &ca, NAMES[0], &[], false);
    tokio::pin!(held);
    not_answered(&front, 1, held.as_mut()).await;
    front.close_idle(); // not idle: it is answered first
    front.hold(false);
    held.await.unwrap();

    let roots = runtime::tls::pinned_roots(&ca.path()).unwrap();
    let tls = TlsConnector::from(Arc::new(runtime::tls::client_config(roots, &[]).unwrap()));
    let stream = TcpStream::connect(front.address()).await.unwrap();
    let mut idle = tls.connect(ServerName::try_from(NAMES[0]).unwrap(), stream).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut read = [0; 1];
    idle.read_exact(&mut read).await.unwrap();
    front.close_idle();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(!String::from_utf8_lossy(&rest).to_lowercase().contains("connection: close"), "without a word");
}
