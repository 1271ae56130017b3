//! Who a request is borne by: what the agent presented, and whose credential it leaves with.

use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use ledger::statement::{ClaimedCredential, Observed};

use super::Link;
use crate::app::Proxy;
use crate::identity::Keyless;
use crate::identity::keeper::Credential;
use crate::listen::Way;
use crate::refuse::Refused;
use crate::swap::endpoints::{self, Endpoint};
use crate::swap::{self, Presented};

/// A request's credentials, before it is allowed to leave.
pub(super) struct Bearing<'a> {
    presented: Presented,
    /// Set for BigQuery's calls when agents hold no key: then the credential is the sidecar's.
    keyless: Option<&'a Keyless>,
    /// Agents hold no key, whatever this request is for.
    is_pod_keyless: bool,
    mode: &'static str,
}

/// What a request leaves with.
pub(super) enum Bearer<'a> {
    /// What the agent presented.
    Agent,
    /// The sidecar's.
    Pod(&'a Keyless, Arc<Credential>),
}

impl<'a> Bearing<'a> {
    pub(super) fn of(proxy: &'a Proxy, link: &Link, head: &Parts) -> Self {
        let keyless = proxy.identity.keyless();
        Self {
            presented: Presented::of(head),
            keyless: keyless.filter(|_| link.is_bigquery(head)),
            is_pod_keyless: keyless.is_some(),
            mode: proxy.identity.name(),
        }
    }

    /// What is observed before there is a credential.
    pub(super) fn observed(&self, way: Way) -> Observed {
        let credential = match self.keyless {
            Some(_) => self.mode,
            None if self.presented.is_anything() => "passthrough",
            None => "none",
        };
        Observed {
            principal: None,
            interception: Some(way.name().into()),
            credential: Some(credential.into()),
        }
    }

    /// What the agent's own token says of itself.
    pub(super) fn claimed(&self) -> Option<ClaimedCredential> {
        self.presented.own().cloned()
    }

    /// May it be sent at all, with what was presented? A placeholder must be ours and good. A token of the agent's own is
    /// dropped, so it need not be; but who sends nothing is not given the pod's identity.
    pub(super) fn admit(&self, link: &Link, head: &Parts) -> Result<(), Refused> {
        let name = &link.target.name;
        let Some(keyless) = self.keyless else {
            let endpoint = endpoints::endpoint(name, &head.method, head.uri.path());
            let minting = self.is_pod_keyless && endpoint == Some(Endpoint::Minting);
            return if minting { Err(Refused::Minting(name.clone())) } else { Ok(()) };
        };
        for placeholder in self.presented.placeholders() {
            keyless.check(placeholder)?;
        }
        if self.presented.has_token() { Ok(()) } else { Err(Refused::NoToken) }
    }

    /// The credential that the call is to leave with.
    pub(super) async fn credential(&self) -> Result<Bearer<'a>, Refused> {
        match self.keyless {
            Some(keyless) => Ok(Bearer::Pod(keyless, keyless.credential().await?)),
            None => Ok(Bearer::Agent),
        }
    }
}

impl Bearer<'_> {
    /// What is observed now that there is a credential.
    pub(super) fn observed(&self, observed: Observed) -> Observed {
        let principal = match self {
            Self::Agent => None,
            Self::Pod(_, credential) => credential.principal.as_deref().map(str::to_owned),
        };
        Observed { principal, ..observed }
    }

    /// Puts it in the place of what the agent sent.
    pub(super) fn put_on(&self, head: &mut Parts) {
        if let Self::Pod(keyless, credential) = self {
            swap::apply(head, credential, keyless.quota_project.as_ref());
        }
    }

    /// BigQuery has answered.
    pub(super) fn answered(&self, status: StatusCode) {
        if let (Self::Pod(keyless, _), StatusCode::UNAUTHORIZED) = (self, status) {
            keyless.doubt();
        }
    }
}
