//! The recorder as the sidecar sees it: one request for one batch, answered by a receipt that is checked before anyone
//! believes it.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use ledger::batch::MEDIA_TYPE;
use ledger::checkpoint::Checkpoint;
use ledger::receipt::{Acknowledgement, BadReceipt, Receipt};
use ledger::tile::Tile;
use runtime::client::ClientError;
use serde::Deserialize;

use super::pinned::PinnedKeys;
use super::token::Token;
use super::way::Way;

/// Category of a call that can't be recorded because the recorder does not accept who we are.
pub(crate) const IDENTITY_REFUSED: &str = "identity_refused";

/// Where the recorder is, and what proves it and us.
#[derive(Debug)]
pub struct RecorderSettings {
    /// `https://host:port`, without a path.
    pub url: Uri,
    /// Trusts the recorder's CAs and nothing else.
    pub way: Way,
    /// The log's keys, each of which signs receipts; read anew when the log signs with none of them any more.
    pub keys: PinnedKeys,
    /// The pod-bound service account token. The kubelet rotates it: a new one counts from the next batch on.
    pub token_file: PathBuf,
}

#[derive(Clone)]
pub(super) struct Recorder {
    way: Arc<Way>,
    origin: String,
    batches: Uri,
    keys: Arc<PinnedKeys>,
    token: Arc<Token>,
}

/// Why a batch has no receipt.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The token file can't be read.
    #[error("this pod's token can't be read ({0}): check the sidecar's projected token volume")]
    Token(String),
    /// No connection, no TLS, or no answer in time.
    #[error("the recorder can't be reached: {0}")]
    Unreachable(#[from] ClientError),
    /// It answered that it can't take entries now.
    #[error("the recorder can't take entries now: {0}")]
    Busy(String),
    /// It doesn't accept who we are.
    #[error("the recorder does not accept this pod's identity: {0}")]
    Identity(String),
    /// It has closed the session, after a silence.
    #[error("the recorder has closed this session, because it heard nothing for too long: {0}")]
    SessionClosed(String),
    /// It doesn't accept what we say.
    #[error("the recorder refused the batch: {0}")]
    Refused(String),
    /// What it answered is no receipt for what was sent.
    #[error("the recorder's receipt does not hold ({0}): check that --recorder-key is this recorder's key")]
    Receipt(String),
}

impl DeliveryError {
    /// The fixed name of this error in metrics and refusals.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Token(_) => "token_unreadable",
            Self::Unreachable(_) => "recorder_unavailable",
            Self::Busy(_) => "recorder_busy",
            Self::Identity(_) => IDENTITY_REFUSED,
            Self::SessionClosed(_) => "session_closed",
            Self::Refused(_) => "recorder_refused",
            Self::Receipt(_) => "receipt_invalid",
        }
    }

    /// True when sending the same bytes again can't help: the session is over.
    pub(super) fn ends_session(&self) -> bool {
        matches!(self, Self::SessionClosed(_) | Self::Refused(_))
    }
}

