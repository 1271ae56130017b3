//! Our own containers.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::Settings;
use crate::aliases;
use crate::names;
use crate::resource::{
    BigQueryConnection, Federated, Identity, IdentityMode, InterceptionMode, LogLevel, OtherEgress,
    OtherGoogleApis, RecordedResults,
};
use crate::stamp::Stamp;

/// What the sidecar asks for where the connection says nothing: measured, it needs less.
const CPU: &str = "50m";
const MEMORY: &str = "32Mi";

/// The startup probe gives up after this many seconds, and the kubelet starts the sidecar again.
const STARTUP_SECONDS: u32 = 120;

/// Seconds of the pod's grace period that are kept for the sidecar's last statements.
const LAST_STATEMENTS: i64 = 5;

/// Kubernetes' own grace period where the pod names none, in seconds.
const GRACE: i64 = 30;

/// The longest drain, in seconds.
const LONGEST_DRAIN: i64 = 25;

/// Sets the pod's redirect rules, verifies them, and ends.
pub(super) fn redirect(settings: &Settings) -> Value {
    with_image(
        settings,
        json!({
            "name": names::REDIRECT,
            "command": ["bqwitness-redirect"],
            "args": [
                format!("--proxy-uid={}", names::PROXY_UID),
                format!("--port={}", names::REDIRECT_PORT),
            ],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            "volumeMounts": [instead_of_the_api_token()],
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsGroup": 0,
                "runAsNonRoot": false,
                "runAsUser": 0,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }),
    )
}

/// The sidecar: an init container that goes on (`restartPolicy: Always`), so that it runs before every container of the
/// user's and ends after them, and a Job's end does not wait for it.
pub(super) fn proxy(pod: &Pod, connection: &BigQueryConnection, settings: &Settings) -> Value {
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": names::ADMIN_PORT},
            "periodSeconds": period,
            "timeoutSeconds": 2,
            "failureThreshold": failures,
        })
    };
    let resources = connection.spec.proxy.resources.as_ref().map_or_else(
        || json!({"requests": {"cpu": CPU, "memory": MEMORY}}),
        |resources| serde_json::to_value(resources).expect("quantities are texts"),
    );
    with_image(
        settings,
        json!({
            "name": names::PROXY,
            "command": ["bqwitness-proxy"],
            "args": arguments(pod, connection, settings),
            "restartPolicy": "Always",
            "ports": [{"name": "bqwitness-admin", "containerPort": names::ADMIN_PORT, "protocol": "TCP"}],
            "startupProbe": probe("/readyz", 1, STARTUP_SECONDS),
            "readinessProbe": probe("/readyz", 5, 3),
            "livenessProbe": probe("/livez", 10, 3),
            "resources": resources,
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "privileged": false,
                "readOnlyRootFilesystem": true,
                "runAsGroup": names::PROXY_UID,
                "runAsNonRoot": true,
                "runAsUser": names::PROXY_UID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumeMounts": [
                mount(names::CA_VOLUME, names::CA_DIR, false),
                mount(names::TRUST_VOLUME, names::TRUST_DIR, false),
                mount(names::TOKEN_VOLUME, names::TOKEN_DIR, true),
                mount(names::RECORDER_VOLUME, names::RECORDER_DIR, true),
                instead_of_the_api_token(),
            ],
        }),
    )
}

fn mount(name: &str, path: &str, read_only: bool) -> Value {
    let mut mount = json!({"name": name, "mountPath": path});
    if read_only {
        mount["readOnly"] = true.into();
    }
    mount
}

/// Our containers have no use for the pod's token for the API, and Kubernetes gives it to whoever has nothing mounted in its place.
/// Something that is public is, so they never get it; and a pod that Kubernetes has nothing to add to needs no second call of
/// the webhook.
fn instead_of_the_api_token() -> Value {
    mount(names::RECORDER_VOLUME, names::API_TOKEN_DIR, true)
}

fn with_image(settings: &Settings, mut container: Value) -> Value {
    container["image"] = settings.image.clone().into();
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = policy.clone().into();
    }
    container
}

