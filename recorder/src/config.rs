//! Settings: flags and `BQWITNESS_*` variables, checked all together so that one start shows every mistake.

mod args;
mod describe;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use runtime::telemetry::LogFormat;

use crate::authn::oidc::Issuer;
use crate::authn::source::Location;
use crate::authn::verifier::{AccessSettings, Account, Means, Rules, Trust};
use crate::authz::grants::Grant;
use crate::clusters;
use crate::readers_file;

pub use self::args::Args;

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the log.
    pub data: PathBuf,
    /// Address of the API.
    pub listen: SocketAddr,
    /// Address of the admin server.
    pub admin: SocketAddr,
    /// Name of the log.
    pub origin: String,
    /// Certificate chain of the API.
    pub tls_cert: PathBuf,
    /// Its private key.
    pub tls_key: PathBuf,
    /// What tokens of the first cluster must have, and what they grant.
    pub rules: Rules,
    /// Who says that its tokens are good.
    pub means: Means,
    /// Who says what its users and service accounts may read.
    pub access: Option<AccessSettings>,
    /// The file of the other clusters.
    pub clusters: Option<PathBuf>,
    /// The other clusters.
    pub others: Vec<Trust>,
    /// The file of other readers.
    pub readers: Option<PathBuf>,
    /// Issuers of readers, and where their keys are.
    pub issuers: Vec<(Issuer, Location)>,
    /// What they and others may read, without asking a cluster.
    pub grants: Vec<Grant>,
    /// File that names the witnesses.
    pub witness_policy: Option<PathBuf>,
    /// How long receipts wait for them; zero: not at all.
    pub wait_for_witnesses: Duration,
    /// File that gets the addresses.
    pub port_file: Option<PathBuf>,
    /// Log filter.
    pub log_level: String,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// Only print the settings.
    pub print_config: bool,
}

/// Every mistake in the settings, one a line.
#[derive(Debug, thiserror::Error)]
#[error("the settings have mistakes:\n{}", .0.join("\n"))]
pub struct BadConfig(pub Vec<String>);

/// Collects mistakes.
#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    fn take<T, E: std::fmt::Display>(&mut self, flag: &str, value: Result<T, E>) -> Option<T> {
        value.map_err(|error| self.0.push(format!("  --{flag}: {error}"))).ok()
    }

    fn need<T>(&mut self, flag: &str, value: Option<T>) -> Option<T> {
        let variable = flag.replace('-', "_").to_uppercase();
        self.take(flag, value.ok_or_else(|| format!("is needed (or BQWITNESS_{variable})")))
    }
}

impl Args {
    /// Checks everything.
    ///
    /// # Errors
    /// [`BadConfig`] with every mistake.
    pub fn check(self) -> Result<Config, BadConfig> {
        let Self {
            data,
            listen,
            admin,
            origin,
            tls_cert,
            tls_key,
            issuer,
            audience,
            reader_audience,
            jwks,
            token_review,
            access_review,
            user_tokens,
            clusters,
            jwks_ca,
            jwks_token,
            cluster,
            operator,
            reader,
            readers: readers_file,
            witness_policy,
            wait_for_witnesses,
            port_file,
            log_level,
            log_format,
            config: _, // its settings are among the arguments by now
            print_config,
        } = self;
        let mut mistakes = Mistakes::default();
        let data = mistakes.need("data", data);
        let listen = mistakes.take("listen", parse_address(&listen));
        let admin = mistakes.take("admin", parse_address(&admin));
        let origin = mistakes.need("origin", origin);
        let origin = origin.and_then(|origin| mistakes.take("origin", check_origin(origin)));
        let tls_cert = mistakes.need("tls-cert", tls_cert);
        let tls_key = mistakes.need("tls-key", tls_key);
        let issuer = mistakes.need("issuer", issuer.filter(|issuer| !issuer.is_empty()));
        let audience = mistakes.need("audience", Some(audience).filter(|audience| !audience.is_empty()));
        let user_tokens = mistakes.take("user-tokens", user_tokens.parse::<bool>()).unwrap_or_default();
        let access = clusters::access(access_review, user_tokens, jwks_ca.clone(), jwks_token.clone());
        let access = access.map_err(|(flag, mistake)| mistakes.take::<(), _>(flag, Err(mistake))).ok();
        let means = clusters::means(issuer.as_deref(), jwks, token_review, jwks_ca, jwks_token);
        let means = means.map_err(|(flag, mistake)| mistakes.take::<(), _>(flag, Err(mistake))).ok();
        let others = clusters.as_deref().map_or(Ok(Vec::new()), clusters::read);
        let others = mistakes.take("clusters", others);
        let cluster = mistakes.need("cluster", cluster.filter(|cluster| !cluster.is_empty()));
        let operators = mistakes.take("operator", accounts(&operator));
        let readers = mistakes.take("reader", accounts(&reader));
        let others_who_read = readers_file.as_deref().map_or(Ok(Default::default()), readers_file::read);
        let others_who_read = mistakes.take("readers", others_who_read);
        let wait_for_witnesses =
            mistakes.take("wait-for-witnesses", parse_wait(&wait_for_witnesses, witness_policy.is_some()));
        let log_format = mistakes.take("log-format", log_format.parse::<LogFormat>());
        let config = (|| {
            let audience = audience?;
            let rules = Rules {
                issuer: issuer?,
                reader_audience: reader_audience.unwrap_or_else(|| audience.clone()),
                audience,
                cluster: cluster?,
                operators: operators?,
                readers: readers?,
            };
            let (issuers, grants) = others_who_read?;
            Some(Config {
                data: data?,
                listen: listen?,
                admin: admin?,
                origin: origin?,
                tls_cert: tls_cert?,
                tls_key: tls_key?,
                rules,
                means: means?,
                access: access?,
                clusters,
                others: others?,
                readers: readers_file,
                issuers,
                grants,
                witness_policy,
                wait_for_witnesses: wait_for_witnesses?,
                port_file,
                log_level,
                log_format: log_format?,
                print_config,
            })
        })();
        config.ok_or(BadConfig(mistakes.0))
    }
}

