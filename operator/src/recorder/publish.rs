//! What proves the recorder, for all who must trust it: its CAs and its log's key, in a ConfigMap.

use std::path::{Path, PathBuf};

use connection::names;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use ledger::log_keys::{KeyNotes, LogKeys};
use serde::Deserialize;
use serde_json::json;

use super::KeeperError;
use super::config::Config;

/// Who writes the ConfigMap.
const KEEPER: &str = "bqwitness-keeper";

/// Writes the ConfigMap when something changed.
pub struct Publisher {
    config_maps: Api<ConfigMap>,
    namespace: String,
    name: String,
    url: Option<String>,
    port_file: PathBuf,
    said: Option<(String, String)>,
}

/// Of what the recorder says about itself.
#[derive(Deserialize)]
struct Ports {
    /// The log's keys, one a line.
    vkey: String,
    /// What was said when they were changed.
    #[serde(default)]
    keys: KeyNotes,
}

impl Publisher {
    pub(super) fn new(config: &Config, client: &Client) -> Self {
        let (namespace, name) = config.publish.clone();
        let config_maps = Api::namespaced(client.clone(), &namespace);
        let (url, port_file) = (config.url.clone(), config.port_file.clone());
        Self { config_maps, namespace, name, url, port_file, said: None }
    }

    /// Says which CAs and which key prove the recorder; false while the recorder has not said its key.
    pub(super) async fn publish(&mut self, bundle: &str) -> Result<bool, KeeperError> {
        let Some((keys, said)) = verifier_keys(&self.port_file)? else { return Ok(false) };
        let now = (bundle.to_owned(), keys.to_string());
        if self.said.as_ref() == Some(&now) {
            return Ok(true);
        }
        self.must_be_the_same(&keys, &said).await?;
        let mut config_map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": self.name, "labels": { names::MANAGED_LABEL: KEEPER } },
            "data": { names::RECORDER_CA_FILE: now.0, names::RECORDER_KEY_FILE: now.1 },
        });
        if let Some(url) = &self.url {
            config_map["data"][names::RECORDER_URL_KEY] = json!(url);
        }
        let patch = Patch::Apply(config_map);
        self.config_maps.patch(&self.name, &PatchParams::apply(KEEPER).force(), &patch).await?;
        tracing::info!(config_map = self.name, "published the recorder's CA and its log's key");
        self.said = Some(now);
        Ok(true)
    }

    /// Another key is another log, or a false recorder: a person must say that it is meant. Unless the key that was published
    /// vouches for it: then the log's key was changed in order.
    async fn must_be_the_same(&self, found: &LogKeys, said: &KeyNotes) -> Result<(), KeeperError> {
        let stored = self.config_maps.get_opt(&self.name).await?;
        let published = stored.and_then(|stored| stored.data?.remove(names::RECORDER_KEY_FILE));
        let Some(published) = published else { return Ok(()) };
        if is_vouched_for(&published, found, said) {
            return Ok(());
        }
        Err(KeeperError::OtherKey {
            config_map: format!("ConfigMap {}/{}", self.namespace, self.name),
            published: published.trim().to_owned(),
            found: found.to_string(),
        })
    }
}

/// Are these the keys that were published, or those that they became?
fn is_vouched_for(published: &str, found: &LogKeys, said: &KeyNotes) -> bool {
    published.parse::<LogKeys>().is_ok_and(|held| held == *found || said.follow(&held) == *found)
}

/// What the recorder says; `None` before it has started for the first time.
fn verifier_keys(port_file: &Path) -> Result<Option<(LogKeys, KeyNotes)>, KeeperError> {
    let text = match std::fs::read(port_file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bad = |error: &dyn std::fmt::Display| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{}: {error}", port_file.display()))
    };
    let Ports { vkey, keys: said } = serde_json::from_slice(&text).map_err(|error| bad(&error))?;
    Ok(Some((vkey.parse().map_err(|error| bad(&error))?, said)))
}

#[cfg(test)]
mod tests {
    use ledger::log_keys::LogSigners;
    use ledger::note::SigningNoteKey;

    use super::*;

    #[test]
    fn a_key_that_the_published_one_vouches_for_is_published() {
        let key = |seed| SigningNoteKey::from_seed("example.com/log", &[seed; 32]).expect("a fine name");
        let (old, new) = (LogSigners::from(key(1)), LogSigners::from(key(2)));
        let both = LogSigners::new(vec![key(2), key(1)]).expect("of one log");
        let said = KeyNotes { notes: vec![old.sign_change(&both), both.sign_change(&new)] };
        let added = KeyNotes { notes: said.notes[..1].to_vec() };
        let published = format!("{}\n", old.verifiers());
        assert!(is_vouched_for(&published, &old.verifiers(), &KeyNotes::default()));
        assert!(is_vouched_for(&published, &both.verifiers(), &added));
        assert!(is_vouched_for(&published, &new.verifiers(), &said));
        assert!(!is_vouched_for(&published, &new.verifiers(), &KeyNotes::default()), "nobody says so");
        assert!(!is_vouched_for(&published, &LogSigners::from(key(3)).verifiers(), &said));
    }
}
