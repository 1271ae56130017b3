//! What lies in the data directory, and how it stays whole.
//!
//! | file | what | durable |
//! |---|---|---|
//! | `lock` | held while a recorder runs | - |
//! | `log.key`, `log.vkey` | the log's signing keys (a secret) and their public halves | before the first entry |
//! | `log.keys` | what was said when the keys were changed | after the entry that says it |
//! | `orders/` | what the recorder is asked to do, and its answers ([`crate::orders`]) | before the answer |
//! | `wal/<index>` | [`wal`]: entries and blobs that were acknowledged and are not yet in a checkpoint | before the answer |
//! | `log/checkpoint`, `log/tile/...` | the log as C2SP tlog-tiles has it: any web server could serve `log/` | before the checkpoint |
//! | `blobs/ab/<hex>` | a blob, salt and content, named by its SHA-256 | before the checkpoint |
//! | `index.sqlite` | the search index: deleting it loses nothing | no |
//!
//! [`recover`] opens the directory; then two threads write: the sequencer the write-ahead log, the [`publish`]er the rest.

mod check;
pub mod deleted;
pub mod error;
pub mod files;
pub mod keys;
pub mod publish;
pub mod reader;
pub mod recent;
pub mod recover;
pub mod tail;
pub mod wal;
