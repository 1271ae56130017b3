//! Where the issuer's public keys come from: a file, or the issuer itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use runtime::client::{ClientError, HttpsClient};

use super::keys::{BadKeys, Keys, MAX_JWKS};

/// How often a JWKS file is looked at for new keys.
pub const FILE_INTERVAL: Duration = Duration::from_secs(2);

/// How often the issuer is asked for new keys.
pub const URL_INTERVAL: Duration = Duration::from_secs(300);

/// The issuer is asked at once when a token has an unknown key, but not more often than this.
pub const URL_PAUSE: Duration = Duration::from_secs(10);

/// The issuer must answer within this time.
const URL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A JWKS file.
    File(PathBuf),
    /// The issuer says where, by OpenID Connect discovery.
    Discovery {
        /// Its address: `iss`.
        issuer: http::Uri,
        /// The roots that its certificate must lead to; the system's when there are none.
        ca: Option<PathBuf>,
        /// A token to ask with, read anew each time: the Kubernetes API server wants one.
        token: Option<PathBuf>,
    },
    /// The issuer's `jwks_uri`.
    Url {
        /// `https` only.
        url: http::Uri,
        /// The roots that its certificate must lead to; the system's when there are none.
        ca: Option<PathBuf>,
        /// A token to ask with, read anew each time: the Kubernetes API server wants one.
        token: Option<PathBuf>,
    },
}

/// The keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file can't be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// The issuer can't be asked.
    #[error("{0}: {1}")]
    Ask(http::Uri, ClientError),
    /// The issuer gives no keys.
    #[error("{0} answers with status {1}; it may want a token (--jwks-token)")]
    Status(http::Uri, u16),
    /// The roots can't be read.
    #[error(transparent)]
    Tls(#[from] runtime::tls::TlsError),
    /// The issuer's discovery document can't be used.
    #[error("{0}: {1}")]
    Discovery(http::Uri, String),
    /// What is there is not a JWKS.
    #[error("{0}: {1}")]
    Bad(String, BadKeys),
    /// The token or the address can't be sent.
    #[error("the request for the keys can't be made: {0}")]
    Request(#[from] http::Error),
}

/// Reads the keys.
pub enum Source {
    /// From a file.
    File(PathBuf),
    /// From where the issuer's discovery document says.
    Discovered {
        /// The issuer.
        issuer: http::Uri,
        /// A token to ask with.
        token: Option<PathBuf>,
        /// Trusts what the location says.
        client: Box<HttpsClient>,
    },
    /// From the issuer.
    Issuer {
        /// Its address.
        url: http::Uri,
        /// A token to ask with.
        token: Option<PathBuf>,
        /// Trusts what the location says.
        client: Box<HttpsClient>,
    },
}

impl Source {
    /// A source of the keys at this location.
    ///
    /// # Errors
    /// [`KeysError::Tls`]
    pub fn new(location: Location) -> Result<Self, KeysError> {
        match location {
            Location::File(path) => Ok(Self::File(path)),
            Location::Url { url, ca, token } => {
                Ok(Self::Issuer { url, token, client: client(ca.as_deref())? })
            }
            Location::Discovery { issuer, ca, token } => {
                Ok(Self::Discovered { issuer, token, client: client(ca.as_deref())? })
            }
        }
    }

    /// The keys that are there now, and the bytes that say so.
    ///
    /// # Errors
    /// [`KeysError`]
    pub async fn read(&self) -> Result<(Bytes, Keys), KeysError> {
        let (bytes, place) = match self {
            Self::File(path) => (read_file(path)?.into(), path.display().to_string()),
            Self::Issuer { url, token, client } => {
                (ask(client, url, token.as_deref()).await?, url.to_string())
            }
            Self::Discovered { issuer, token, client } => {
                let url = discover(client, issuer, token.as_deref()).await?;
                (ask(client, &url, token.as_deref()).await?, url.to_string())
            }
        };
        let keys = Keys::parse(&bytes).map_err(|error| KeysError::Bad(place, error))?;
        Ok((bytes, keys))
    }

    /// The shortest and the usual time between two looks: an unknown key asks for a look at once.
    #[must_use]
    pub fn pauses(&self) -> (Duration, Duration) {
        match self {
            Self::File(_) => (FILE_INTERVAL, FILE_INTERVAL),
            Self::Issuer { .. } | Self::Discovered { .. } => (URL_PAUSE, URL_INTERVAL),
        }
    }
}

fn client(ca: Option<&Path>) -> Result<Box<HttpsClient>, KeysError> {
    let roots = ca.map_or_else(runtime::tls::system_roots, runtime::tls::pinned_roots)?;
    Ok(Box::new(HttpsClient::new(runtime::tls::client_config(roots, &[])?, URL_TIMEOUT, MAX_JWKS)))
}

/// Where the issuer's keys are, as its discovery document says (OpenID Connect Discovery 1.0). The document must be of this
/// issuer, and the keys behind `https` too.
async fn discover(
    client: &HttpsClient,
    issuer: &http::Uri,
    token: Option<&Path>,
) -> Result<http::Uri, KeysError> {
    #[derive(serde::Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let name = issuer.to_string();
    let name = name.trim_end_matches('/');
    let bad = |why: String| KeysError::Discovery(issuer.clone(), why);
    let url: http::Uri = format!("{name}/.well-known/openid-configuration")
        .parse()
        .map_err(|error| bad(format!("not the address of an issuer: {error}")))?;
    let document = ask(client, &url, token).await?;
    let document: Document = serde_json::from_slice(&document)
        .map_err(|error| bad(format!("its discovery document can't be read: {error}")))?;
    if document.issuer.trim_end_matches('/') != name {
        return Err(bad("its discovery document is another issuer's".into()));
    }
    let keys = document.jwks_uri.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("https"));
    keys.ok_or_else(|| bad("its discovery document names no https address for its keys".into()))
}

fn read_file(path: &Path) -> Result<Vec<u8>, KeysError> {
    std::fs::read(path).map_err(|error| KeysError::Read(path.into(), error))
}

async fn ask(client: &HttpsClient, url: &http::Uri, token: Option<&Path>) -> Result<Bytes, KeysError> {
    let mut request = Request::get(url.clone());
    if let Some(path) = token {
        let token = String::from_utf8_lossy(&read_file(path)?).trim().to_owned();
        request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let answer = client.send(request.body(Full::default())?).await;
    let answer = answer.map_err(|error| KeysError::Ask(url.clone(), error))?;
    match answer.status().as_u16() {
        200 => Ok(answer.into_body()),
        status => Err(KeysError::Status(url.clone(), status)),
    }
}
