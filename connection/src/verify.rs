//! Is a pod that is about to be stored as it was injected? Others may have changed it after us.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::inject::{self, NotInjected, Settings};
use crate::refuse::{CONTAINERS, Refusal};
use crate::resource::BigQueryConnection;

/// What counts of a container of ours.
const OURS: [&str; 7] = ["image", "command", "args", "env", "envFrom", "restartPolicy", "securityContext"];

/// What is wrong with a pod that should carry the sidecar of `connection`; empty when nothing is.
///
/// # Errors
/// As [`inject::inject`]: the pod asks for something that can't be recorded, whoever put it in.
pub fn injected(
    pod: &Value,
    connection: &BigQueryConnection,
    settings: &Settings,
) -> Result<Vec<Refusal>, NotInjected> {
    let expected = inject::inject(pod, connection, settings)?.pod;
    let mut refusals = Vec::new();
    let (names, wanted) = (order(pod), order(&expected));
    if names != wanted {
        let sentence = format!(
            "its init containers are {}, and should be {}: another webhook has changed them after bqwitness; let it run before",
            names.join(", "),
            wanted.join(", ")
        );
        refusals.push(Refusal::new("not_injected", sentence));
        return Ok(refusals);
    }
    if let Some(missing) = missing(pod, &expected) {
        let sentence =
            format!("{missing} was taken away after bqwitness prepared it: let that webhook run before");
        refusals.push(Refusal::new("not_injected", sentence));
    }
    for list in ["initContainers", "containers"] {
        let pairs = items(pod, list).iter().zip(items(&expected, list));
        for (found, wanted) in pairs {
            let name = wanted["name"].as_str().unwrap_or_default();
            let intact = if CONTAINERS.contains(&name) {
                OURS.iter().all(|field| without_defaults(&found[*field]) == wanted[*field])
            } else {
                found["securityContext"] == wanted["securityContext"]
            };
            if !intact {
                let sentence = format!(
                    "container {name} was changed after bqwitness prepared it: let that webhook run before"
                );
                refusals.push(Refusal::new("not_injected", sentence));
            }
        }
    }
    Ok(refusals)
}

/// What of the pod's own, beside its containers, is not as it should be. Others may have added to it, in whatever order.
fn missing(pod: &Value, expected: &Value) -> Option<&'static str> {
    let aliases = |pod: &Value| -> BTreeSet<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = |alias: &Value| {
            let hosts = alias["hostnames"].as_array().cloned().unwrap_or_default();
            hosts.iter().map(|host| (text(&alias["ip"]), text(host))).collect::<Vec<_>>()
        };
        items(pod, "hostAliases").iter().flat_map(of).collect()
    };
    if !aliases(pod).is_superset(&aliases(expected)) {
        return Some("an entry of spec.hostAliases");
    }
    let sysctls = |pod: &Value| items(&json!({"spec": pod["spec"]["securityContext"]}), "sysctls").to_vec();
    let there = sysctls(pod);
    (!sysctls(expected).iter().all(|sysctl| there.contains(sysctl)))
        .then_some("a sysctl of spec.securityContext")
}

/// What the API server fills in by itself.
fn without_defaults(field: &Value) -> Value {
    let mut field = field.clone();
    if let Some(object) =
        field.as_object_mut().filter(|object| object.get("procMount") == Some(&"Default".into()))
    {
        object.remove("procMount");
    }
    field
}

fn items<'a>(pod: &'a Value, list: &str) -> &'a [Value] {
    pod["spec"][list].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn order(pod: &Value) -> Vec<&str> {
    items(pod, "initContainers")
        .iter()
        .map(|container| container["name"].as_str().unwrap_or_default())
        .collect()
}
