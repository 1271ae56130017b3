//! The second way in: rules of the pod's network send agents' connections here, whatever the agents do; the kernel remembers
//! where they wanted to go. Nothing in an agent's environment names the proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use runtime::drain::Watch;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::{Destination, Replayed, Way, accept};
use crate::app::Proxy;

/// Accepts until the drain starts. Connections that are open then go on, until `cut` cuts them off.
pub async fn listen(proxy: Arc<Proxy>, listener: TcpListener, drain: Watch, cut: Watch) {
    accept::accept(proxy, listener, drain, cut, connection).await;
}

async fn connection(proxy: Arc<Proxy>, stream: TcpStream, from: SocketAddr, drain: Watch) {
    // Answers are small writes that the agent waits for. An error here shows at the first read.
    let _nodelay = stream.set_nodelay(true).is_ok();
    match original_destination(&stream) {
        Ok(address) => {
            let stream = Replayed::new(Bytes::new(), stream);
            super::serve(proxy, Way::Redirect, stream, Destination::Address(address), drain).await;
        }
        Err(error) => {
            tracing::warn!(category = error.category(), %from, %error, "a connection was refused");
            proxy.metrics.connection(error.category());
        }
    }
}

/// A connection to the redirect listener that goes nowhere.
#[derive(Debug, thiserror::Error)]
enum NotRedirected {
    /// Somebody connected to the listener itself. To serve it would be to connect to ourselves, for ever.
    #[error("it was made to the redirect listener itself; agents use --listen, or nothing at all")]
    Direct,
    /// The kernel keeps no destination.
    #[error(
        "the kernel does not know where it wanted to go (SO_ORIGINAL_DST: {0}); was it redirected by iptables?"
    )]
    Unknown(io::Error),
}

impl NotRedirected {
    fn category(&self) -> &'static str {
        match self {
            Self::Direct => "not_redirected",
            Self::Unknown(_) => "destination_unknown",
        }
    }
}

/// Where a connection wanted to go before it was redirected.
fn original_destination(stream: &TcpStream) -> Result<SocketAddr, NotRedirected> {
    let here = stream.local_addr().map_err(NotRedirected::Unknown)?;
    let original = match from_kernel(stream, here) {
        Ok(original) => original,
        // Nothing was done to its addresses, or nobody keeps track of connections here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NotRedirected::Direct),
        Err(error) => return Err(NotRedirected::Unknown(error)),
    };
    if original == here { Err(NotRedirected::Direct) } else { Ok(original) }
}

fn from_kernel(stream: &TcpStream, here: SocketAddr) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let original = if here.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() }?;
    let original = original.as_socket().ok_or_else(|| io::Error::other("neither IPv4 nor IPv6"))?;
    Ok(SocketAddr::new(original.ip().to_canonical(), original.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That a connection which was redirected arrives is shown with real rules: `tests/tests/namespaced.rs`.
    #[tokio::test]
    async fn a_connection_to_the_listener_itself_is_refused() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address).await else { continue }; // no IPv6 here
            let here = listener.local_addr().expect("bound");
            let client = tokio::spawn(TcpStream::connect(here));
            let (stream, _) = listener.accept().await.expect("accepted");
            let error = original_destination(&stream).expect_err("it was not redirected");
            assert_eq!(error.category(), "not_redirected", "{address}: {error}");
            drop(client);
        }
    }
}
