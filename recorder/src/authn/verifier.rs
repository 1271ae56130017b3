//! Verifies tokens and says who their bearers are.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use ledger::digest::Digest;
use ledger::entry::{Envelope, MAX_ENVELOPE, Role, Subject, Workload};
use prometheus::IntCounter;
use tokio::sync::Notify;

use super::claims::{Claims, Named};
use super::keys::Keys;
use super::source::{KeysError, Location, Source};
use crate::error::{Reason, Refusal};
use crate::submission::Speaker;

/// How far the issuer's clock and ours may differ, in seconds.
pub const CLOCK_SKEW: u64 = 10;

/// Greatest length of a token, in bytes. Those of Kubernetes have one to two thousand.
pub const MAX_TOKEN: usize = 16 * 1024;

/// How many verified tokens are remembered; when there are more, all are forgotten and verified again.
pub const CACHE: usize = 4096;

/// A service account as operators write it: `namespace/name`.
pub type Account = (String, String);

/// What the recorder demands of a token, and what it grants.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `iss`
    pub issuer: String,
    /// One of `aud`
    pub audience: String,
    /// The recorder's name for the issuer's cluster.
    pub cluster: String,
    /// Service accounts that speak as operators.
    pub operators: BTreeSet<Account>,
    /// Service accounts that may read everything.
    pub readers: BTreeSet<Account>,
}

/// A verified bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    account: Account,
    /// Absent when the token is not bound to a pod.
    speaker: Option<Speaker>,
    reader: bool,
    expires: i64,
}

impl Identity {
    /// The bearer as one who writes.
    ///
    /// # Errors
    /// [`Reason::NoPod`]: without a pod there is nobody to attribute a statement to.
    pub fn speaker(&self) -> Result<Speaker, Refusal> {
        self.speaker.clone().ok_or_else(|| {
            let message = "the token is not bound to a pod: use a projected service account token, which is";
            Refusal::new(Reason::NoPod, message)
        })
    }

    /// Nothing, if the bearer may read everything.
    ///
    /// # Errors
    /// [`Reason::NotAReader`]
    pub fn must_be_reader(&self) -> Result<(), Refusal> {
        if self.reader {
            return Ok(());
        }
        let (namespace, name) = &self.account;
        let message =
            format!("{namespace}/{name} may not read the record: name it with --reader at the recorder");
        Err(Refusal::new(Reason::NotAReader, message))
    }
}

/// Verifies tokens against the keys in force.
pub struct Verifier {
    rules: Rules,
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

impl Verifier {
    /// A verifier with the keys that are at this location now.
    ///
    /// # Errors
    /// [`KeysError`]
    pub async fn new(rules: Rules, keys: Location) -> Result<Self, KeysError> {
        let source = Source::new(keys)?;
        let in_force = RwLock::new(InForce::new(source.read().await?));
        Ok(Self { rules, source, in_force, unknown_key: Notify::new() })
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

    fn in_force(&self) -> Arc<InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who bears this token.
    ///
    /// # Errors
    /// A [`Refusal`] that says what is wrong with it, never what is in it.
    pub fn verify(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(bad_token("the token is too long"));
        }
        let (in_force, digest) = (self.in_force(), Digest::of(token.as_bytes()));
        let known = in_force.verified().get(&digest).cloned();
        if let Some(identity) = known.filter(|identity| is_current(identity.expires)) {
            return Ok(identity);
        }
        let identity = Arc::new(self.identify(self.check(&in_force.keys, token)?)?);
        let mut verified = in_force.verified();
        if verified.len() >= CACHE {
            verified.clear();
        }
        verified.insert(digest, identity.clone());
        drop(verified);
        Ok(identity)
    }

    /// Signature, issuer, audience and time.
    fn check(&self, keys: &Keys, token: &str) -> Result<Claims, Refusal> {
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
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&[&self.rules.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let token = decode::<Claims>(token, key, &validation).map_err(|error| refused(error.kind()))?;
        Ok(token.claims)
    }

    fn identify(&self, claims: Claims) -> Result<Identity, Refusal> {
        if !claims.agree() {
            return Err(bad_token(
                "the token's subject and its kubernetes.io claim name different service accounts",
            ));
        }
        let Claims { exp, kubernetes, .. } = claims;
        let account = (kubernetes.namespace.clone(), kubernetes.serviceaccount.name.clone());
        let role = if self.rules.operators.contains(&account) { Role::Operator } else { Role::Sidecar };
        let bound = kubernetes.pod.filter(|pod| !pod.name.is_empty() && !pod.uid.is_empty());
        let speaker = bound.map(|Named { name: pod, uid: pod_uid }| Speaker {
            role,
            workload: Workload {
                cluster: self.rules.cluster.clone(),
                namespace: kubernetes.namespace,
                service_account: kubernetes.serviceaccount.name,
                pod,
                pod_uid,
                node: kubernetes.node.map(|node| node.name),
            },
        });
        speaker.as_ref().map_or(Ok(()), check_size)?;
        let reader = self.rules.readers.contains(&account);
        Ok(Identity { account, speaker, reader, expires: exp })
    }
}

/// An envelope must have room for the names.
fn check_size(speaker: &Speaker) -> Result<(), Refusal> {
    let subject = Subject::Workload(speaker.workload.clone());
    let envelope = Envelope { received: Timestamp::MAX, subject, role: speaker.role };
    match serde_json::to_vec(&envelope) {
        Ok(bytes) if bytes.len() <= MAX_ENVELOPE => Ok(()),
        _ => Err(Refusal::new(Reason::SubjectTooLarge, "the token's names do not fit into an entry")),
    }
}

fn is_current(expires: i64) -> bool {
    Timestamp::now().as_second() < expires.saturating_add(CLOCK_SKEW.cast_signed())
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
        _ => bad_token("the token's claims are not those of a Kubernetes service account"),
    }
}

fn bad_token(message: &str) -> Refusal {
    Refusal::new(Reason::BadToken, message)
}
