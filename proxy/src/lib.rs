//! The sidecar: intercepts, records and forwards a pod's BigQuery calls.
