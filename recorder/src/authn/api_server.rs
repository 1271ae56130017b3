//! A cluster's API server, as the recorder asks it: about tokens (`TokenReview`) and about rights (`SubjectAccessReview`).

use std::path::PathBuf;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use runtime::client::HttpsClient;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::source::KeysError;

/// It must answer within this time.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Greatest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// Questions at one time; more wait.
const AT_ONCE: usize = 16;

/// Where the API server is, and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewSettings {
    /// `https://host:port`, without a path.
    pub server: Uri,
    /// The roots that its certificate must lead to; the system's when there are none.
    pub ca: Option<PathBuf>,
    /// The recorder's own token, which may `create` the reviews that it asks for; read anew each time.
    pub token: PathBuf,
}

/// Asks the API server.
pub struct ApiServer {
    origin: String,
    token: PathBuf,
    client: HttpsClient,
    room: Semaphore,
}

/// A review has its answer here.
#[derive(Deserialize)]
struct Answer<T> {
    status: T,
}

impl ApiServer {
    /// One that is asked there.
    ///
    /// # Errors
    /// The roots can't be read, or the address is none.
    pub fn new(settings: ReviewSettings) -> Result<Self, KeysError> {
        let ReviewSettings { server, ca, token } = settings;
        let roots = ca.as_deref().map_or_else(runtime::tls::system_roots, runtime::tls::pinned_roots)?;
        let client = HttpsClient::new(runtime::tls::client_config(roots, &[])?, TIMEOUT, MAX_ANSWER);
        let origin = server.to_string().trim_end_matches('/').to_owned();
        Ok(Self { origin, token, client, room: Semaphore::new(AT_ONCE) })
    }

    /// Waits for a turn to ask: the question goes on while this is held.
    pub async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.room.acquire().await.ok()
    }

    /// Asks for a review at `path`; gives its `status`.
    ///
    /// # Errors
    /// Why there is no answer, for the recorder's operator.
    pub async fn review<T: DeserializeOwned>(&self, path: &str, question: &Value) -> Result<T, String> {
        let address = format!("{}{path}", self.origin);
        let mut request = Request::new(Full::from(question.to_string()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = address.parse().map_err(|error| format!("{address}: {error}"))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(AUTHORIZATION, self.bearer().await?);
        let answer = self.client.send(request).await.map_err(|error| error.to_string())?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::OK => {}
            status => return Err(format!("{path}: it answers {status}")),
        }
        let answer = serde_json::from_slice::<Answer<T>>(answer.body());
        answer.map(|answer| answer.status).map_err(|error| format!("{path}: {error}"))
    }

    async fn bearer(&self) -> Result<HeaderValue, String> {
        let token = tokio::fs::read_to_string(&self.token).await;
        let token = token.map_err(|error| format!("{}: {error}", self.token.display()))?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| format!("{} holds no token", self.token.display()))?;
        bearer.set_sensitive(true);
        Ok(bearer)
    }
}
