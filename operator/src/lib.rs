//! The operator: puts the sidecar into the pods that a `BigQueryConnection` selects, and says where it is missing.
//!
//! A pod is created: [`webhook`] -> `connection::inject` (pure).
//! A connection changes, or a pod does: [`controller`] (five steps) -> [`coverage`] (pure).
//!
//! | module | says |
//! |---|---|
//! | [`app`], [`config`] | how it is wired, and from which settings |
//! | [`webhook`] | what the API server asks before it stores something |
//! | [`configurations`] | which questions it asks, and of whom |
//! | [`certificate`] | the webhook's own certificate and CA |
//! | [`watch`] | what the API server has |
//! | [`controller`] | what is stored becomes what is so |
//! | [`coverage`] | whether a pod is recorded |
//! | [`accepted`] | who asked for a spec |
//! | [`entries`] | what of all this is entered in the record |
//! | [`lead`] | which replica writes |
//! | [`metrics`] | what an SRE sees |
//! | [`recorder`] | a program of its own: the recorder's certificate and CA, and what proves it |
//! | [`generate`] | files that are made from the code |

pub mod accepted;
pub mod app;
pub mod certificate;
pub mod config;
pub mod configurations;
pub mod controller;
pub mod coverage;
pub mod entries;
pub mod generate;
pub mod lead;
pub mod metrics;
pub mod recorder;
pub mod watch;
pub mod webhook;
