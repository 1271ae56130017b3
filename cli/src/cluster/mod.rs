//! The cluster that the kubeconfig names: where its recorder is, what proves it, and who asks.

mod forward;
mod token;

use std::net::SocketAddr;

use connection::names;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::args::KubeArgs;
use crate::error::CliError;

pub(crate) use token::Account;

/// The chart's ConfigMap that says what proves the recorder.
const CONFIG_MAP: &str = "bqwitness-recorder";

/// The cluster, and with which credential it is asked.
pub(crate) struct Cluster {
    config: Config,
    client: Client,
}

/// What the cluster says of its recorder.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    /// `https://host:port`
    pub(crate) url: String,
    /// The CAs that its certificate leads to (PEM).
    pub(crate) ca: String,
    /// Its log's verifier key.
    pub(crate) key: String,
}

impl Cluster {
    pub(crate) async fn open(args: &KubeArgs) -> Result<Self, CliError> {
        let bad = |error: &dyn std::fmt::Display| CliError::Kubeconfig(error.to_string());
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let config = match (&args.kubeconfig, &args.context) {
            (Some(file), _) => {
                let file = Kubeconfig::read_from(file).map_err(|error| bad(&error))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(|error| bad(&error))?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|error| bad(&error))?,
            // Or, in a pod, of its own cluster.
            (None, None) => Config::infer().await.map_err(|error| bad(&error))?,
        };
        let client = Client::try_from(config.clone()).map_err(|error| bad(&error))?;
        Ok(Self { config, client })
    }

    /// What the keeper of the recorder has published.
    pub(crate) async fn published(&self, namespace: &str) -> Result<Published, CliError> {
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let said = config_maps.get(CONFIG_MAP).await.map_err(|error| CliError::NotPublished {
            config_map: format!("{namespace}/{CONFIG_MAP}"),
            error: error.to_string(),
        })?;
        let mut said = said.data.unwrap_or_default();
        let mut take = |name: &str| {
            said.remove(name).ok_or_else(|| CliError::NotPublished {
                config_map: format!("{namespace}/{CONFIG_MAP}"),
                error: format!("it says no {name}"),
            })
        };
        let (ca, key) = (take(names::RECORDER_CA_FILE)?, take(names::RECORDER_KEY_FILE)?);
        let url = take(names::RECORDER_URL_KEY).unwrap_or_else(|_| names::RECORDER_URL.into());
        Ok(Published { url, ca, key })
    }

    /// The way to a Service of the cluster: a local address, from which the API server forwards to its pod. `None` where the
    /// host is no Service's.
    pub(crate) async fn way_to(&self, host: &str, port: u16) -> Result<Option<SocketAddr>, CliError> {
        match forward::pod_of(host) {
            Some((namespace, pod)) => {
                forward::open(self.client.clone(), namespace, pod, port).await.map(Some)
            }
            None => Ok(None),
        }
    }
}
