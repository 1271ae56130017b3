//! The webhook configurations, which the operator writes itself: they name the namespaces that have connections and no others, and
//! the CA that is in force. So a webhook that is down stops the pods of recorded namespaces, and nothing else in the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use connection::names;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

/// The API server waits this long for an answer, in seconds; then it refuses.
const TIMEOUT_SECONDS: u32 = 10;

/// How API servers reach the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Service of the operator's namespace.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
    },
    /// A URL, outside of a cluster.
    Url(String),
}

impl Place {
    /// The names that the certificate must be for.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Service { namespace, name, .. } => vec![format!("{name}.{namespace}.svc")],
            Self::Url(url) => {
                let host = url.trim_start_matches("https://").split(['/', ':']).next().unwrap_or_default();
                vec![host.to_owned()]
            }
        }
    }

    fn client(&self, path: &str, bundle: &str) -> Value {
        use base64::Engine as _;
        let ca = base64::engine::general_purpose::STANDARD.encode(bundle);
        match self {
            Self::Service { namespace, name, port } => json!({
                "caBundle": ca,
                "service": {"namespace": namespace, "name": name, "port": port, "path": format!("/{path}")},
            }),
            Self::Url(url) => json!({"caBundle": ca, "url": format!("{}/{path}", url.trim_end_matches('/'))}),
        }
    }
}

/// What the configurations depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where the webhook is.
    pub place: Place,
    /// The CAs to trust.
    pub bundle: Arc<str>,
    /// Namespaces that have connections.
    pub namespaces: BTreeSet<String>,
    /// Audiences of tokens for recorders.
    pub audiences: BTreeSet<String>,
}

struct Hook<'a> {
    name: &'a str,
    path: &'a str,
    rules: Value,
    everywhere: bool,
    conditions: Value,
}

/// The mutating webhooks.
#[must_use]
pub fn mutating(wanted: &Wanted) -> Vec<Value> {
    let pods = Hook {
        name: "pods.bqwitness.dev",
        path: "mutate-pods",
        rules: json!([rule("", "v1", &["CREATE"], &["pods"])]),
        everywhere: false,
        conditions: json!([]),
    };
    let mut hooks = hooks(wanted, vec![pods, connections("mutate-connections", &["CREATE", "UPDATE"])]);
    for hook in &mut hooks {
        hook["reinvocationPolicy"] = "IfNeeded".into();
    }
    hooks
}

/// The validating webhooks.
#[must_use]
pub fn validating(wanted: &Wanted) -> Vec<Value> {
    let audiences = serde_json::to_string(&wanted.audiences).unwrap_or_default();
    let pods = Hook {
        name: "pods.bqwitness.dev",
        path: "validate-pods",
        rules: json!([
            rule("", "v1", &["CREATE", "UPDATE"], &["pods"]),
            rule("", "v1", &["UPDATE"], &["pods/ephemeralcontainers"]),
            rule("", "v1", &["CONNECT"], &["pods/exec", "pods/attach"]),
        ]),
        everywhere: false,
        conditions: json!([]),
    };
    let tokens = Hook {
        name: "tokens.bqwitness.dev",
        path: "validate-tokens",
        rules: json!([rule("", "v1", &["CREATE"], &["serviceaccounts/token"])]),
        everywhere: false,
        conditions: json!([{
            "name": "for-a-recorder",
            "expression": format!("has(object.spec.audiences) && object.spec.audiences.exists(one, one in {audiences})"),
        }]),
    };
    let config_maps = Hook {
        name: "configmaps.bqwitness.dev",
        path: "validate-configmaps",
        rules: json!([rule("", "v1", &["CREATE", "UPDATE", "DELETE"], &["configmaps"])]),
        everywhere: false,
        conditions: json!([{"name": "ours-by-name", "expression": "request.name.startsWith('bqwitness-')"}]),
    };
    hooks(wanted, vec![pods, tokens, config_maps, connections("validate-connections", &["CREATE", "UPDATE"])])
}

fn connections<'a>(path: &'a str, operations: &[&str]) -> Hook<'a> {
    Hook {
        name: "connections.bqwitness.dev",
        path,
        rules: json!([rule(names::GROUP, "v1alpha1", operations, &["bigqueryconnections"])]),
        everywhere: true,
        conditions: json!([]),
    }
}

