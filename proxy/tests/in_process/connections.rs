//! Which connections are intercepted, spliced and refused, on the wire.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::stand::client::{self, Agent, nothing, request, tls, tls_trusting, tunnel};
use crate::stand::log::Log;
use crate::stand::{BIGQUERY, Stand};

/// Echoes one connection.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _copied = tokio::io::copy(&mut read, &mut write).await.is_ok();
            });
        }
    });
    address
}

async fn raw(stand: &Stand, text: &str) -> String {
    let mut stream = TcpStream::connect(stand.address()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let _closed = stream.read_to_string(&mut answer).await.is_ok();
    answer
}

#[tokio::test]
async fn other_hosts_are_spliced_or_refused() {
    let echo = echo().await;
    let stand = Stand::new().await;
    let mut stream = tunnel(stand.address(), &echo.to_string()).await.unwrap();
    let mut answer = [0; 5];
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0, "half-closing passes");

    let stand = Stand::with(&["--other-egress=refuse"]).await;
    let mut stream = tunnel(stand.address(), &echo.to_string()).await.unwrap();
    let _sent = stream.write_all(b"hello").await.is_ok();
    assert!(!matches!(stream.read(&mut answer).await, Ok(1..)), "nothing comes back");
    assert!(stand.metrics().await.contains("bqwitness_connections_total{way=\"egress_refused\"} 1\n"));
}

#[tokio::test]
async fn bigquery_by_address_is_intercepted() {
    let stand = Stand::new().await;
    let stream = tls(&stand, "192.0.2.1:443", BIGQUERY, &[]).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (head, _) = Agent::Http1(sender)
        .ask(request("GET", BIGQUERY, "/bigquery/v2/projects").body(nothing()).unwrap())
        .await;
    assert_eq!(head.status, 200);
    assert_eq!(stand.calls(1).await.len(), 1);
}

#[tokio::test]
async fn another_name_in_the_hello_is_refused() {
    let stand = Stand::new().await;
    for (connect, name) in
        [("storage.googleapis.com:443", BIGQUERY), ("bigquery.googleapis.com:443", "storage.googleapis.com")]
    {
        assert!(tls(&stand, connect, name, &[]).await.is_err(), "{connect} {name}");
    }
    assert!(stand.metrics().await.contains("bqwitness_connections_total{way=\"name_mismatch\"} 2\n"));
}

#[tokio::test]
async fn bigquery_without_tls_is_closed() {
    let stand = Stand::new().await;
    let mut stream = tunnel(stand.address(), &format!("{BIGQUERY}:80")).await.unwrap();
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {BIGQUERY}\r\n\r\n").as_bytes()).await.unwrap();
    assert!(!matches!(stream.read(&mut [0; 9]).await, Ok(1..)), "nothing comes back");
    assert!(stand.metrics().await.contains("bqwitness_connections_total{way=\"not_tls\"} 1\n"));
}

#[tokio::test]
async fn requests_that_are_no_connect() {
    let stand = Stand::new().await;
    let plain =
        raw(&stand, "GET http://bigquery.googleapis.com/ HTTP/1.1\r\nHost: bigquery.googleapis.com\r\n\r\n")
            .await;
    assert!(plain.starts_with("HTTP/1.1 403 ") && plain.contains("HTTPS_PROXY"), "{plain}");
    let own = raw(&stand, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(own.starts_with("HTTP/1.1 400 ") && own.contains("not a web server"), "{own}");
    for connect in ["bigquery.googleapis.com", "me@bigquery.googleapis.com:443", "[x]:443"] {
        let answer = tunnel(stand.address(), connect).await.unwrap_err();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{connect}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_trust_us_is_counted_by_its_alert() {
    let log = Log::default();
    let _logging = log.listen();
    let stand = Stand::new().await;
    let elsewhere = stand.dir().join("ca.pem"); // the upstream's, not the sidecar's
    for _ in 0..2 {
        let refused =
            tls_trusting(stand.address(), &elsewhere, &format!("{BIGQUERY}:443"), BIGQUERY, &[]).await;
        assert!(refused.is_err());
    }
    let counted = async {
        loop {
            let metrics = stand.metrics().await;
            if metrics.contains("bqwitness_tls_failures_total{alert=\"unknown_ca\"} 2\n") {
                break metrics;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let metrics = tokio::time::timeout(crate::stand::PATIENCE, counted).await.expect("both are counted");
    assert!(metrics.contains("bqwitness_connections_total{way=\"intercepted\"} 2\n"));
    let logged = log.said();
    assert_eq!(logged.matches("an agent ended the TLS handshake").count(), 1, "once: {logged}");
    for what_to_do in ["REQUESTS_CA_BUNDLE", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "unknown_ca", "bundle.pem"]
    {
        assert!(logged.contains(what_to_do), "{logged}");
    }
}

/// Other APIs on a host that is looked into pass, with one line in the record, and never to another host.
#[tokio::test]
async fn other_apis_on_a_shared_host_are_recorded_by_their_head() {
    let stand = Stand::new().await;
    let host = "www.googleapis.com";
    let mut agent = Agent::http1(&stand, host).await;
    let path = "/oauth2/v3/tokeninfo?access_token=secret";
    let (head, _) = agent.ask(request("GET", host, path).body(nothing()).unwrap()).await;
    assert_eq!(head.status, 200);
    let call = stand.call().await;
    assert_eq!(call.intent.method, "other");
    assert_eq!(call.intent.http.path, "/oauth2/v3/tokeninfo?access_token=REDACTED");
    assert_eq!(call.statement.blobs.len(), 0);
    let asked = request("GET", BIGQUERY, "/oauth2/v3/certs").body(nothing()).unwrap();
    assert_eq!(agent.ask(asked).await.0.status, 421);
    assert_eq!(stand.upstream.arrived().len(), 1);
}

#[tokio::test]
async fn bigquery_on_a_shared_host_is_told_by_its_path() {
    let stand = Stand::new().await;
    let host = "www.googleapis.com";
    let mut agent = Agent::http1(&stand, host).await;
    let (head, _) = agent.ask(request("GET", host, "/bigquery/v2/projects").body(nothing()).unwrap()).await;
    assert_eq!(head.status, 200);
    assert_eq!(stand.call().await.intent.method, "projects.list");
}

#[tokio::test]
async fn ready_when_the_recorder_has_acknowledged() {
    let stand = Stand::new().await;
    let ready = async {
        while !client::get_plain(stand.proxy.admin, "/readyz").await.starts_with("HTTP/1.1 200 ") {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::stand::PATIENCE, ready).await.expect("it gets ready");
    let first = &stand.recorder.statements()[0];
    assert!(first.body.start.as_ref().is_some_and(|start| start.config_digest.is_some()));
    assert_eq!(
        first.connection.as_ref().map(|c| (c.namespace.as_str(), c.name.as_str())),
        Some(("agents", "billing"))
    );
}
