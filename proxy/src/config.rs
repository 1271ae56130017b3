//! Settings: flags or `BQWITNESS_*` variables, read once. [`Flags::validate`] makes a [`Config`] or names every mistake.

mod policy;
mod values;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use deliver::{PinnedKeys, ProgressSettings, RecorderSettings, Way};
use ledger::digest::Digest;
use ledger::statement::Connection;
use runtime::telemetry::LogFormat;
use runtime::tls;
use rustls::RootCertStore;
use serde::Serialize;

pub use self::policy::{Egress, OtherEgress, OtherGoogleApis, Results};
use self::values::{
    addresses, connection, loopback, loopbacks, overrides, progress_bytes, progress_every, recorder_url,
    seconds, upstream_roots,
};
use crate::identity::IdentitySettings;
use crate::identity::flags::IdentityFlags;
use crate::names::Names;

/// The sidecar of bqwitness: records every BigQuery call of its pod before it leaves.
#[derive(Clone, Debug, Parser, Serialize)]
#[command(name = "bqwitness-proxy", version)]
pub struct Flags {
    /// Where agents reach the proxy (HTTP CONNECT, as `HTTPS_PROXY` names it).
    #[arg(long, env = "BQWITNESS_LISTEN", default_value = "127.0.0.1:15002", value_name = "ADDR:PORT")]
    pub listen: String,
    /// Where connections arrive that iptables redirects, whatever the agents do; off unless given, and given for IPv4 and
    /// IPv6 each. The rules are in the README: TCP 80 and 443 of every user but the one that this program alone runs as.
    #[arg(long, env = "BQWITNESS_REDIRECT_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    pub redirect_listen: Vec<String>,
    /// Where connections arrive whose names the pod's host aliases lead to loopback; off unless given. Google's names are then
    /// looked up past /etc/hosts, from the name servers of /etc/resolv.conf.
    #[arg(long, env = "BQWITNESS_ALIAS_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    pub alias_listen: Vec<String>,
    /// Where metrics and readiness are served.
    #[arg(long, env = "BQWITNESS_ADMIN", default_value = "127.0.0.1:15020", value_name = "ADDR:PORT")]
    pub admin: String,
    /// The recorder, `https://host:port`.
    #[arg(long, env = "BQWITNESS_RECORDER", value_name = "URL")]
    pub recorder: String,
    /// The CAs that the recorder's certificate must come from (PEM). No other is trusted for it. Read again when the recorder
    /// can't be reached: a new one may have been added.
    #[arg(long, env = "BQWITNESS_RECORDER_CA", value_name = "FILE")]
    pub recorder_ca: PathBuf,
    /// The verifier key of the recorder's log, which signs receipts; two while it is changed, one a line. Read anew when it is.
    #[arg(long, env = "BQWITNESS_RECORDER_KEY", value_name = "FILE")]
    pub recorder_key: PathBuf,
    /// This pod's service account token for the recorder. A new one counts from the next batch on.
    #[arg(long, env = "BQWITNESS_TOKEN_FILE", value_name = "FILE")]
    pub token_file: PathBuf,
    /// Directory of the sidecar's CA, which only the sidecar may read.
    #[arg(long, env = "BQWITNESS_CA_DIR", value_name = "DIR")]
    pub ca_dir: PathBuf,
    /// Where the certificate bundle for the agents is written: the public roots and the sidecar's CA.
    #[arg(long, env = "BQWITNESS_BUNDLE", value_name = "FILE")]
    pub bundle: PathBuf,
    /// The BigQueryConnection in force.
    #[arg(long, env = "BQWITNESS_CONNECTION", value_name = "NAMESPACE/NAME")]
    pub connection: String,
    /// Its UID, as the operator knows it; only in a cluster.
    #[arg(long, env = "BQWITNESS_CONNECTION_UID", value_name = "UID")]
    pub connection_uid: Option<String>,
    /// The generation of its spec.
    #[arg(long, env = "BQWITNESS_CONNECTION_GENERATION", value_name = "NUMBER")]
    pub connection_generation: Option<String>,
    /// The digest of its spec.
    #[arg(long, env = "BQWITNESS_CONNECTION_DIGEST", value_name = "sha256:HEX")]
    pub connection_digest: Option<String>,
    /// Connect there instead of looking the name up, as curl's --connect-to does; may be given several times. The
    /// certificate must still be for the name.
    #[arg(long, env = "BQWITNESS_RESOLVE", value_name = "HOST:PORT=ADDR:PORT", value_delimiter = ',')]
    pub resolve: Vec<String>,
    /// Trust these roots (PEM) for BigQuery, and none of the system's.
    #[arg(long, env = "BQWITNESS_UPSTREAM_CA", value_name = "FILE")]
    pub upstream_ca: Option<PathBuf>,
    /// The pod's Google identity.
    #[command(flatten)]
    pub identity: IdentityFlags,
    /// What becomes of connections to other Google APIs: inspect (TLS is terminated, each request must be for the host that it
    /// was set up for, and is recorded with its head), splice (copied untouched) or refuse.
    #[arg(long, env = "BQWITNESS_OTHER_GOOGLE_APIS", default_value = "inspect", value_name = "WHAT")]
    pub other_google_apis: String,
    /// What becomes of connections to hosts that are not Google's: splice (copied untouched) or refuse.
    #[arg(long, env = "BQWITNESS_OTHER_EGRESS", default_value = "splice", value_name = "WHAT")]
    pub other_egress: String,
    /// What the record holds of answers, beside status, counts and sizes: digest (the SHA-256 of the content) or none.
    #[arg(long, env = "BQWITNESS_RESULTS", default_value = "digest", value_name = "WHAT")]
    pub results: String,
    /// Where to write the addresses as JSON once the proxy listens; for ports that the system chose.
    #[arg(long, env = "BQWITNESS_PORT_FILE", value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// What is logged: a level, or a filter such as `info,bqwitness_proxy=debug`.
    #[arg(long, env = "BQWITNESS_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub log_level: String,
    /// How it is logged: text or json.
    #[arg(long, env = "BQWITNESS_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: String,
    /// A call is refused when its intent is not durable after this many seconds.
    #[arg(long, env = "BQWITNESS_DELIVER_TIMEOUT", default_value = "10", value_name = "SECONDS")]
    pub deliver_timeout: String,
    /// A call that goes on says in the record how far it is, with a digest, when so many bytes have passed since the last time.
    #[arg(long, env = "BQWITNESS_PROGRESS_BYTES", default_value = "67108864", value_name = "BYTES")]
    pub progress_bytes: String,
    /// The same, when so many seconds have passed.
    #[arg(long, env = "BQWITNESS_PROGRESS_INTERVAL", default_value = "60", value_name = "SECONDS")]
    pub progress_interval: String,
    /// After SIGTERM, calls in progress have this many seconds to end.
    #[arg(long, env = "BQWITNESS_DRAIN_TIMEOUT", default_value = "25", value_name = "SECONDS")]
    pub drain_timeout: String,
}

