//! A reader's scope: what the settings say, else what the cluster's API server says.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ledger::search::access::Access;

use super::grants::{self, Grant};
use super::sar::Reviews;
use super::scope::{Right, Scope, Within};
use crate::authn::api_server::ApiServer;
use crate::authn::source::KeysError;
use crate::authn::verifier::{Identity, May, Trust, User};
use crate::error::{Reason, Refusal};
use crate::index::Searcher;

/// A reader who names no namespace is asked about in at most so many; where the index knows more, it must name one
/// (`name_a_namespace`).
pub const MAX_NAMESPACES: usize = 256;

/// Namespaces that a message names; the others are counted.
const NAMED: usize = 5;

/// Somebody who reads, and what.
#[derive(Clone, Debug)]
pub struct Reader {
    identity: Arc<Identity>,
    /// What may be seen.
    pub scope: Scope,
}

impl Reader {
    /// Who it is.
    #[must_use]
    pub fn user(&self) -> &User {
        self.identity.user()
    }

    /// Nothing, if the whole log is readable.
    ///
    /// # Errors
    /// [`Reason::NotAReader`]
    pub fn must_read_everything(&self) -> Result<(), Refusal> {
        if self.scope == Scope::Everything {
            return Ok(());
        }
        let message = format!(
            "{} may not read everything: entry bundles, and blobs without their entry, are for those who do. {}",
            self.user().reader(),
            how_to_allow(self.user(), None)
        );
        Err(Refusal::new(Reason::NotAReader, message))
    }
}

/// Says who may read what.
pub struct AccessControl {
    /// By the cluster's name.
    clusters: HashMap<String, Cluster>,
    /// What the settings grant.
    grants: Vec<Grant>,
}

struct Cluster {
    reviews: Reviews,
    /// Whoever reads all of this cluster reads the whole log: it is the recorder's own.
    home: bool,
}

impl AccessControl {
    /// The clusters that are asked, of those that are believed: the first is the recorder's own.
    ///
    /// # Errors
    /// An API server's roots can't be read.
    pub fn new(trusted: &[Trust], grants: Vec<Grant>) -> Result<Self, KeysError> {
        let mut clusters = HashMap::new();
        for (place, trust) in trusted.iter().enumerate() {
            let Some(access) = &trust.access else { continue };
            let reviews = Reviews::new(ApiServer::new(access.review.clone())?);
            clusters.entry(trust.rules.cluster.clone()).or_insert(Cluster { reviews, home: place == 0 });
        }
        Ok(Self { clusters, grants })
    }

    /// The bearer as a reader who does this, in one namespace or in all that it may.
    ///
    /// # Errors
    /// [`Reason::NotAReader`] with what to ask the cluster's operator for, [`Reason::NameANamespace`],
    /// [`Reason::AccessUnavailable`], and those of the index.
    pub async fn reader(
        &self,
        identity: Arc<Identity>,
        right: Right,
        namespace: Option<&str>,
        index: &Searcher,
    ) -> Result<Reader, Refusal> {
        let scope = match identity.may_read() {
            May::Everything => Scope::Everything,
            May::Granted => self.granted(identity.user(), right, namespace, index).await?,
            May::Nothing => {
                let message = "the token is for the audience of those who write: take one for those who read";
                return Err(Refusal::new(Reason::NotAReader, message));
            }
        };
        if scope.is_empty() {
            return Err(self.refuse(identity.user(), right, namespace));
        }
        Ok(Reader { identity, scope })
    }

    /// What the settings and the user's cluster grant.
    async fn granted(
        &self,
        user: &User,
        right: Right,
        namespace: Option<&str>,
        index: &Searcher,
    ) -> Result<Scope, Refusal> {
        let granted = grants::granted(&self.grants, user, right, namespace);
        if granted == Scope::Everything {
            return Ok(granted);
        }
        Ok(granted.or(self.bound(user, right, namespace, index).await?))
    }

    /// What the user's cluster has bound the user to.
    async fn bound(
        &self,
        user: &User,
        right: Right,
        namespace: Option<&str>,
        index: &Searcher,
    ) -> Result<Scope, Refusal> {
        let nothing = Scope::namespaces(&user.cluster, []);
        let Some(cluster) = self.clusters.get(&user.cluster) else { return Ok(nothing) };
        if cluster.reviews.allows(user, right, None).await? {
            let whole = Scope::Of([(user.cluster.clone(), Within::All)].into());
            return Ok(if cluster.home { Scope::Everything } else { whole });
        }
        let candidates = match namespace {
            Some(namespace) => vec![namespace.to_owned()],
            None => index.namespaces(user.cluster.clone(), MAX_NAMESPACES + 1).await?,
        };
        if candidates.len() > MAX_NAMESPACES {
            let message =
                format!("the record has more than {MAX_NAMESPACES} namespaces: name one (--namespace)");
            return Err(Refusal::new(Reason::NameANamespace, message));
        }
        let mut allowed = BTreeSet::new();
        for candidate in candidates {
            if cluster.reviews.allows(user, right, Some(&candidate)).await? {
                allowed.insert(candidate);
            }
        }
        Ok(Scope::namespaces(&user.cluster, allowed))
    }

