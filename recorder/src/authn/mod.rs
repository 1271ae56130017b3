//! Who speaks: Kubernetes service account tokens, verified by the recorder itself against the issuer's public keys.

pub mod claims;
pub mod keys;
pub mod source;
pub mod verifier;

pub use verifier::{Identity, Verifier};
