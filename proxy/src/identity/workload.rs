//! WorkloadIdentity: on GKE, the credential comes from the node's metadata server, which only the sidecar's user reaches.
//!
//! `gcp_auth` asks for the token. Its own cache is not used, because it renews only after the end; and it neither sets a time
//! limit nor tells whose token it is, which is asked for here.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gcp_auth::{MetadataServiceAccount, TokenProvider as _};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::error::{Category, CredentialError};
use super::keeper::{Granted, Source};

/// The metadata server may take this long for all answers together. GKE's is slow in a pod's first seconds.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Greatest e-mail address that is read, in bytes.
const MAX_EMAIL: usize = 1024;

/// The name that the metadata server has on every Google Cloud machine.
const HOST: &str = "metadata.google.internal";

/// The metadata server's address on every Google Cloud machine.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The metadata server as a source.
pub struct WorkloadIdentity;

impl Source for WorkloadIdentity {
    async fn fetch(&mut self) -> Result<Granted, CredentialError> {
        let asked = tokio::time::timeout(TIMEOUT, async {
            let principal = email().await?;
            let account = MetadataServiceAccount::new().await.map_err(|error| refused(&error))?;
            let token = account.token(&[]).await.map_err(|error| refused(&error))?;
            let left = token.expires_at().timestamp() - jiff::Timestamp::now().as_second();
            let lifetime = Duration::from_secs(u64::try_from(left).unwrap_or_default());
            Granted::new(token.as_str(), Some(principal), lifetime)
        });
        asked.await.unwrap_or_else(|_| Err(unreachable(&format!("no answer within {TIMEOUT:?}"))))
    }

    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }
}

/// Whose tokens they are.
async fn email() -> Result<Arc<str>, CredentialError> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request =
        Request::get(format!("http://{HOST}/computeMetadata/v1/instance/service-accounts/default/email"))
            .header("metadata-flavor", "Google")
            .body(Empty::new())
            .expect("constants make a request");
    let answer = client.request(request).await;
    let answer = answer.map_err(|error| unreachable(&runtime::client::chain(&error)))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_EMAIL).collect().await;
    let body = body.map_err(|error| unreachable(&error.to_string()))?.to_bytes();
    let email = String::from_utf8_lossy(&body).trim().to_owned();
    if status != StatusCode::OK || email.is_empty() || email.contains(char::is_whitespace) {
        let message = format!(
            "the metadata server names no Google service account for this pod ({status}): check the cluster's workload \
             identity pool and the pod's service account"
        );
        return Err(CredentialError::new(Category::MetadataRefused, message));
    }
    Ok(email.into())
}

fn unreachable(why: &str) -> CredentialError {
    let message = format!("the metadata server ({HOST}) can't be reached: {why}");
    CredentialError::new(Category::MetadataUnreachable, message)
}

/// gcp_auth's errors don't tell a refusal from an absence; what the server answered to the question before does.
fn refused(error: &gcp_auth::Error) -> CredentialError {
    let message = format!(
        "the metadata server gives this pod no token ({error}): check that its Kubernetes service account may act as the \
         Google one (roles/iam.workloadIdentityUser)"
    );
    CredentialError::new(Category::MetadataRefused, message)
}
