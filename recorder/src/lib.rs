//! The append-only service: takes entries, keeps the log, answers searches.
//!
//! A batch's way in: [`api`] (TLS, HTTP) → [`authn`] (who speaks) → [`intake`] (room for it) → [`submission`] (is it well-formed) →
//! [`sequencer`] (its place in session and log) → [`store`] (durable), and only then the receipt. [`index`] follows behind the log.
//!
//! A read's way: [`api`] → [`authn`] (who reads) → [`authz`] (what that reader may see) → [`index`] or [`store`] → [`reads`] (the
//! read becomes an entry), and only then the answer.

pub mod api;
pub mod app;
pub mod authn;
pub mod authz;
pub mod backup;
pub mod clusters;
pub mod commands;
pub mod config;
pub mod config_file;
pub mod descriptors;
pub mod error;
pub mod history;
pub mod index;
pub mod intake;
pub mod metrics;
pub mod orders;
pub mod readers_file;
pub mod reads;
pub mod sequencer;
pub mod sessions;
pub mod store;
pub mod submission;
pub mod voice;
pub mod witness;
