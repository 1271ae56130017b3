//! A cluster whose API server is asked about each token (`TokenReview`): it knows keys, issuers and audiences itself, and that
//! a pod, and so its token, is gone.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use ledger::digest::Digest;
use runtime::client::HttpsClient;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::claims::{Audience, Claims, Kubernetes, Named, Unverified};
use super::source::KeysError;
use super::verifier::{CACHE, Identity, Rules, bad_token, is_current};
use crate::error::{Reason, Refusal};

/// A good answer is believed for this long: so long after its pod is gone a token may still be taken, besides the API server's
/// own ten seconds.
pub const REMEMBERED: Duration = Duration::from_secs(30);

/// A bad one for this long, so that whoever sends bad tokens does not make the recorder ask each time.
pub const REFUSAL_REMEMBERED: Duration = Duration::from_secs(5);

/// The API server must answer within this time; else the bearer is told to come again (`identity_unavailable`).
const TIMEOUT: Duration = Duration::from_secs(5);

/// Greatest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// Questions at one time; more wait.
const AT_ONCE: usize = 16;

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const POD: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE: &str = "authentication.kubernetes.io/node-name";

/// Where the API server is, and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewSettings {
    /// `https://host:port`, without a path.
    pub server: Uri,
    /// The roots that its certificate must lead to; the system's when there are none.
    pub ca: Option<PathBuf>,
    /// The recorder's own token, which may `create` `tokenreviews`; read anew each time.
    pub token: PathBuf,
}

/// What the API server said of a token.
type Reviewed = Result<Arc<Identity>, Refusal>;

/// A cluster that reviews its tokens.
pub struct Reviewer {
    rules: Rules,
    address: Uri,
    token: PathBuf,
    client: HttpsClient,
    room: Semaphore,
    /// By the token's SHA-256. When there are too many, all are forgotten and asked for again.
    known: Mutex<HashMap<Digest, (Instant, Reviewed)>>,
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    audiences: Vec<String>,
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    extra: HashMap<String, Vec<String>>,
}

impl Reviewer {
    /// A reviewer that asks there.
    ///
    /// # Errors
    /// The roots can't be read, or the address is none.
    pub fn new(rules: Rules, settings: ReviewSettings) -> Result<Self, KeysError> {
        let ReviewSettings { server, ca, token } = settings;
        let roots = ca.as_deref().map_or_else(runtime::tls::system_roots, runtime::tls::pinned_roots)?;
        let client = HttpsClient::new(runtime::tls::client_config(roots, &[])?, TIMEOUT, MAX_ANSWER);
        let origin = server.to_string();
        let address = format!("{}{PATH}", origin.trim_end_matches('/')).parse::<Uri>();
        let address = address.map_err(http::Error::from)?;
        Ok(Self { rules, address, token, client, room: Semaphore::new(AT_ONCE), known: Mutex::default() })
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Who bears this token.
    ///
    /// # Errors
    /// A [`Refusal`]: the API server says no, or can't be asked.
    pub async fn verify(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        let digest = Digest::of(token.as_bytes());
        if let Some(known) = self.known(digest) {
            return known;
        }
        let _turn = self.room.acquire().await;
        // Somebody else may have asked for it while this one waited.
        if let Some(known) = self.known(digest) {
            return known;
        }
        let reviewed = self.review(token).await.map(Arc::new);
        let worth_keeping = !matches!(&reviewed, Err(error) if error.reason == Reason::IdentityUnavailable);
        if worth_keeping {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= CACHE {
                known.clear();
            }
            known.insert(digest, (Instant::now(), reviewed.clone()));
        }
        reviewed
    }

    fn known(&self, digest: Digest) -> Option<Reviewed> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, outcome) = known.get(&digest)?;
        let good = match outcome {
            Ok(identity) => since.elapsed() < REMEMBERED && is_current(identity.expires()),
            Err(_) => since.elapsed() < REFUSAL_REMEMBERED,
        };
        good.then(|| outcome.clone())
    }

    async fn review(&self, token: &str) -> Result<Identity, Refusal> {
        let rules = &self.rules;
        let audiences = [&rules.audience, &rules.reader_audience];
        let question = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": audiences },
        });
        let mut request = Request::new(Full::from(question.to_string()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.address.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(AUTHORIZATION, self.bearer().await?);
        let answer = self.client.send(request).await.map_err(|error| unavailable(&error))?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::OK => {}
            status => return Err(unavailable(&format!("it answers {status}"))),
        }
        let review: Review = serde_json::from_slice(answer.body()).map_err(|error| unavailable(&error))?;
        let claims = claims(review.status, &audiences, token)?;
        Identity::of(rules, claims)
    }

    async fn bearer(&self) -> Result<HeaderValue, Refusal> {
        let token = tokio::fs::read_to_string(&self.token).await;
        let token = token.map_err(|error| unavailable(&format!("{}: {error}", self.token.display())))?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| unavailable(&format!("{} holds no token", self.token.display())))?;
        bearer.set_sensitive(true);
        Ok(bearer)
    }
}

