//! TLS settings that all our connections share: rustls with aws-lc-rs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// TLS files that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file that can't be read.
    #[error("{path}: {error}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: rustls_pki_types::pem::Error,
    },
    /// A PEM file without a certificate.
    #[error("{0} holds no certificate")]
    NoCertificate(PathBuf),
    /// The system has no root certificates.
    #[error("the system's root certificates can't be read; install ca-certificates or name a file of roots")]
    NoSystemRoots,
    /// Certificate or key that don't work together.
    #[error("certificate or key can't be used: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The cryptography of this process.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The certificates of a PEM file.
///
/// # Errors
/// Unreadable, or none in it.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |error| TlsError::Pem { path: path.into(), error };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)?;
    if certificates.is_empty() { Err(TlsError::NoCertificate(path.into())) } else { Ok(certificates) }
}

/// The roots of the named PEM file alone: for a pinned peer.
///
/// # Errors
/// Unreadable, or no root in it.
pub fn pinned_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The roots of a PEM text alone.
///
/// # Errors
/// Unreadable, or no root in it.
pub fn pinned_roots_of(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|error| TlsError::Pem { path: "CA".into(), error })?)?;
    }
    if roots.is_empty() { Err(TlsError::NoCertificate("CA".into())) } else { Ok(roots) }
}

/// The system's roots.
///
/// # Errors
/// [`TlsError::NoSystemRoots`]
pub fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _unusable) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 { Err(TlsError::NoSystemRoots) } else { Ok(roots) }
}

/// A client that trusts `roots` and offers `alpn`.
///
/// # Errors
/// Never with our provider, whose protocol versions are rustls's defaults.
pub fn client_config(roots: RootCertStore, alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// A server with the certificate chain and key of two PEM files, for HTTP/2 and HTTP/1.1.
///
/// # Errors
/// Unreadable, or not a pair.
pub fn server_config(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = read_certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::Pem { path: key.into(), error })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Reads a whole file of text, such as a key; the error names the file.
///
/// # Errors
/// The system's, with the path.
pub fn read_text(path: &Path) -> std::io::Result<String> {
    fs::read_to_string(path)
        .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
