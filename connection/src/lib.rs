//! What a `BigQueryConnection` is, and what it makes of a pod. Pure: no cluster is asked anything here, so the operator's
//! webhook and `bqwitness inject` do the same to the same pod.
//!
//! | module | says |
//! |---|---|
//! | [`resource`], [`status`] | the custom resource, as `kubectl explain` shows it |
//! | [`selection`] | which pods a connection is for, and which of two connections wins |
//! | [`inject`] | the pod as it should run, from the pod that somebody asked for |
//! | [`aliases`] | the names that lead to the sidecar where no rules do |
//! | [`refuse`] | what a pod may not do, with a sentence that says what to change |
//! | [`verify`] | whether a pod still is as it was injected |
//! | [`stamp`] | which connection, generation and version a pod was injected with |
//! | [`manifest`] | the same for Deployments, Jobs and the rest, as files have them |
//! | [`names`] | names and numbers that the pod, the operator and the sidecar agree on |

pub mod aliases;
pub mod digest;
pub mod inject;
pub mod manifest;
pub mod names;
pub mod patch;
pub mod refuse;
pub mod resource;
pub mod selection;
pub mod stamp;
pub mod status;
pub mod verify;

pub use resource::{BigQueryConnection, BigQueryConnectionSpec};
