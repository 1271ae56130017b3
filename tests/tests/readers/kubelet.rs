//! A kubelet as far as port-forwarding goes: the API server leads a client's WebSocket here, and here it is led to the recorder.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bqwitness_tests::ca::TestCa;
use bqwitness_tests::cluster::Kubectl;
use futures::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// The port that is asked for: it goes before the first bytes of each of the two channels.
const PORT: u16 = 8443;

/// Each message begins with its channel.
const PROTOCOL: &str = "v4.channel.k8s.io";

pub(crate) struct Kubelet {
    forwarded: Arc<AtomicUsize>,
}

impl Kubelet {
    /// Makes a node of it, on which the recorder's pod is.
    pub(crate) async fn start(kubectl: &Kubectl, ca: &TestCa, recorder: SocketAddr) -> Self {
        let tls = TlsAcceptor::from(Arc::new(ca.server(&["node-1"]).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let forwarded = Arc::new(AtomicUsize::new(0));
        let count = forwarded.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, count) = (tls.clone(), count.clone());
                tokio::spawn(async move {
                    // A client that goes away ends its stream, and that is all.
                    let _ended = forward(stream, tls, recorder, &count).await.is_some();
                });
            }
        });
        pod_on_node(kubectl, port).await;
        Self { forwarded }
    }

    /// Streams so far.
    pub(crate) fn forwarded(&self) -> usize {
        self.forwarded.load(Ordering::SeqCst)
    }
}

async fn pod_on_node(kubectl: &Kubectl, port: u16) {
    kubectl
        .apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}).to_string())
        .await
        .unwrap();
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    let patch =
        ["patch", "node", "node-1", "--subresource=status", "--type=merge", "-p", &status.to_string()];
    kubectl.say(&patch).await.unwrap();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "bqwitness", "name": "bqwitness-recorder-0"},
        "spec": {"nodeName": "node-1", "serviceAccountName": "bqwitness-recorder",
                 "containers": [{"name": "recorder", "image": "example.com/recorder:1"}]},
    });
    kubectl.apply(&pod.to_string()).await.unwrap();
    let running = json!({"status": {"phase": "Running"}}).to_string();
    let patch = [
        "-n",
        "bqwitness",
        "patch",
        "pod",
        "bqwitness-recorder-0",
        "--subresource=status",
        "--type=merge",
        "-p",
        &running,
    ];
    kubectl.say(&patch).await.unwrap();
}

async fn forward(
    stream: TcpStream,
    tls: TlsAcceptor,
    recorder: SocketAddr,
    count: &AtomicUsize,
) -> Option<()> {
    let stream = tls.accept(stream).await.ok()?;
    // Of the protocols that are offered it takes the one that every kubelet knows.
    #[allow(clippy::result_large_err, reason = "the library's own type")]
    let agree = |request: &Request, mut response: Response| {
        let offered = request.headers().get_all("sec-websocket-protocol").iter();
        assert!(offered.map(|names| names.to_str().unwrap()).any(|names| names.contains(PROTOCOL)));
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(PROTOCOL));
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, agree).await.ok()?;
    count.fetch_add(1, Ordering::SeqCst);
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_pod, mut to_pod) = TcpStream::connect(recorder).await.ok()?.into_split();
    for channel in [0, 1] {
        let [low, high] = PORT.to_le_bytes();
        to_client.send(Message::binary(vec![channel, low, high])).await.ok()?;
    }
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            let bytes = message.into_data();
            if bytes.first() == Some(&0) {
                to_pod.write_all(&bytes[1..]).await.ok()?;
            }
        }
        to_pod.shutdown().await.ok()
    };
    let down = async {
        let mut bytes = vec![0; 16 * 1024];
        loop {
            let length = from_pod.read(&mut bytes[1..]).await.ok().filter(|length| *length > 0)?;
            to_client.send(Message::binary(bytes[..=length].to_vec())).await.ok()?;
        }
    };
    tokio::select! { ended = up => ended, ended = down => ended }
}
