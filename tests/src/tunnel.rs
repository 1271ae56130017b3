//! A plain CONNECT proxy: the way to "BigQuery" without us. What clients do through it is what they must do through the
//! sidecar too.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::trouble::{Doing as _, Result};

/// A proxy that serves until it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Tunnel {
    /// Every connection to a Google API, whatever its name, goes to `front`; others are refused with 403.
    ///
    /// # Errors
    /// No port.
    pub async fn start(front: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("opening a port for the tunnel")?;
        let address = listener.local_addr().doing("asking for the tunnel's port")?;
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let service =
                        service_fn(
                            move |request| async move { Ok::<_, Infallible>(connect(request, front)) },
                        );
                    let served =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "tunnel: connection ended");
                    }
                });
            }
        });
        Ok(Self { address, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn connect(request: Request<Incoming>, front: SocketAddr) -> Response<Empty<Bytes>> {
    let google = request.uri().host().is_some_and(|host| host.ends_with(".googleapis.com"));
    let mut answer = Response::new(Empty::new());
    if request.method() != Method::CONNECT || !google {
        tracing::warn!(method = %request.method(), uri = %request.uri(), "tunnel: refused");
        *answer.status_mut() = StatusCode::FORBIDDEN;
        return answer;
    }
    tokio::spawn(async move {
        let copied = async {
            let client = hyper::upgrade::on(request).await.doing("taking over the connection")?;
            let mut front = TcpStream::connect(front).await.doing("connecting to the front")?;
            tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut front).await.doing("copying")
        };
        if let Err(error) = copied.await {
            tracing::debug!(%error, "tunnel ended");
        }
    });
    answer
}
