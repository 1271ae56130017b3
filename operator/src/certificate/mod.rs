//! The webhook's own certificate and CA: made by the operator, kept in a Secret that its replicas share, renewed long before
//! they end. No cert-manager is needed.
//!
//! [`issue`] is pure: what a Secret should hold, given what it holds and the time. [`keeper`] reads and writes it.

pub mod issue;
pub mod keeper;

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

/// The certificate in force, for every new connection.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    key: Arc<RwLock<Option<Arc<CertifiedKey>>>>,
}

impl InForce {
    /// Shows `key` from now on.
    pub fn replace(&self, key: CertifiedKey) {
        *self.key.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
    }

    /// Greets connections with what is in force.
    ///
    /// # Errors
    /// Never with our provider, whose protocol versions are rustls's defaults.
    pub fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(runtime::tls::provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for InForce {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
