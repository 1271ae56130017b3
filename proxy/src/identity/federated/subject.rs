//! The pod's own token: a projected volume's file, which the kubelet replaces long before its token ends.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use ledger::digest::Digest;

use crate::identity::error::{Category, CredentialError};
use crate::identity::jwt;

/// While attempts fail, the file is looked at this often: a new token may be what was missing.
const LOOK: Duration = Duration::from_secs(1);

/// Greatest length of a token file, in bytes; a longer one is none.
const MAX_TOKEN: u64 = 64 * 1024;

/// The file, and what was last read from it.
pub(super) struct Subject {
    path: PathBuf,
    last: Option<Digest>,
}

/// A token that was read.
pub(super) struct SubjectToken {
    /// The token.
    pub(super) token: String,
    /// Its `sub`, which Google will verify.
    pub(super) name: Option<String>,
}

impl Subject {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, last: None }
    }

    /// The token that is there now.
    pub(super) async fn read(&mut self) -> Result<SubjectToken, CredentialError> {
        let read = content(&self.path).await;
        self.last = read.as_ref().ok().map(|text| Digest::of(text.as_bytes()));
        let place = self.path.display();
        let text = read.map_err(|error| {
            let message = format!(
                "this pod's token for Google can't be read ({place}: {error}): check the projected volume"
            );
            CredentialError::new(Category::SubjectTokenMissing, message)
        })?;
        let token = text.trim();
        if token.is_empty() || token.contains(char::is_whitespace) {
            let message = format!("{place} holds no token: check the projected volume");
            return Err(CredentialError::new(Category::SubjectTokenInvalid, message));
        }
        // What is no JWT is the provider's to judge.
        let claims = jwt::claims(token).unwrap_or_default();
        if claims.expires.is_some_and(|expires| expires <= Timestamp::now().as_second()) {
            let message =
                format!("this pod's token for Google has expired ({place}): the kubelet does not renew it");
            return Err(CredentialError::new(Category::SubjectTokenExpired, message));
        }
        Ok(SubjectToken { token: token.to_owned(), name: claims.texts.get("sub").cloned() })
    }

    /// Waits until there is another token than the last.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = content(&self.path).await.ok().map(|text| Digest::of(text.as_bytes()));
            if now.is_some() && now != self.last {
                return;
            }
        }
    }
}

async fn content(path: &std::path::Path) -> std::io::Result<String> {
    let length = tokio::fs::metadata(path).await?.len();
    if length > MAX_TOKEN {
        return Err(std::io::Error::other(format!("longer than {MAX_TOKEN} bytes")));
    }
    tokio::fs::read_to_string(path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn category(content: Option<&str>) -> Result<Option<String>, &'static str> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let read = Subject::new(path).read().await;
        read.map(|token| token.name).map_err(|error| error.category())
    }

    #[tokio::test]
    async fn what_can_be_wrong_with_the_file_is_named() {
        assert_eq!(category(None).await, Err("subject_token_missing"));
        assert_eq!(category(Some(" \n")).await, Err("subject_token_invalid"));
        assert_eq!(category(Some("two words")).await, Err("subject_token_invalid"));
        assert_eq!(category(Some(&"x".repeat(65 * 1024))).await, Err("subject_token_missing"));
        assert_eq!(category(Some("opaque\n")).await, Ok(None));
        assert_eq!(
            category(Some(&jwt::unsigned(r#"{"sub":"a","exp":1}"#))).await,
            Err("subject_token_expired")
        );
        assert_eq!(category(Some(&jwt::unsigned(r#"{"sub":"a"}"#))).await, Ok(Some("a".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one").unwrap();
        let mut subject = Subject::new(path.clone());
        subject.read().await.unwrap();
        let early = tokio::time::timeout(LOOK * 5, subject.changed()).await;
        assert!(early.is_err(), "nothing has changed");
        // As the kubelet does it: a link is put in the place of another.
        let other = folder.path().join("other");
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &path).unwrap();
        tokio::time::timeout(LOOK * 5, subject.changed()).await.unwrap();
    }
}
