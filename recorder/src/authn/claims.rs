//! The claims of a service account token, as the Kubernetes API server writes them.

use serde::Deserialize;

/// The claims that say who.
#[derive(Debug, Deserialize)]
pub struct Claims {
    /// `system:serviceaccount:<namespace>:<name>`
    pub sub: String,
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

impl Claims {
    /// Do the subject and the cluster's own part name the same service account?
    #[must_use]
    pub fn agree(&self) -> bool {
        let Kubernetes { namespace, serviceaccount, .. } = &self.kubernetes;
        let named = !namespace.is_empty() && !serviceaccount.name.is_empty();
        named && self.sub == format!("system:serviceaccount:{namespace}:{}", serviceaccount.name)
    }
}
