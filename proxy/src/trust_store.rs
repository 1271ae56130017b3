//! What Java trusts: the same certificates as in the bundle, as a PKCS #12 trust store, which is the form that it reads.

use std::fs;
use std::path::{Path, PathBuf};

use p12_keystore::{Certificate, KeyStore, KeyStoreEntry};
use rustls_pki_types::CertificateDer;

use crate::files::{self, Readers};

/// Java reads no certificates without one. It protects nothing: all that is in the store is public.
pub const PASSWORD: &str = "changeit";

/// Rounds of key derivation. More would only delay the start, for the same reason.
const ROUNDS: u32 = 2048;

/// The trust store can't be made or written.
#[derive(Debug, thiserror::Error)]
#[error("the trust store for Java, {0}: {1}")]
pub struct StoreError(PathBuf, String);

/// Where the trust store of a bundle lies: beside it, with this ending.
#[must_use]
pub fn beside(bundle: &Path) -> PathBuf {
    bundle.with_extension("p12")
}

/// Writes `certificates` as a trust store.
///
/// # Errors
/// [`StoreError`]; what was there stays.
pub fn write(path: &Path, certificates: &[CertificateDer<'_>]) -> Result<(), StoreError> {
    let failed = |error: String| StoreError(path.into(), error);
    let store = store(certificates).map_err(|error| failed(error.to_string()))?;
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir).map_err(|error| failed(error.to_string()))?;
    }
    files::replace(path, &store, Readers::Everyone).map_err(|error| failed(error.to_string()))
}

fn store(certificates: &[CertificateDer<'_>]) -> Result<Vec<u8>, p12_keystore::error::Error> {
    let mut store = KeyStore::new();
    for (number, certificate) in certificates.iter().enumerate() {
        match Certificate::from_der(certificate) {
            Ok(certificate) => {
                store.add_entry(&format!("root-{number}"), KeyStoreEntry::Certificate(certificate));
            }
            // A public root that nobody can read; the sidecar's own is the first.
            Err(error) if number > 0 => {
                tracing::warn!(number, %error, "a public root is left out of the trust store for Java");
            }
            Err(error) => return Err(error),
        }
    }
    store.writer(PASSWORD).encryption_iterations(ROUNDS).mac_iterations(ROUNDS).write()
}

#[cfg(test)]
mod tests {
    use super::*;
    use p12_keystore::Pkcs12ImportPolicy;
    use std::os::unix::fs::PermissionsExt as _;

    fn certificate(name: &str) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![name.into()]).expect("a name");
        params.self_signed(&key).expect("a certificate").der().clone()
    }

    /// That Java trusts what is in it is shown with Java: `tests/tests/injected.rs`.
    #[test]
    fn every_certificate_is_in_it_as_a_trusted_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = beside(&folder.path().join("trust/bundle.pem"));
        assert!(path.ends_with("trust/bundle.p12"));
        let certificates =
            [certificate("a.example"), certificate("b.example"), CertificateDer::from(vec![1, 2, 3])];
        write(&path, &certificates).expect("written");
        assert_eq!(path.metadata().expect("written").permissions().mode() & 0o777, 0o644);
        let read = fs::read(&path).expect("written");
        let read = KeyStore::from_pkcs12(&read, PASSWORD, Pkcs12ImportPolicy::Strict).expect("a store");
        let trusted: Vec<_> = read
            .entries()
            .filter_map(|(_, entry)| match entry {
                KeyStoreEntry::Certificate(certificate) => Some(certificate.as_der().to_vec()),
                _ => None,
            })
            .collect();
        assert_eq!(trusted.len(), 2, "the one that is none was left out");
        assert!(certificates[..2].iter().all(|certificate| trusted.iter().any(|one| **one == **certificate)));
        assert!(write(&path, &certificates[2..]).is_err(), "without the sidecar's own there is no use in it");
    }
}
