//! Who watches a log: a witness, a monitor, and whoever holds its keys.

use std::path::PathBuf;

use clap::Args;

#[derive(Clone, Debug, Args)]
pub(crate) struct WitnessArgs {
    /// The witness's name, like a URL without scheme: witness.example.com/w1. It never changes.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// The key of a log to cosign: a .vkey file (while a log's key is changed, with both, one a line), or the key itself
    /// (repeatable: one for each log).
    #[arg(long, value_name = "VKEY", required = true)]
    pub(crate) log: Vec<String>,
    /// Directory of its key and of the last checkpoint of each log. Never bring back an older copy of it.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Address to listen on (plain HTTP: all that is said there is signed).
    #[arg(long, default_value = "127.0.0.1:8444", value_name = "ADDR")]
    pub(crate) listen: String,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct MonitorArgs {
    /// The recorder, https://HOST:PORT.
    #[arg(long, env = "BQWITNESS_RECORDER", value_name = "URL")]
    pub(crate) recorder: String,
    /// PEM file with the recorder's CA; the system's roots when absent.
    #[arg(long, env = "BQWITNESS_RECORDER_CA", value_name = "FILE")]
    pub(crate) recorder_ca: Option<PathBuf>,
    /// The log's verifier key: a .vkey file, or the key itself.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: String,
    /// File with the last checkpoint seen; made at the first run. It is kept as it is when the log does not continue it.
    #[arg(long, value_name = "FILE")]
    pub(crate) state: PathBuf,
    /// Also write metrics there, for a node exporter's textfile collector.
    #[arg(long, value_name = "FILE.prom")]
    pub(crate) metrics: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeysArgs {
    /// The recorder, https://HOST:PORT.
    #[arg(long, env = "BQWITNESS_RECORDER", value_name = "URL")]
    pub(crate) recorder: String,
    /// PEM file with the recorder's CA; the system's roots when absent.
    #[arg(long, env = "BQWITNESS_RECORDER_CA", value_name = "FILE")]
    pub(crate) recorder_ca: Option<PathBuf>,
    /// The log's verifier key that you hold: a .vkey file, or the key itself.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: String,
    /// Also write all of them there, one a line: a file for --key. Yours stays among them: it verifies what is older.
    #[arg(short = 'o', long, value_name = "FILE.vkey")]
    pub(crate) out: Option<PathBuf>,
}
