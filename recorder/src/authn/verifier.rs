//! Verifies tokens and says who their bearers are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use ledger::entry::{Envelope, MAX_ENVELOPE, Role, Subject, Workload};
use prometheus::IntCounter;
use tokio::task::JoinSet;

use super::api_server::{ApiServer, ReviewSettings};
use super::claims::{Claims, Named, Unverified};
use super::keyed::Keyed;
use super::oidc::Issuer;
use super::review::{For, Reviewer};
use super::source::{KeysError, Location};
use crate::error::{Reason, Refusal};
use crate::index::cluster::operator_name;
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
    /// One of `aud`, for those who write
    pub audience: String,
    /// One of `aud`, for those who read; the same, unless the settings say otherwise
    pub reader_audience: String,
    /// The recorder's name for the issuer's cluster.
    pub cluster: String,
    /// Service accounts that speak as operators.
    pub operators: BTreeSet<Account>,
    /// Service accounts that may read everything.
    pub readers: BTreeSet<Account>,
}

/// A verified bearer, as whoever vouches for it names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct User {
    /// The cluster, or the issuer, that vouches.
    pub cluster: String,
    /// `system:serviceaccount:<namespace>:<name>`, or a person's name.
    pub name: String,
    /// Empty where there is none.
    pub uid: String,
    /// As an access review wants them.
    pub groups: Vec<String>,
    /// As an access review wants it.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The name that entries have: `namespace/service-account`, or `user:NAME`, so that no name passes for an account's.
    #[must_use]
    pub fn reader(&self) -> String {
        match self.account() {
            Some((namespace, name)) => format!("{namespace}/{name}"),
            None => format!("user:{}", self.name),
        }
    }

    /// Namespace and name of a service account.
    #[must_use]
    pub fn account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(ACCOUNT)?.split_once(':')
    }

    /// A service account: its groups are those that every API server gives it.
    fn of_account(cluster: &str, (namespace, name): &Account, uid: &str) -> Self {
        let groups = [
            "system:serviceaccounts",
            &format!("system:serviceaccounts:{namespace}"),
            "system:authenticated",
        ];
        Self {
            cluster: cluster.into(),
            name: format!("{ACCOUNT}{namespace}:{name}"),
            uid: uid.into(),
            groups: groups.map(str::to_owned).to_vec(),
            extra: BTreeMap::new(),
        }
    }
}

const ACCOUNT: &str = "system:serviceaccount:";

/// What a token lets its bearer read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// Nothing: it is not for readers.
    Nothing,
    /// What an access review, or the grants in the settings, say.
    Granted,
    /// Everything: the settings name the bearer.
    Everything,
}

/// A verified bearer, and what it may do here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    user: User,
    /// Absent when the token is not bound to a pod.
    speaker: Option<Speaker>,
    may_read: May,
    expires: i64,
}

impl Identity {
    /// Whom these claims, which were verified, are of, and what that may do here.
    ///
    /// # Errors
    /// The claims contradict each other, or don't fit into an entry.
    pub(super) fn of(rules: &Rules, claims: Claims) -> Result<Self, Refusal> {
        if !claims.agree() {
            return Err(bad_token(
                "the token's subject and its kubernetes.io claim name different service accounts",
            ));
        }
        let Claims { exp, kubernetes, aud, .. } = claims;
        let account = (kubernetes.namespace.clone(), kubernetes.serviceaccount.name.clone());
        let role = if rules.operators.contains(&account) { Role::Operator } else { Role::Sidecar };
        let user = User::of_account(&rules.cluster, &account, &kubernetes.serviceaccount.uid);
        let writes = aud.has(&rules.audience);
        let bound = kubernetes.pod.filter(|pod| writes && !pod.name.is_empty() && !pod.uid.is_empty());
        let speaker = bound.map(|Named { name: pod, uid: pod_uid }| Speaker {
            role,
            workload: Workload {
                cluster: rules.cluster.clone(),
                namespace: kubernetes.namespace,
                service_account: kubernetes.serviceaccount.name,
                pod,
                pod_uid,
                node: kubernetes.node.map(|node| node.name),
            },
        });
        speaker.as_ref().map_or(Ok(()), check_size)?;
        let may_read = match (aud.has(&rules.reader_audience), rules.readers.contains(&account)) {
            (false, _) => May::Nothing,
            (true, false) => May::Granted,
            (true, true) => May::Everything,
        };
        Ok(Self { user, speaker, may_read, expires: exp })
    }

    /// Somebody who only reads.
    pub(super) fn of_user(user: User, expires: i64) -> Self {
        Self { user, speaker: None, may_read: May::Granted, expires }
    }

    /// When the token ends, in seconds since 1970.
    pub(super) fn expires(&self) -> i64 {
        self.expires
    }

    /// The bearer as one who writes.
    ///
    /// # Errors
    /// [`Reason::NoPod`]: without a pod there is nobody to attribute a statement to.
    pub fn speaker(&self) -> Result<Speaker, Refusal> {
        self.speaker.clone().ok_or_else(|| {
            let message = "the token is not bound to a pod, or not for the audience of those who write: use a projected service \
                           account token";
            Refusal::new(Reason::NoPod, message)
        })
    }

    /// Who bears the token.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// What the token lets its bearer read.
    #[must_use]
    pub fn may_read(&self) -> May {
        self.may_read
    }

