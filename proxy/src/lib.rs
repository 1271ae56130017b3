//! The sidecar: intercepts, records and forwards a pod's BigQuery calls.

pub mod bigquery;
pub mod deliver;
