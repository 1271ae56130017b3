//! What is put into a manifest.

use std::path::PathBuf;

use clap::Args;

#[derive(Clone, Debug, Args)]
pub(crate) struct InjectArgs {
    /// The manifest: Pods, Deployments, Jobs and the rest, in one or more YAML documents; - is standard input.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The BigQueryConnection to put in. When absent it must be in the manifest.
    #[arg(long, value_name = "FILE")]
    pub(crate) connection: Option<PathBuf>,
    /// The sidecar's image.
    #[arg(long, env = "BQWITNESS_PROXY_IMAGE", default_value = connection::names::PROXY_IMAGE, value_name = "IMAGE")]
    pub(crate) image: String,
    /// The recorder, https://HOST:PORT, for a connection that names none.
    #[arg(long, env = "BQWITNESS_RECORDER", default_value = connection::names::RECORDER_URL, value_name = "URL")]
    pub(crate) recorder: String,
    /// The audience of the recorder's tokens, for a connection that names no recorder.
    #[arg(long, env = "BQWITNESS_AUDIENCE", default_value = connection::names::AUDIENCE, value_name = "NAME")]
    pub(crate) audience: String,
}
