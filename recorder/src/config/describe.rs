//! The settings in effect, as a settings file has them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::Config;
use crate::authn::api_server::ReviewSettings;
use crate::authn::source::Location;
use crate::authn::verifier::{Account, Means, Rules};
use crate::clusters;

impl Config {
    /// The settings in effect, one a line. Files that hold secrets are named, not read.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let Rules { issuer, audience, reader_audience, cluster, operators, readers } = &self.rules;
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let (jwks, review, ca, token) = match &self.means {
            Means::Keys(Location::File(path)) => (path.display().to_string(), String::new(), None, None),
            Means::Keys(Location::Url { url, ca, token }) => {
                (url.to_string(), String::new(), file(ca), file(token))
            }
            Means::Keys(Location::Discovery { ca, token, .. }) => {
                (clusters::DISCOVERY.into(), String::new(), file(ca), file(token))
            }
            Means::Review(ReviewSettings { server, ca, token }) => {
                (String::new(), server.to_string(), file(ca), Some(token.display().to_string()))
            }
        };
        // One file each, for all that asks the cluster.
        let asks = self.access.as_ref().map(|access| &access.review);
        let ca = ca.or_else(|| asks.and_then(|asks| file(&asks.ca)));
        let token = token.or_else(|| asks.map(|asks| asks.token.display().to_string()));
        let lines = [
            ("data", self.data.display().to_string()),
            ("listen", self.listen.to_string()),
            ("admin", self.admin.to_string()),
            ("origin", self.origin.clone()),
            ("tls-cert", self.tls_cert.display().to_string()),
            ("tls-key", self.tls_key.display().to_string()),
            ("issuer", issuer.clone()),
            ("audience", audience.clone()),
            ("reader-audience", reader_audience.clone()),
            ("jwks", jwks),
            ("token-review", review),
            (
                "access-review",
                self.access.as_ref().map(|access| access.review.server.to_string()).unwrap_or_default(),
            ),
            ("user-tokens", self.access.as_ref().is_some_and(|access| access.user_tokens).to_string()),
            ("clusters", file(&self.clusters).unwrap_or_default()),
            ("jwks-ca", ca.unwrap_or_default()),
            ("jwks-token", token.unwrap_or_default()),
            ("cluster", cluster.clone()),
            ("operator", join(operators)),
            ("reader", join(readers)),
            ("readers", file(&self.readers).unwrap_or_default()),
            ("witness-policy", file(&self.witness_policy).unwrap_or_default()),
            ("wait-for-witnesses", self.wait_for_witnesses.as_secs().to_string()),
            ("port-file", file(&self.port_file).unwrap_or_default()),
            ("log-level", self.log_level.clone()),
            ("log-format", format!("{:?}", self.log_format).to_lowercase()),
        ];
        for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(text, "{name} = {}", serde_json::Value::from(value)).expect("a String takes everything");
        }
        text
    }
}

fn join(accounts: &BTreeSet<Account>) -> String {
    let names: Vec<_> = accounts.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    names.join(",")
}