/// The sidecar's flags. They say what it does, for whom, and under which generation of the connection: a pod's arguments can't
/// be changed once it exists.
fn arguments(pod: &Pod, connection: &BigQueryConnection, settings: &Settings) -> Vec<String> {
    let spec = &connection.spec;
    let namespace = connection.namespace().unwrap_or_else(|| "default".into());
    let recorder = spec.recorder.as_ref().map_or(&settings.recorder, |recorder| &recorder.url);
    let mut arguments = vec![
        format!("--connection={namespace}/{}", connection.name_any()),
        format!("--recorder={recorder}"),
        format!("--recorder-ca={}/{}", names::RECORDER_DIR, names::RECORDER_CA_FILE),
        format!("--recorder-key={}/{}", names::RECORDER_DIR, names::RECORDER_KEY_FILE),
        format!("--token-file={}/{}", names::TOKEN_DIR, names::TOKEN_FILE),
        format!("--ca-dir={}", names::CA_DIR),
        format!("--bundle={}/{}", names::TRUST_DIR, names::BUNDLE_FILE),
        format!("--listen=127.0.0.1:{}", names::CONNECT_PORT),
        format!("--admin=[::]:{}", names::ADMIN_PORT),
        format!("--other-google-apis={}", google(spec.interception.other_google_apis)),
        format!("--other-egress={}", egress(spec.interception.other_egress)),
        format!("--results={}", results(spec.recording.results)),
        format!("--drain-timeout={}", drain_seconds(pod)),
        format!("--log-level={}", spec.proxy.log_level.unwrap_or(LogLevel::Info).as_str()),
        "--log-format=json".into(),
    ];
    arguments.extend(identity(connection));
    match spec.interception.mode {
        InterceptionMode::Redirect => {
            let port = names::REDIRECT_PORT;
            arguments.push(format!("--redirect-listen=127.0.0.1:{port},[::1]:{port}"));
        }
        InterceptionMode::Aliases => {
            arguments.push(format!("--alias-listen={}", aliases::listen(connection)));
            if spec.identity.mode.is_keyless() {
                arguments.push(format!("--metadata-listen={}", names::METADATA_LISTEN));
            }
        }
    }
    arguments.extend(Stamp::of_connection(connection, &settings.image).arguments());
    arguments
}

/// As whom calls reach BigQuery.
fn identity(connection: &BigQueryConnection) -> Vec<String> {
    let Identity { mode, federated, quota_project } = &connection.spec.identity;
    let mode = match mode {
        IdentityMode::Federated => "federated",
        IdentityMode::WorkloadIdentity => "workload-identity",
        IdentityMode::Passthrough => "passthrough",
    };
    let mut arguments = vec![format!("--credential={mode}")];
    if let Some(Federated { provider, service_account, delegates }) = federated {
        arguments.push(format!("--sts-audience={provider}"));
        arguments.push(format!("--sts-token-file={}/{}", names::TOKEN_DIR, names::GOOGLE_TOKEN_FILE));
        arguments.extend(service_account.iter().map(|account| format!("--impersonate={account}")));
        if !delegates.is_empty() {
            arguments.push(format!("--impersonate-delegates={}", delegates.join(",")));
        }
    }
    arguments.extend(quota_project.iter().map(|project| format!("--quota-project={project}")));
    arguments.extend(connection.spec.project.iter().map(|project| format!("--project={project}")));
    arguments
}

fn google(choice: OtherGoogleApis) -> &'static str {
    match choice {
        OtherGoogleApis::Inspect => "inspect",
        OtherGoogleApis::Splice => "splice",
        OtherGoogleApis::Refuse => "refuse",
    }
}

fn egress(choice: OtherEgress) -> &'static str {
    match choice {
        OtherEgress::Splice => "splice",
        OtherEgress::Refuse => "refuse",
    }
}

fn results(choice: RecordedResults) -> &'static str {
    match choice {
        RecordedResults::None => "none",
        RecordedResults::Digest => "digest",
    }
}

/// The drain ends before the kubelet kills what is left.
fn drain_seconds(pod: &Pod) -> i64 {
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(GRACE);
    (grace - LAST_STATEMENTS).clamp(1, LONGEST_DRAIN)
}
