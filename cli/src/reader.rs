//! The recorder's read API, as a reader uses it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use ledger::batch::MAX_BATCH;
use ledger::log_keys::LogKeys;
use ledger::policy::{MAX_POLICY, Policy};
use ledger::search::access::Access;
use ledger::search::cluster::{ConnectionAnswer, ConnectionQuery, CoverageAnswer, CoverageQuery};
use ledger::search::export::{Announcement, Entered};
use ledger::search::sessions::{SessionAnswer, SessionQuery};
use ledger::search::{Answer, MAX_WAIT_SECONDS, Query};
use runtime::client::{HttpsClient, Lookup};
use rustls::RootCertStore;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::args::ReaderArgs;
use crate::cluster::Cluster;
use crate::error::CliError;

/// An answer must be there by then; a search may wait for the index before it answers.
const TIMEOUT: Duration = Duration::from_secs(MAX_WAIT_SECONDS + 20);

pub(crate) struct Reader {
    client: HttpsClient,
    origin: String,
    token: Option<HeaderValue>,
    /// The log's key, as the cluster says it.
    key: Option<String>,
    /// Nothing is asked about another namespace.
    namespace: Option<String>,
    runtime: RefCell<Runtime>,
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
    /// The entry that says more.
    entry: Option<u64>,
}

impl Reader {
    /// Finds the recorder and a token, by what was typed or in the cluster.
    pub(crate) fn new(args: &ReaderArgs) -> Result<Self, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let found = runtime.block_on(find(args))?;
        Ok(Self { namespace: args.namespace.clone(), ..found.reader(runtime)? })
    }

    pub(crate) fn open(url: &str, ca: Option<&Path>, token_file: Option<&Path>) -> Result<Self, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self {
            client: HttpsClient::new(runtime::tls::client_config(roots(ca)?, &[])?, TIMEOUT, MAX_BATCH),
            origin: parse_origin(url)?,
            token: token_file.map(read_token).transpose()?,
            key: None,
            namespace: None,
            runtime: RefCell::new(runtime),
        })
    }

    /// Waits, while a way through the API server goes on.
    pub(crate) fn pause(&self, time: Duration) {
        self.runtime.borrow_mut().block_on(async { tokio::time::sleep(time).await });
    }

    /// Is there a key of the log: one that was typed, or one that the cluster says?
    pub(crate) fn has_key(&self, typed: Option<&str>) -> bool {
        typed.or(self.key.as_deref()).is_some()
    }

    /// The log's key: the one that was typed, else what the cluster says.
    pub(crate) fn key(&self, typed: Option<&str>) -> Result<LogKeys, CliError> {
        read_key(typed.or(self.key.as_deref()).ok_or(CliError::NoKey)?)
    }

    pub(crate) fn search(&self, query: &Query) -> Result<Answer, CliError> {
        let namespace = query.namespace.clone().or_else(|| self.namespace.clone());
        let query = Query { namespace, ..query.clone() };
        self.ask(&format!("/v1/search?{}", query.to_query_string()))
    }

    pub(crate) fn sessions(&self, query: &SessionQuery) -> Result<SessionAnswer, CliError> {
        let namespace = query.namespace.clone().or_else(|| self.namespace.clone());
        let query = SessionQuery { namespace, ..query.clone() };
        self.ask(&format!("/v1/sessions?{}", query.to_query_string()))
    }

    /// What this reader may read.
    pub(crate) fn access(&self) -> Result<Access, CliError> {
        self.ask("/v1/access")
    }

    pub(crate) fn connections(&self, query: &ConnectionQuery) -> Result<ConnectionAnswer, CliError> {
        self.ask(&format!("/v1/connections?{}", query.to_query_string()))
    }

    pub(crate) fn coverage(&self, query: &CoverageQuery) -> Result<CoverageAnswer, CliError> {
        self.ask(&format!("/v1/coverage?{}", query.to_query_string()))
    }

    fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let answer = self.get_private(path)?;
        serde_json::from_slice(&answer).map_err(|error| CliError::Answer(error.to_string()))
    }

    /// Says that a bundle is taken out; gives the index of the entry that says so.
    pub(crate) fn announce(&self, announcement: &Announcement) -> Result<u64, CliError> {
        let body = serde_json::to_vec(announcement).map_err(|error| CliError::Answer(error.to_string()))?;
        let mut request = Request::post(self.uri("/v1/exports")?).body(Full::from(body)).expect("a URL");
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.token.clone().ok_or(CliError::NoToken)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let entered: Entered = serde_json::from_slice(&self.exchange(request)?)
            .map_err(|error| CliError::Answer(error.to_string()))?;
        Ok(entered.index)
    }

    /// Something that only a reader may have.
    pub(crate) fn get_private(&self, path: &str) -> Result<Bytes, CliError> {
        self.get(path, Some(self.token.clone().ok_or(CliError::NoToken)?))
    }

    /// Something that is there for everyone.
    pub(crate) fn get_public(&self, path: &str) -> Result<Bytes, CliError> {
        self.get(path, None)
    }

    fn get(&self, path: &str, token: Option<HeaderValue>) -> Result<Bytes, CliError> {
        let mut request = Request::get(self.uri(path)?).body(Full::default()).expect("a URL makes a request");
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        self.exchange(request)
    }

    fn uri(&self, path: &str) -> Result<Uri, CliError> {
        format!("{}{path}", self.origin).parse().map_err(|_| CliError::Url { text: path.into() })
    }

    fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Bytes, CliError> {
        let answer = self.runtime.borrow_mut().block_on(self.client.send(request))?;
        if answer.status() == StatusCode::OK { Ok(answer.into_body()) } else { Err(refusal(&answer)) }
    }
}