impl From<BadReceipt> for DeliveryError {
    fn from(error: BadReceipt) -> Self {
        Self::Receipt(error.to_string())
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Looks once at the recorder of these settings, as anybody may: is it there, and is its newest checkpoint signed by its log's keys?
///
/// # Errors
/// [`DeliveryError::Unreachable`], [`DeliveryError::Receipt`], and what it answers otherwise.
pub async fn look(url: &Uri, way: Way, keys: PinnedKeys) -> Result<Checkpoint, DeliveryError> {
    let recorder =
        Recorder::new(RecorderSettings { url: url.clone(), way, keys, token_file: PathBuf::new() });
    recorder.checkpoint().await
}

impl Recorder {
    pub(super) fn new(settings: RecorderSettings) -> Self {
        let origin = settings.url.to_string().trim_end_matches('/').to_owned();
        let batches = format!("{origin}/v1/batches");
        Self {
            way: Arc::new(settings.way),
            origin,
            batches: batches.parse().expect("a URL with a path after its authority is a URL"),
            keys: Arc::new(settings.keys),
            token: Arc::new(Token::of(settings.token_file)),
        }
    }

    /// Submits an encoded batch of these statements; returns once the recorder has proved that they are in its log.
    pub(super) async fn submit<S: AsRef<[u8]>>(
        &self,
        batch: Bytes,
        statements: &[S],
    ) -> Result<Receipt, DeliveryError> {
        let mut request = Request::post(self.batches.clone())
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .body(Full::new(batch))
            .expect("a URL and a constant header make a request");
        request.headers_mut().insert(AUTHORIZATION, self.token.bearer().await?);
        let answer = self.way.send(request).await?;
        if answer.status() != StatusCode::OK {
            self.token.doubt();
            return Err(refusal(answer.status(), answer.body()));
        }
        let acknowledgement: Acknowledgement = serde_json::from_slice(answer.body())
            .map_err(|error| DeliveryError::Receipt(error.to_string()))?;
        let note = acknowledgement.receipt.as_bytes();
        let receipt = self.keys.check(|keys| Receipt::verify(note, keys))?;
        receipt.check(&acknowledgement.envelopes, statements)?;
        Ok(receipt)
    }

    /// What the recorder tells this speaker, at a path of its API.
    pub(super) async fn ask(&self, path: &str) -> Result<Bytes, DeliveryError> {
        let mut request = Request::get(format!("{}{path}", self.origin))
            .body(Full::default())
            .map_err(|error| DeliveryError::Refused(format!("{path}: {error}")))?;
        request.headers_mut().insert(AUTHORIZATION, self.token.bearer().await?);
        let answer = self.way.send(request).await?;
        if answer.status() != StatusCode::OK {
            self.token.doubt();
            return Err(refusal(answer.status(), answer.body()));
        }
        Ok(answer.into_body())
    }

    /// The newest checkpoint, verified. One that the key did not sign is [`DeliveryError::Receipt`].
    pub(super) async fn checkpoint(&self) -> Result<Checkpoint, DeliveryError> {
        let note = self.public("checkpoint").await?;
        let verified = self.keys.check(|keys| Checkpoint::verify(&note, keys));
        verified.map_err(|error| DeliveryError::Receipt(error.to_string()))
    }

    /// A hash tile. The recorder may have only the full one left, whose first hashes are the same.
    pub(super) async fn tile(&self, tile: Tile) -> Result<Vec<u8>, DeliveryError> {
        match self.public(&tile.to_string()).await {
            Err(DeliveryError::Refused(_)) if !tile.is_full() => {
                let full = self.public(&tile.full().to_string()).await?;
                Ok(full[..full.len().min(32 * usize::from(tile.width))].to_vec())
            }
            fetched => Ok(fetched?.to_vec()),
        }
    }

    /// A file of the log that is there for everyone.
    async fn public(&self, path: &str) -> Result<Bytes, DeliveryError> {
        let request = Request::get(format!("{}/log/{path}", self.origin))
            .body(Full::default())
            .expect("the recorder's URL and a path of ours make a request");
        let answer = self.way.send(request).await?;
        if answer.status() == StatusCode::OK {
            Ok(answer.into_body())
        } else {
            Err(refusal(answer.status(), answer.body()))
        }
    }
}

/// The recorder's errors: `{"error":{"reason":...,"message":...}}`.
#[derive(Deserialize)]
struct ErrorAnswer {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    reason: String,
    message: String,
}

fn refusal(status: StatusCode, body: &[u8]) -> DeliveryError {
    let (reason, message) = match serde_json::from_slice::<ErrorAnswer>(body) {
        Ok(ErrorAnswer { error }) => (error.reason, error.message),
        Err(_) => (String::new(), "it gave no reason".into()),
    };
    let text = format!("{status} {reason}: {message}");
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => DeliveryError::Identity(text),
        StatusCode::CONFLICT if reason == "session_closed" => DeliveryError::SessionClosed(text),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => DeliveryError::Busy(text),
        status if status.is_client_error() => DeliveryError::Refused(text),
        _ => DeliveryError::Busy(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let body =
            |reason: &str| format!(r#"{{"error":{{"reason":"{reason}","message":"m"}}}}"#).into_bytes();
        let category = |status: u16, reason: &str| {
            refusal(StatusCode::from_u16(status).unwrap(), &body(reason)).category()
        };
        assert_eq!(category(401, "token_expired"), "identity_refused");
        assert_eq!(category(409, "session_closed"), "session_closed");
        assert_eq!(category(409, "seq_conflict"), "recorder_refused");
        assert_eq!(category(429, "busy"), "recorder_busy");
        assert_eq!(category(503, "busy"), "recorder_busy");
        assert_eq!(category(408, "body_timeout"), "recorder_busy");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"<html>").category(), "recorder_busy");
        assert!(refusal(StatusCode::BAD_REQUEST, &body("malformed")).ends_session());
    }
}
