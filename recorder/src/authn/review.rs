//! A cluster whose API server is asked about each token (`TokenReview`): it knows keys, issuers and audiences itself, and that
//! a pod, and so its token, is gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger::digest::Digest;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

use super::api_server::ApiServer;
use super::claims::{Audience, Claims, Kubernetes, Named, Unverified};
use super::verifier::{CACHE, Identity, Rules, User, bad_token, is_current};
use crate::error::{Reason, Refusal};

/// A good answer is believed for this long: so long after its pod is gone a token may still be taken, besides the API server's
/// own ten seconds.
pub const REMEMBERED: Duration = Duration::from_secs(30);

/// A bad one for this long, so that whoever sends bad tokens does not make the recorder ask each time.
pub const REFUSAL_REMEMBERED: Duration = Duration::from_secs(5);

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const POD: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE: &str = "authentication.kubernetes.io/node-name";

/// What the API server said of a token.
type Reviewed = Result<Arc<Identity>, Refusal>;

/// Which tokens are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Those for the recorder's audiences: of service accounts.
    Recorder,
    /// Those for the API server itself: of anybody whom it knows. Good for reading alone.
    ApiServer,
}

/// A cluster that reviews its tokens.
pub struct Reviewer {
    rules: Rules,
    api_server: Arc<ApiServer>,
    tokens: For,
    /// By the token's SHA-256. When there are too many, all are forgotten and asked for again.
    known: Mutex<HashMap<Digest, (Instant, Reviewed)>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    audiences: Vec<String>,
    user: Reported,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reported {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Reviewer {
    /// A reviewer of such tokens that asks there.
    #[must_use]
    pub fn new(rules: Rules, api_server: Arc<ApiServer>, tokens: For) -> Self {
        Self { rules, api_server, tokens, known: Mutex::default() }
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
        let _turn = self.api_server.turn().await;
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
        let mut question = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token },
        });
        // Without audiences the API server asks whether the token is for itself.
        if self.tokens == For::Recorder {
            question["spec"]["audiences"] = json!(audiences);
        }
        let status: Status =
            self.api_server.review(PATH, &question).await.map_err(|error| unavailable(&error))?;
        match self.tokens {
            For::Recorder => Identity::of(rules, claims(status, &audiences, token)?),
            For::ApiServer => Ok(Identity::of_user(user(status, &rules.cluster)?, expires(token))),
        }
    }
}

/// The API server has verified the whole token.
fn expires(token: &str) -> i64 {
    Unverified::of(token).map_or(i64::MAX, |said| said.exp)
}

/// Anybody whom the API server knows. What it does not know it does not name.
fn user(status: Status, cluster: &str) -> Result<User, Refusal> {
    let Status { authenticated, user, .. } = status;
    if !authenticated || user.username.is_empty() {
        return Err(bad_token("neither the recorder nor the cluster's API server accepts the token"));
    }
    let Reported { username, uid, groups, extra } = user;
    Ok(User { cluster: cluster.into(), name: username, uid, groups, extra })
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
    let kubernetes = Kubernetes {
        namespace: namespace.into(),
        serviceaccount: named(account.into(), Some(user.uid)),
        pod: extra(POD).map(|pod| named(pod, extra(POD_UID))),
        node: extra(NODE).map(|node| named(node, None)),
    };
    Ok(Claims {
        sub: user.username.clone(),
        aud: Audience::Several(confirmed),
        exp: expires(token),
        kubernetes,
    })
}

/// Why is for the recorder's operator; the bearer need not know.
fn unavailable(why: &str) -> Refusal {
    tracing::warn!(
        category = Reason::IdentityUnavailable.describe().0,
        error = why,
        "the cluster's API server can't be asked about a token"
    );
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

    #[test]
    fn a_user_is_whom_the_api_server_names() {
        let read = |status| user(serde_json::from_value(status).expect("a status"), "prod");
        let named = json!({ "username": "auditor@example.com", "uid": "u", "groups": ["auditors"], "extra": {"k": ["v"]} });
        let user = read(json!({ "authenticated": true, "user": named })).expect("good");
        assert_eq!(
            (user.name.as_str(), user.cluster.as_str(), user.groups),
            ("auditor@example.com", "prod", vec!["auditors".to_owned()])
        );
        for bad in
            [json!({}), json!({ "authenticated": true }), json!({ "authenticated": false, "user": named })]
        {
            assert_eq!(read(bad).expect_err("nobody").category(), "bad_token");
        }
    }
}
