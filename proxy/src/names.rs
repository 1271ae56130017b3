//! How the sidecar finds the addresses of names.
//!
//! Where the pod's host aliases lead Google's names to the sidecar, they do so in its own container too: there it asks the pod's
//! name servers for them, past `/etc/hosts`. All other names, and all names elsewhere, are looked up as the system does it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use runtime::client::Lookup;

use crate::bigquery::google_labels;

/// How names become addresses. Clones share what was learnt.
#[derive(Clone, Debug, Default)]
pub struct Names {
    overrides: HashMap<(String, u16), SocketAddr>,
    past_hosts: Option<TokioResolver>,
}

impl Names {
    /// Looks names up as the system does, but for these (lower case) and ports.
    #[must_use]
    pub fn new(overrides: HashMap<(String, u16), SocketAddr>) -> Self {
        Self { overrides, past_hosts: None }
    }

    /// The same, and Google's names past `/etc/hosts`, from the name servers of `/etc/resolv.conf`.
    ///
    /// # Errors
    /// That file can't be read, or says nothing that can be used.
    pub fn past_hosts(mut self) -> io::Result<Self> {
        let mut builder = TokioResolver::builder_tokio().map_err(io::Error::other)?;
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        // In a pod without one of the families its addresses fail at once; with both, either does.
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        self.past_hosts = Some(builder.build().map_err(io::Error::other)?);
        Ok(self)
    }

    /// The address to use for this name (lower case) and port, if it is not to be looked up.
    #[must_use]
    pub fn overridden(&self, name: &str, port: u16) -> Option<SocketAddr> {
        self.overrides.get(&(name.to_owned(), port)).copied()
    }

    /// All addresses of a name, which may be an address.
    ///
    /// # Errors
    /// It has none, or nobody can be asked.
    pub async fn addresses(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = self.overridden(name, port) {
            return Ok(vec![address]);
        }
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let found: Vec<_> = match &self.past_hosts {
            Some(resolver) if google_labels(bare).is_some() => {
                // With its final dot it is whole, and isn't tried in the cluster's own domains first.
                let found = resolver.lookup_ip(format!("{}.", bare.trim_end_matches('.'))).await;
                let found = found.map_err(io::Error::other)?;
                found.iter().map(|address| SocketAddr::new(address, port)).collect()
            }
            _ => tokio::net::lookup_host((bare, port)).await?.collect(),
        };
        if found.is_empty() { Err(io::Error::other("an empty answer")) } else { Ok(found) }
    }

    /// The same for [`runtime::client::HttpsClient`], where Google's names must be looked up past `/etc/hosts`.
    #[must_use]
    pub fn lookup(&self) -> Option<Lookup> {
        self.past_hosts.as_ref()?;
        let names = self.clone();
        Some(Arc::new(move |name| {
            let names = names.clone();
            Box::pin(async move { names.addresses(&name, 0).await })
        }))
    }
}
