//! The user's containers: they trust the sidecar, know their project, and can't become the sidecar.

use std::fmt::{self, Display, Formatter};

use serde_json::{Value, json};

use super::{array, is_ours, member, object};
use crate::names;
use crate::resource::{BigQueryConnection, InterceptionMode};

/// Variables that name a file of roots, each for the programs that read no other.
const ROOTS: [(&str, &str); 6] = [
    ("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "bq and gcloud don't trust the sidecar"),
    ("REQUESTS_CA_BUNDLE", "Python's requests does not trust the sidecar"),
    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "gRPC does not trust the sidecar"),
    ("NODE_EXTRA_CA_CERTS", "Node does not trust the sidecar"),
    ("SSL_CERT_FILE", "Go and OpenSSL don't trust the sidecar"),
    ("CURL_CA_BUNDLE", "curl does not trust the sidecar"),
];

/// The JVM's options for every Java program.
const JAVA: &str = "JAVA_TOOL_OPTIONS";

/// Variables that name the project.
const PROJECTS: [&str; 2] = ["CLOUDSDK_CORE_PROJECT", "GOOGLE_CLOUD_PROJECT"];

/// Variables with which clients of agents that hold no key stay with tokens and connections that the sidecar can read: no probing
/// for a metadata server, no client certificates, no certificate-bound tokens, no direct path.
const KEYLESS: [(&str, &str); 5] = [
    ("METADATA_SERVER_DETECTION", "assume-present"),
    ("GCE_METADATA_MTLS_MODE", "none"),
    ("GOOGLE_API_USE_CLIENT_CERTIFICATE", "false"),
    ("GOOGLE_API_PREVENT_AGENT_TOKEN_SHARING_FOR_GCP_SERVICES", "false"),
    ("GOOGLE_CLOUD_DISABLE_DIRECT_PATH", "true"),
];

/// Variables that name a credential of the agent's own.
const CREDENTIALS: [&str; 4] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "CLOUDSDK_AUTH_ACCESS_TOKEN",
    "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE",
    "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
];

/// Variables that name the metadata server: Python wants the first two, Node either, `bq` the third, Go and Java the first.
const METADATA: [&str; 3] = ["GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"];

/// Variables that send calls to another proxy, whose connections the redirect rules see instead of BigQuery's.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// What a container may not have, since it has it by default: with SETUID it could become the sidecar's user.
const DROPPED: [&str; 3] = ["NET_RAW", "SETGID", "SETUID"];

/// Something that a container sets itself. It is left as it is, and said to whoever created the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The container.
    pub container: String,
    /// The variable.
    pub variable: String,
    /// What follows from it.
    pub consequence: &'static str,
}

impl Display for Conflict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { container, variable, consequence } = self;
        write!(f, "container {container} sets {variable} itself: {consequence}")
    }
}

/// Prepares every container of the pod that is not ours.
pub(super) fn prepare_all(pod: &mut Value, connection: &BigQueryConnection) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for list in ["initContainers", "containers"] {
        if let Some(Value::Array(containers)) = pod["spec"].get_mut(list) {
            for container in containers {
                prepare(container, connection, &mut conflicts);
            }
        }
    }
    conflicts
}

fn prepare(container: &mut Value, connection: &BigQueryConnection, conflicts: &mut Vec<Conflict>) {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    let mut conflict = |variable: &str, consequence| {
        conflicts.push(Conflict { container: name.clone(), variable: variable.into(), consequence });
    };
    let env = array(member(container, "env"));
    let bundle = format!("{}/{}", names::TRUST_DIR, names::BUNDLE_FILE);
    for (variable, consequence) in ROOTS {
        if !set(env, variable, &bundle) {
            conflict(variable, consequence);
        }
    }
    if !trust_java(env) {
        conflict(JAVA, "Java does not trust the sidecar");
    }
    if let Some(project) = &connection.spec.project {
        for variable in PROJECTS {
            if !set(env, variable, project) {
                conflict(variable, "it works in another project than the connection's");
            }
        }
    }
    if connection.spec.identity.mode.is_keyless() {
        for (variable, value) in KEYLESS {
            if !set(env, variable, value) {
                conflict(
                    variable,
                    "its Google clients may look for credentials elsewhere than at the sidecar",
                );
            }
        }
        for variable in METADATA {
            // Redirect rules lead to the sidecar from the address that clients use by themselves.
            let ours = match connection.spec.interception.mode {
                InterceptionMode::Aliases => set(env, variable, names::METADATA_LISTEN),
                InterceptionMode::Redirect => env.iter().all(|entry| entry["name"] != *variable),
            };
            if !ours {
                conflict(variable, "its Google clients look for a credential elsewhere than at the sidecar");
            }
        }
        for variable in CREDENTIALS {
            if env.iter().any(|entry| entry["name"] == *variable) {
                conflict(variable, "a credential of its own is not used: calls carry the pod's");
            }
        }
    }
    for variable in PROXIES {
        if env.iter().any(|entry| entry["name"] == *variable) {
            conflict(
                variable,
                "what it sends through another proxy does not reach BigQuery through the sidecar",
            );
        }
    }
    mount_trust(container);
    harden(container);
}

/// Sets a variable that is not set. False when it is set to something else.
fn set(env: &mut Vec<Value>, variable: &str, value: &str) -> bool {
    match env.iter().find(|entry| entry["name"] == *variable) {
        Some(entry) => entry["value"] == *value,
        None => {
            env.push(json!({"name": variable, "value": value}));
            true
        }
    }
}

/// Has the JVM's options name our trust store, behind the user's own options. False where these name another.
fn trust_java(env: &mut Vec<Value>) -> bool {
    let ours = format!(
        "-Djavax.net.ssl.trustStore={}/{} -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword={}",
        names::TRUST_DIR,
        names::STORE_FILE,
        names::STORE_PASSWORD
    );
    let Some(entry) = env.iter_mut().find(|entry| entry["name"] == JAVA) else {
        return set(env, JAVA, &ours);
    };
    match entry["value"].as_str() {
        Some(own) if own.contains(&ours) => true,
        Some(own) if !own.contains("javax.net.ssl.trustStore") => {
            entry["value"] = format!("{own} {ours}").trim_start().into();
            true
        }
        _ => false,
    }
}

fn mount_trust(container: &mut Value) {
    let mounts = array(member(container, "volumeMounts"));
    mounts.retain(|mount| !is_ours(&mount["name"]));
    mounts.push(json!({"name": names::TRUST_VOLUME, "mountPath": names::TRUST_DIR, "readOnly": true}));
}

/// No way to another user: neither by a capability, nor by a file whose owner is the sidecar's user.
fn harden(container: &mut Value) {
    let context = member(container, "securityContext");
    object(context).insert("allowPrivilegeEscalation".into(), false.into());
    let dropped = array(member(member(context, "capabilities"), "drop"));
    let has = |dropped: &[Value], name: &str| {
        dropped.iter().filter_map(Value::as_str).any(|one| one.eq_ignore_ascii_case(name))
    };
    if !has(dropped, "ALL") {
        let missing: Vec<_> = DROPPED.into_iter().filter(|name| !has(dropped, name)).collect();
        dropped.extend(missing.into_iter().map(Value::from));
    }
}
