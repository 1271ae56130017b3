//! What would get round the recording, found in a pod as somebody asks for it. Each refusal says what to change.

use std::fmt::{self, Display, Formatter};

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, PodSpec, SecurityContext};

use crate::names;

pub(crate) mod aliases;

/// Names of our containers.
pub const CONTAINERS: [&str; 2] = [names::PROXY, names::REDIRECT];

/// Names of our volumes.
pub const VOLUMES: [&str; 4] =
    [names::CA_VOLUME, names::TRUST_VOLUME, names::TOKEN_VOLUME, names::RECORDER_VOLUME];

/// The folder that our volumes are mounted in.
const OUR_DIR: &str = "/var/run/bqwitness";

/// Capabilities that get round the sidecar: its rules, its memory, its user, or the kernel.
const FORBIDDEN: [&str; 10] = [
    "ALL",
    "BPF",
    "NET_ADMIN",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SYS_ADMIN",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_RAWIO",
];

/// One reason against a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    category: &'static str,
    sentence: String,
}

impl Refusal {
    /// A reason with its fixed name and a sentence that says what to change.
    pub fn new(category: &'static str, sentence: impl Into<String>) -> Self {
        Self { category, sentence: sentence.into() }
    }

    /// The fixed name of this reason, as metrics have it.
    #[must_use]
    pub fn category(&self) -> &'static str {
        self.category
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// Every reason against recording this pod. `audiences` are those of tokens that only the sidecar may have. Containers of ours
/// are passed over: they are made anew.
#[must_use]
pub fn pod(pod: &Pod, audiences: &[&str]) -> Vec<Refusal> {
    let Some(spec) = &pod.spec else { return vec![Refusal::new("malformed", "a pod has a spec")] };
    let mut refusals = Vec::new();
    shared_namespaces(spec, &mut refusals);
    if let Some(context) = &spec.security_context {
        pod_context(context, &mut refusals);
    }
    volumes(spec, audiences, &mut refusals);
    for container in spec.init_containers.iter().flatten() {
        if !CONTAINERS.contains(&container.name.as_str()) {
            self::container(container, &mut refusals);
        }
    }
    for container in &spec.containers {
        reserved_name(&container.name, &mut refusals);
        self::container(container, &mut refusals);
    }
    refusals
}

/// Reasons against a container that is added to a recorded pod that runs (`kubectl debug`), as the user's containers have them.
#[must_use]
pub fn ephemeral(pod: &Pod) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for added in pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten()) {
        let name = &added.name;
        if let Some(target) = added.target_container_name.as_deref().filter(|name| CONTAINERS.contains(name))
        {
            let sentence = format!(
                "ephemeral container {name} joins the processes of {target}, where the sidecar's keys are: target another container"
            );
            refusals.push(Refusal::new("ephemeral_container", sentence));
        }
        // An ephemeral container is a container with a target; the fields that count are the same.
        let value = serde_json::to_value(added).unwrap_or_default();
        match serde_json::from_value::<Container>(value) {
            Ok(as_container) => {
                container(&as_container, &mut refusals);
                contained(&as_container, &mut refusals);
            }
            Err(error) => {
                refusals.push(Refusal::new("malformed", format!("ephemeral container {name}: {error}")));
            }
        }
    }
    refusals
}

/// An ephemeral container is not edited on its way in, so it must say itself what the injector says for others.
fn contained(container: &Container, refusals: &mut Vec<Refusal>) {
    let context = container.security_context.clone().unwrap_or_default();
    let dropped = context.capabilities.and_then(|capabilities| capabilities.drop).unwrap_or_default();
    let drops_all = dropped.iter().any(|name| capability(name) == "ALL");
    if !drops_all || context.allow_privilege_escalation != Some(false) {
        let sentence = format!(
            "ephemeral container {} could become the sidecar's user: set securityContext.allowPrivilegeEscalation to false and \
             capabilities.drop to [ALL] (kubectl debug --profile=restricted)",
            container.name
        );
        refusals.push(Refusal::new("ephemeral_container", sentence));
    }
}

fn shared_namespaces(spec: &PodSpec, refusals: &mut Vec<Refusal>) {
    let fields = [
        (spec.host_network, "hostNetwork", "the node's network has no redirect rules"),
        (spec.host_pid, "hostPID", "it shows the sidecar's processes"),
        (spec.host_ipc, "hostIPC", "it reaches the memory of other pods"),
        (
            spec.share_process_namespace,
            "shareProcessNamespace",
            "it shows the sidecar's processes to the agent",
        ),
    ];
    for (set, field, why) in fields {
        if set == Some(true) {
            let sentence = format!("spec.{field} can't be true in a recorded pod ({why}): remove it");
            refusals.push(Refusal::new("shared_namespace", sentence));
        }
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        refusals.push(Refusal::new(
            "windows",
            "the sidecar runs on Linux only: leave this pod out of the connection",
        ));
    }
}