    /// What the bearer may read; nothing is no error here.
    ///
    /// # Errors
    /// As [`AccessControl::reader`], but for [`Reason::NotAReader`].
    pub async fn describe(&self, identity: &Identity, index: &Searcher) -> Result<Access, Refusal> {
        let user = identity.user();
        let scope = match identity.may_read() {
            May::Everything => Scope::Everything,
            May::Nothing => Scope::namespaces(&user.cluster, []),
            May::Granted => self.granted(user, Right::List, None, index).await?,
        };
        Ok(Access {
            reader: user.reader(),
            cluster: user.cluster.clone(),
            everything: scope == Scope::Everything,
            clusters: scope.readable(),
        })
    }

    fn refuse(&self, user: &User, right: Right, namespace: Option<&str>) -> Refusal {
        let (verb, resource) = right.describe();
        let place =
            namespace.map_or("in any namespace".to_owned(), |namespace| format!("in namespace {namespace}"));
        let ask = if self.clusters.contains_key(&user.cluster) {
            how_to_allow(user, Some(namespace.unwrap_or("NAMESPACE")))
        } else {
            "The recorder's operator allows it: --reader, --readers, or --access-review where the cluster is to be asked.".into()
        };
        let message = format!("{} may not {verb} {resource} {place}. {ask}", user.reader());
        Refusal::new(Reason::NotAReader, message)
    }
}

/// Nothing, if what is to be taken out may be, as far as it may be read.
///
/// # Errors
/// [`Reason::NotAReader`]
pub fn must_cover(exports: &Reader, entries: &Scope) -> Result<(), Refusal> {
    if exports.scope.covers(entries) {
        return Ok(());
    }
    let user = exports.user();
    let missing: Vec<_> =
        entries.readable().into_iter().flat_map(|readable| readable.namespaces.unwrap_or_default()).collect();
    let missing: Vec<_> = missing
        .into_iter()
        .filter(|name| !exports.scope.covers(&Scope::namespaces(&user.cluster, [name.clone()])))
        .collect();
    let named = missing.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = missing.len().saturating_sub(NAMED);
    let named = if more > 0 { format!("{named} and {more} more") } else { named };
    let message = format!(
        "{} may read, and not export, what is in {named}: name a namespace that you may export (--namespace), or ask for more. {}",
        user.reader(),
        how_to_allow(user, missing.first().map(String::as_str))
    );
    Err(Refusal::new(Reason::NotAReader, message))
}

/// As one word of a shell, whatever is in it: people paste what they are told.
fn quoted(name: &str) -> String {
    let printable: String = name.chars().filter(|c| !c.is_control()).collect();
    format!("'{}'", printable.replace('\'', r"'\''"))
}

/// What the cluster's operator types.
fn how_to_allow(user: &User, namespace: Option<&str>) -> String {
    let whom = match user.account() {
        Some((namespace, name)) => format!("--serviceaccount={namespace}:{name}"),
        None => format!("--user={}", quoted(&user.name)),
    };
    let role = "--clusterrole=bqwitness-reader";
    match namespace {
        Some(namespace) => {
            format!(
                "The cluster's operator allows it: kubectl create rolebinding bqwitness-reader -n {namespace} {role} {whom}"
            )
        }
        None => format!(
            "The cluster's operator allows it: kubectl create clusterrolebinding bqwitness-reader {role} {whom}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_is_one_word() {
        let name = "a'; rm -rf $HOME\n`x`";
        let user = User { name: name.into(), ..User::default() };
        let line = how_to_allow(&user, Some("agents"));
        assert!(line.ends_with(r"--user='a'\''; rm -rf $HOME`x`'"), "{line}");
        let account = User { name: "system:serviceaccount:audit:auditor".into(), ..User::default() };
        let line = how_to_allow(&account, None);
        assert!(
            line.ends_with(
                "kubectl create clusterrolebinding bqwitness-reader --clusterrole=bqwitness-reader --serviceaccount=audit:auditor"
            ),
            "{line}"
        );
    }
}
