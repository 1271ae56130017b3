//! Settings: flags or `BQWITNESS_*` variables, read once. [`Flags::validate`] makes a [`Config`] or names every mistake.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use connection::inject::Settings;
use connection::names;
use ledger::log_keys::LogKeys;
use runtime::telemetry::LogFormat;
use runtime::tls;

use crate::configurations::Place;

/// The operator of bqwitness: puts the sidecar into the pods that a BigQueryConnection selects, and says where it is missing.
#[derive(Clone, Debug, Parser)]
#[command(name = "bqwitness-operator", version, max_term_width = 100)]
pub struct Flags {
    /// Address of the webhook (TLS). GKE's private control planes reach nodes on 443 and 10250 only.
    #[arg(long, env = "BQWITNESS_LISTEN", default_value = "[::]:9443", value_name = "ADDR:PORT")]
    pub listen: String,
    /// Address of metrics and readiness (plain HTTP)
    #[arg(long, env = "BQWITNESS_ADMIN", default_value = "[::]:9090", value_name = "ADDR:PORT")]
    pub admin: String,
    /// The operator's own namespace
    #[arg(long, env = "BQWITNESS_NAMESPACE", default_value = "bqwitness", value_name = "NAME")]
    pub namespace: String,
    /// This replica, unlike all others: its pod's name
    #[arg(long, env = "BQWITNESS_POD_NAME", value_name = "NAME")]
    pub pod_name: String,
    /// The Service in front of the webhook, and its port
    #[arg(
        long,
        env = "BQWITNESS_SERVICE",
        default_value = "bqwitness-operator:443",
        value_name = "NAME:PORT"
    )]
    pub service: String,
    /// How API servers reach the webhook, where that is no Service: outside of a cluster
    #[arg(long, env = "BQWITNESS_WEBHOOK_URL", value_name = "URL")]
    pub webhook_url: Option<String>,
    /// The name of the mutating and the validating webhook configuration, which the operator writes
    #[arg(long, env = "BQWITNESS_WEBHOOKS", default_value = "bqwitness", value_name = "NAME")]
    pub webhooks: String,
    /// The ClusterRole that owns them, so that they go when it goes: a webhook that nobody answers would stop pods for ever
    #[arg(long, env = "BQWITNESS_OWNER", value_name = "NAME")]
    pub owner: Option<String>,
    /// The Secret of the webhook's certificate and CA, which the operator makes
    #[arg(long, env = "BQWITNESS_SECRET", default_value = "bqwitness-operator-tls", value_name = "NAME")]
    pub secret: String,
    /// The Lease that one replica holds
    #[arg(long, env = "BQWITNESS_LEASE", default_value = "bqwitness-operator", value_name = "NAME")]
    pub lease: String,
    /// The sidecar's image. Name it by digest: what runs is then what was reviewed
    #[arg(long, env = "BQWITNESS_PROXY_IMAGE", default_value = names::PROXY_IMAGE, value_name = "IMAGE")]
    pub image: String,
    /// When nodes pull it: Always, IfNotPresent or Never; Kubernetes' own rule when absent
    #[arg(long, env = "BQWITNESS_PROXY_IMAGE_PULL_POLICY", value_name = "POLICY")]
    pub image_pull_policy: Option<String>,
    /// The recorder of connections that name none, https://host:port
    #[arg(long, env = "BQWITNESS_RECORDER", default_value = names::RECORDER_URL, value_name = "URL")]
    pub recorder: String,
    /// The CA that its certificate comes from (PEM). A new one is noticed by itself
    #[arg(long, env = "BQWITNESS_RECORDER_CA", value_name = "FILE")]
    pub recorder_ca: PathBuf,
    /// The verifier key of its log (log.vkey)
    #[arg(long, env = "BQWITNESS_RECORDER_KEY", value_name = "FILE")]
    pub recorder_key: PathBuf,
    /// This pod's token for it: what the operator enters in the record is in its pod's name
    #[arg(long, env = "BQWITNESS_RECORDER_TOKEN", value_name = "FILE")]
    pub recorder_token: PathBuf,
    /// The audience of its tokens
    #[arg(long, env = "BQWITNESS_AUDIENCE", default_value = names::AUDIENCE, value_name = "NAME")]
    pub audience: String,
    /// File that gets the addresses in use, as JSON, once both listen
    #[arg(long, env = "BQWITNESS_PORT_FILE", value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Log filter: error, warn, info, debug, or one for each module
    #[arg(long, env = "BQWITNESS_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub log_level: String,
    /// Log lines for people (text) or collectors (json)
    #[arg(long, env = "BQWITNESS_LOG_FORMAT", default_value = "json", value_name = "FORMAT")]
    pub log_format: String,
}

