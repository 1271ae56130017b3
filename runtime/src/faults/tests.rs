#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const OURS: &str = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 4\r\n\r\nours";

/// A server of hyper's that says "fine" to every request, its peer's end, and the faults that were found.
fn server(http2: bool, answer: Option<&'static str>) -> (DuplexStream, Arc<Mutex<Vec<Fault>>>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let found = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&found);
    let watched = Faults::new(
        near,
        Box::new(move |fault| {
            noted.lock().unwrap().push(fault);
            answer.map(Bytes::from)
        }),
    );
    let fine =
        |_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("fine")))) };
    tokio::spawn(async move {
        let (io, service) = (TokioIo::new(watched), service_fn(fine));
        if http2 {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.serve_connection(io, service).await.map_err(drop)
        } else {
            let mut server = hyper::server::conn::http1::Builder::new();
            server.auto_date_header(false).serve_connection(io, service).await.map_err(drop)
        }
    });
    (far, found)
}

async fn all(peer: &mut DuplexStream) -> String {
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).await.unwrap();
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_none_gets_our_answer_behind_a_good_one() {
    let (mut peer, found) = server(false, Some(OURS));
    peer.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nno head\r\n\r\n").await.unwrap();
    let heard = all(&mut peer).await;
    assert_eq!(heard, format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine{OURS}"));
    assert_eq!(*found.lock().unwrap(), [Fault::MalformedHead]);
}

#[tokio::test(start_paused = true)]
async fn who_still_sends_gets_the_answer_and_is_not_waited_for_for_ever() {
    let (mut peer, found) = server(false, Some(OURS));
    peer.write_all(format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(200)).as_bytes()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let mut heard = vec![0; OURS.len()];
    peer.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, OURS.as_bytes());
    peer.write_all(&vec![b'x'; 1 << 20]).await.unwrap(); // much more than a pipe holds
    while peer.write_all(b"and never an end").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() <= LINGER_TIME + Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(*found.lock().unwrap(), [Fault::HeadTooLarge]);
}

#[tokio::test]
async fn without_an_answer_of_ours_hypers_own_passes() {
    let (mut peer, _) = server(false, None);
    peer.write_all(b"no head\r\n\r\n").await.unwrap();
    let heard = all(&mut peer).await;
    assert!(bare::bare_answer(heard.as_bytes()).is_some(), "hyper says now: {heard}");
}

#[tokio::test]
async fn what_is_no_http2_is_counted() {
    let (mut peer, found) = server(true, None);
    peer.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    all(&mut peer).await;
    assert_eq!(*found.lock().unwrap(), [Fault::Http2Connection]);

    let (mut peer, found) = server(true, None);
    peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    peer.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // SETTINGS
    // HEADERS of stream 1, whole, with a name that HTTP/2 does not have: `:x: y`, as HPACK's literal without an index.
    peer.write_all(&[0, 0, 6, 1, 5, 0, 0, 0, 1, 0, 2, b':', b'x', 1, b'y']).await.unwrap();
    let mut reset = [0; 1];
    while found.lock().unwrap().is_empty() {
        peer.read_exact(&mut reset).await.unwrap();
    }
    let found = found.lock().unwrap()[0];
    assert!(matches!(found, Fault::Http2Stream | Fault::Http2Connection), "{found:?}");
}
