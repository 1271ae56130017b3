//! Settings of the pod's Google identity, as flags and variables.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Uri;
use http::header::HeaderValue;
use runtime::tls;
use rustls::RootCertStore;
use serde::Serialize;

use super::federated::{FederatedSettings, Impersonate, project_number};
use super::{IdentitySettings, Mode};
use crate::config::Mistakes;

/// Longest life of a service account's token that Google gives, in seconds, and only where an organisation allows it.
const MAX_LIFETIME: u64 = 12 * 3600;

/// Flags of the identity.
#[derive(Args, Clone, Debug, Serialize)]
pub struct IdentityFlags {
    /// Where calls get their Google credential from: federated (the pod's token is exchanged; needs --sts-audience and
    /// --sts-token-file), workload-identity (GKE's metadata server) or passthrough (the agent's own is forwarded)
    #[arg(long, env = "BQWITNESS_CREDENTIAL", default_value = "federated", value_name = "MODE")]
    pub credential: String,
    /// The workload identity provider: //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER
    #[arg(long, env = "BQWITNESS_STS_AUDIENCE", value_name = "NAME")]
    pub sts_audience: Option<String>,
    /// The pod's projected token for that provider; read anew for every exchange
    #[arg(long, env = "BQWITNESS_STS_TOKEN_FILE", value_name = "FILE")]
    pub sts_token_file: Option<PathBuf>,
    /// What that token is
    #[arg(
        long,
        env = "BQWITNESS_STS_TOKEN_TYPE",
        default_value = "urn:ietf:params:oauth:token-type:jwt",
        value_name = "URN"
    )]
    pub sts_token_type: String,
    /// Google's token service; another for private endpoints and other universes
    #[arg(
        long,
        env = "BQWITNESS_STS_URL",
        default_value = "https://sts.googleapis.com/v1/token",
        value_name = "URL"
    )]
    pub sts_url: String,
    /// The Google service account to act as; without one, the federated identity itself calls BigQuery
    #[arg(long, env = "BQWITNESS_IMPERSONATE", value_name = "EMAIL")]
    pub impersonate: Option<String>,
    /// Service accounts between the federated identity and that one, in order
    #[arg(long, env = "BQWITNESS_IMPERSONATE_DELEGATES", value_name = "EMAIL", value_delimiter = ',')]
    pub impersonate_delegates: Vec<String>,
    /// How long the service account's tokens live
    #[arg(long, env = "BQWITNESS_IMPERSONATE_LIFETIME", default_value = "3600", value_name = "SECONDS")]
    pub impersonate_lifetime: String,
    /// Google's IAM credentials service
    #[arg(
        long,
        env = "BQWITNESS_IAM_CREDENTIALS_URL",
        default_value = "https://iamcredentials.googleapis.com",
        value_name = "URL"
    )]
    pub iam_credentials_url: String,
    /// What the credential is good for
    #[arg(
        long,
        env = "BQWITNESS_GOOGLE_SCOPE",
        default_value = "https://www.googleapis.com/auth/bigquery",
        value_name = "SCOPE"
    )]
    pub google_scope: String,
    /// The project that calls count against. Without it they count against the project that they name; what agents say of it
    /// (x-goog-user-project) is dropped
    #[arg(long, env = "BQWITNESS_QUOTA_PROJECT", value_name = "PROJECT")]
    pub quota_project: Option<String>,
    /// The agents' project, as the metadata server tells it
    #[arg(long, env = "BQWITNESS_PROJECT", value_name = "PROJECT")]
    pub project: Option<String>,
    /// Where agents without a redirect reach the sidecar's metadata server; loopback only. Not in passthrough mode
    #[arg(
        long,
        env = "BQWITNESS_METADATA_LISTEN",
        default_value = "127.0.0.1:15003",
        value_name = "ADDR:PORT"
    )]
    pub metadata_listen: String,
    /// Where to write the variables (NAME=value, one a line) that agents without a redirect need
    #[arg(long, env = "BQWITNESS_ENV_FILE", value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

impl IdentityFlags {
    /// Checks them. `roots` are those that Google's certificates must lead to.
    pub(crate) fn validate(
        &self,
        roots: Option<&RootCertStore>,
        mistakes: &mut Mistakes,
    ) -> Option<IdentitySettings> {
        let quota = self.quota_project.as_deref().map(HeaderValue::from_str).transpose();
        let quota_project = mistakes.check("quota-project", quota);
        let mode = match self.credential.as_str() {
            "federated" => {
                self.federated(roots, mistakes).map(|settings| Mode::Federated(Box::new(settings)))
            }
            "workload-identity" => Some(Mode::WorkloadIdentity),
            "passthrough" => Some(Mode::Passthrough),
            other => {
                let known = "\"federated\", \"workload-identity\" and \"passthrough\"";
                mistakes.check::<(), _>("credential", Err(format!("{other:?} is none of {known}")));
                None
            }
        };
        Some(IdentitySettings { mode: mode?, quota_project: quota_project?, project: self.project.clone() })
    }

