//! What can be typed, or said in `BQWITNESS_*` variables.

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser};

/// The recorder: an append-only log of what AI agents do in BigQuery.
#[derive(Debug, Parser)]
#[command(name = "bqwitness-recorder", version, max_term_width = 100)]
pub struct Args {
    /// Directory of the log; made at the first start. Back it up as a whole
    #[arg(long, env = "BQWITNESS_DATA", value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Address of the API (TLS); port 0 takes a free one
    #[arg(long, env = "BQWITNESS_LISTEN", default_value = "0.0.0.0:8443", value_name = "ADDR")]
    pub(super) listen: String,
    /// Address of /metrics, /readyz and /livez (plain HTTP)
    #[arg(long, env = "BQWITNESS_ADMIN", default_value = "0.0.0.0:9090", value_name = "ADDR")]
    pub(super) admin: String,
    /// Name of the log, like a URL without scheme: recorder.example.com/agents. It never changes
    #[arg(long, env = "BQWITNESS_ORIGIN", value_name = "NAME")]
    pub(super) origin: Option<String>,
    /// Certificate chain of the API (PEM)
    #[arg(long, env = "BQWITNESS_TLS_CERT", value_name = "FILE")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "BQWITNESS_TLS_KEY", value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,
    /// Issuer that tokens must have: the cluster's service account issuer
    #[arg(long, env = "BQWITNESS_ISSUER", value_name = "URL")]
    pub(super) issuer: Option<String>,
    /// Audience that tokens must have
    #[arg(long, env = "BQWITNESS_AUDIENCE", default_value = "bqwitness-recorder", value_name = "NAME")]
    pub(super) audience: String,
    /// Audience that readers' tokens must have, where it is to be another: then a sidecar's token is no good for reading, nor a
    /// reader's for writing
    #[arg(long, env = "BQWITNESS_READER_AUDIENCE", value_name = "NAME")]
    pub(super) reader_audience: Option<String>,
    /// The issuer's public keys (JWKS): a file, an https URL, or the word discovery (the issuer says where, by OpenID Connect
    /// discovery). New keys are noticed by themselves
    #[arg(long, env = "BQWITNESS_JWKS", value_name = "FILE|URL|discovery")]
    pub(super) jwks: Option<String>,
    /// Ask the cluster's API server about each token instead (TokenReview), at https://host:port. It knows when a pod is gone;
    /// --jwks-ca and --jwks-token are for it then, and the token's account may create tokenreviews
    #[arg(long, env = "BQWITNESS_TOKEN_REVIEW", value_name = "URL")]
    pub(super) token_review: Option<String>,
    /// Ask the cluster's API server what a reader may read (SubjectAccessReview of entries and exports of bqwitness.dev), at
    /// https://host:port; --jwks-ca and --jwks-token are for it, and the token's account may create subjectaccessreviews
    #[arg(long, env = "BQWITNESS_ACCESS_REVIEW", value_name = "URL")]
    pub(super) access_review: Option<String>,
    /// Let people read with the tokens that they have for that API server (it may create tokenreviews too). Whoever runs the
    /// recorder then sees tokens that are good at the API server
    #[arg(long, env = "BQWITNESS_USER_TOKENS", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_name = "BOOL")]
    pub(super) user_tokens: String,
    /// File of further clusters to believe, each with an issuer, rules and roles of its own (JSON; see operations.md)
    #[arg(long, env = "BQWITNESS_CLUSTERS", value_name = "FILE")]
    pub(super) clusters: Option<PathBuf>,
    /// Roots for a JWKS URL, or for the API server (PEM); the system's when absent
    #[arg(long, env = "BQWITNESS_JWKS_CA", value_name = "FILE")]
    pub(super) jwks_ca: Option<PathBuf>,
    /// Token to ask a JWKS URL, or the API server, with
    #[arg(long, env = "BQWITNESS_JWKS_TOKEN", value_name = "FILE")]
    pub(super) jwks_token: Option<PathBuf>,
    /// Name of the cluster, as entries have it
    #[arg(long, env = "BQWITNESS_CLUSTER", value_name = "NAME")]
    pub(super) cluster: Option<String>,
    /// Service account that speaks as an operator (repeatable, or separated by commas)
    #[arg(long, env = "BQWITNESS_OPERATOR", value_name = "NAMESPACE/NAME", value_delimiter = ',')]
    pub(super) operator: Vec<String>,
    /// Service account that may read everything (repeatable, or separated by commas)
    #[arg(long, env = "BQWITNESS_READER", value_name = "NAMESPACE/NAME", value_delimiter = ',')]
    pub(super) reader: Vec<String>,
    /// File of readers whom an OpenID Connect issuer knows, and of what they and others may read (JSON; see operations.md)
    #[arg(long, env = "BQWITNESS_READERS", value_name = "FILE")]
    pub(super) readers: Option<PathBuf>,
    /// The witnesses that cosign checkpoints: a c2sp.org/tlog-policy file
    #[arg(long, env = "BQWITNESS_WITNESS_POLICY", value_name = "FILE")]
    pub(super) witness_policy: Option<PathBuf>,
    /// How long receipts wait for the witnesses, in seconds; 0: not at all. What is not cosigned by then is answered 503
    #[arg(long, env = "BQWITNESS_WAIT_FOR_WITNESSES", default_value = "0", value_name = "SECONDS")]
    pub(super) wait_for_witnesses: String,
    /// File that gets the addresses in use and the log's verifier key, as JSON, once both listen
    #[arg(long, env = "BQWITNESS_PORT_FILE", value_name = "FILE")]
    pub(super) port_file: Option<PathBuf>,
    /// Log filter: error, warn, info, debug, or one for each module
    #[arg(long, env = "BQWITNESS_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub(super) log_level: String,
    /// Log lines for people (text) or collectors (json)
    #[arg(long, env = "BQWITNESS_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub(super) log_format: String,
    /// File of settings, in the form of --print-config. Flags and variables win over it
    #[arg(long, env = "BQWITNESS_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print the settings in effect, without secrets, and end
    #[arg(long)]
    pub(super) print_config: bool,
}

impl Args {
    /// Is there a setting of this name?
    #[must_use]
    pub fn knows(name: &str) -> bool {
        let settings = Self::command();
        settings.get_arguments().any(|argument| argument.get_long() == Some(name) && name != "print-config")
    }
}
