//! A small standard witness (<https://c2sp.org/tlog-witness>): it cosigns a log's checkpoint when it continues the one that
//! it cosigned before, and remembers it on disk before it says so.

mod serve;
mod state;

pub(crate) use self::serve::serve;
pub(crate) use self::state::{State, load_or_make_key};
