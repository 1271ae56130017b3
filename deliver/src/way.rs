//! The way to the recorder: a client that trusts the recorder's CAs and nothing else. The file of CAs changes while the sidecar runs: a
//! new CA is added long before the recorder's certificate comes from it. It is read again when the recorder can't be reached.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use runtime::client::{ClientError, HttpsClient};
use runtime::tls::{self, TlsError};

/// How long one attempt may take. Then it is tried again: the recorder recognises what it has.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Greatest answer that is read, in bytes: receipts of a full batch are below 1 MiB.
const MAX_ANSWER: usize = 4 << 20;

/// A client, and the file of the CAs that it trusts.
#[derive(Debug)]
pub struct Way {
    ca: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    ca: String,
    client: HttpsClient,
}

impl Way {
    /// To a recorder with these CAs (PEM), which stay as they are.
    ///
    /// # Errors
    /// There is no certificate in it.
    pub fn fixed(ca: &str) -> Result<Self, TlsError> {
        let roots = tls::pinned_roots_of(ca)?;
        let client = HttpsClient::new(tls::client_config(roots, &[])?, ATTEMPT_TIMEOUT, MAX_ANSWER);
        let known = Mutex::new(Known { ca: ca.into(), client });
        Ok(Self { ca: PathBuf::new(), known })
    }

    /// Reads the CAs (PEM).
    ///
    /// # Errors
    /// The file can't be read, or has no certificate.
    pub fn new(ca: PathBuf) -> Result<Self, TlsError> {
        let known = Mutex::new(Known { ca: tls::read_text(&ca).unwrap_or_default(), client: client(&ca)? });
        Ok(Self { ca, known })
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, ClientError> {
        let client = self.known().client.clone();
        let answer = client.send(request).await;
        if answer.is_err() {
            self.doubt();
        }
        answer
    }

    /// Reads the CAs again, if they are others by now. Others that can't be used leave those that are known.
    fn doubt(&self) {
        let Ok(ca) = tls::read_text(&self.ca) else { return };
        if ca == self.known().ca {
            return;
        }
        match client(&self.ca) {
            Ok(client) => {
                tracing::info!(file = %self.ca.display(), "the recorder's CAs were read again");
                *self.known() = Known { ca, client };
            }
            Err(error) => tracing::warn!("the recorder's new CAs can't be used: {error}"),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(ca: &std::path::Path) -> Result<HttpsClient, TlsError> {
    let tls = tls::client_config(tls::pinned_roots(ca)?, &[])?;
    Ok(HttpsClient::new(tls, ATTEMPT_TIMEOUT, MAX_ANSWER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        rcgen::CertificateParams::default().self_signed(&key).expect("a certificate").pem()
    }

    #[test]
    fn new_cas_are_taken_and_garbage_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        assert!(Way::new(file.clone()).is_err(), "no file");
        let (old, new) = (certificate(), certificate());
        std::fs::write(&file, &old).expect("written");
        let way = Way::new(file.clone()).expect("a CA");
        way.doubt();
        assert_eq!(way.known().ca, old);
        std::fs::write(&file, "garbage").expect("written");
        way.doubt();
        assert_eq!(way.known().ca, old);
        std::fs::write(&file, format!("{new}{old}")).expect("written");
        way.doubt();
        assert_eq!(way.known().ca, format!("{new}{old}"));
        std::fs::remove_file(&file).expect("removed");
        way.doubt();
        assert_eq!(way.known().ca, format!("{new}{old}"));
    }
}
