//! Names and numbers that the pod, the operator and the sidecar agree on. They are part of the product's face: changing one
//! makes running pods unrecognisable.

/// The API group, and the prefix of labels and annotations.
pub const GROUP: &str = "bqwitness.dev";

/// The sidecar's container.
pub const PROXY: &str = "bqwitness-proxy";
/// The init container that sets the pod's redirect rules, and ends.
pub const REDIRECT: &str = "bqwitness-redirect";

/// Volume of the sidecar's CA key: memory, mounted by the sidecar alone.
pub const CA_VOLUME: &str = "bqwitness-ca";
/// Volume of what agents must trust: memory, written by the sidecar, read by everyone else.
pub const TRUST_VOLUME: &str = "bqwitness-trust";
/// Volume of the token for the recorder, mounted by the sidecar alone.
pub const TOKEN_VOLUME: &str = "bqwitness-token";
/// Volume of the recorder's CA and public key, mounted by our containers alone.
pub const RECORDER_VOLUME: &str = "bqwitness-recorder";

/// Where [`CA_VOLUME`] is mounted.
pub const CA_DIR: &str = "/var/run/bqwitness/ca";
/// Where [`TRUST_VOLUME`] is mounted, in every container.
pub const TRUST_DIR: &str = "/var/run/bqwitness/trust";
/// Where [`TOKEN_VOLUME`] is mounted.
pub const TOKEN_DIR: &str = "/var/run/bqwitness/token";
/// Where [`RECORDER_VOLUME`] is mounted.
pub const RECORDER_DIR: &str = "/var/run/bqwitness/recorder";

/// Where Kubernetes mounts the service account's token into every container that has nothing there.
pub const API_TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The public roots and the sidecar's CA, in [`TRUST_DIR`].
pub const BUNDLE_FILE: &str = "bundle.pem";
/// The same for Java, as a PKCS #12 trust store beside it.
pub const STORE_FILE: &str = "bundle.p12";
/// The store's password, which Java asks for and which protects nothing: all in it is public.
pub const STORE_PASSWORD: &str = "changeit";
/// The token for the recorder, in [`TOKEN_DIR`].
pub const TOKEN_FILE: &str = "recorder";
/// The token for the workload identity provider, in [`TOKEN_DIR`].
pub const GOOGLE_TOKEN_FILE: &str = "google";
/// The recorder's CA, in [`RECORDER_DIR`] and the connection's ConfigMap.
pub const RECORDER_CA_FILE: &str = "ca.pem";
/// The verifier key of the recorder's log, in [`RECORDER_DIR`] and the connection's ConfigMap.
pub const RECORDER_KEY_FILE: &str = "log.vkey";

/// Where the recorder is, in the ConfigMap of its keeper.
pub const RECORDER_URL_KEY: &str = "url";

/// The user and group that the sidecar runs as, and nobody else: the redirect rules leave it alone.
pub const PROXY_UID: i64 = 61_337;

/// Where HTTP CONNECT is served, on loopback.
pub const CONNECT_PORT: u16 = 15_002;
/// Where redirected connections arrive, on loopback.
pub const REDIRECT_PORT: u16 = 15_001;
/// Where metrics and probes are served, on the pod's addresses.
pub const ADMIN_PORT: u16 = 15_020;

/// Where agents that hold no key ask for a credential in interception mode Aliases, on loopback: their variables name it.
pub const METADATA_PORT: u16 = 15_003;
/// The same as an address.
pub const METADATA_LISTEN: &str = "127.0.0.1:15003";
/// Where BigQuery's names lead in interception mode Aliases: 127.61.33.1 and those after it, which nothing else listens on.
pub const ALIAS_PREFIX: &str = "127.61.33.";

/// The audience of tokens for the recorder.
pub const AUDIENCE: &str = "bqwitness-recorder";

/// The sidecar's image of this version.
pub const PROXY_IMAGE: &str = concat!("ghcr.io/bqwitness/proxy:", env!("CARGO_PKG_VERSION"));
/// The recorder as the chart installs it.
pub const RECORDER_URL: &str = "https://bqwitness-recorder.bqwitness.svc:8443";

/// The metadata server that Google's clients ask: the redirect leads them to the sidecar's.
pub const METADATA_ADDRESS: &str = "169.254.169.254";
/// Its name, which has an address on Google's machines only.
pub const METADATA_NAME: &str = "metadata.google.internal";

/// Label of an injected pod: the connection's name.
pub const CONNECTION_LABEL: &str = "bqwitness.dev/connection";
/// Annotation of an injected pod: UID, generation and spec digest of the connection, and the injector's version.
pub const INJECTED_ANNOTATION: &str = "bqwitness.dev/injected";
/// Annotation of an injected pod: what its containers set themselves, in the way of being recorded.
pub const CONFLICTS_ANNOTATION: &str = "bqwitness.dev/conflicts";
/// Annotation of a connection: who asked for the spec that is stored. The webhook writes it; nobody else can.
pub const ACCEPTED_ANNOTATION: &str = "bqwitness.dev/accepted-by";

/// Annotation of a connection: generations that were superseded before they were on record. The webhook writes it; nobody else can.
pub const ACCEPTED_BEFORE_ANNOTATION: &str = "bqwitness.dev/accepted-before";

/// Label of what the operator made.
pub const MANAGED_LABEL: &str = "app.kubernetes.io/managed-by";
/// The operator's name: in [`MANAGED_LABEL`], as field manager, and in events.
pub const OPERATOR: &str = "bqwitness-operator";

/// The ConfigMap of a connection: how its pods reach the recorder, and what proves it.
#[must_use]
pub fn config_map(connection: &str) -> String {
    format!("bqwitness-{connection}")
}
