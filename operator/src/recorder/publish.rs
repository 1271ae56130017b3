//! What proves the recorder, for all who must trust it: its CAs and its log's key, in a ConfigMap.

use std::path::{Path, PathBuf};

use connection::names;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use ledger::note::VerifierKey;
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
    port_file: PathBuf,
    said: Option<(String, String)>,
}

/// Of what the recorder says about itself.
#[derive(Deserialize)]
struct Ports {
    vkey: String,
}

impl Publisher {
    pub(super) fn new(config: &Config, client: &Client) -> Self {
        let (namespace, name) = config.publish.clone();
        let config_maps = Api::namespaced(client.clone(), &namespace);
        Self { config_maps, namespace, name, port_file: config.port_file.clone(), said: None }
    }

    /// Says which CAs and which key prove the recorder; false while the recorder has not said its key.
    pub(super) async fn publish(&mut self, bundle: &str) -> Result<bool, KeeperError> {
        let Some(key) = verifier_key(&self.port_file)? else { return Ok(false) };
        let now = (bundle.to_owned(), key);
        if self.said.as_ref() == Some(&now) {
            return Ok(true);
        }
        self.must_be_the_same(&now.1).await?;
        let patch = Patch::Apply(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": self.name, "labels": { names::MANAGED_LABEL: KEEPER } },
            "data": { names::RECORDER_CA_FILE: now.0, names::RECORDER_KEY_FILE: now.1 },
        }));
        self.config_maps.patch(&self.name, &PatchParams::apply(KEEPER).force(), &patch).await?;
        tracing::info!(config_map = self.name, "published the recorder's CA and its log's key");
        self.said = Some(now);
        Ok(true)
    }

    /// A log's key never changes. Another one is another log, or a false recorder: a person must say that it is meant.
    async fn must_be_the_same(&self, found: &str) -> Result<(), KeeperError> {
        let stored = self.config_maps.get_opt(&self.name).await?;
        let published = stored.and_then(|stored| stored.data?.remove(names::RECORDER_KEY_FILE));
        match published {
            Some(published) if published.trim() != found => Err(KeeperError::OtherKey {
                config_map: format!("ConfigMap {}/{}", self.namespace, self.name),
                published: published.trim().to_owned(),
                found: found.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// What the recorder says; `None` before it has started for the first time.
fn verifier_key(port_file: &Path) -> Result<Option<String>, KeeperError> {
    let text = match std::fs::read(port_file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bad = |error: &dyn std::fmt::Display| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{}: {error}", port_file.display()))
    };
    let Ports { vkey } = serde_json::from_slice(&text).map_err(|error| bad(&error))?;
    vkey.parse::<VerifierKey>().map_err(|error| bad(&error))?;
    Ok(Some(vkey))
}