fn pod_context(context: &PodSecurityContext, refusals: &mut Vec<Refusal>) {
    if context.run_as_user == Some(names::PROXY_UID) {
        refusals.push(proxy_user("spec.securityContext"));
    }
}

fn proxy_user(place: &str) -> Refusal {
    let uid = names::PROXY_UID;
    let sentence =
        format!("{place}.runAsUser is {uid}, the sidecar's own user, whom no rule redirects: choose another");
    Refusal::new("proxy_user", sentence)
}

fn volumes(spec: &PodSpec, audiences: &[&str], refusals: &mut Vec<Refusal>) {
    for volume in spec.volumes.iter().flatten() {
        let name = &volume.name;
        if VOLUMES.contains(&name.as_str()) {
            continue; // made anew; who may mount it is checked where it is mounted
        }
        if let Some(host) = &volume.host_path {
            let sentence = format!(
                "volume {name} is the node's {:?}, through which other containers' files can be reached: use another kind of volume",
                host.path
            );
            refusals.push(Refusal::new("host_path", sentence));
        }
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        for token in sources.filter_map(|source| source.service_account_token.as_ref()) {
            let audience = token.audience.as_deref().unwrap_or_default();
            if audiences.contains(&audience) {
                let sentence = format!(
                    "volume {name} asks for a token of audience {audience:?}, with which an agent could write entries itself: remove it"
                );
                refusals.push(Refusal::new("token_audience", sentence));
            }
        }
    }
}

fn reserved_name(name: &str, refusals: &mut Vec<Refusal>) {
    if CONTAINERS.contains(&name) {
        let sentence = format!("container name {name} is the sidecar's own: choose another");
        refusals.push(Refusal::new("reserved_name", sentence));
    }
}

fn container(container: &Container, refusals: &mut Vec<Refusal>) {
    let place = format!("container {}", container.name);
    if let Some(context) = &container.security_context {
        self::context(&place, context, refusals);
    }
    for mount in container.volume_mounts.iter().flatten() {
        let read_only_trust = mount.name == names::TRUST_VOLUME
            && mount.read_only == Some(true)
            && mount.mount_path == names::TRUST_DIR;
        if VOLUMES.contains(&mount.name.as_str()) && !read_only_trust {
            let sentence =
                format!("{place} mounts {}, which is the sidecar's own: remove the mount", mount.name);
            refusals.push(Refusal::new("reserved_volume", sentence));
        } else if !read_only_trust && is_within(&mount.mount_path, OUR_DIR) {
            let sentence = format!(
                "{place} mounts something at {}, which is the sidecar's place: mount it elsewhere",
                mount.mount_path
            );
            refusals.push(Refusal::new("reserved_path", sentence));
        }
    }
    for port in container.ports.iter().flatten() {
        let ours = [names::ADMIN_PORT, names::CONNECT_PORT, names::METADATA_PORT, names::REDIRECT_PORT]
            .map(i32::from);
        if ours.contains(&port.container_port) {
            let sentence = format!(
                "{place} listens on port {}, which is the sidecar's: choose another",
                port.container_port
            );
            refusals.push(Refusal::new("reserved_port", sentence));
        }
    }
}

fn context(place: &str, context: &SecurityContext, refusals: &mut Vec<Refusal>) {
    if context.privileged == Some(true) {
        let sentence = format!(
            "{place} is privileged, and so can do anything to the sidecar: remove securityContext.privileged"
        );
        refusals.push(Refusal::new("privileged", sentence));
    } else if context.allow_privilege_escalation == Some(true) {
        let sentence = format!(
            "{place} sets allowPrivilegeEscalation, with which a file of the sidecar's user makes it that user: remove it"
        );
        refusals.push(Refusal::new("privilege_escalation", sentence));
    }
    if context.run_as_user == Some(names::PROXY_UID) {
        refusals.push(proxy_user(&format!("{place}: securityContext")));
    }
    let added = context.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
    for name in added.map(|name| capability(name)).filter(|name| FORBIDDEN.contains(&name.as_str())) {
        let sentence = format!(
            "{place} adds capability {name}, with which it could get round the sidecar: remove it from capabilities.add"
        );
        refusals.push(Refusal::new("capability", sentence));
    }
}

/// A capability as Kubernetes spells it: runtimes also take `cap_net_admin`.
fn capability(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").map_or(upper.clone(), str::to_owned)
}

