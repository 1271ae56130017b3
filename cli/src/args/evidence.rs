//! What is shown, taken out and verified.

use std::path::PathBuf;

use clap::Args;

use super::{FilterArgs, ReaderArgs};

#[derive(Clone, Debug, Args)]
pub(crate) struct EntryArgs {
    /// The entry's index in the log.
    pub(crate) index: u64,
    #[command(flatten)]
    pub(crate) reader: ReaderArgs,
    /// The log's verifier key: a .vkey file, or the key itself. When absent, what the cluster says; a key that you have from
    /// somebody whom you trust proves more.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = EXPORT_HELP)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) reader: ReaderArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// The log's verifier key: a .vkey file, or the key itself. When absent, what the cluster says.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: Option<String>,
    /// The witnesses of the log, as a c2sp.org/tlog-policy file: it goes into the bundle, with their cosignatures.
    #[arg(long, env = "BQWITNESS_POLICY", value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// The file to write. One that is there is replaced when the new one is whole and verified.
    #[arg(short = 'o', long = "out", value_name = "FILE.bqw")]
    pub(crate) file: PathBuf,
}

const EXPORT_HELP: &str = "\
What is selected decides what can be proved of its completeness:
  nothing but --since and --until   everything in that time: that no entry is missing is proved
  --agent, --pod, --connection, --session   whole sessions: that nothing of them is missing is proved
  any other filter                  calls: that each is in the log is proved; that no other call fits, is not
The export itself becomes an entry of the log, with your name.";

#[derive(Clone, Debug, Args)]
pub(crate) struct BundleArgs {
    /// The evidence bundle; `-` reads standard input.
    #[arg(value_name = "FILE.bqw")]
    pub(crate) file: PathBuf,
    /// The log's verifier key: a .vkey file, or the key itself. Take it from the recorder's operator, never from a bundle.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: String,
    /// Demand the cosignatures that this policy wants: a c2sp.org/tlog-policy file. Take it from somebody whom you trust.
    #[arg(long, env = "BQWITNESS_POLICY", value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Also write the page for people, made anew from what was read.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) page: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A recorder's data directory (or a copy of it), or its URL.
    pub(crate) log: String,
    /// The log's verifier key: a .vkey file, or the key itself.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: String,
    /// For a URL: PEM file with the recorder's CA; the system's roots when absent.
    #[arg(long, env = "BQWITNESS_RECORDER_CA", value_name = "FILE")]
    pub(crate) recorder_ca: Option<PathBuf>,
    /// For a URL: file with your token.
    #[arg(long, env = "BQWITNESS_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}
