//! HTTPS with the certificate in force: a renewed one is shown from the next connection on.

use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use runtime::drain::Watch;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Most connections at one time; the next ones wait in the system's queue. An API server keeps a few.
const MAX_CONNECTIONS: usize = 1024;

/// TLS must be agreed upon, and each request's head be there, within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// An API server that is idle keeps its connection as long as it answers these.
const PING: Duration = Duration::from_secs(30);

/// Takes connections until the drain, then lets those that are there finish their requests.
pub async fn serve(listener: TcpListener, tls: TlsAcceptor, router: Router, mut drain: Watch) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = tokio::select! {
            () = drain.draining() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: nothing else to do than to wait for one.
                    tracing::warn!(%error, "can't accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (tls, router, drain) = (tls.clone(), router.clone(), drain.clone());
        tokio::spawn(async move {
            connection(stream, tls, router, drain).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, router: Router, mut drain: Watch) {
    // Otherwise the second packet of an answer may wait 40 ms for the first one's acknowledgement. Where it can't be set, it waits.
    let _nodelay = stream.set_nodelay(true).is_ok();
    let stream = match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "no TLS"),
        Err(_) => return tracing::debug!("no TLS in time"),
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
