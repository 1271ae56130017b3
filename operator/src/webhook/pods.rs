//! Pods: injected when they are created, and kept as they were injected.

use std::sync::Arc;

use connection::inject::{self, NotInjected, Settings};
use connection::refuse::{self, Refusal};
use connection::{BigQueryConnection, names, selection, stamp, verify};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde::Deserialize as _;
use serde_json::Value;

use super::review::{Answer, Request};

/// Kubelets write tokens for the pods of their nodes.
const KUBELETS: &str = "system:nodes";

/// A pod is created: it becomes the pod with the sidecar, if a connection selects it.
#[must_use]
pub fn mutate(request: &Request, connections: &[Arc<BigQueryConnection>], settings: &Settings) -> Answer {
    let chosen = match choose(request, &request.object, connections) {
        Ok(chosen) => chosen,
        Err(answer) => return answer,
    };
    let [connection, others @ ..] = chosen.as_slice() else { return Answer::allowed("unselected") };
    match inject::inject(&request.object, connection, settings) {
        Ok(injected) => {
            let mut warnings = overlaps(connection, others);
            warnings.extend(injected.conflicts.iter().map(|conflict| format!("bqwitness: {conflict}")));
            Answer { becomes: Some(injected.pod), warnings, ..Answer::allowed("injected") }
        }
        Err(NotInjected::Malformed(error)) => malformed(&error),
        Err(NotInjected::Refused(refusals)) => Answer::refused(named(refusals, connection)),
    }
}

/// What is about to be stored must be as it was injected: others may have changed it since.
#[must_use]
pub fn validate(request: &Request, connections: &[Arc<BigQueryConnection>], settings: &Settings) -> Answer {
    match (request.operation.as_str(), request.sub_resource.as_str()) {
        ("CREATE", "") => created(request, connections, settings),
        ("UPDATE", "") => updated(request),
        ("UPDATE", "ephemeralcontainers") => debugged(request),
        ("CONNECT", "exec" | "attach") => entered(request),
        _ => Answer::allowed("allowed"),
    }
}

fn created(request: &Request, connections: &[Arc<BigQueryConnection>], settings: &Settings) -> Answer {
    let chosen = match choose(request, &request.object, connections) {
        Ok(chosen) => chosen,
        Err(answer) => return answer,
    };
    let Some(connection) = chosen.first() else { return Answer::allowed("unselected") };
    match verify::injected(&request.object, connection, settings) {
        Ok(refusals) => Answer::unless(named(refusals, connection)),
        Err(NotInjected::Malformed(error)) => malformed(&error),
        Err(NotInjected::Refused(refusals)) => Answer::refused(named(refusals, connection)),
    }
}

/// Of a pod that exists, only images can be changed.
fn updated(request: &Request) -> Answer {
    let (old, new) = match (pod(&request.old_object), pod(&request.object)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(error), _) | (_, Err(error)) => return malformed(&error),
    };
    if stamp::sidecar(&old).is_none() {
        return Answer::allowed("unselected");
    }
    let image = |pod: &Pod, name: &str| {
        let mut containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        containers.find(|container| container.name == name).and_then(|container| container.image.clone())
    };
    let changed = refuse::CONTAINERS.into_iter().filter(|name| image(&old, name) != image(&new, name));
    let refusals = changed.map(|name| {
        Refusal::new(
            "sidecar_image",
            format!(
                "the image of {name} can't be changed in a pod: change the operator's, and restart the pod"
            ),
        )
    });
    Answer::unless(refusals.collect())
}

fn debugged(request: &Request) -> Answer {
    match pod(&request.object) {
        Ok(pod) if stamp::sidecar(&pod).is_some() => Answer::unless(refuse::ephemeral(&pod)),
        Ok(_) => Answer::allowed("unselected"),
        Err(error) => malformed(&error),
    }
}

/// `kubectl exec` and `attach` name the container that they enter.
fn entered(request: &Request) -> Answer {
    match request.object["container"].as_str().filter(|name| refuse::CONTAINERS.contains(name)) {
        Some(name) => Answer::refused(vec![Refusal::new(
            "exec",
            format!(
                "{name} holds the keys of what is recorded, so nobody enters it: choose another container; its logs tell what it does"
            ),
        )]),
        None => Answer::allowed("allowed"),
    }
}

/// A token is asked for, outside of a pod: with one for the recorder, anybody could write entries in a pod's name.
#[must_use]
pub fn token(request: &Request, settings: &Settings, connections: &[Arc<BigQueryConnection>]) -> Answer {
    let of = |connection| inject::secret_audiences(connection, settings);
    let ours: Vec<_> =
        connections.iter().map(Arc::as_ref).flat_map(of).chain([settings.audience.as_str()]).collect();
    let asked = request.object["spec"]["audiences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(audience) = asked.iter().filter_map(Value::as_str).find(|audience| ours.contains(audience))
    else {
        return Answer::allowed("allowed");
    };
    if request.in_group(KUBELETS) {
        return Answer::allowed("allowed");
    }
    Answer::refused(vec![Refusal::new(
        "token_audience",
        format!(
            "a token of audience {audience:?} lets its holder speak for a recorded pod: only the kubelet asks for one, for the pod's sidecar. Ask for \
             another audience"
        ),
    )])
}

/// The connections that select the pod, the one in force first. A pod's namespace is the request's.
fn choose<'a>(
    request: &Request,
    object: &Value,
    connections: &'a [Arc<BigQueryConnection>],
) -> Result<Vec<&'a BigQueryConnection>, Answer> {
    let pod = pod(object).map_err(|error| malformed(&error))?;
    Ok(selection::choose(connections.iter().map(Arc::as_ref), &request.namespace, &pod))
}

fn overlaps(connection: &BigQueryConnection, others: &[&BigQueryConnection]) -> Vec<String> {
    let winner = connection.name_any();
    let say = |other: &&BigQueryConnection| {
        format!(
            "bqwitness: connections {winner} and {} both select this pod; {winner} is older and wins",
            other.name_any()
        )
    };
    others.iter().map(say).collect()
}

/// Each refusal with the connection that it is for: whoever reads it may never have heard of it.
fn named(refusals: Vec<Refusal>, connection: &BigQueryConnection) -> Vec<Refusal> {
    let name = connection.name_any();
    let add = |refusal: Refusal| {
        Refusal::new(refusal.category(), format!("BigQueryConnection {name} records this pod: {refusal}"))
    };
    refusals.into_iter().map(add).collect()
}

fn pod(object: &Value) -> Result<Pod, serde_json::Error> {
    Pod::deserialize(object)
}

fn malformed(error: &serde_json::Error) -> Answer {
    Answer::refused(vec![Refusal::new("malformed", format!("this pod can't be read: {error}"))])
}

/// A ConfigMap of ours is about to be changed. Only the operator does that, and Kubernetes when its owner goes.
#[must_use]
pub fn config_map(request: &Request, operator: &str) -> Answer {
    let ours = |object: &Value| object["metadata"]["labels"][names::MANAGED_LABEL] == names::OPERATOR;
    let may = request.user() == operator || request.user().starts_with("system:serviceaccount:kube-system:");
    if may || !(ours(&request.object) || ours(&request.old_object)) {
        return Answer::allowed("allowed");
    }
    Answer::refused(vec![Refusal::new(
        "config_map",
        format!(
            "ConfigMap {} says which recorder is trusted, and is the operator's: change the BigQueryConnection instead",
            request.name
        ),
    )])
}
