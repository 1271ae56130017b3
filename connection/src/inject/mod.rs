//! From the pod that somebody asked for to the pod that runs: pure, and the same when it is done twice.
//!
//! The API server calls the webhook again with its own result in the object, and others may have changed it in between. So
//! injection first takes away what is ours and then puts it in: what was done before makes no difference.
//!
//! What the user wrote is edited as JSON, not through Kubernetes' types: fields that are newer than this program stay.

mod container;
mod sidecar;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::refuse::{self, Refusal};
use crate::resource::{BigQueryConnection, InterceptionMode};
use crate::stamp::Stamp;
use crate::{aliases, names};

pub use self::container::Conflict;

/// What the operator decides for every connection: its own settings, which are the chart's values. They are not a resource of
/// their own, so that who may write connections can't loosen them, and so that they change with a release and not before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The sidecar's image. Name it by digest: what runs is then what was reviewed.
    pub image: String,
    /// When nodes pull it; Kubernetes' own rule when absent.
    pub image_pull_policy: Option<String>,
    /// The recorder of connections that name none: `https://host:port`.
    pub recorder: String,
    /// The audience of its tokens.
    pub audience: String,
}

/// A pod with the sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The pod.
    pub pod: Value,
    /// What its containers set themselves, in the way of being recorded.
    pub conflicts: Vec<Conflict>,
}

/// The pod can't be injected.
#[derive(Debug, thiserror::Error)]
pub enum NotInjected {
    /// Not a pod.
    #[error("this is not a pod: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It asks for something that would get round the recording.
    #[error("{}", sentences(.0))]
    Refused(Vec<Refusal>),
}

impl NotInjected {
    /// The fixed name of this error.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Refused(refusals) => refusals.first().map_or("refused", Refusal::category),
        }
    }
}

fn sentences(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Puts the sidecar of `connection` into a pod.
///
/// # Errors
/// [`NotInjected`], with every reason.
pub fn inject(
    pod: &Value,
    connection: &BigQueryConnection,
    settings: &Settings,
) -> Result<Injected, NotInjected> {
    let asked = Pod::deserialize(pod)?;
    let refusals = refusals(&asked, connection, settings);
    if !refusals.is_empty() {
        return Err(NotInjected::Refused(refusals));
    }
    let mut pod = pod.clone();
    remove_ours(&mut pod);
    let conflicts = container::prepare_all(&mut pod, connection);
    aliases::lead(&mut pod, connection);
    add_volumes(&mut pod, connection, settings);
    add_containers(&mut pod, &asked, connection, settings);
    mark(&mut pod, connection, settings, &conflicts);
    Ok(Injected { pod, conflicts })
}

fn refusals(asked: &Pod, connection: &BigQueryConnection, settings: &Settings) -> Vec<Refusal> {
    let mut refusals = refuse::pod(asked, &secret_audiences(connection, settings));
    if let (InterceptionMode::Aliases, Some(spec)) = (connection.spec.interception.mode, &asked.spec) {
        refusals.extend(refuse::aliases::connection(connection));
        refusals.extend(refuse::aliases::pod(spec, &aliases::hosts(connection)));
    }
    refusals
}

/// The audience of the tokens that the connection's pods show its recorder.
fn audience<'a>(connection: &'a BigQueryConnection, settings: &'a Settings) -> &'a str {
    connection.spec.recorder.as_ref().map_or(&settings.audience, |recorder| &recorder.audience)
}

/// The audiences of tokens that only the sidecar may have: with one, an agent could write entries itself, or get the pod's
/// Google credential.
#[must_use]
pub fn secret_audiences<'a>(connection: &'a BigQueryConnection, settings: &'a Settings) -> Vec<&'a str> {
    let mut audiences = vec![settings.audience.as_str(), audience(connection, settings)];
    audiences.extend(connection.spec.identity.federated.iter().map(|federated| federated.provider.as_str()));
    audiences
}

fn remove_ours(pod: &mut Value) {
    let spec = object(member(pod, "spec"));
    for list in ["initContainers", "volumes"] {
        if let Some(Value::Array(items)) = spec.get_mut(list) {
            items.retain(|item| !is_ours(&item["name"]));
        }
    }
    aliases::remove_ours(member(pod, "spec"));
    let metadata = object(member(pod, "metadata"));
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove(names::INJECTED_ANNOTATION);
        annotations.remove(names::CONFLICTS_ANNOTATION);
    }
}

/// Names that only we give to containers and volumes.
fn is_ours(name: &Value) -> bool {
    name.as_str().is_some_and(|name| refuse::CONTAINERS.contains(&name) || refuse::VOLUMES.contains(&name))
}

fn add_volumes(pod: &mut Value, connection: &BigQueryConnection, settings: &Settings) {
    let token = |audience: &str, path: &str| json!({"serviceAccountToken": {"audience": audience, "expirationSeconds": TOKEN_SECONDS, "path": path}});
    let mut tokens = vec![token(audience(connection, settings), names::TOKEN_FILE)];
    let federated = connection.spec.identity.federated.iter();
    tokens.extend(federated.map(|federated| token(&federated.provider, names::GOOGLE_TOKEN_FILE)));
    let volumes = array(member(member(pod, "spec"), "volumes"));
    volumes.extend([
        json!({"name": names::CA_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
        json!({"name": names::TRUST_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}),
        json!({"name": names::TOKEN_VOLUME, "projected": {"sources": tokens}}),
        json!({"name": names::RECORDER_VOLUME, "configMap": {
            "name": names::config_map(&connection.name_any()),
            "items": [
                {"key": names::RECORDER_CA_FILE, "path": names::RECORDER_CA_FILE},
                {"key": names::RECORDER_KEY_FILE, "path": names::RECORDER_KEY_FILE},
            ],
        }}),
    ]);
}

/// How long the sidecar's tokens are valid, in seconds. The kubelet renews it after four fifths of that.
const TOKEN_SECONDS: u32 = 3600;

/// The redirect rules where there are some, the sidecar, and then the user's own: from the first of them on, every call is recorded.
fn add_containers(pod: &mut Value, asked: &Pod, connection: &BigQueryConnection, settings: &Settings) {
    let redirect = match connection.spec.interception.mode {
        InterceptionMode::Redirect => Some(sidecar::redirect(settings)),
        InterceptionMode::Aliases => None,
    };
    let ours = redirect.into_iter().chain([sidecar::proxy(asked, connection, settings)]);
    let containers = array(member(member(pod, "spec"), "initContainers"));
    containers.splice(0..0, ours);
}

fn mark(pod: &mut Value, connection: &BigQueryConnection, settings: &Settings, conflicts: &[Conflict]) {
    let metadata = member(pod, "metadata");
    object(member(metadata, "labels")).insert(names::CONNECTION_LABEL.into(), connection.name_any().into());
    let annotations = object(member(metadata, "annotations"));
    let stamp = Stamp::of_connection(connection, &settings.image);
    annotations.insert(names::INJECTED_ANNOTATION.into(), stamp.to_string().into());
    if !conflicts.is_empty() {
        let said: Vec<_> = conflicts.iter().map(ToString::to_string).collect();
        annotations.insert(names::CONFLICTS_ANNOTATION.into(), said.join("\n").into());
    }
}

/// The member `name` of an object; null where there is none yet.
pub(crate) fn member<'a>(value: &'a mut Value, name: &str) -> &'a mut Value {
    object(value).entry(name).or_insert(Value::Null)
}

/// The object that this is, or becomes: Kubernetes takes null for an absent one.
pub(crate) fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it is one now")
}

/// The array that this is, or becomes.
pub(crate) fn array(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("it is one now")
}