/// Settings that hold together.
#[derive(Debug)]
pub struct Config {
    /// See [`Flags::listen`].
    pub listen: SocketAddr,
    /// See [`Flags::redirect_listen`].
    pub redirect_listen: Vec<SocketAddr>,
    /// See [`Flags::alias_listen`].
    pub alias_listen: Vec<SocketAddr>,
    /// See [`Flags::admin`].
    pub admin: SocketAddr,
    /// The recorder, with its CA and keys read.
    pub recorder: RecorderSettings,
    /// See [`Flags::ca_dir`].
    pub ca_dir: PathBuf,
    /// See [`Flags::bundle`].
    pub bundle: PathBuf,
    /// See [`Flags::connection`].
    pub connection: Connection,
    /// How names become addresses: see [`Flags::resolve`], and [`Flags::alias_listen`], with which Google's are looked up past
    /// `/etc/hosts`.
    pub names: Names,
    /// The roots that BigQuery's certificate must come from.
    pub upstream_roots: RootCertStore,
    /// What becomes of connections to other hosts than BigQuery's.
    pub egress: Egress,
    /// See [`Flags::results`].
    pub results: Results,
    /// The pod's Google identity.
    pub identity: IdentitySettings,
    /// See [`IdentityFlags::metadata_listen`]; none in passthrough mode.
    pub metadata_listen: Option<SocketAddr>,
    /// See [`IdentityFlags::env_file`].
    pub env_file: Option<PathBuf>,
    /// See [`Flags::port_file`].
    pub port_file: Option<PathBuf>,
    /// See [`Flags::deliver_timeout`].
    pub deliver_timeout: Duration,
    /// See [`Flags::progress_bytes`] and [`Flags::progress_interval`].
    pub progress: ProgressSettings,
    /// See [`Flags::drain_timeout`].
    pub drain_timeout: Duration,
    /// SHA-256 of the flags in force, as JSON; what `session.start` says.
    pub digest: Digest,
}

