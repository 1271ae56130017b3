//! One file for each command.

pub(crate) mod access;
pub(crate) mod connections;
pub(crate) mod coverage;
pub(crate) mod export;
pub(crate) mod inject;
pub(crate) mod keys;
pub(crate) mod monitor;
pub(crate) mod proof;
pub(crate) mod replay;
pub(crate) mod search;
pub(crate) mod sessions;
pub(crate) mod show;
pub(crate) mod tail;
pub(crate) mod verify;
pub(crate) mod verify_log;
pub(crate) mod witness;
