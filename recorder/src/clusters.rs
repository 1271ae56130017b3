//! The file of further clusters: whose tokens are believed besides those of the cluster that the flags name.
//!
//! ```json
//! [{"cluster": "eu", "issuer": "https://issuer.eu.example", "jwks": "discovery",
//!   "operators": ["bqwitness/operator"], "readers": ["audit/auditor"]}]
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::authn::api_server::ReviewSettings;
use crate::authn::source::Location;
use crate::authn::verifier::{AccessSettings, Means, Rules, Trust};
use crate::config::accounts;

/// In the place of a JWKS: the issuer says where it is.
pub const DISCOVERY: &str = "discovery";

/// Greatest length of the file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// One cluster, as the file has it: the flags of the same names.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    cluster: String,
    issuer: String,
    #[serde(default = "default_audience")]
    audience: String,
    #[serde(default)]
    reader_audience: Option<String>,
    #[serde(default)]
    jwks: Option<String>,
    #[serde(default)]
    token_review: Option<String>,
    #[serde(default)]
    access_review: Option<String>,
    #[serde(default)]
    user_tokens: bool,
    #[serde(default)]
    jwks_ca: Option<PathBuf>,
    #[serde(default)]
    jwks_token: Option<PathBuf>,
    #[serde(default)]
    operators: Vec<String>,
    #[serde(default)]
    readers: Vec<String>,
}

fn default_audience() -> String {
    "bqwitness-recorder".into()
}