impl Config {
    /// Every cluster that is believed.
    #[must_use]
    pub fn trusted(&self) -> Vec<Trust> {
        let first =
            Trust { rules: self.rules.clone(), means: self.means.clone(), access: self.access.clone() };
        std::iter::once(first).chain(self.others.iter().cloned()).collect()
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address with a port, like 0.0.0.0:8443"))
}

/// Longest that receipts may wait for witnesses, in seconds. Sidecars give up before that.
const MAX_WAIT: u64 = 30;

fn parse_wait(text: &str, has_witnesses: bool) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= MAX_WAIT);
    let seconds = seconds.ok_or_else(|| format!("{text:?} is not a number of seconds up to {MAX_WAIT}"))?;
    if seconds > 0 && !has_witnesses {
        return Err("there are no witnesses to wait for: name them with --witness-policy".into());
    }
    Ok(Duration::from_secs(seconds))
}

fn check_origin(origin: String) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if origin.is_empty() || origin.len() > 256 || origin.contains(odd) || origin.contains("://") {
        return Err(
            "is a name like recorder.example.com/agents: no scheme, white space or '+', at most 256 bytes"
                .into(),
        );
    }
    if origin.starts_with("bqwitness.dev/receipt/") {
        return Err("may not be the first line of a receipt".into());
    }
    Ok(origin)
}

pub(crate) fn accounts(names: &[String]) -> Result<BTreeSet<Account>, String> {
    let account = |text: &String| match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err(format!("{text:?} is not a service account, like agents/billing")),
    };
    names.iter().filter(|name| !name.is_empty()).map(account).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    const GOOD: &[&str] = &[
        "bqwitness-recorder",
        "--data=/data",
        "--listen=127.0.0.1:0",
        "--origin=example.com/log",
        "--tls-cert=c",
        "--tls-key=k",
        "--issuer=https://issuer",
        "--jwks=j",
        "--cluster=prod",
        "--reader=audit/auditor,audit/reviewer",
        "--operator=system/operator",
    ];

    fn check(args: &[&str]) -> Result<Config, String> {
        let args = Args::try_parse_from(args).map_err(|error| error.to_string())?;
        args.check().map_err(|error| error.to_string())
    }

    #[test]
    fn good_settings_are_described() {
        let config = check(GOOD).expect("good");
        assert_eq!(config.rules.readers.len(), 2);
        assert!(config.describe().contains("reader = \"audit/auditor,audit/reviewer\"\n"));
    }

    #[test]
    fn one_start_shows_every_mistake() {
        let text = check(&["bqwitness-recorder", "--listen=x", "--origin=https://x", "--reader=auditor"])
            .expect_err("bad");
        for part in [
            "--data: is needed (or BQWITNESS_DATA)",
            "--listen:",
            "--origin:",
            "--tls-cert:",
            "--tls-key:",
            "--issuer:",
            "--jwks:",
            "--cluster:",
            "--reader: \"auditor\"",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
