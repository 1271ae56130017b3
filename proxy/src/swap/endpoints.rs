//! Endpoints of Google's that give out tokens and keys. Pure. They never see the pod's credential; what clients need of them
//! the sidecar answers itself.

use http::Method;

use crate::bigquery::{decode_path, google_labels};

/// What a request to such an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// OAuth's token endpoint: answered with a placeholder, whatever the agent has sent.
    Token,
    /// Where a credential may be used: Python's client asks for it. Answered: not known.
    AllowedLocations,
    /// Anything that makes a token, a signature or a key: refused and recorded.
    Minting,
}

/// Hosts, by the first part of their service label, on which every path is an endpoint of these.
const HOSTS: [&str; 3] = ["iamcredentials", "oauth2", "sts"];

/// Other hosts that have some.
const SOME: [&str; 1] = ["iam"];

/// Must the connections of this host be looked into, however other Google APIs are treated?
#[must_use]
pub fn is_on(host: &str) -> bool {
    google_labels(host).is_some_and(|labels| names_one(&labels, &HOSTS) || names_one(&labels, &SOME))
}

/// What this request is, if it is one; not for BigQuery's, whose methods are all known. Google's front ends go by host and path; a path that makes tokens is one on any of
/// their hosts.
#[must_use]
pub fn endpoint(host: &str, method: &Method, path: &str) -> Option<Endpoint> {
    let labels = google_labels(host)?;
    let path = decode_path(path).to_ascii_lowercase();
    let path = path.trim_end_matches('/');
    if is_token_path(path)
        && (names_one(&labels, &["oauth2"]) || labels.first().is_none_or(|first| first == "www"))
    {
        return (method == Method::POST).then_some(Endpoint::Token);
    }
    if names_one(&labels, &["iamcredentials"]) {
        return Some(match path.ends_with("/allowedlocations") && method == Method::GET {
            true => Endpoint::AllowedLocations,
            false => Endpoint::Minting,
        });
    }
    (names_one(&labels, &["sts"]) || makes_tokens(path)).then_some(Endpoint::Minting)
}

fn is_token_path(path: &str) -> bool {
    ["/token", "/o/oauth2/token", "/oauth2/v2/token", "/oauth2/v3/token", "/oauth2/v4/token"].contains(&path)
}

/// `.../serviceAccounts/EMAIL:signJwt`, `.../serviceAccounts/EMAIL/keys`, also of the retired IAM methods.
fn makes_tokens(path: &str) -> bool {
    const VERBS: [&str; 7] = [
        ":generateaccesstoken",
        ":generateidtoken",
        ":generateidentitybindingaccesstoken",
        ":signjwt",
        ":signblob",
        "/keys",
        "/keys:upload",
    ];
    path.contains("/serviceaccounts/") && VERBS.iter().any(|verb| path.ends_with(verb))
}

/// `sts`, `sts-myendpoint` (Private Service Connect)
fn names_one(labels: &[String], names: &[&str]) -> bool {
    labels.iter().any(|label| names.contains(&label.split('-').next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &str, verb: &str, path: &str) -> Option<Endpoint> {
        endpoint(host, &verb.parse().unwrap(), path)
    }

    #[test]
    fn token_endpoints_are_answered() {
        for (host, path) in [
            ("oauth2.googleapis.com", "/token"),
            ("oauth2.googleapis.com", "/token/"),
            ("OAuth2.mtls.googleapis.com:443", "/token"),
            ("www.googleapis.com", "/oauth2/v4/token"),
            ("www.googleapis.com", "/oauth2/v3/%74oken"),
        ] {
            assert_eq!(of(host, "POST", path), Some(Endpoint::Token), "{host}{path}");
        }
        assert_eq!(of("oauth2.googleapis.com", "GET", "/tokeninfo"), None);
        assert_eq!(of("www.googleapis.com", "GET", "/oauth2/v1/certs"), None);
    }

    #[test]
    fn what_makes_tokens_and_keys_is_refused() {
        let account = "/v1/projects/-/serviceAccounts/a@b.iam.gserviceaccount.com";
        for (host, path) in [
            ("sts.googleapis.com", "/v1/token".to_owned()),
            ("sts.mtls.googleapis.com", "/v1beta/token".into()),
            ("sts-agents.p.googleapis.com", "/v1/token".into()),
            ("iamcredentials.googleapis.com", format!("{account}:generateAccessToken")),
            ("iamcredentials.googleapis.com", format!("{account}%3AsignJwt")),
            ("iamcredentials.googleapis.com", "/unknown".into()),
            ("iam.googleapis.com", format!("{account}/keys")),
            ("iam.googleapis.com", format!("{account}:signBlob")),
            ("storage.googleapis.com", format!("{account}:generateIdToken")),
        ] {
            assert_eq!(of(host, "POST", &path), Some(Endpoint::Minting), "{host}{path}");
        }
        assert_eq!(
            of("iamcredentials.googleapis.com", "GET", &format!("{account}/allowedLocations")),
            Some(Endpoint::AllowedLocations)
        );
        for (host, path) in [
            ("iam.googleapis.com", "/v1/roles".to_owned()),
            ("storage.googleapis.com", "/storage/v1/b".into()),
            ("sts.example.com", "/v1/token".into()),
        ] {
            assert_eq!(of(host, "POST", &path), None, "{host}{path}");
        }
    }

    #[test]
    fn their_hosts_are_looked_into() {
        for host in [
            "sts.googleapis.com",
            "iam.googleapis.com",
            "oauth2.googleapis.com",
            "iamcredentials.mtls.googleapis.com",
        ] {
            assert!(is_on(host), "{host}");
        }
        for host in ["storage.googleapis.com", "iam.example.com", "accounts.google.com"] {
            assert!(!is_on(host), "{host}");
        }
    }
}