    /// The bearer's name as an operator: its replicas share it.
    ///
    /// # Errors
    /// [`Reason::NotAReader`]: it is none.
    pub fn operator(&self) -> Result<String, Refusal> {
        let operator = self.speaker.as_ref().filter(|speaker| speaker.role == Role::Operator);
        operator.map(|operator| operator_name(&operator.workload)).ok_or_else(|| {
            Refusal::new(Reason::NotAReader, "only an operator asks for its own words: leave out own=true")
        })
    }
}

/// Verifies tokens of every cluster that the recorder believes.
pub struct Verifier {
    clusters: Vec<Trusted>,
    /// Those whose users may read with the tokens that they have for the API server.
    users: Vec<Reviewer>,
}

/// A cluster that the recorder believes.
#[derive(Clone, Debug)]
pub struct Trust {
    /// What its tokens must have, and what they grant.
    pub rules: Rules,
    /// Who says that they are good.
    pub means: Means,
    /// Who says what its users and service accounts may read, besides [`Rules::readers`].
    pub access: Option<AccessSettings>,
}

/// The API server that says who may read what (`SubjectAccessReview`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// Where it is.
    pub review: ReviewSettings,
    /// Are tokens for the API server itself good for reading, so that people read with what their kubeconfig has?
    pub user_tokens: bool,
}

/// Who says that a token is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// The recorder, with the issuer's public keys.
    Keys(Location),
    /// The cluster's API server, which also knows that a pod is gone.
    Review(ReviewSettings),
}

enum Trusted {
    Keyed(Arc<Keyed>),
    Reviewed(Box<Reviewer>),
}

impl Trusted {
    fn issuer(&self) -> &str {
        match self {
            Self::Keyed(cluster) => cluster.issuer(),
            Self::Reviewed(cluster) => &cluster.rules().issuer,
        }
    }

    async fn verify(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        match self {
            Self::Keyed(cluster) => cluster.verify(token),
            Self::Reviewed(cluster) => cluster.verify(token).await,
        }
    }
}

impl Verifier {
    /// A verifier for these clusters, and for these issuers of readers, with the keys that they have now.
    ///
    /// # Errors
    /// [`KeysError`]
    pub async fn new(clusters: Vec<Trust>, issuers: Vec<(Issuer, Location)>) -> Result<Self, KeysError> {
        let mut trusted = Vec::with_capacity(clusters.len() + issuers.len());
        let mut users = Vec::new();
        for Trust { rules, means, access } in clusters {
            if let Some(access) = access.filter(|access| access.user_tokens) {
                let api_server = Arc::new(ApiServer::new(access.review)?);
                users.push(Reviewer::new(rules.clone(), api_server, For::ApiServer));
            }
            trusted.push(match means {
                Means::Keys(location) => Trusted::Keyed(Arc::new(Keyed::new(rules, location).await?)),
                Means::Review(settings) => {
                    let api_server = Arc::new(ApiServer::new(settings)?);
                    Trusted::Reviewed(Box::new(Reviewer::new(rules, api_server, For::Recorder)))
                }
            });
        }
        for (issuer, location) in issuers {
            trusted.push(Trusted::Keyed(Arc::new(Keyed::of_users(issuer, location).await?)));
        }
        Ok(Self { clusters: trusted, users })
    }

    /// Looks for new keys, for ever. When they can't be had, the last ones stay in force, and each look counts as one of
    /// `failures`.
    pub async fn reload(self: Arc<Self>, failures: IntCounter) {
        let mut tasks = JoinSet::new();
        for cluster in &self.clusters {
            if let Trusted::Keyed(cluster) = cluster {
                tasks.spawn(Arc::clone(cluster).reload(failures.clone()));
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Who bears this token. The issuer that it names only says whose rules and keys to try; clusters that were made alike have
    /// one issuer's name, and each its own keys.
    ///
    /// # Errors
    /// A [`Refusal`] that says what is wrong with it, never what is in it.
    pub async fn verify(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(bad_token("the token is too long"));
        }
        let said = Unverified::of(token).ok_or_else(|| bad_token("the token can't be read"))?;
        let mut refusal = bad_token("the token is of another issuer");
        for cluster in self.clusters.iter().filter(|cluster| cluster.issuer() == said.iss) {
            match cluster.verify(token).await {
                Ok(identity) => return Ok(identity),
                // Another cluster of that name may have the key; what is said of a key that is known is worth more.
                Err(error) if error.reason == Reason::BadToken && refusal.reason != Reason::BadToken => {}
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }
}

impl Verifier {
    /// Who reads with this token: whoever [`Verifier::verify`] knows, else a user of a cluster whose API server knows it.
    ///
    /// # Errors
    /// A [`Refusal`] that says what is wrong with it, never what is in it.
    pub async fn verify_reader(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        let mut refusal = match self.verify(token).await {
            Err(refusal) if matches!(refusal.reason, Reason::BadToken | Reason::WrongAudience) => refusal,
            verified => return verified,
        };
        if token.len() > MAX_TOKEN {
            return Err(refusal);
        }
        for cluster in &self.users {
            match cluster.verify(token).await {
                Ok(identity) => return Ok(identity),
                Err(error) if error.reason == Reason::BadToken => {}
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
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

pub(super) fn is_current(expires: i64) -> bool {
    Timestamp::now().as_second() < expires.saturating_add(CLOCK_SKEW.cast_signed())
}

pub(super) fn bad_token(message: &str) -> Refusal {
    Refusal::new(Reason::BadToken, message)
}
