//! The claims of a service account token, as the Kubernetes API server writes them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The claims that say who.
#[derive(Debug, Deserialize)]
pub struct Claims {
    /// `system:serviceaccount:<namespace>:<name>`
    pub sub: String,
    /// Whom it is for.
    pub aud: Audience,
    /// End of validity, in seconds since 1970.
    pub exp: i64,
    /// The cluster's own part.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Kubernetes,
}

/// The private claims of Kubernetes.
#[derive(Debug, Deserialize)]
pub struct Kubernetes {
    /// Namespace of service account and pod.
    pub namespace: String,
    /// The service account.
    pub serviceaccount: Named,
    /// The pod that the token is bound to.
    pub pod: Option<Named>,
    /// The pod's node.
    pub node: Option<Named>,
}

/// An object's name and UID.
#[derive(Debug, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its UID; older clusters leave a node's out.
    #[serde(default)]
    pub uid: String,
}

/// One name or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Audience {
    /// Is it for `name`, among others?
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(several) => several.iter().any(|one| one == name),
        }
    }
}

/// What a token says before anyone has verified it: good for choosing whom to ask, and for nothing else.
#[derive(Debug, Deserialize)]
pub struct Unverified {
    /// The issuer.
    pub iss: String,
    /// End of validity, in seconds since 1970.
    pub exp: i64,
}

impl Unverified {
    /// What this token says; nothing when it is no JWT.
    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        let claims = token.split('.').nth(1)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }
}

impl Claims {
    /// Do the subject and the cluster's own part name the same service account?
    #[must_use]
    pub fn agree(&self) -> bool {
        let Kubernetes { namespace, serviceaccount, .. } = &self.kubernetes;
        let named = !namespace.is_empty() && !serviceaccount.name.is_empty();
        named && self.sub == format!("system:serviceaccount:{namespace}:{}", serviceaccount.name)
    }
}
