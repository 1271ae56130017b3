//! The file of readers who are known by an OpenID Connect issuer, and of what the settings grant without asking a cluster.
//!
//! ```json
//! {"issuers": [{"name": "acme", "issuer": "https://login.acme.example", "audience": "bqwitness", "jwks": "discovery",
//!               "userClaim": "email", "groupsClaim": "groups"}],
//!  "grants": [{"of": "acme", "groups": ["auditors"], "cluster": "prod", "namespaces": ["agents"], "exports": true}]}
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::authn::oidc::Issuer;
use crate::authn::source::Location;
use crate::authn::verifier::Means;
use crate::authz::grants::Grant;
use crate::clusters;

/// Greatest length of the file, in bytes.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    issuers: Vec<Entry>,
    #[serde(default)]
    grants: Vec<Grant>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    issuer: String,
    audience: String,
    jwks: String,
    #[serde(default)]
    jwks_ca: Option<PathBuf>,
    #[serde(default = "default_user_claim")]
    user_claim: String,
    #[serde(default = "default_groups_claim")]
    groups_claim: String,
    #[serde(default)]
    user_prefix: String,
    #[serde(default)]
    groups_prefix: String,
}

fn default_user_claim() -> String {
    "sub".into()
}

fn default_groups_claim() -> String {
    "groups".into()
}

/// Issuers with the places of their keys, and grants.
pub type Readers = (Vec<(Issuer, Location)>, Vec<Grant>);

/// What the file says.
///
/// # Errors
/// What is wrong with it.
pub fn read(path: &Path) -> Result<Readers, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if length > MAX_FILE {
        return Err(failed(&format!("longer than {MAX_FILE} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    let File { issuers, grants } = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
    grants.iter().try_for_each(Grant::check).map_err(|error| failed(&error))?;
    let issuers = issuers.into_iter().map(|entry| issuer(entry).map_err(|error| failed(&error)));
    Ok((issuers.collect::<Result<_, _>>()?, grants))
}

fn issuer(entry: Entry) -> Result<(Issuer, Location), String> {
    let Entry { name, issuer, audience, jwks, jwks_ca, user_claim, groups_claim, user_prefix, groups_prefix } =
        entry;
    if [&name, &issuer, &audience, &user_claim].iter().any(|text| text.is_empty()) {
        return Err("name, issuer, audience and userClaim must not be empty".into());
    }
    let means = clusters::means(Some(&issuer), Some(jwks), None, jwks_ca, None);
    match means.map_err(|(what, mistake)| format!("issuer {name:?}, {what}: {mistake}"))? {
        Means::Keys(location) => Ok((
            Issuer { name, issuer, audience, user_claim, groups_claim, user_prefix, groups_prefix },
            location,
        )),
        Means::Review(_) => Err(format!("issuer {name:?}: its keys are needed (jwks)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Readers, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("readers.json");
        std::fs::write(&path, text).expect("room");
        read(&path)
    }

    #[test]
    fn issuers_and_grants() {
        let (issuers, grants) = read_text(
            r#"{"issuers": [{"name": "acme", "issuer": "https://login.acme.example", "audience": "bqwitness", "jwks": "discovery"}],
                "grants": [{"of": "acme", "groups": ["auditors"], "everything": true}]}"#,
        )
        .expect("good");
        assert_eq!((issuers[0].0.user_claim.as_str(), issuers[0].0.groups_claim.as_str()), ("sub", "groups"));
        assert!(matches!(&issuers[0].1, Location::Discovery { .. }));
        assert_eq!(grants.len(), 1);
    }

    #[test]
    fn mistakes_are_named() {
        let issuer = |more: &str| {
            format!(r#"{{"issuers": [{{"name": "a", "issuer": "https://i", "audience": "b"{more}}}]}}"#)
        };
        for (text, part) in [
            ("{}x".to_owned(), "trailing characters"),
            (issuer(""), "missing field `jwks`"),
            (issuer(r#", "jwks": "http://x""#), "https only"),
            (issuer(r#", "jwks": "j", "user": "x""#), "unknown field"),
            (issuer(r#", "jwks": "j", "userClaim": """#), "must not be empty"),
            (r#"{"grants": [{"of": "a", "users": ["b"]}]}"#.into(), "a grant says everything"),
        ] {
            let mistake = read_text(&text).expect_err("bad");
            assert!(mistake.contains(part), "{part} is not in {mistake}");
        }
    }
}
