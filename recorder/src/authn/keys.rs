//! The issuer's public keys, from a JWKS file.

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::value::RawValue;

/// Greatest length of a JWKS file, in bytes.
pub const MAX_JWKS: usize = 1 << 20;

/// The keys by id. A key has one algorithm, which is never taken from a token.
#[derive(Clone, Default)]
pub struct Keys(HashMap<String, (Algorithm, DecodingKey)>);

/// The file is not a set of keys.
#[derive(Debug, thiserror::Error)]
pub enum BadKeys {
    /// Longer than [`MAX_JWKS`].
    #[error("a JWKS has at most {MAX_JWKS} bytes; this one has {0}")]
    TooLarge(usize),
    /// Not JSON, or without `keys`.
    #[error("not a JWKS: {0}")]
    Malformed(#[from] serde_json::Error),
    /// No key that can be used.
    #[error("the JWKS has no RSA (RS256) or P-256 (ES256) signing key with a kid")]
    Empty,
}

impl Keys {
    /// Reads a JWKS. Keys of other kinds, and those without an id, are left out: a newer issuer may have such.
    ///
    /// # Errors
    /// [`BadKeys`]
    pub fn parse(jwks: &[u8]) -> Result<Self, BadKeys> {
        #[derive(serde::Deserialize)]
        struct Set {
            keys: Vec<Box<RawValue>>,
        }
        if jwks.len() > MAX_JWKS {
            return Err(BadKeys::TooLarge(jwks.len()));
        }
        let set: Set = serde_json::from_slice(jwks)?;
        let keys: HashMap<_, _> = set.keys.iter().filter_map(|key| usable(key.get())).collect();
        if keys.is_empty() { Err(BadKeys::Empty) } else { Ok(Self(keys)) }
    }

    /// The key with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&(Algorithm, DecodingKey)> {
        self.0.get(id)
    }
}

fn usable(key: &str) -> Option<(String, (Algorithm, DecodingKey))> {
    let key: Jwk = serde_json::from_str(key).ok()?;
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(parameters) if parameters.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        _ => return None,
    };
    let id = key.common.key_id.clone()?;
    Some((id, (algorithm, DecodingKey::from_jwk(&key).ok()?)))
}
