//! Which pods a connection is for. A connection selects pods of its own namespace only: who may write connections there may
//! decide about its pods, and about no others.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::ResourceExt as _;

use crate::resource::{BigQueryConnection, PodSelection};

/// The service account of pods that name none.
const DEFAULT_ACCOUNT: &str = "default";

/// Does `selection` select a pod with this account and these labels?
#[must_use]
pub fn selects(selection: &PodSelection, account: &str, labels: &BTreeMap<String, String>) -> bool {
    let PodSelection { service_account_name, selector } = selection;
    if service_account_name.is_none() && selector.is_none() {
        return false; // the API server refuses such a connection; it must not become one for everything
    }
    service_account_name.as_deref().is_none_or(|wanted| wanted == account)
        && selector.as_ref().is_none_or(|selector| matches_labels(selector, labels))
}

/// The service account that a pod runs as.
#[must_use]
pub fn service_account(pod: &Pod) -> &str {
    let named = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    named.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_ACCOUNT)
}

/// The connections of `all` that select a pod of `namespace`, the one that wins first: the oldest, and of two that are as old
/// the one whose name sorts first. So a new connection never takes pods away from one that is in force.
#[must_use]
pub fn choose<'a>(
    all: impl IntoIterator<Item = &'a BigQueryConnection>,
    namespace: &str,
    pod: &Pod,
) -> Vec<&'a BigQueryConnection> {
    let (account, labels) = (service_account(pod), pod.labels());
    let of_pod = |connection: &&BigQueryConnection| {
        connection.namespace().as_deref() == Some(namespace)
            && connection.metadata.deletion_timestamp.is_none()
            && selects(&connection.spec.pods, account, labels)
    };
    let mut found: Vec<_> = all.into_iter().filter(of_pod).collect();
    found.sort_by_key(|connection| age(connection));
    found
}

/// What connections are ordered by: those that are not stored yet are the youngest.
fn age(connection: &BigQueryConnection) -> (bool, Option<i64>, String) {
    let created = connection.creation_timestamp().map(|time| time.0.as_second());
    (created.is_none(), created, connection.name_any())
}

/// Is `a` older than `b`, and so wins where both select a pod?
#[must_use]
pub fn wins(a: &BigQueryConnection, b: &BigQueryConnection) -> bool {
    age(a) < age(b)
}

/// May there be a pod that both select? Service accounts and plain labels tell; expressions are taken to fit.
#[must_use]
pub fn may_overlap(a: &PodSelection, b: &PodSelection) -> bool {
    let accounts = match (&a.service_account_name, &b.service_account_name) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    let labels = |selection: &PodSelection| {
        selection.selector.clone().unwrap_or_default().match_labels.unwrap_or_default()
    };
    let (a, b) = (labels(a), labels(b));
    accounts && a.iter().all(|(name, value)| b.get(name).is_none_or(|other| other == value))
}

fn matches_labels(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(name, value)| labels.get(name) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|expression| matches(expression, labels))
}

fn matches(expression: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&expression.key);
    let among = |value: &String| expression.values.iter().flatten().any(|one| one == value);
    match expression.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // The API server takes no other. Should it ever, a pod that may be meant is recorded rather than not.
        _ => true,
    }
}