/// Settings that can't be used: every mistake of this start, one a line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the settings can't be used:\n  {}", .0.join("\n  "))]
pub struct Mistakes(pub Vec<String>);

impl Mistakes {
    /// Notes a mistake in the setting `flag`, and goes on.
    pub(crate) fn check<T, E: Display>(&mut self, flag: &str, result: Result<T, E>) -> Option<T> {
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
        let digest = Digest::of(&serde_json::to_vec(&self).expect("texts and paths are JSON"));
        let listen = mistakes.check("listen", self.listen.parse());
        let redirect_listen = mistakes.check("redirect-listen", addresses(&self.redirect_listen));
        let admin = mistakes.check("admin", self.admin.parse());
        let recorder = recorder(&self, &mut mistakes);
        let connection = connection_in_force(&self, &mut mistakes);
        let alias_listen = mistakes.check("alias-listen", loopbacks(&self.alias_listen));
        let overrides = mistakes.check("resolve", overrides(&self.resolve));
        let names = overrides.and_then(|overrides| match self.alias_listen.is_empty() {
            true => Some(overrides),
            false => mistakes.check("alias-listen", overrides.past_hosts()),
        });
        let upstream_roots = mistakes.check("upstream-ca", upstream_roots(self.upstream_ca.as_deref()));
        let identity = self.identity.validate(upstream_roots.as_ref(), &mut mistakes);
        let metadata_listen = mistakes.check("metadata-listen", loopback(&self.identity.metadata_listen));
        let google = mistakes.check("other-google-apis", self.other_google_apis.parse());
        let other = mistakes.check("other-egress", self.other_egress.parse());
        let results = mistakes.check("results", self.results.parse());
        let deliver_timeout = mistakes.check("deliver-timeout", seconds(&self.deliver_timeout));
        let progress_bytes = mistakes.check("progress-bytes", progress_bytes(&self.progress_bytes));
        let progress_every = mistakes.check("progress-interval", progress_every(&self.progress_interval));
        let drain_timeout = mistakes.check("drain-timeout", seconds(&self.drain_timeout));
        mistakes.check("log-format", self.log_format.parse::<LogFormat>());
        let config = || {
            let keyless = identity.as_ref()?.mode.is_keyless();
            Some(Config {
                listen: listen?,
                redirect_listen: redirect_listen?,
                alias_listen: alias_listen?,
                admin: admin?,
                recorder: recorder?,
                ca_dir: self.ca_dir,
                bundle: self.bundle,
                connection: connection?,
                names: names?,
                upstream_roots: upstream_roots?,
                egress: Egress { google: google?, other: other?, keyless },
                results: results?,
                identity: identity?,
                metadata_listen: Some(metadata_listen?).filter(|_| keyless),
                env_file: self.identity.env_file,
                port_file: self.port_file,
                deliver_timeout: deliver_timeout?,
                progress: ProgressSettings { bytes: progress_bytes?, every: progress_every? },
                drain_timeout: drain_timeout?,
                digest,
            })
        };
        config().filter(|_| mistakes.0.is_empty()).ok_or(mistakes)
    }
}