fn rule(group: &str, version: &str, operations: &[&str], resources: &[&str]) -> Value {
    json!({
        "apiGroups": [group], "apiVersions": [version], "operations": operations, "resources": resources,
        "scope": "Namespaced",
    })
}

/// Without a namespace to record, there is nothing to ask about pods.
fn hooks(wanted: &Wanted, all: Vec<Hook<'_>>) -> Vec<Value> {
    let needed = all.into_iter().filter(|hook| hook.everywhere || !wanted.namespaces.is_empty());
    let made = needed.map(|hook| {
        let Hook { name, path, rules, everywhere, conditions } = hook;
        let namespaces = json!({"matchExpressions": [{
            "key": "kubernetes.io/metadata.name", "operator": "In", "values": wanted.namespaces,
        }]});
        json!({
            "name": name,
            "clientConfig": wanted.place.client(path, &wanted.bundle),
            "rules": rules,
            "namespaceSelector": if everywhere { json!({}) } else { namespaces },
            "matchConditions": conditions,
            "matchPolicy": "Equivalent",
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT_SECONDS,
            "admissionReviewVersions": ["v1"],
        })
    });
    made.collect()
}

/// Writes them.
pub struct Writer {
    /// To the API server.
    pub client: Client,
    /// The name of both configurations.
    pub name: String,
    /// The ClusterRole that they go with when the chart is uninstalled: a webhook that nobody answers would stop pods for ever.
    pub owner: Option<String>,
}

impl Writer {
    /// Makes the API server's configurations those that are wanted.
    ///
    /// # Errors
    /// The API server's.
    pub async fn write(&self, wanted: &Wanted) -> Result<(), kube::Error> {
        let owners = self.owners().await?;
        let parameters = PatchParams::apply(names::OPERATOR).force();
        let whole = |kind: &str, webhooks: Vec<Value>| {
            Patch::Apply(json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": {
                    "name": self.name,
                    "labels": {names::MANAGED_LABEL: names::OPERATOR},
                    "ownerReferences": owners,
                },
                "webhooks": webhooks,
            }))
        };
        // What validates comes first: a pod that is mutated and not validated has nobody who looks at it again.
        let validating_api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let patch = whole("ValidatingWebhookConfiguration", validating(wanted));
        validating_api.patch(&self.name, &parameters, &patch).await?;
        let mutating_api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let patch = whole("MutatingWebhookConfiguration", mutating(wanted));
        mutating_api.patch(&self.name, &parameters, &patch).await?;
        Ok(())
    }

    async fn owners(&self) -> Result<Value, kube::Error> {
        let Some(owner) = &self.owner else { return Ok(json!([])) };
        let role = Api::<ClusterRole>::all(self.client.clone()).get(owner).await?;
        Ok(json!([{
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "name": owner,
            "uid": role.uid(),
        }]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(namespaces: &[&str]) -> Wanted {
        Wanted {
            place: Place::Service { namespace: "bqwitness".into(), name: "op".into(), port: 443 },
            bundle: "PEM".into(),
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
            audiences: BTreeSet::from(["bqwitness-recorder".to_owned()]),
        }
    }

    #[test]
    fn only_namespaces_with_connections_are_asked_about() {
        let both = wanted(&["agents", "sales"]);
        for hook in mutating(&both).into_iter().chain(validating(&both)) {
            assert_eq!(hook["failurePolicy"], "Fail");
            let narrow =
                hook["namespaceSelector"]["matchExpressions"][0]["values"] == json!(["agents", "sales"]);
            assert!(narrow || hook["name"] == "connections.bqwitness.dev", "{hook}");
        }
        let none = wanted(&[]);
        let names: Vec<_> =
            mutating(&none).into_iter().chain(validating(&none)).map(|hook| hook["name"].clone()).collect();
        assert_eq!(names, ["connections.bqwitness.dev"; 2]);
    }

    #[test]
    fn the_certificate_is_for_where_it_is_asked() {
        assert_eq!(wanted(&[]).place.names(), ["op.bqwitness.svc"]);
        assert_eq!(Place::Url("https://127.0.0.1:9443".into()).names(), ["127.0.0.1"]);
    }
}
