//! The recorder's certificate: from the Secret into the files that the recorder reads, renewed when it is time.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::KeeperError;
use super::config::{CertificateFrom, Config};
use crate::certificate::issue::{self, Held};
use crate::certificate::keeper::Stored;

/// What recorder and Secret have in common: the names of `kubernetes.io/tls`. Written in this order: who has waited for the
/// certificate finds its key there.
const FILES: [&str; 2] = ["tls.key", "tls.crt"];

/// And who vouches for it.
const BUNDLE: &str = "ca.crt";

/// What clients need to know of the certificate.
pub struct Certificate {
    /// The CAs to trust, in PEM: the newest first.
    pub bundle: String,
    /// When it ends.
    pub ends: Timestamp,
}

/// Where it comes from, and where it goes.
pub struct Source {
    from: From,
    tls_dir: PathBuf,
}

enum From {
    Secret { stored: Box<Stored>, names: Vec<String> },
    Given(PathBuf),
}

impl Source {
    pub(super) fn new(config: &Config, client: &Client) -> Self {
        let from = match &config.certificate {
            CertificateFrom::Secret { name, names } => {
                let secrets: Api<Secret> = Api::namespaced(client.clone(), &config.namespace);
                From::Secret {
                    stored: Box::new(Stored { secrets, name: name.clone() }),
                    names: names.clone(),
                }
            }
            CertificateFrom::Given(folder) => From::Given(folder.clone()),
        };
        Self { from, tls_dir: config.tls_dir.clone() }
    }

    /// Renews it when it is time, and sees to it that the recorder has it.
    pub(super) async fn look(&self) -> Result<Certificate, KeeperError> {
        let held = match &self.from {
            From::Secret { stored, names } => stored.renewed(names).await?,
            From::Given(folder) => given(folder)?,
        };
        let usable = issue::usable(&held)?;
        for name in FILES {
            write(&self.tls_dir.join(name), &held[name])?;
        }
        Ok(Certificate { bundle: usable.bundle, ends: usable.ends })
    }
}

fn given(folder: &Path) -> Result<Held, KeeperError> {
    let read = |name: &str| {
        let path = folder.join(name);
        let content = std::fs::read(&path);
        let content = content
            .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())));
        content.map(|content| (name.to_owned(), content))
    };
    Ok([FILES[0], FILES[1], BUNDLE].into_iter().map(read).collect::<Result<_, _>>()?)
}

/// Replaces a file at once, if it is another. Its owner alone reads it.
fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let next = path.with_extension("next");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(content)?;
    drop(file);
    std::fs::rename(next, path)
}
