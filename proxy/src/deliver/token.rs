//! The pod's token, as the recorder wants it. The kubelet replaces the file well before a token expires, so one that was
//! read a second ago is as good as the file.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::HeaderValue;

use super::recorder::DeliveryError;

/// What was read counts for this long; then the file is read again. After a refusal it is read again at once.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// A file with a token, and what was read of it last.
pub(super) struct Token {
    file: PathBuf,
    read: Mutex<Option<(Instant, HeaderValue)>>,
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
        let fresh = self.last().as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, read)| read.clone());
        if let Some(read) = fresh {
            return Ok(read);
        }
        let read = self.read().await?;
        *self.last() = Some((Instant::now(), read.clone()));
        Ok(read)
    }

    /// The recorder took it not: the next one is read from the file.
    pub(super) fn doubt(&self) {
        *self.last() = None;
    }

    async fn read(&self) -> Result<HeaderValue, DeliveryError> {
        let unreadable =
            |error: &dyn std::fmt::Display| DeliveryError::Token(format!("{}: {error}", self.file.display()));
        let token = tokio::fs::read_to_string(&self.file).await.map_err(|error| unreadable(&error))?;
        let bearer = format!("Bearer {}", token.trim());
        let mut bearer = HeaderValue::try_from(bearer).map_err(|_| unreadable(&"not a token"))?;
        bearer.set_sensitive(true);
        Ok(bearer)
    }

    fn last(&self) -> MutexGuard<'_, Option<(Instant, HeaderValue)>> {
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
        let write = |text: &str| std::fs::write(&file, text).expect("written");
        let token = Token::of(file.clone());
        assert_eq!(token.bearer().await.expect_err("no file").category(), "token_unreadable");
        write("one\n");
        assert_eq!(token.bearer().await.expect("there"), "Bearer one");
        write("two");
        assert_eq!(token.bearer().await.expect("read"), "Bearer one", "it is fresh");
        token.doubt();
        assert_eq!(token.bearer().await.expect("read again"), "Bearer two");
        assert!(token.bearer().await.expect("there").is_sensitive());
        write("three");
        let long_ago = Instant::now().checked_sub(FRESH).expect("the machine runs for a second");
        token.last().as_mut().expect("read").0 = long_ago;
        assert_eq!(token.bearer().await.expect("read again"), "Bearer three");
    }
}
