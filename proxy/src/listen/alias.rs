//! The third way in: the pod's host aliases lead BigQuery's names to these loopback addresses. What the client then says in its
//! ClientHello is where it wanted to go; nothing else tells.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use runtime::drain::Watch;
use tokio::net::{TcpListener, TcpStream};

use super::hello::{self, HELLO_TIMEOUT, Hello};
use super::{Destination, Replayed, Way, accept};
use crate::app::Proxy;

/// The port that BigQuery's clients go to, wherever the listener is.
const HTTPS: u16 = 443;

/// The name that must lead here.
const BIGQUERY: &str = "bigquery.googleapis.com";

/// Accepts until the drain starts. Connections that are open then go on, until `cut` cuts them off.
pub async fn listen(proxy: Arc<Proxy>, listener: TcpListener, drain: Watch, cut: Watch) {
    accept::accept(proxy, listener, drain, cut, connection).await;
}

async fn connection(proxy: Arc<Proxy>, stream: TcpStream, from: SocketAddr, drain: Watch) {
    // Answers are small writes that the agent waits for. An error here shows at the first read.
    let _nodelay = stream.set_nodelay(true).is_ok();
    let mut stream = Replayed::new(Bytes::new(), stream);
    let category = match hello::read(&mut stream, HELLO_TIMEOUT).await {
        Ok(Hello { name: Some(name), bytes }) => {
            stream.put_back(bytes);
            return super::serve(proxy, Way::Alias, stream, Destination::Name(name, HTTPS), drain).await;
        }
        Ok(Hello { name: None, .. }) => "name_absent",
        Err(error) => error.category(),
    };
    tracing::warn!(category, %from, "a connection was refused: it does not say whom it asks");
    proxy.metrics.connection(category);
}

/// BigQuery's name does not lead to the sidecar in this pod.
#[derive(Debug, thiserror::Error)]
#[error(
    "{BIGQUERY} leads to {0} in this pod, and not to the sidecar's {1}: spec.hostAliases must say so, as the injector does"
)]
pub struct NotAliased(String, SocketAddr);

/// Does the pod lead BigQuery's name here? Its `/etc/hosts` is the same in all its containers.
///
/// # Errors
/// [`NotAliased`]
pub async fn check(listening: &[SocketAddr]) -> Result<(), NotAliased> {
    let Some(first) = listening.first() else { return Ok(()) };
    let found: Vec<_> = match tokio::net::lookup_host((BIGQUERY, HTTPS)).await {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(_) => Vec::new(),
    };
    if leads_here(&found, listening) {
        return Ok(());
    }
    let led = if found.is_empty() { "nothing".into() } else { format!("{found:?}") };
    Err(NotAliased(led, *first))
}

fn leads_here(found: &[IpAddr], listening: &[SocketAddr]) -> bool {
    // In a pod without IPv6 nobody listens on its loopback address, and nobody reaches it.
    let is_here = |address: &IpAddr| {
        listening.iter().any(|own| own.ip() == *address) || *address == Ipv6Addr::LOCALHOST
    };
    !found.is_empty() && found.iter().all(is_here)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That connections arrive by the aliases is shown in a pod: `tests/tests/injected`.
    #[test]
    fn a_sidecar_knows_whether_the_name_leads_to_it() {
        let listening = ["127.61.33.1:443", "127.61.33.2:443"].map(|text| text.parse().expect("an address"));
        let leads = |found: &[&str]| {
            let found: Vec<_> = found.iter().map(|text| text.parse().expect("an address")).collect();
            leads_here(&found, &listening)
        };
        assert!(leads(&["127.61.33.1"]) && leads(&["127.61.33.2", "::1"]));
        assert!(!leads(&[]), "no name server, and no alias");
        assert!(!leads(&["142.250.0.1"]) && !leads(&["127.61.33.1", "2a00:1450::1"]));
    }
}