/// Where the recorder is, what proves it, and who asks.
struct Found {
    /// `https://host:port`, as its certificate has the host.
    url: String,
    /// A local address that leads there.
    way: Option<SocketAddr>,
    roots: RootCertStore,
    token: HeaderValue,
    key: Option<String>,
}

async fn find(args: &ReaderArgs) -> Result<Found, CliError> {
    let typed =
        args.recorder.as_ref().filter(|_| args.token_file.is_some() && args.kube.service_account.is_none());
    let cluster = if typed.is_some() { None } else { Some(Cluster::open(&args.kube).await?) };
    let token = match (&args.kube.service_account, &args.token_file, &cluster) {
        (Some(account), _, Some(cluster)) => cluster.token_of(account, &args.kube.audience).await?,
        (_, Some(file), _) => read_token(file)?,
        (_, None, Some(cluster)) => cluster.own_token().await?,
        (_, None, None) => return Err(CliError::NoToken),
    };
    let typed_roots = args.recorder_ca.as_deref();
    match (&args.recorder, &cluster) {
        (Some(url), _) => {
            Ok(Found { url: url.clone(), way: None, roots: roots(typed_roots)?, token, key: None })
        }
        (None, Some(cluster)) => {
            let published = cluster.published(&args.kube.system_namespace).await?;
            let (host, port) = host_and_port(&published.url)?;
            let way = cluster.way_to(&host, port).await?;
            let roots = match typed_roots {
                Some(file) => roots(Some(file))?,
                None => runtime::tls::pinned_roots_of(&published.ca)?,
            };
            Ok(Found { url: published.url, way, roots, token, key: Some(published.key) })
        }
        (None, None) => Err(CliError::Url { text: String::new() }),
    }
}

