//! The search index: SQLite behind the log. It is fed from published entries alone, so that no acknowledgement waits for
//! it, and it can be deleted at any time: it is then built again, while answers say how far it goes.

pub mod cluster;
mod conditions;
pub mod feed;
mod fields;
pub mod progress;
pub mod query;
pub mod render;
mod rows;
pub mod schema;
pub mod searcher;
pub mod sessions;
mod tally;

pub use feed::Indexer;
pub use progress::Progress;
pub use searcher::Searcher;

/// The index can't answer or grow. Never fatal: the log does not need it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite's.
    #[error("index.sqlite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The log's.
    #[error(transparent)]
    Store(#[from] crate::store::error::StoreError),
    /// An entry that can't be read; recovery would have refused it.
    #[error("entry {0} can't be read: {1}")]
    Entry(u64, String),
    /// The system's, when the index is deleted.
    #[error("index.sqlite: {0}")]
    Io(#[from] std::io::Error),
    /// The question can't be asked.
    #[error("{0}")]
    Query(String),
}
