//! Asking a cluster's API server whether somebody may do something (`SubjectAccessReview`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger::digest::Digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::scope::{GROUP, Right};
use crate::authn::api_server::ApiServer;
use crate::authn::verifier::User;
use crate::error::{Reason, Refusal};

/// A yes is believed for this long: so long after a binding is gone its reader may go on.
pub const ALLOWED: Duration = Duration::from_secs(30);

/// A no for this long, so that whoever asks for more does not make the recorder ask each time.
pub const DENIED: Duration = Duration::from_secs(5);

/// How many answers are remembered; when there are more, all are forgotten and asked for again.
pub const CACHE: usize = 16_384;

const PATH: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Asks, and remembers for a while.
pub struct Reviews {
    api_server: ApiServer,
    known: Mutex<HashMap<Question, (Instant, bool)>>,
}

/// Who wants to do what where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    /// Of all that is known of the user.
    user: Digest,
    right: Right,
    /// In the whole cluster when absent.
    namespace: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    allowed: bool,
    denied: bool,
}

impl Reviews {
    /// Asks there.
    #[must_use]
    pub fn new(api_server: ApiServer) -> Self {
        Self { api_server, known: Mutex::default() }
    }

    /// May this user do that, in this namespace or in all?
    ///
    /// # Errors
    /// [`Reason::AccessUnavailable`]: the API server can't be asked.
    pub async fn allows(&self, user: &User, right: Right, namespace: Option<&str>) -> Result<bool, Refusal> {
        let question = Question { user: digest(user), right, namespace: namespace.map(str::to_owned) };
        if let Some(known) = self.known(&question) {
            return Ok(known);
        }
        let _turn = self.api_server.turn().await;
        let asked = self.api_server.review::<Status>(PATH, &body(user, right, namespace)).await;
        let Status { allowed, denied } = asked.map_err(|error| unavailable(&error))?;
        let allowed = allowed && !denied;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CACHE {
            known.clear();
        }
        known.insert(question, (Instant::now(), allowed));
        Ok(allowed)
    }

    fn known(&self, question: &Question) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, allowed) = known.get(question)?;
        let good = since.elapsed() < if *allowed { ALLOWED } else { DENIED };
        good.then_some(*allowed)
    }
}

/// Whoever has other groups is somebody else.
fn digest(user: &User) -> Digest {
    Digest::of(&serde_json::to_vec(user).expect("texts"))
}

fn body(user: &User, right: Right, namespace: Option<&str>) -> Value {
    let (verb, resource) = right.describe();
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": user.name,
            "uid": user.uid,
            "groups": user.groups,
            "extra": user.extra,
            "resourceAttributes": {
                "group": GROUP, "resource": resource, "verb": verb, "namespace": namespace.unwrap_or_default(),
            },
        },
    })
}

/// Why is for the recorder's operator; the reader need not know.
fn unavailable(why: &str) -> Refusal {
    tracing::warn!(
        category = Reason::AccessUnavailable.describe().0,
        error = why,
        "the cluster's API server can't be asked about a right"
    );
    Refusal::new(Reason::AccessUnavailable, "the recorder can't ask the cluster what you may read: try again")
}
