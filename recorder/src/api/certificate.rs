//! The API's own certificate. Its files are looked at for changes: a renewed one is shown from the next connection on, and
//! the connections that are there keep theirs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ledger::digest::Digest;
use prometheus::IntCounter;
use runtime::tls::TlsError;
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// A certificate and its key, as the files have them.
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    in_force: RwLock<InForce>,
}

struct InForce {
    /// Of both files: what they were when the acceptor was made.
    digests: [Digest; 2],
    acceptor: TlsAcceptor,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// Unreadable, or not a pair.
    pub fn read(chain: PathBuf, key: PathBuf) -> Result<Self, CertificateError> {
        let digests = digests(&chain, &key)?;
        let in_force = InForce { digests, acceptor: acceptor(&chain, &key)? };
        Ok(Self { chain, key, in_force: RwLock::new(in_force) })
    }

    /// Greets a new connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).acceptor.clone()
    }

    /// Looks for a new certificate, for ever. While the files don't make a pair, the last one stays in force, and each look
    /// counts as one of `failures`.
    pub async fn reload(self: Arc<Self>, failures: IntCounter) {
        let mut failing = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            match self.look() {
                Ok(changed) => {
                    if changed {
                        tracing::info!("the API's certificate has changed");
                    }
                    failing = false;
                }
                Err(error) => {
                    failures.inc();
                    if !failing {
                        tracing::warn!(%error, "the API's new certificate can't be used; the last one stays in force");
                    }
                    failing = true;
                }
            }
        }
    }

    /// Takes what the files have now. A change while they are read is seen at the next look.
    fn look(&self) -> Result<bool, CertificateError> {
        let digests = digests(&self.chain, &self.key)?;
        if digests == self.in_force.read().unwrap_or_else(PoisonError::into_inner).digests {
            return Ok(false);
        }
        let in_force = InForce { digests, acceptor: acceptor(&self.chain, &self.key)? };
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = in_force;
        Ok(true)
    }
}

/// Certificate or key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not PEM, or not a pair.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system's.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
}

fn digests(chain: &Path, key: &Path) -> Result<[Digest; 2], CertificateError> {
    let digest = |path: &Path| match std::fs::read(path) {
        Ok(bytes) => Ok(Digest::of(&bytes)),
        Err(error) => Err(CertificateError::Read(path.into(), error)),
    };
    Ok([digest(chain)?, digest(key)?])
}

fn acceptor(chain: &Path, key: &Path) -> Result<TlsAcceptor, CertificateError> {
    Ok(TlsAcceptor::from(Arc::new(runtime::tls::server_config(chain, key)?)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pair_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let [chain, key] = ["tls.crt", "tls.key"].map(|name| dir.path().join(name));
        let pair = || rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let (first, second) = (pair(), pair());
        std::fs::write(&chain, first.cert.pem()).unwrap();
        std::fs::write(&key, first.signing_key.serialize_pem()).unwrap();
        let certificate = Certificate::read(chain.clone(), key.clone()).unwrap();
        assert!(!certificate.look().unwrap(), "nothing has changed");
        std::fs::write(&chain, second.cert.pem()).unwrap();
        assert!(certificate.look().is_err(), "the key is the first one's");
        std::fs::remove_file(&key).unwrap();
        assert!(certificate.look().unwrap_err().to_string().contains("tls.key"), "the file is named");
        std::fs::write(&key, second.signing_key.serialize_pem()).unwrap();
        assert!(certificate.look().unwrap());
        assert!(!certificate.look().unwrap());
    }
}