/// Is `path` the folder, or in it? `/run` is where `/var/run` leads in most images.
fn is_within(path: &str, folder: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        let mut parts = Vec::new();
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part == ".." {
                parts.pop();
            } else {
                parts.push(part.to_owned());
            }
        }
        if parts.first().is_some_and(|first| first == "run") {
            parts.insert(0, "var".into());
        }
        parts
    };
    parts(path).starts_with(&parts(folder))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value)] // json!() reads best where it is given

    use super::*;
    use serde_json::{Value, json};

    fn refused(spec: &Value) -> Vec<&'static str> {
        let asked: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        pod(&asked, &["bqwitness-recorder"]).iter().map(Refusal::category).collect()
    }

    fn one(container: &Value) -> Vec<&'static str> {
        let mut named = json!({"name": "agent", "image": "agent"});
        named.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        let also_as_init = refused(&json!({"containers": [], "initContainers": [named]}));
        let found = refused(&json!({"containers": [named]}));
        assert_eq!(found, also_as_init);
        found
    }

    #[test]
    fn what_gets_round_the_recording_has_a_name() {
        for (field, category) in [
            ("hostNetwork", "shared_namespace"),
            ("hostPID", "shared_namespace"),
            ("hostIPC", "shared_namespace"),
            ("shareProcessNamespace", "shared_namespace"),
        ] {
            assert_eq!(refused(&json!({"containers": [], field: true})), [category], "{field}");
            assert_eq!(refused(&json!({"containers": [], field: false})), [""; 0], "{field}");
        }
        assert_eq!(refused(&json!({"containers": [], "os": {"name": "windows"}})), ["windows"]);
        let user = json!({"containers": [], "securityContext": {"runAsUser": 61_337}});
        assert_eq!(refused(&user), ["proxy_user"]);
    }

    #[test]
    fn containers_can_not_become_the_sidecar() {
        let context = |context: Value| one(&json!({"securityContext": context}));
        assert_eq!(context(json!({"privileged": true})), ["privileged"]);
        assert_eq!(context(json!({"allowPrivilegeEscalation": true})), ["privilege_escalation"]);
        assert_eq!(context(json!({"runAsUser": 61_337})), ["proxy_user"]);
        for name in ["NET_ADMIN", "net_raw", "CAP_SYS_PTRACE", "SYS_ADMIN", "SETUID", "ALL"] {
            assert_eq!(context(json!({"capabilities": {"add": [name]}})), ["capability"], "{name}");
        }
        let harmless =
            json!({"runAsUser": 1000, "privileged": false, "capabilities": {"add": ["NET_BIND_SERVICE"]}});
        assert_eq!(context(harmless), [""; 0]);
    }

    #[test]
    fn our_volumes_names_and_ports_are_ours() {
        let mount = |name: &str, path: &str, read_only: bool| {
            one(&json!({"volumeMounts": [{"name": name, "mountPath": path, "readOnly": read_only}]}))
        };
        assert_eq!(mount("bqwitness-ca", "/x", true), ["reserved_volume"]);
        assert_eq!(mount("bqwitness-token", "/x", true), ["reserved_volume"]);
        assert_eq!(mount("bqwitness-trust", "/var/run/bqwitness/trust", false), ["reserved_volume"]);
        assert_eq!(mount("bqwitness-trust", "/var/run/bqwitness/trust", true), [""; 0]);
        for path in ["/var/run/bqwitness", "/run/bqwitness/trust/", "/var/../var/run//bqwitness/trust/x"] {
            assert_eq!(mount("mine", path, true), ["reserved_path"], "{path}");
        }
        assert_eq!(mount("mine", "/var/run/bqwitness2", true), [""; 0]);
        assert_eq!(one(&json!({"ports": [{"containerPort": 15_020}]})), ["reserved_port"]);
        let named = json!({"containers": [{"name": "bqwitness-proxy"}]});
        assert_eq!(refused(&named), ["reserved_name"]);
    }

    #[test]
    fn volumes_that_lead_to_the_sidecars_secrets() {
        let volume = |volume: Value| refused(&json!({"containers": [], "volumes": [volume]}));
        let token = |audience: &str| {
            volume(
                json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": audience, "path": "t"}}]}}),
            )
        };
        assert_eq!(token("bqwitness-recorder"), ["token_audience"]);
        assert_eq!(token("vault"), [""; 0]);
        assert_eq!(volume(json!({"name": "h", "hostPath": {"path": "/var/lib/kubelet"}})), ["host_path"]);
    }

    #[test]
    fn an_ephemeral_container_must_be_contained() {
        let added = |container: Value| {
            let mut named = json!({"name": "debug", "image": "debug"});
            named.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
            let asked: Pod =
                serde_json::from_value(json!({"spec": {"containers": [], "ephemeralContainers": [named]}}))
                    .unwrap();
            ephemeral(&asked).iter().map(Refusal::category).collect::<Vec<_>>()
        };
        let contained = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        assert_eq!(added(json!({})), ["ephemeral_container"]);
        assert_eq!(added(json!({"securityContext": contained})), [""; 0]);
        let joins = json!({"securityContext": contained, "targetContainerName": "bqwitness-proxy"});
        assert_eq!(added(joins), ["ephemeral_container"]);
        assert_eq!(
            added(json!({"securityContext": {"privileged": true}})),
            ["privileged", "ephemeral_container"]
        );
    }
}