/// Settings that hold together.
#[derive(Clone, Debug)]
pub struct Config {
    /// See [`Flags::listen`].
    pub listen: SocketAddr,
    /// See [`Flags::admin`].
    pub admin: SocketAddr,
    /// See [`Flags::namespace`].
    pub namespace: String,
    /// See [`Flags::pod_name`].
    pub pod_name: String,
    /// How API servers reach the webhook.
    pub place: Place,
    /// See [`Flags::webhooks`].
    pub webhooks: String,
    /// See [`Flags::owner`].
    pub owner: Option<String>,
    /// See [`Flags::secret`].
    pub secret: String,
    /// See [`Flags::lease`].
    pub lease: String,
    /// What the operator decides for every connection.
    pub settings: Settings,
    /// What proves the recorder of connections that name none.
    pub recorder: RecorderFiles,
    /// See [`Flags::recorder_token`].
    pub recorder_token: PathBuf,
    /// See [`Flags::port_file`].
    pub port_file: Option<PathBuf>,
}

/// Files that prove a recorder. They are read again at each look: a ConfigMap that is mounted changes.
#[derive(Clone, Debug)]
pub struct RecorderFiles {
    /// Its CA (PEM).
    pub ca: PathBuf,
    /// The verifier key of its log.
    pub key: PathBuf,
}

impl RecorderFiles {
    /// The CA and the key, as text.
    ///
    /// # Errors
    /// Unreadable, or not what they should be; the error names the file.
    pub fn read(&self) -> std::io::Result<(String, String)> {
        let bad = |path: &PathBuf, why: String| {
            std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
        };
        tls::read_certificates(&self.ca).map_err(|error| bad(&self.ca, error.to_string()))?;
        let key = tls::read_text(&self.key)?;
        key.parse::<LogKeys>().map_err(|error| bad(&self.key, error.to_string()))?;
        Ok((tls::read_text(&self.ca)?, key))
    }
}

/// Settings that can't be used: every mistake of this start, one a line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the settings can't be used:\n  {}", .0.join("\n  "))]
pub struct Mistakes(pub Vec<String>);

impl Mistakes {
    fn check<T, E: Display>(&mut self, flag: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.0.push(format!("--{flag}: {error}"))).ok()
    }
}

impl Flags {
    /// Checks all settings and reads the files that they name.
    ///
    /// # Errors
    /// [`Mistakes`], all of them.
    pub fn validate(self) -> Result<Config, Mistakes> {
        let mut mistakes = Mistakes(Vec::new());
        let listen = mistakes.check("listen", self.listen.parse());
        let admin = mistakes.check("admin", self.admin.parse());
        let place = match &self.webhook_url {
            Some(url) => mistakes.check("webhook-url", https(url)).map(|()| Place::Url(url.clone())),
            None => mistakes.check("service", service(&self.namespace, &self.service)),
        };
        mistakes.check("recorder", https(&self.recorder));
        let recorder = RecorderFiles { ca: self.recorder_ca, key: self.recorder_key };
        mistakes.check("recorder-ca, --recorder-key", recorder.read());
        mistakes.check("recorder-token", tls::read_text(&self.recorder_token));
        mistakes.check("image-pull-policy", pull_policy(self.image_pull_policy.as_deref()));
        mistakes.check("log-format", self.log_format.parse::<LogFormat>());
        let settings = Settings {
            image: self.image,
            image_pull_policy: self.image_pull_policy,
            recorder: self.recorder,
            audience: self.audience,
        };
        let config = || {
            Some(Config {
                listen: listen?,
                admin: admin?,
                namespace: self.namespace,
                pod_name: self.pod_name,
                place: place?,
                webhooks: self.webhooks,
                owner: self.owner,
                secret: self.secret,
                lease: self.lease,
                settings,
                recorder,
                recorder_token: self.recorder_token,
                port_file: self.port_file,
            })
        };
        config().filter(|_| mistakes.0.is_empty()).ok_or(mistakes)
    }
}

fn https(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(['/', '?', ' ']) => Ok(()),
        _ => Err(format!("{url:?} is not of the form https://host:port")),
    }
}

fn service(namespace: &str, text: &str) -> Result<Place, String> {
    let wrong = || format!("{text:?} is not of the form NAME:PORT");
    let (name, port) = text.split_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    Ok(Place::Service { namespace: namespace.into(), name: name.into(), port })
}

fn pull_policy(policy: Option<&str>) -> Result<(), String> {
    match policy {
        None | Some("Always" | "IfNotPresent" | "Never") => Ok(()),
        Some(other) => Err(format!("{other:?} is none of Always, IfNotPresent and Never")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_start_shows_every_mistake() {
        let flags = Flags::parse_from([
            "bqwitness-operator",
            "--pod-name=p",
            "--listen=here",
            "--service=noport",
            "--recorder=http://r",
            "--recorder-ca=/nowhere/ca",
            "--recorder-key=/nowhere/key",
            "--recorder-token=/nowhere/token",
            "--image-pull-policy=Sometimes",
            "--log-format=xml",
        ]);
        let mistakes = flags.validate().expect_err("nothing of this can be used").0;
        for flag in [
            "listen",
            "service",
            "recorder",
            "recorder-ca",
            "recorder-token",
            "image-pull-policy",
            "log-format",
        ] {
            assert!(
                mistakes.iter().any(|line| line.starts_with(&format!("--{flag}"))),
                "{flag} in {mistakes:?}"
            );
        }
    }
}
