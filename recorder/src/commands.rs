//! What `bqwitness-recorder` does besides recording: orders for the recorder that runs on a data directory, and a copy of it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ledger::digest::Digest;

use crate::backup::{self, NoBackup};
use crate::orders::give::{NotGiven, give};
use crate::orders::{Order, What};

/// How long a command waits for the recorder's answer. Deleting a text writes the search index anew.
const PATIENCE: Duration = Duration::from_secs(35 * 60);

/// Orders for the recorder that runs on a data directory, and a copy of it. Run it as the recorder's user.
#[derive(Debug, Parser)]
#[command(name = "bqwitness-recorder", max_term_width = 100)]
pub struct Commands {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Change the log's key.
    #[command(subcommand)]
    Key(Key),
    /// Delete a text for good: its blob, and its words in the search index. The log stays whole, and says who did it, and why.
    DeleteBlob {
        #[command(flatten)]
        given: Given,
        /// Index of the entry whose texts are to go, all of them: `bqwitness search` and `show` say it.
        #[arg(long, value_name = "INDEX", conflicts_with = "digest", required_unless_present = "digest")]
        entry: Option<u64>,
        /// The one text to go, as entries name it: sha256:...
        #[arg(long, value_name = "DIGEST")]
        digest: Option<Digest>,
    },
    /// Copy the log to another directory, also while the recorder runs; and verify the copy. What the copy has is not copied again.
    Backup {
        /// The recorder's data directory.
        #[arg(long, env = "BQWITNESS_DATA", value_name = "DIR")]
        data: PathBuf,
        /// Where the copy lies, or is to lie.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Copy the log's key too, which is a secret: without it a copy can be read, and not be gone on with.
        #[arg(long)]
        with_key: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Key {
    /// Let the log sign with a new key too, beside the one that it has.
    Add(Given),
    /// Let the log sign with the newer of its two keys alone.
    Retire(Given),
}

/// Who orders it, and why.
#[derive(Clone, Debug, Args)]
struct Given {
    /// The recorder's data directory.
    #[arg(long, env = "BQWITNESS_DATA", value_name = "DIR")]
    data: PathBuf,
    /// Who orders it: the log says so, for ever.
    #[arg(long, value_name = "NAME")]
    by: String,
    /// Why: the log says so, for ever. No personal data.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// The command could not do what was asked.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Order(#[from] NotGiven),
    #[error(transparent)]
    Backup(#[from] NoBackup),
    #[error("{0}")]
    Output(#[from] io::Error),
}

/// Are these arguments a command's? The recorder itself has only flags.
#[must_use]
pub fn are_asked(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> bool {
    let first = arguments.nth(1);
    first.is_some_and(|first| ["key", "delete-blob", "backup"].iter().any(|command| first == *command))
}

impl Commands {
    /// Does it. Exit status 0: done; 1: refused, or the copy does not hold; 2: it could not be tried.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command.run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                // When standard error is closed too, the exit status still says it.
                let _told = writeln!(io::stderr(), "bqwitness-recorder: {error}").is_ok();
                ExitCode::from(2)
            }
        }
    }
}

impl Command {
    fn run(self) -> Result<bool, Failed> {
        match self {
            Self::Key(Key::Add(given)) => given.order(What::AddKey),
            Self::Key(Key::Retire(given)) => given.order(What::RetireKey),
            Self::DeleteBlob { given, entry, digest } => {
                let blob = digest.map(|digest| What::DeleteBlob { digest });
                let what = blob.or(entry.map(|entry| What::DeleteTexts { entry }));
                given.order(what.expect("clap demands one of the two"))
            }
            Self::Backup { data, to, with_key } => copy(&data, &to, with_key),
        }
    }
}

impl Given {
    fn order(self, what: What) -> Result<bool, Failed> {
        let order = Order { by: self.by, reason: self.reason, what };
        let answer = give(&self.data, &order, PATIENCE)?;
        writeln!(io::stdout(), "{}", answer.message)?;
        Ok(answer.done)
    }
}

fn copy(data: &Path, to: &Path, with_key: bool) -> Result<bool, Failed> {
    let done = backup::copy(data, to, with_key)?;
    writeln!(io::stdout(), "{done}")?;
    Ok(done.report.is_verified())
}