/// What the API server says, in the form of a token's claims. A server that knows nothing of audiences answers with none, and
/// must not be believed: any token of the cluster would pass.
fn claims(status: Status, audiences: &[&String; 2], token: &str) -> Result<Claims, Refusal> {
    let Status { authenticated, audiences: confirmed, user } = status;
    if !authenticated {
        return Err(bad_token(
            "the cluster's API server does not accept the token: issuer, audience, time or pod",
        ));
    }
    if !confirmed.iter().any(|audience| audiences.contains(&audience)) {
        return Err(Refusal::new(Reason::WrongAudience, "the token is for another audience"));
    }
    let name = user.username.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':'));
    let (namespace, account) = name.ok_or_else(|| bad_token("the bearer is not a service account"))?;
    let extra = |key: &str| user.extra.get(key).and_then(|values| values.first()).cloned();
    let named = |name: String, uid: Option<String>| Named { name, uid: uid.unwrap_or_default() };
    let exp = Unverified::of(token).map_or(i64::MAX, |said| said.exp); // the API server has verified the whole token
    let kubernetes = Kubernetes {
        namespace: namespace.into(),
        serviceaccount: named(account.into(), None),
        pod: extra(POD).map(|pod| named(pod, extra(POD_UID))),
        node: extra(NODE).map(|node| named(node, None)),
    };
    Ok(Claims { sub: user.username.clone(), aud: Audience::Several(confirmed), exp, kubernetes })
}

/// Why is for the recorder's operator; the bearer need not know.
fn unavailable(why: &dyn std::fmt::Display) -> Refusal {
    tracing::warn!(category = Reason::IdentityUnavailable.describe().0, error = %why, "the cluster's API server can't be asked about a token");
    Refusal::new(Reason::IdentityUnavailable, "the recorder can't ask the cluster who this is: try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audiences() -> [String; 2] {
        ["writers".into(), "readers".into()]
    }

    fn read(status: serde_json::Value) -> Result<Claims, &'static str> {
        let [writers, readers] = audiences();
        let status = serde_json::from_value(status).expect("a status");
        claims(status, &[&writers, &readers], "no.jwt.x").map_err(|refusal| refusal.category())
    }

    /// As an API server answered for a pod-bound token.
    #[test]
    fn a_pod_is_named_by_the_extra_fields() {
        let claims = read(json!({
            "authenticated": true,
            "audiences": ["writers"],
            "user": {
                "username": "system:serviceaccount:agents:billing",
                "uid": "u",
                "groups": ["system:serviceaccounts"],
                "extra": {
                    "authentication.kubernetes.io/credential-id": ["JTI=x"],
                    "authentication.kubernetes.io/node-name": ["node-1"],
                    "authentication.kubernetes.io/pod-name": ["billing-0"],
                    "authentication.kubernetes.io/pod-uid": ["4b1f"],
                },
            },
        }))
        .expect("good");
        assert!(claims.agree() && claims.aud.has("writers") && !claims.aud.has("readers"));
        let pod = claims.kubernetes.pod.expect("bound");
        assert_eq!((pod.name.as_str(), pod.uid.as_str()), ("billing-0", "4b1f"));
        assert_eq!(claims.kubernetes.node.map(|node| node.name).as_deref(), Some("node-1"));
    }

    #[test]
    fn what_is_not_to_be_believed() {
        let user = json!({ "username": "system:serviceaccount:agents:billing" });
        let refused = |status| read(status).map(|claims| claims.sub).expect_err("must be refused");
        assert_eq!(refused(json!({ "authenticated": false, "error": "x" })), "bad_token");
        assert_eq!(refused(json!({})), "bad_token");
        assert_eq!(
            refused(json!({ "authenticated": true, "user": user })),
            "wrong_audience",
            "an old server"
        );
        assert_eq!(
            refused(json!({ "authenticated": true, "audiences": ["api"], "user": user })),
            "wrong_audience"
        );
        let person = json!({ "username": "admin" });
        assert_eq!(
            refused(json!({ "authenticated": true, "audiences": ["writers"], "user": person })),
            "bad_token"
        );
    }
}
