//! The operator: puts the sidecar into the pods that a `BigQueryConnection` selects, and says where it is missing.

pub mod generate;
