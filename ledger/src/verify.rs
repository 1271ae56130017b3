//! The one verifier of a whole log.
