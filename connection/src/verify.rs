//! Is a pod that is about to be stored as it was injected? Others may have changed it after us.

use serde_json::Value;

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
    for field in ["/spec/hostAliases", "/spec/securityContext/sysctls"] {
        if pod.pointer(field) != expected.pointer(field) {
            let sentence =
                format!("{field} was changed after bqwitness prepared it: let that webhook run before");
            refusals.push(Refusal::new("not_injected", sentence));
        }
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
