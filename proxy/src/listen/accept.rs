//! Accepting, the same for all ways in: bounded in number, until the drain starts.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::drain::Watch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::Proxy;

/// Waits this long after the system could not accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the drain starts, and gives each connection to `serve`. Connections that are open then go on, until `cut`
/// cuts them off.
pub(crate) async fn accept<F: Future<Output = ()> + Send + 'static>(
    proxy: Arc<Proxy>,
    listener: TcpListener,
    mut drain: Watch,
    cut: Watch,
    serve: impl Fn(Arc<Proxy>, TcpStream, SocketAddr, Watch) -> F,
) {
    loop {
        let accepted = tokio::select! {
            () = drain.draining() => return,
            accepted = next(&listener, &proxy.room) => accepted,
        };
        let Some((stream, from, place)) = accepted else { return };
        let serving = serve(Arc::clone(&proxy), stream, from, drain.clone());
        let (open, mut cut) = (proxy.metrics.open_connections.clone(), cut.clone());
        tokio::spawn(async move {
            open.inc();
            tokio::select! {
                () = serving => {}
                () = cut.draining() => {}
            }
            open.dec();
            drop(place);
        });
    }
}

async fn next(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.ok()?; // never closed
    loop {
        match listener.accept().await {
            Ok((stream, from)) => return Some((stream, from, place)),
            Err(error) => {
                tracing::warn!(%error, "the proxy can't accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