impl Found {
    fn reader(self, runtime: Runtime) -> Result<Reader, CliError> {
        let tls = runtime::tls::client_config(self.roots, &[])?;
        let (client, origin) = match self.way {
            None => (HttpsClient::new(tls, TIMEOUT, MAX_BATCH), parse_origin(&self.url)?),
            // The recorder's name, as its certificate has it, at the way's address.
            Some(way) => {
                let (host, _) = host_and_port(&self.url)?;
                let lookup: Lookup = Arc::new(move |_| Box::pin(std::future::ready(Ok(vec![way]))));
                let client = HttpsClient::looking_up(tls, TIMEOUT, MAX_BATCH, Some(lookup));
                (client, format!("https://{host}:{}", way.port()))
            }
        };
        let (token, runtime) = (Some(self.token), RefCell::new(runtime));
        Ok(Reader { client, origin, token, key: self.key, namespace: None, runtime })
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, CliError> {
    Ok(ca.map_or_else(runtime::tls::system_roots, runtime::tls::pinned_roots)?)
}

fn host_and_port(url: &str) -> Result<(String, u16), CliError> {
    let uri: Uri = parse_origin(url)?.parse().map_err(|_| CliError::Url { text: url.into() })?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    Ok((host, uri.port_u16().unwrap_or(443)))
}

/// The policy in a file, and its text.
pub(crate) fn read_policy(file: &Path) -> Result<(Policy, String), CliError> {
    let failed = |error| CliError::File { path: file.into(), error };
    let text = std::fs::read_to_string(file).map_err(failed)?;
    if text.len() > MAX_POLICY {
        return Err(failed(std::io::Error::other(format!("a policy has at most {MAX_POLICY} bytes"))));
    }
    let policy = Policy::parse(&text).map_err(|error| failed(std::io::Error::other(error)))?;
    Ok((policy, text))
}

/// The log's verifier keys that a file holds, one a line, or the one that was typed.
pub(crate) fn read_key(text: &str) -> Result<LogKeys, CliError> {
    let key = match std::fs::read_to_string(text) {
        Ok(file) => file,
        Err(error) if !text.contains('+') => {
            return Err(CliError::Key { text: text.into(), reason: error.to_string() });
        }
        Err(_) => text.to_owned(),
    };
    key.parse()
        .map_err(|error: ledger::note::BadKey| CliError::Key { text: text.into(), reason: error.to_string() })
}

fn parse_origin(url: &str) -> Result<String, CliError> {
    let bad = || CliError::Url { text: url.into() };
    let uri: Uri = url.trim_end_matches('/').parse().map_err(|_| bad())?;
    match (uri.scheme_str(), uri.authority(), uri.path()) {
        (Some("https"), Some(authority), "" | "/") => Ok(format!("https://{authority}")),
        _ => Err(bad()),
    }
}

fn read_token(file: &Path) -> Result<HeaderValue, CliError> {
    let text = std::fs::read_to_string(file).map_err(|error| CliError::File { path: file.into(), error })?;
    let mut token = HeaderValue::try_from(format!("Bearer {}", text.trim())).map_err(|_| CliError::File {
        path: file.into(),
        error: std::io::Error::new(std::io::ErrorKind::InvalidData, "not a token"),
    })?;
    token.set_sensitive(true);
    Ok(token)
}

fn refusal(answer: &http::Response<Bytes>) -> CliError {
    let status = answer.status().as_u16();
    match serde_json::from_slice::<ErrorAnswer>(answer.body()) {
        Ok(ErrorAnswer { error: ErrorDetail { entry: Some(entry), .. } }) if status == 410 => {
            CliError::Deleted { entry }
        }
        Ok(ErrorAnswer { error }) => {
            CliError::Refused { status, reason: error.reason, message: error.message }
        }
        Err(_) => CliError::Refused { status, reason: "unknown".into(), message: "it gave no reason".into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_origins() {
        assert_eq!(parse_origin("https://r:8443/").unwrap(), "https://r:8443");
        for bad in ["http://r", "r:8443", "https://r/log", ""] {
            assert!(parse_origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_typed_or_in_a_file() {
        let key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        assert_eq!(read_key(key).unwrap().name(), "example.com/foo");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log.vkey");
        std::fs::write(&file, format!("{key}\n")).unwrap();
        assert_eq!(read_key(file.to_str().unwrap()).unwrap().name(), "example.com/foo");
        assert!(read_key("no-such-file").unwrap_err().to_string().contains("No such file"));
        assert!(read_key(&key.replace("foo", "bar")).unwrap_err().to_string().contains("does not belong"));
    }
}
