//! Orders: what whoever owns the data directory asks of the recorder that runs on it: another key, an old one's end, a text
//! deleted for good.
//!
//! An order is a file, `DATA/orders/<id>.order`, which [`give`] writes and a running recorder finds within a second; one that does
//! not run finds it at its next start. It is carried out ([`carry_out`]), becomes an entry of the log, and is answered by
//! `<id>.done`. No network leads here: who may write into the directory may do more than any order.

pub mod carry_out;
mod deletion;
pub mod give;

use ledger::digest::Digest;
use serde::{Deserialize, Serialize};

/// Where orders lie.
pub const DIR: &str = "orders";

/// The end of an order's file name.
const ORDER: &str = ".order";

/// The end of an answer's.
const DONE: &str = ".done";

/// Greatest length of an order's file, in bytes. A longer one is refused.
const MAX_ORDER: u64 = 64 * 1024;

/// An order, and who gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Who gives it, in their own words: nobody verifies it. At most [`ledger::statement::MAX_ORDER_TEXT`] bytes.
    pub by: String,
    /// Why, as long.
    pub reason: String,
    /// What is to be done.
    #[serde(flatten)]
    pub what: What,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum What {
    /// A new key signs, beside the one that there is.
    AddKey,
    /// The older of two keys signs no more, and is forgotten.
    RetireKey,
    /// A blob is deleted for good.
    DeleteBlob {
        /// Which.
        digest: Digest,
    },
    /// All blobs of an entry are.
    DeleteTexts {
        /// Which entry: its index.
        entry: u64,
    },
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Was it carried out?
    pub done: bool,
    /// What was done, or why not.
    pub message: String,
    /// Indexes of the entries that say so.
    pub entries: Vec<u64>,
}
