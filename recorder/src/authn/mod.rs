//! Who speaks: Kubernetes service account tokens, verified by the recorder itself against the
//! issuer's public keys, or by the cluster's API server (TokenReview). Several clusters may be believed at once.

pub mod api_server;
pub mod claims;
pub mod keyed;
pub mod keys;
pub mod oidc;
pub mod review;
pub mod source;
pub mod verifier;

pub use verifier::{Identity, Verifier};
