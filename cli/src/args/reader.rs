//! Where the recorder is, and who asks.

use std::path::PathBuf;

use clap::Args;

use crate::cluster::Account;

/// Where the recorder is, and who asks. What is not said is looked up in the cluster of the kubeconfig.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReaderArgs {
    /// The recorder, https://HOST:PORT. When absent, the one of the cluster that your kubeconfig names, reached through its API
    /// server.
    #[arg(long, env = "BQWITNESS_RECORDER", value_name = "URL")]
    pub(crate) recorder: Option<String>,
    /// PEM file with the recorder's CA. When absent: with --recorder the system's roots, else what the cluster says.
    #[arg(long, env = "BQWITNESS_RECORDER_CA", value_name = "FILE")]
    pub(crate) recorder_ca: Option<PathBuf>,
    /// File with your token. When absent, a token by your kubeconfig.
    #[arg(long, env = "BQWITNESS_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Only what is of this namespace; all that you may read when absent.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) kube: KubeArgs,
}

/// The cluster, where the recorder or your token come from it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct KubeArgs {
    /// The kubeconfig file; KUBECONFIG or ~/.kube/config when absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Its context to use.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Read as this service account: a token for the recorder alone is asked for, which you must be allowed to do. When absent, the
    /// recorder is shown the token that your kubeconfig has for the API server, if the recorder takes such.
    #[arg(long, env = "BQWITNESS_SERVICE_ACCOUNT", value_name = "NAMESPACE/NAME")]
    pub(crate) service_account: Option<Account>,
    /// The audience of such a token.
    #[arg(long, env = "BQWITNESS_AUDIENCE", default_value = connection::names::AUDIENCE, value_name = "NAME")]
    pub(crate) audience: String,
    /// Where the chart is installed: its ConfigMap says what proves the recorder.
    #[arg(
        long,
        env = "BQWITNESS_SYSTEM_NAMESPACE",
        default_value = "bqwitness-system",
        value_name = "NAMESPACE"
    )]
    pub(crate) system_namespace: String,
}