/// A mistake in a selector that the schema can't see.
///
/// # Errors
/// A sentence that says what to change.
pub fn check(selection: &PodSelection) -> Result<(), String> {
    for expression in
        selection.selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten())
    {
        let (key, values) = (&expression.key, expression.values.iter().flatten().count());
        match expression.operator.as_str() {
            "In" | "NotIn" if values == 0 => {
                return Err(format!(
                    "spec.pods.selector: {key} {}: name at least one value",
                    expression.operator
                ));
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                return Err(format!("spec.pods.selector: {key} {}: takes no values", expression.operator));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                return Err(format!(
                    "spec.pods.selector: {key}: {other:?} is none of In, NotIn, Exists and DoesNotExist"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value)] // json!() reads best where it is given

    use super::*;
    use serde_json::json;

    fn connection(name: &str, created: &str, pods: serde_json::Value) -> BigQueryConnection {
        serde_json::from_value(json!({
            "apiVersion": "bqwitness.dev/v1alpha1", "kind": "BigQueryConnection",
            "metadata": {"name": name, "namespace": "agents", "creationTimestamp": created},
            "spec": {"pods": pods, "identity": {"mode": "Passthrough"}},
        }))
        .unwrap()
    }

    fn pod(account: Option<&str>, labels: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": labels},
            "spec": {"serviceAccountName": account, "containers": []},
        }))
        .unwrap()
    }

    #[test]
    fn account_and_labels_must_both_fit() {
        let both = json!({"serviceAccountName": "billing", "selector": {"matchLabels": {"app": "agent"}}});
        let one = connection("one", "2026-01-01T00:00:00Z", both);
        let chosen = |pod: &Pod, namespace| choose([&one], namespace, pod).len();
        assert_eq!(chosen(&pod(Some("billing"), json!({"app": "agent"})), "agents"), 1);
        assert_eq!(chosen(&pod(Some("billing"), json!({"app": "other"})), "agents"), 0);
        assert_eq!(chosen(&pod(Some("other"), json!({"app": "agent"})), "agents"), 0);
        assert_eq!(chosen(&pod(Some("billing"), json!({"app": "agent"})), "elsewhere"), 0);
    }

    #[test]
    fn a_pod_that_names_no_account_has_the_default_one() {
        let one = connection("one", "2026-01-01T00:00:00Z", json!({"serviceAccountName": "default"}));
        assert_eq!(choose([&one], "agents", &pod(None, json!({}))).len(), 1);
        assert_eq!(choose([&one], "agents", &pod(Some(""), json!({}))).len(), 1);
    }

    #[test]
    fn expressions_mean_what_kubernetes_means() {
        let selected = |expression: serde_json::Value, labels: serde_json::Value| {
            let pods = json!({"selector": {"matchExpressions": [expression]}});
            let one = connection("one", "2026-01-01T00:00:00Z", pods);
            choose([&one], "agents", &pod(None, labels)).len() == 1
        };
        let among = json!({"key": "app", "operator": "In", "values": ["a", "b"]});
        let not = json!({"key": "app", "operator": "NotIn", "values": ["a"]});
        let there = json!({"key": "app", "operator": "Exists"});
        let absent = json!({"key": "app", "operator": "DoesNotExist"});
        assert!(selected(among.clone(), json!({"app": "b"})) && !selected(among, json!({"app": "c"})));
        assert!(selected(not.clone(), json!({})) && !selected(not, json!({"app": "a"})));
        assert!(selected(there.clone(), json!({"app": ""})) && !selected(there, json!({})));
        assert!(selected(absent.clone(), json!({})) && !selected(absent, json!({"app": ""})));
    }

    #[test]
    fn an_empty_selector_is_everything_and_no_selection_is_nothing() {
        let everything = connection("one", "2026-01-01T00:00:00Z", json!({"selector": {}}));
        let nothing = connection("one", "2026-01-01T00:00:00Z", json!({}));
        let pod = pod(None, json!({}));
        assert_eq!(choose([&everything], "agents", &pod).len(), 1);
        assert_eq!(choose([&nothing], "agents", &pod).len(), 0);
    }

    #[test]
    fn the_older_connection_wins() {
        let everything = || json!({"selector": {}});
        let old = connection("z", "2026-01-01T00:00:00Z", everything());
        let young = connection("a", "2026-01-02T00:00:00Z", everything());
        let twin = connection("b", "2026-01-02T00:00:00Z", everything());
        let names: Vec<_> = choose([&young, &twin, &old], "agents", &pod(None, json!({})))
            .into_iter()
            .map(|one| one.name_any())
            .collect();
        assert_eq!(names, ["z", "a", "b"]);
        assert!(wins(&old, &young) && !wins(&young, &old));
    }

    #[test]
    fn a_selector_that_means_nothing_is_named() {
        let bad = |expression| {
            let pods = json!({"selector": {"matchExpressions": [expression]}});
            check(&connection("one", "2026-01-01T00:00:00Z", pods).spec.pods)
        };
        assert!(bad(json!({"key": "a", "operator": "In"})).unwrap_err().contains("at least one value"));
        assert!(
            bad(json!({"key": "a", "operator": "Exists", "values": ["x"]}))
                .unwrap_err()
                .contains("no values")
        );
        assert!(bad(json!({"key": "a", "operator": "Is"})).unwrap_err().contains("none of In"));
        assert!(bad(json!({"key": "a", "operator": "NotIn", "values": ["x"]})).is_ok());
    }
}
