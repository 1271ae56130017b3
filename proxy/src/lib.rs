//! The sidecar: intercepts, records and forwards a pod's BigQuery calls.
//!
//! One call's way through the modules:
//! [`listen`] -> [`session`] -> [`bigquery`] -> [`decide`] -> [`deliver`] -> [`forward`] -> [`capture`] -> [`outcome`].
//!
//! | module | says |
//! |---|---|
//! | [`app`], [`config`] | how it is wired, and from which settings |
//! | [`listen`] | the ways in, and which connections are intercepted |
//! | [`ca`] | the certificates that agents are shown |
//! | [`session`] | the story of one request |
//! | [`authority`], [`request_body`], [`body_memory`] | whom a request is for, and what of its body must be read first |
//! | [`bigquery`] | what a call means |
//! | [`decide`] | whether it may leave |
//! | [`identity`], [`swap`] | the pod's Google credential, and which parts of a request it replaces |
//! | [`metadata`] | the metadata server that agents ask for a credential, and are given a placeholder |
//! | [`deliver`], a library of its own | the session's chain, and the wait until an intent is durable |
//! | [`forward`] | the way to BigQuery |
//! | [`capture`], [`tee`], [`encoding`], [`body`] | what passes is read along |
//! | [`joins`] | the job of a request that does not name it |
//! | [`outcome`] | how a call ended, exactly once |
//! | [`refuse`] | our errors as BigQuery's clients read them |
//! | [`redirect`] | the rules that lead a pod's connections here; another program sets them |
//! | [`ca`], [`trust_store`] | the sidecar's own authority, and what agents must trust |
//! | [`names`] | the addresses of names, past the pod's host aliases |
//! | [`limits`], [`metrics`], [`files`] | bounds, what an SRE sees, files that others read |

pub mod app;
pub mod authority;
pub mod bigquery;
pub mod body;
pub mod body_memory;
pub mod ca;
pub mod capture;
pub mod config;
pub mod decide;
pub mod encoding;
pub mod files;
pub mod forward;
pub mod identity;
pub mod joins;
pub mod limits;
pub mod listen;
pub mod metadata;
pub mod metrics;
pub mod names;
pub mod outcome;
pub mod redirect;
pub mod refuse;
pub mod request_body;
pub mod session;
pub mod swap;
pub mod tee;
pub mod trust_store;
