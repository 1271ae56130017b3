//! Why the store can't go on. Each of these stops the recorder: what is acknowledged stays acknowledged, nothing more is.

use std::io;

/// The store can't go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused a read or write.
    #[error("{operation} {path}: {error}. {}", advice(.error))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file, relative to the data directory.
        path: String,
        /// The system's answer.
        error: io::Error,
    },
    /// A file's bytes are not those that the recorder wrote.
    #[error(
        "{path}, byte {offset}: {what}. The file was changed or the disk is damaged; the recorder does not start on it. \
         Put back this file as it was, from a copy; an older copy of the whole directory would fork the log, and those who \
         follow it would notice. Or keep the directory as evidence, and start a new log with another --origin"
    )]
    Corrupt {
        /// Relative to the data directory.
        path: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// Another recorder runs on the directory.
    #[error(
        "another recorder is running on {0}: a log has one writer. Stop it, or give this one its own --data"
    )]
    Locked(String),
    /// The key is not there, and the log is.
    #[error(
        "{0} is missing, but there is a log: a new key can't continue it. Put the log's key back, or start a new log in \
         an empty directory"
    )]
    KeyMissing(&'static str),
    /// The key can't be read as one.
    #[error("{path}: {what}")]
    BadKey {
        /// Relative to the data directory.
        path: &'static str,
        /// Why.
        what: String,
    },
    /// The origin asked for is not the log's.
    #[error(
        "the log here is {found}, not {asked}: an origin never changes. Set --origin to it, or use another --data"
    )]
    Origin {
        /// The key's name.
        found: String,
        /// `--origin`
        asked: String,
    },
    /// An entry that can't be made, which earlier checks rule out.
    #[error("an entry can't be made: {0}. Please report this")]
    Entry(#[from] ledger::entry::BadEntry),
    /// The other writing thread stopped first.
    #[error("the recorder is stopping")]
    Stopping,
}

impl StoreError {
    /// A fixed word for metrics and logs.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull => "storage_full",
            Self::Io { .. } => "storage_failed",
            Self::Corrupt { .. } => "corrupt",
            Self::Locked(_) => "locked",
            Self::KeyMissing(_) => "key_missing",
            Self::BadKey { .. } => "bad_key",
            Self::Origin { .. } => "wrong_origin",
            Self::Entry(_) => "bad_entry",
            Self::Stopping => "stopping",
        }
    }

    pub(crate) fn corrupt(path: &str, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), offset, what: what.into() }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "Make room on the volume, then start the recorder again: nothing acknowledged is lost"
        }
        io::ErrorKind::PermissionDenied => "Let the recorder's user own the data directory",
        _ => "Check the volume, then start the recorder again: nothing acknowledged is lost",
    }
}

/// Names the operation and the file of an I/O error.
pub(crate) fn at(operation: &'static str, path: &str) -> impl FnOnce(io::Error) -> StoreError {
    move |error| StoreError::Io { operation, path: path.into(), error }
}