/// The clusters of the file.
///
/// # Errors
/// What is wrong with it.
pub fn read(path: &Path) -> Result<Vec<Trust>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if length > MAX_FILE {
        return Err(failed(&format!("longer than {MAX_FILE} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    let entries: Vec<Entry> = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
    entries.into_iter().map(|entry| trust(entry).map_err(|error| failed(&error))).collect()
}

fn trust(entry: Entry) -> Result<Trust, String> {
    let Entry { cluster, issuer, audience, reader_audience, .. } = &entry;
    if [cluster, issuer, audience].iter().any(|text| text.is_empty()) {
        return Err("cluster, issuer and audience must not be empty".into());
    }
    let named = |what: &str, mistake: String| format!("cluster {cluster:?}, {what}: {mistake}");
    let operators = accounts(&entry.operators).map_err(|mistake| named("operators", mistake))?;
    let readers = accounts(&entry.readers).map_err(|mistake| named("readers", mistake))?;
    let rules = Rules {
        issuer: issuer.clone(),
        audience: audience.clone(),
        reader_audience: reader_audience.clone().unwrap_or_else(|| audience.clone()),
        cluster: cluster.clone(),
        operators,
        readers,
    };
    let Entry { jwks, token_review, access_review, user_tokens, jwks_ca, jwks_token, .. } = entry;
    let access = access(access_review, user_tokens, jwks_ca.clone(), jwks_token.clone());
    let access =
        access.map_err(|(what, mistake)| format!("cluster {:?}, {what}: {mistake}", rules.cluster))?;
    let means = means(Some(&rules.issuer), jwks, token_review, jwks_ca, jwks_token);
    let means = means.map_err(|(what, mistake)| format!("cluster {:?}, {what}: {mistake}", rules.cluster))?;
    Ok(Trust { rules, means, access })
}

/// Who says that tokens are good; or which setting is wrong, and how.
///
/// # Errors
/// The name of a setting, and what is wrong with it.
pub(crate) fn means(
    issuer: Option<&str>,
    jwks: Option<String>,
    token_review: Option<String>,
    ca: Option<PathBuf>,
    token: Option<PathBuf>,
) -> Result<Means, (&'static str, String)> {
    match (jwks, token_review) {
        (None, None) => Err(("jwks", "is needed (or BQWITNESS_JWKS), or --token-review".into())),
        (Some(_), Some(_)) => Err(("token-review", "the API server knows the keys: leave --jwks out".into())),
        (None, Some(server)) => {
            let server = https(&server).map_err(|mistake| ("token-review", mistake))?;
            let token = token.ok_or_else(|| ("jwks-token", "is needed to ask the API server".to_owned()))?;
            Ok(Means::Review(ReviewSettings { server, ca, token }))
        }
        (Some(jwks), None) if jwks == DISCOVERY => {
            let issuer = https(issuer.unwrap_or_default()).map_err(|mistake| ("issuer", mistake))?;
            Ok(Means::Keys(Location::Discovery { issuer, ca, token }))
        }
        (Some(jwks), None) if !jwks.contains("://") => Ok(Means::Keys(Location::File(jwks.into()))),
        (Some(jwks), None) => {
            let url = https(&jwks).map_err(|mistake| ("jwks", mistake))?;
            Ok(Means::Keys(Location::Url { url, ca, token }))
        }
    }
}

/// Who says what a cluster's users and service accounts may read; or which setting is wrong, and how.
///
/// # Errors
/// The name of a setting, and what is wrong with it.
pub(crate) fn access(
    server: Option<String>,
    user_tokens: bool,
    ca: Option<PathBuf>,
    token: Option<PathBuf>,
) -> Result<Option<AccessSettings>, (&'static str, String)> {
    let Some(server) = server else {
        let alone = (
            "user-tokens",
            "says nothing without --access-review, which says what users may read".to_owned(),
        );
        return if user_tokens { Err(alone) } else { Ok(None) };
    };
    let server = https(&server).map_err(|mistake| ("access-review", mistake))?;
    let token = token.ok_or_else(|| ("jwks-token", "is needed to ask the API server".to_owned()))?;
    Ok(Some(AccessSettings { review: ReviewSettings { server, ca, token }, user_tokens }))
}

fn https(text: &str) -> Result<http::Uri, String> {
    // Settings are printed and logged; so is what is wrong with them.
    if text.contains('@') {
        return Err("a URL here holds no user and no password: a token is a file (jwks-token)".into());
    }
    let url: http::Uri = text.parse().map_err(|_| format!("{text:?} is not a URL"))?;
    if url.scheme_str() == Some("https") {
        Ok(url)
    } else {
        Err(format!("{text:?}: https only: who changes what is said there speaks for everybody"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Trust>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("clusters.json");
        std::fs::write(&path, text).expect("room");
        read(&path)
    }

    #[test]
    fn clusters_of_every_kind() {
        let trusted = read_text(
            r#"[{"cluster":"eu","issuer":"https://eu.example","jwks":"discovery","readers":["audit/auditor"]},
                {"cluster":"us","issuer":"https://us.example","jwks":"us.json","readerAudience":"auditors"},
                {"cluster":"asia","issuer":"https://asia.example","tokenReview":"https://10.0.0.1:6443","jwksToken":"t",
                 "accessReview":"https://10.0.0.1:6443","userTokens":true}]"#,
        )
        .expect("good");
        assert!(
            matches!(&trusted[0].means, Means::Keys(Location::Discovery { issuer, .. }) if issuer.host() == Some("eu.example"))
        );
        assert_eq!(trusted[0].rules.reader_audience, "bqwitness-recorder");
        assert_eq!(trusted[1].rules.reader_audience, "auditors");
        assert!(matches!(&trusted[2].means, Means::Review(_)));
        assert!(
            trusted[0].access.is_none()
                && trusted[2].access.as_ref().is_some_and(|access| access.user_tokens)
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("{}", "expected a sequence"),
            (r#"[{"cluster":"a","issuer":"i","jwks":"j","reader":["x"]}]"#, "unknown field"),
            (r#"[{"cluster":"","issuer":"i","jwks":"j"}]"#, "must not be empty"),
            (r#"[{"cluster":"a","issuer":"i"}]"#, "cluster \"a\", jwks: is needed"),
            (r#"[{"cluster":"a","issuer":"i","jwks":"http://x"}]"#, "https only"),
            (r#"[{"cluster":"a","issuer":"i","jwks":"https://u:p@x"}]"#, "no password"),
            (r#"[{"cluster":"a","issuer":"i","jwks":"discovery"}]"#, "issuer:"),
            (r#"[{"cluster":"a","issuer":"i","tokenReview":"https://x"}]"#, "jwks-token"),
            (r#"[{"cluster":"a","issuer":"i","jwks":"j","readers":["x"]}]"#, "readers: \"x\""),
            (r#"[{"cluster":"a","issuer":"i","jwks":"j","accessReview":"https://x"}]"#, "jwks-token"),
            (r#"[{"cluster":"a","issuer":"i","jwks":"j","userTokens":true}]"#, "user-tokens"),
        ] {
            let mistake = read_text(text).expect_err("bad");
            assert!(mistake.contains(part), "{part} is not in {mistake}");
        }
    }
}