fn recorder(flags: &Flags, mistakes: &mut Mistakes) -> Option<RecorderSettings> {
    let url = mistakes.check("recorder", recorder_url(&flags.recorder));
    let way = mistakes.check("recorder-ca", Way::new(flags.recorder_ca.clone()));
    let keys = mistakes.check("recorder-key", PinnedKeys::read(&flags.recorder_key));
    let token = mistakes.check("token-file", tls::read_text(&flags.token_file)).map(drop);
    Some(RecorderSettings {
        url: url?,
        way: way?,
        keys: keys?,
        token_file: token.map(|()| flags.token_file.clone())?,
    })
}

/// The connection with what the operator says of it.
fn connection_in_force(flags: &Flags, mistakes: &mut Mistakes) -> Option<Connection> {
    let named = mistakes.check("connection", connection(&flags.connection));
    let uid = flags.connection_uid.clone().unwrap_or_default();
    let generation = flags.connection_generation.as_deref().map_or(Ok(0), str::parse);
    let generation = mistakes.check("connection-generation", generation);
    let digest = flags.connection_digest.as_deref().map(str::parse).transpose();
    let spec_digest = mistakes.check("connection-digest", digest);
    Some(Connection { uid, generation: generation?, spec_digest: spec_digest?, ..named? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(more: &[&str]) -> Flags {
        let least =
            ["bqwitness-proxy", "--recorder=x", "--recorder-ca=/nowhere/ca", "--recorder-key=/nowhere/key"];
        let rest = [
            "--token-file=/nowhere/token",
            "--ca-dir=/tmp",
            "--bundle=/tmp/b",
            "--connection=agents/billing",
        ];
        Flags::parse_from(least.iter().chain(&rest).chain(more))
    }

    #[test]
    fn one_start_shows_every_mistake() {
        let mistakes = flags(&[
            "--listen=here",
            "--redirect-listen=127.0.0.1:1,there",
            "--other-egress=maybe",
            "--metadata-listen=0.0.0.0:1",
            "--deliver-timeout=-1",
            "--log-format=xml",
        ])
        .validate()
        .expect_err("nothing of this can be used")
        .0;
        for flag in [
            "listen",
            "redirect-listen",
            "recorder",
            "recorder-ca",
            "recorder-key",
            "token-file",
            "other-egress",
            "metadata-listen",
            "sts-audience",
            "deliver-timeout",
        ] {
            assert!(
                mistakes.iter().any(|line| line.starts_with(&format!("--{flag}: "))),
                "{flag} in {mistakes:?}"
            );
        }
    }

    #[test]
    fn the_operator_says_which_generation_is_in_force() {
        let digest = Digest::of(b"spec").to_string();
        let said = |more: &[&str]| {
            let mut mistakes = Mistakes(Vec::new());
            connection_in_force(&flags(more), &mut mistakes).ok_or(mistakes.0)
        };
        let whole = said(&[
            "--connection-uid=u-1",
            "--connection-generation=3",
            &format!("--connection-digest={digest}"),
        ]);
        let whole = whole.expect("well formed");
        assert_eq!(
            (whole.uid.as_str(), whole.generation, whole.spec_digest),
            ("u-1", 3, Some(Digest::of(b"spec")))
        );
        let alone = said(&[]).expect("outside a cluster there is only a name");
        assert_eq!((alone.uid.as_str(), alone.generation, alone.spec_digest), ("", 0, None));
        let wrong = said(&["--connection-generation=new", "--connection-digest=md5:0"]).expect_err("neither");
        assert!(
            wrong[0].starts_with("--connection-generation: ")
                && wrong[1].starts_with("--connection-digest: ")
        );
    }
}