    fn federated(&self, roots: Option<&RootCertStore>, mistakes: &mut Mistakes) -> Option<FederatedSettings> {
        let needed = "is needed with --credential federated";
        let audience = mistakes.check("sts-audience", self.sts_audience.clone().ok_or(needed));
        let audience = audience.and_then(|audience| mistakes.check("sts-audience", provider(audience)));
        // That the file is there is not a condition: the kubelet may be late, and a credential that can't be had is named.
        let token_file = mistakes.check("sts-token-file", self.sts_token_file.clone().ok_or(needed));
        let sts = mistakes.check("sts-url", https(&self.sts_url));
        let iam = mistakes.check("iam-credentials-url", https(&self.iam_credentials_url));
        let lifetime = mistakes.check("impersonate-lifetime", lifetime(&self.impersonate_lifetime));
        let impersonate = match &self.impersonate {
            None => Some(None),
            Some(email) => mistakes
                .check("impersonate", account(email))
                .and_then(|email| self.acting(email, lifetime, iam, mistakes))
                .map(Some),
        };
        let tls = roots.map(|roots| tls::client_config(roots.clone(), &[]));
        let tls = tls.and_then(|tls| mistakes.check("upstream-ca", tls));
        Some(FederatedSettings {
            token_file: token_file?,
            audience: audience?,
            subject_token_type: self.sts_token_type.clone(),
            sts: sts?,
            impersonate: impersonate?,
            scope: self.google_scope.clone(),
            tls: tls?,
        })
    }

    fn acting(
        &self,
        email: String,
        lifetime: Option<Duration>,
        iam: Option<Uri>,
        mistakes: &mut Mistakes,
    ) -> Option<Impersonate> {
        let delegates = self.impersonate_delegates.iter().map(|email| account(email)).collect();
        let delegates = mistakes.check("impersonate-delegates", delegates);
        Some(Impersonate { email, delegates: delegates?, lifetime: lifetime?, iam: iam? })
    }
}

fn provider(audience: String) -> Result<String, String> {
    match project_number(&audience) {
        Some(_) if audience.contains("/providers/") => Ok(audience),
        _ => Err(format!(
            "{audience:?} is not of the form //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"
        )),
    }
}

fn account(email: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.@:".contains(c);
    match email.split_once('@') {
        Some((name, domain)) if !name.is_empty() && !domain.is_empty() && email.chars().all(good) => {
            Ok(email.into())
        }
        _ => Err(format!("{email:?} is not the e-mail address of a service account")),
    }
}

fn https(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    match (url.scheme_str(), url.query()) {
        (Some("https"), None) => Ok(url),
        _ => Err(format!("{text:?} is not an https URL without a query: the pod's token is sent there")),
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 60..=MAX_LIFETIME) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("{text:?} is not a number of seconds from 60 to {MAX_LIFETIME}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        flags: IdentityFlags,
    }

    const PROVIDER: &str = "--sts-audience=//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/a/providers/b";

    fn validated(flags: &[&str]) -> Result<IdentitySettings, Vec<String>> {
        let mut mistakes = Mistakes(Vec::new());
        let flags = Only::parse_from([&["test"][..], flags].concat()).flags;
        let settings = flags.validate(Some(&RootCertStore::empty()), &mut mistakes);
        settings.filter(|_| mistakes.0.is_empty()).ok_or(mistakes.0)
    }

    #[test]
    fn federated_is_the_default_and_says_what_it_needs() {
        let mistakes = validated(&[]).unwrap_err();
        for flag in ["--sts-audience: is needed", "--sts-token-file: is needed"] {
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(flag)), "{flag}: {mistakes:?}");
        }
        let settings = validated(&[PROVIDER, "--sts-token-file=/t", "--impersonate=a@b.example"]).unwrap();
        let Mode::Federated(federated) = settings.mode else { panic!("{settings:?}") };
        assert_eq!(federated.scope, "https://www.googleapis.com/auth/bigquery");
        assert_eq!(federated.impersonate.unwrap().lifetime, Duration::from_secs(3600));
    }

    #[test]
    fn mistakes_are_named() {
        for (flag, part) in [
            ("--credential=maybe", "none of"),
            ("--sts-audience=x", "is not of the form"),
            ("--sts-url=http://sts", "not an https URL"),
            ("--impersonate=x", "is not the e-mail"),
            ("--impersonate=a@b/../c", "is not the e-mail"),
            ("--impersonate-lifetime=5", "from 60 to"),
            ("--quota-project=a\nb", "--quota-project"),
        ] {
            let good = [PROVIDER, "--sts-token-file=/t"];
            let flags: Vec<_> =
                good.into_iter().filter(|other| !flag.starts_with(&other[..9])).chain([flag]).collect();
            let mistakes = validated(&flags).unwrap_err();
            assert!(mistakes.iter().any(|mistake| mistake.contains(part)), "{flag}: {mistakes:?}");
        }
        assert!(matches!(validated(&["--credential=passthrough"]).unwrap().mode, Mode::Passthrough));
    }
}
