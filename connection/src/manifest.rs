//! Pods as files have them: alone, in a List, or as the template of a Deployment, a Job and the rest.

use serde_json::{Value, json};

use crate::inject::{self, Injected, NotInjected, Settings};
use crate::resource::BigQueryConnection;
use crate::selection;

/// Where an object has its pod: the path to the object that has `metadata` and `spec` of a pod.
fn template(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Pod" => "",
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "ReplicationController" => {
            "/spec/template"
        }
        "CronJob" => "/spec/jobTemplate/spec/template",
        "PodTemplate" => "/template",
        _ => return None,
    })
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its pods are the connection's: here it is with the sidecar.
    Injected(Injected),
    /// It has no pods, or pods that the connection does not select.
    Untouched,
}

/// Puts the sidecar into one object's pods, if the connection selects them. An object that names no namespace is in the
/// connection's, and a connection that names none is in the object's: a file is often written for any. Where neither does, it is
/// `default`, as for kubectl.
///
/// # Errors
/// [`NotInjected`]
pub fn inject(
    object: &Value,
    connection: &BigQueryConnection,
    settings: &Settings,
) -> Result<Outcome, NotInjected> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let Some(path) = template(kind) else { return Ok(Outcome::Untouched) };
    let Some(pod) = object.pointer(path).filter(|pod| pod.is_object()) else { return Ok(Outcome::Untouched) };
    let named = object["metadata"]["namespace"].as_str();
    let namespace = named.or(connection.metadata.namespace.as_deref()).unwrap_or("default").to_owned();
    let connection = &at_home(connection, &namespace);
    // Labels decide as Kubernetes will see them. A template's `metadata` may be absent.
    let mut as_pod = pod.clone();
    if as_pod["metadata"].is_null() {
        as_pod["metadata"] = json!({});
    }
    let typed = serde_json::from_value(as_pod.clone())?;
    if selection::choose([connection], &namespace, &typed).is_empty() {
        return Ok(Outcome::Untouched);
    }
    let Injected { pod, conflicts } = inject::inject(&as_pod, connection, settings)?;
    let mut whole = object.clone();
    *whole.pointer_mut(path).expect("it was there a moment ago") = pod;
    Ok(Outcome::Injected(Injected { pod: whole, conflicts }))
}

fn at_home(connection: &BigQueryConnection, namespace: &str) -> BigQueryConnection {
    let mut connection = connection.clone();
    connection.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
    connection
}
