//! Federated: the pod's projected token is exchanged at Google's token service, and what that gives, if so set, for the
//! token of a service account. No key is anywhere.

mod impersonate;
mod sts;
mod subject;

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use runtime::client::HttpsClient;
use rustls::ClientConfig;

use self::subject::Subject;
use super::error::CredentialError;
use super::keeper::{Granted, Source};
use crate::names::Names;

/// One request to Google may take this long.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Greatest answer that is read, in bytes: an access token has at most 12 KiB.
const MAX_ANSWER: usize = 64 * 1024;

/// What an exchange for impersonation asks for: BigQuery's scope does not allow it.
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Where and as whom to exchange.
#[derive(Clone, Debug)]
pub struct FederatedSettings {
    /// The pod's token for the provider; the kubelet renews it.
    pub token_file: PathBuf,
    /// `//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER`
    pub audience: String,
    /// What the pod's token is, as a URN of RFC 8693.
    pub subject_token_type: String,
    /// The token service's address.
    pub sts: Uri,
    /// The service account to act as.
    pub impersonate: Option<Impersonate>,
    /// Scope of the credential.
    pub scope: String,
    /// Trusts what Google's certificates lead to.
    pub tls: ClientConfig,
}

/// A service account to act as.
#[derive(Clone, Debug)]
pub struct Impersonate {
    /// Its e-mail address.
    pub email: String,
    /// Service accounts in between, each of which may make tokens of the next.
    pub delegates: Vec<String>,
    /// How long its tokens live. Google gives at most an hour, or twelve where an organisation allows it.
    pub lifetime: Duration,
    /// The IAM credentials service's address, without a path.
    pub iam: Uri,
}

/// The exchange.
pub struct Federated {
    settings: FederatedSettings,
    client: HttpsClient,
    subject: Subject,
}

impl Federated {
    /// An exchange with these settings, with services whose addresses `names` knows.
    #[must_use]
    pub fn new(settings: FederatedSettings, names: &Names) -> Self {
        let client = HttpsClient::looking_up(settings.tls.clone(), TIMEOUT, MAX_ANSWER, names.lookup());
        let subject = Subject::new(settings.token_file.clone());
        Self { settings, client, subject }
    }
}

impl Source for Federated {
    async fn fetch(&mut self) -> Result<Granted, CredentialError> {
        let subject = self.subject.read().await?;
        let settings = &self.settings;
        let scope = if settings.impersonate.is_some() { IAM_SCOPE } else { &settings.scope };
        let exchanged = sts::exchange(&self.client, settings, scope, &subject.token).await?;
        match &settings.impersonate {
            Some(account) => {
                impersonate::act_as(&self.client, account, &settings.scope, &exchanged.token).await
            }
            None => {
                let principal = subject.name.map(|name| principal(&settings.audience, &name).into());
                Granted::new(&exchanged.token, principal, exchanged.lifetime)
            }
        }
    }

    async fn changed(&mut self) {
        self.subject.changed().await;
    }
}

/// How Google's audit log names a federated identity whose `google.subject` is the token's `sub`, as the documented attribute
/// mapping has it. Another mapping makes another name, which only Google knows.
fn principal(audience: &str, subject: &str) -> String {
    let pool = audience.split("/providers/").next().unwrap_or_default();
    format!("principal:{pool}/subject/{subject}")
}

/// The project's number, which is in the audience.
#[must_use]
pub fn project_number(audience: &str) -> Option<&str> {
    let rest = audience.strip_prefix("//iam.googleapis.com/projects/")?;
    rest.split('/').next().filter(|number| !number.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_google_writes_them() {
        let audience =
            "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/agents/providers/prod";
        assert_eq!(
            principal(audience, "system:serviceaccount:agents:billing"),
            "principal://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/agents/subject/system:serviceaccount:agents:billing"
        );
        assert_eq!(project_number(audience), Some("42"));
        assert_eq!(project_number("https://elsewhere"), None);
    }
}
