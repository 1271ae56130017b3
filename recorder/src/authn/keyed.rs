//! An issuer whose tokens the recorder verifies itself, with its public keys: a cluster's, or one of people who read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use ledger::digest::Digest;
use prometheus::IntCounter;
use serde_json::Value;
use tokio::sync::Notify;

use super::claims::Claims;
use super::keys::Keys;
use super::oidc::Issuer;
use super::source::{KeysError, Location, Source};
use super::verifier::{CACHE, CLOCK_SKEW, Identity, Rules, bad_token, is_current};
use crate::error::{Reason, Refusal};

/// Whose tokens these are, and whom they name.
pub enum Terms {
    /// A cluster's service accounts.
    Cluster(Box<Rules>),
    /// The users of an OpenID Connect issuer, who read.
    Users(Issuer),
}

impl Terms {
    fn issuer(&self) -> &str {
        match self {
            Self::Cluster(rules) => &rules.issuer,
            Self::Users(issuer) => &issuer.issuer,
        }
    }

    fn audiences(&self) -> Vec<&String> {
        match self {
            Self::Cluster(rules) => vec![&rules.audience, &rules.reader_audience],
            Self::Users(issuer) => vec![&issuer.audience],
        }
    }

    /// Whom these claims, which were verified, are of.
    fn identify(&self, claims: Value) -> Result<Identity, Refusal> {
        match self {
            Self::Cluster(rules) => {
                let foreign =
                    |_| bad_token("the token's claims are not those of a Kubernetes service account");
                Identity::of(rules, serde_json::from_value::<Claims>(claims).map_err(foreign)?)
            }
            Self::Users(issuer) => issuer.identify(&claims),
        }
    }
}

/// An issuer whose tokens are verified with its public keys, here.
pub struct Keyed {
    terms: Terms,
    source: Source,
    in_force: RwLock<Arc<InForce>>,
    /// A token came with a key that is not known.
    unknown_key: Notify,
}

/// The keys, and the tokens that they verified: both go when the keys change.
struct InForce {
    bytes: Bytes,
    keys: Keys,
    /// By the token's SHA-256.
    verified: Mutex<HashMap<Digest, Arc<Identity>>>,
}

impl InForce {
    fn new((bytes, keys): (Bytes, Keys)) -> Arc<Self> {
        Arc::new(Self { bytes, keys, verified: Mutex::default() })
    }

    fn verified(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Identity>>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner) // a map is whole between any two calls
    }
}

impl Keyed {
    /// The cluster, with the keys that are at this location now.
    ///
    /// # Errors
    /// [`KeysError`]
    pub async fn new(rules: Rules, keys: Location) -> Result<Self, KeysError> {
        let source = Source::new(keys)?;
        let in_force = RwLock::new(InForce::new(source.read().await?));
        Ok(Self { terms: Terms::Cluster(Box::new(rules)), source, in_force, unknown_key: Notify::new() })
    }

    /// An issuer of readers, with the keys that are at this location now; without any while they can't be had: nothing that is
    /// recorded depends on who reads.
    ///
    /// # Errors
    /// [`KeysError::Tls`]
    pub async fn of_users(issuer: Issuer, keys: Location) -> Result<Self, KeysError> {
        let source = Source::new(keys)?;
        let read = source.read().await.unwrap_or_else(|error| {
            tracing::warn!(issuer = issuer.issuer, %error, "nobody reads with tokens of this issuer until its keys can be had");
            Default::default()
        });
        let in_force = RwLock::new(InForce::new(read));
        Ok(Self { terms: Terms::Users(issuer), source, in_force, unknown_key: Notify::new() })
    }

    /// Looks for new keys, for ever. When they can't be had, the last ones stay in force, and each look counts as one of
    /// `failures`.
    pub async fn reload(self: Arc<Self>, failures: IntCounter) {
        let (shortest, usual) = self.source.pauses();
        let mut failing = false;
        loop {
            tokio::time::sleep(shortest).await;
            // A time-out is the usual case: nobody asked.
            let _asked = tokio::time::timeout(usual - shortest, self.unknown_key.notified()).await.is_ok();
            match self.source.read().await {
                Ok(read) => {
                    if read.0 != self.in_force().bytes {
                        tracing::info!("the token issuer's keys have changed");
                        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = InForce::new(read);
                    }
                    failing = false;
                }
                Err(error) => {
                    failures.inc();
                    if !failing {
                        tracing::warn!(%error, "the token issuer's keys can't be had; the last ones stay in force");
                    }
                    failing = true;
                }
            }
        }
    }

    pub(super) fn issuer(&self) -> &str {
        self.terms.issuer()
    }

    fn in_force(&self) -> Arc<InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who bears this token.
    ///
    /// # Errors
    /// A [`Refusal`] that says what is wrong with it, never what is in it.
    pub fn verify(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        let (in_force, digest) = (self.in_force(), Digest::of(token.as_bytes()));
        let known = in_force.verified().get(&digest).cloned();
        if let Some(identity) = known.filter(|identity| is_current(identity.expires())) {
            return Ok(identity);
        }
        let identity = Arc::new(self.terms.identify(self.check(&in_force.keys, token)?)?);
        let mut verified = in_force.verified();
        if verified.len() >= CACHE {
            verified.clear();
        }
        verified.insert(digest, identity.clone());
        drop(verified);
        Ok(identity)
    }

    /// Signature, issuer, audience and time.
    fn check(&self, keys: &Keys, token: &str) -> Result<Value, Refusal> {
        let header = decode_header(token)
            .map_err(|_| bad_token("the token can't be read, or its algorithm is not allowed"))?;
        let id = header.kid.ok_or_else(|| bad_token("the token names no key (kid)"))?;
        let (algorithm, key) = keys.get(&id).ok_or_else(|| {
            self.unknown_key.notify_one();
            bad_token("the token's key is not one of the issuer's")
        })?;
        let mut validation = Validation::new(*algorithm);
        validation.leeway = CLOCK_SKEW;
        validation.validate_nbf = true;
        validation.set_issuer(&[self.terms.issuer()]);
        validation.set_audience(&self.terms.audiences());
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let token = decode::<Value>(token, key, &validation).map_err(|error| refused(error.kind()))?;
        Ok(token.claims)
    }
}

fn refused(kind: &ErrorKind) -> Refusal {
    match kind {
        ErrorKind::ExpiredSignature => Refusal::new(Reason::TokenExpired, "the token has expired"),
        ErrorKind::ImmatureSignature => {
            Refusal::new(Reason::TokenExpired, "the token is not valid yet: check the clocks")
        }
        ErrorKind::InvalidAudience => {
            Refusal::new(Reason::WrongAudience, "the token is for another audience")
        }
        ErrorKind::InvalidIssuer => bad_token("the token is of another issuer"),
        ErrorKind::InvalidAlgorithm => bad_token("the token's algorithm is not its key's"),
        ErrorKind::InvalidSignature => bad_token("the token's signature does not fit"),
        _ => bad_token("the token's claims are not those that the recorder asks for"),
    }
}
