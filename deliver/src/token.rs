//! The pod's token, as the recorder wants it. The kubelet rotates it: each batch looks at the file, and reads it when it is
//! another than before.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::header::HeaderValue;

use super::recorder::DeliveryError;

/// A file with a token, and what was read of it last.
pub(super) struct Token {
    file: PathBuf,
    read: Mutex<Option<(Stamp, HeaderValue)>>,
}

/// What changes when a file is replaced or written: its inode, length, and time of modification.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self(file.ino(), file.size(), file.mtime(), file.mtime_nsec())
    }
}

impl Token {
    pub(super) fn of(file: PathBuf) -> Self {
        Self { file, read: Mutex::default() }
    }

    /// The value of `Authorization`.
    ///
    /// # Errors
    /// [`DeliveryError::Token`]
    pub(super) async fn bearer(&self) -> Result<HeaderValue, DeliveryError> {
        // Not worth a thread that may block: the kubelet's volume is memory, and this takes a microsecond.
        let stamp = Stamp::of(&std::fs::metadata(&self.file).map_err(|error| self.unreadable(&error))?);
        let known = self.last().as_ref().filter(|(read, _)| *read == stamp).map(|(_, bearer)| bearer.clone());
        if let Some(bearer) = known {
            return Ok(bearer);
        }
        let bearer = self.read().await?;
        *self.last() = Some((stamp, bearer.clone()));
        Ok(bearer)
    }

    /// The recorder did not take it: the next one is read from the file, whatever it looks like.
    pub(super) fn doubt(&self) {
        *self.last() = None;
    }

    async fn read(&self) -> Result<HeaderValue, DeliveryError> {
        let token = tokio::fs::read_to_string(&self.file).await.map_err(|error| self.unreadable(&error))?;
        let bearer = format!("Bearer {}", token.trim());
        let mut bearer = HeaderValue::try_from(bearer).map_err(|_| self.unreadable(&"not a token"))?;
        bearer.set_sensitive(true);
        Ok(bearer)
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> DeliveryError {
        DeliveryError::Token(format!("{}: {error}", self.file.display()))
    }

    fn last(&self) -> MutexGuard<'_, Option<(Stamp, HeaderValue)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner) // one value, replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_token_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        let token = Token::of(file.clone());
        assert_eq!(token.bearer().await.expect_err("no file").category(), "token_unreadable");
        std::fs::write(&file, "one\n").expect("written");
        assert_eq!(token.bearer().await.expect("there"), "Bearer one");
        // As the kubelet does it: another file takes the name. Here it has the same length, and maybe the same time.
        let next = folder.path().join("next");
        std::fs::write(&next, "two\n").expect("written");
        std::fs::rename(&next, &file).expect("renamed");
        assert_eq!(token.bearer().await.expect("another file"), "Bearer two");
        assert!(token.bearer().await.expect("known").is_sensitive());
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(token.bearer().await.expect_err("gone").category(), "token_unreadable");
    }

    #[tokio::test]
    async fn one_that_was_refused_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "one").expect("written");
        let token = Token::of(file.clone());
        token.bearer().await.expect("there");
        let stamp = Stamp::of(&std::fs::metadata(&file).expect("there"));
        *token.last() = Some((stamp, HeaderValue::from_static("Bearer none")));
        assert_eq!(token.bearer().await.expect("the file is as it was"), "Bearer none");
        token.doubt();
        assert_eq!(token.bearer().await.expect("read again"), "Bearer one");
    }
}
