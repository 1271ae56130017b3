//! The token that the recorder is shown: one for a service account and for the recorder alone, or the kubeconfig's own.

use std::str::FromStr;

use http::header::{AUTHORIZATION, HeaderValue};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use kube::client::{Body, ConfigExt as _};
use tower::{BoxError, Layer as _, ServiceExt as _, service_fn};

use super::Cluster;
use crate::error::CliError;

/// How long a token is good that is asked for, in seconds: as short as the API server gives them. A tail outlives it, and begins anew.
const SECONDS: i64 = 3600;

/// A service account: `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    namespace: String,
    name: String,
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.into(), name: name.into() })
            }
            _ => Err("a service account is written NAMESPACE/NAME".into()),
        }
    }
}

impl Cluster {
    /// A token of this account, good for `audience` and for nothing else.
    pub(crate) async fn token_of(&self, account: &Account, audience: &str) -> Result<HeaderValue, CliError> {
        let Account { namespace, name } = account;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let spec = TokenRequestSpec {
            audiences: Some(vec![audience.into()]),
            expiration_seconds: Some(SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let failed = |error: String| CliError::Token(format!("service account {namespace}/{name}: {error}"));
        let granted = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let status = granted.map_err(|error| failed(error.to_string()))?.status;
        let token = status.and_then(|status| status.token).unwrap_or_default();
        bearer(&token).ok_or_else(|| failed("the API server gave no token".into()))
    }

    /// The bearer token that the kubeconfig has for the API server, or that its plugin gets.
    pub(crate) async fn own_token(&self) -> Result<HeaderValue, CliError> {
        let failed = |error: &dyn std::fmt::Display| CliError::Token(error.to_string());
        let none = || {
            CliError::Token(
                "the kubeconfig's credential is no bearer token: name a service account with --service-account, or a file with \
                 --token-file"
                    .into(),
            )
        };
        // The layer that authenticates kube's own requests, before a service that sends nothing and gives back what it added.
        let layer = self.config.auth_layer().map_err(|error| failed(&error))?.ok_or_else(none)?;
        let headers = service_fn(|request: http::Request<Body>| async move {
            let mut answer = http::Response::new(());
            *answer.headers_mut() = request.headers().clone();
            Ok::<_, BoxError>(answer)
        });
        let added = layer.layer(headers).oneshot(http::Request::new(Body::empty())).await;
        let mut added = added.map_err(|error| failed(&error))?;
        let token = added
            .headers_mut()
            .remove(AUTHORIZATION)
            .filter(|value| value.as_bytes().starts_with(b"Bearer "));
        let mut token = token.ok_or_else(none)?;
        token.set_sensitive(true);
        Ok(token)
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| !token.is_empty())?;
    bearer.set_sensitive(true);
    Some(bearer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_written_with_their_namespace() {
        let account = Account { namespace: "audit".into(), name: "auditor".into() };
        assert_eq!("audit/auditor".parse(), Ok(account));
        for bad in ["auditor", "/auditor", "audit/", "a/b/c"] {
            assert!(bad.parse::<Account>().is_err(), "{bad}");
        }
    }
}
