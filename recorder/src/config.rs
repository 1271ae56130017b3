//! Settings: flags and `BQWITNESS_*` variables, checked all together so that one start shows every mistake.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};
use runtime::telemetry::LogFormat;

use crate::authn::api_server::ReviewSettings;
use crate::authn::oidc::Issuer;
use crate::authn::source::Location;
use crate::authn::verifier::{AccessSettings, Account, Means, Rules, Trust};
use crate::authz::grants::Grant;
use crate::clusters;
use crate::readers_file;

/// The recorder: an append-only log of what AI agents do in BigQuery.
#[derive(Debug, Parser)]
#[command(name = "bqwitness-recorder", version, max_term_width = 100)]
pub struct Args {
    /// Directory of the log; made at the first start. Back it up as a whole
    #[arg(long, env = "BQWITNESS_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the API (TLS); port 0 takes a free one
    #[arg(long, env = "BQWITNESS_LISTEN", default_value = "0.0.0.0:8443", value_name = "ADDR")]
    listen: String,
    /// Address of /metrics, /readyz and /livez (plain HTTP)
    #[arg(long, env = "BQWITNESS_ADMIN", default_value = "0.0.0.0:9090", value_name = "ADDR")]
    admin: String,
    /// Name of the log, like a URL without scheme: recorder.example.com/agents. It never changes
    #[arg(long, env = "BQWITNESS_ORIGIN", value_name = "NAME")]
    origin: Option<String>,
    /// Certificate chain of the API (PEM)
    #[arg(long, env = "BQWITNESS_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "BQWITNESS_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Issuer that tokens must have: the cluster's service account issuer
    #[arg(long, env = "BQWITNESS_ISSUER", value_name = "URL")]
    issuer: Option<String>,
    /// Audience that tokens must have
    #[arg(long, env = "BQWITNESS_AUDIENCE", default_value = "bqwitness-recorder", value_name = "NAME")]
    audience: String,
    /// Audience that readers' tokens must have, where it is to be another: then a sidecar's token is no good for reading, nor a
    /// reader's for writing
    #[arg(long, env = "BQWITNESS_READER_AUDIENCE", value_name = "NAME")]
    reader_audience: Option<String>,
    /// The issuer's public keys (JWKS): a file, an https URL, or the word discovery (the issuer says where, by OpenID Connect
    /// discovery). New keys are noticed by themselves
    #[arg(long, env = "BQWITNESS_JWKS", value_name = "FILE|URL|discovery")]
    jwks: Option<String>,
    /// Ask the cluster's API server about each token instead (TokenReview), at https://host:port. It knows when a pod is gone;
    /// --jwks-ca and --jwks-token are for it then, and the token's account may create tokenreviews
    #[arg(long, env = "BQWITNESS_TOKEN_REVIEW", value_name = "URL")]
    token_review: Option<String>,
    /// Ask the cluster's API server what a reader may read (SubjectAccessReview of entries and exports of bqwitness.dev), at
    /// https://host:port; --jwks-ca and --jwks-token are for it, and the token's account may create subjectaccessreviews
    #[arg(long, env = "BQWITNESS_ACCESS_REVIEW", value_name = "URL")]
    access_review: Option<String>,
    /// Let people read with the tokens that they have for that API server (it may create tokenreviews too). Whoever runs the
    /// recorder then sees tokens that are good at the API server
    #[arg(long, env = "BQWITNESS_USER_TOKENS", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_name = "BOOL")]
    user_tokens: String,
    /// File of further clusters to believe, each with an issuer, rules and roles of its own (JSON; see operations.md)
    #[arg(long, env = "BQWITNESS_CLUSTERS", value_name = "FILE")]
    clusters: Option<PathBuf>,
    /// Roots for a JWKS URL, or for the API server (PEM); the system's when absent
    #[arg(long, env = "BQWITNESS_JWKS_CA", value_name = "FILE")]
    jwks_ca: Option<PathBuf>,
    /// Token to ask a JWKS URL, or the API server, with
    #[arg(long, env = "BQWITNESS_JWKS_TOKEN", value_name = "FILE")]
    jwks_token: Option<PathBuf>,
    /// Name of the cluster, as entries have it
    #[arg(long, env = "BQWITNESS_CLUSTER", value_name = "NAME")]
    cluster: Option<String>,
    /// Service account that speaks as an operator (repeatable, or separated by commas)
    #[arg(long, env = "BQWITNESS_OPERATOR", value_name = "NAMESPACE/NAME", value_delimiter = ',')]
    operator: Vec<String>,
    /// Service account that may read everything (repeatable, or separated by commas)
    #[arg(long, env = "BQWITNESS_READER", value_name = "NAMESPACE/NAME", value_delimiter = ',')]
    reader: Vec<String>,
    /// File of readers whom an OpenID Connect issuer knows, and of what they and others may read (JSON; see operations.md)
    #[arg(long, env = "BQWITNESS_READERS", value_name = "FILE")]
    readers: Option<PathBuf>,
    /// The witnesses that cosign checkpoints: a c2sp.org/tlog-policy file
    #[arg(long, env = "BQWITNESS_WITNESS_POLICY", value_name = "FILE")]
    witness_policy: Option<PathBuf>,
    /// How long receipts wait for the witnesses, in seconds; 0: not at all. What is not cosigned by then is answered 503
    #[arg(long, env = "BQWITNESS_WAIT_FOR_WITNESSES", default_value = "0", value_name = "SECONDS")]
    wait_for_witnesses: String,
    /// File that gets the addresses in use and the log's verifier key, as JSON, once both listen
    #[arg(long, env = "BQWITNESS_PORT_FILE", value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// Log filter: error, warn, info, debug, or one for each module
    #[arg(long, env = "BQWITNESS_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    log_level: String,
    /// Log lines for people (text) or collectors (json)
    #[arg(long, env = "BQWITNESS_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: String,
    /// File of settings, in the form of --print-config. Flags and variables win over it
    #[arg(long, env = "BQWITNESS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings in effect, without secrets, and end
    #[arg(long)]
    print_config: bool,
}

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
    /// Is there a setting of this name?
    #[must_use]
    pub fn knows(name: &str) -> bool {
        let settings = Self::command();
        settings.get_arguments().any(|argument| argument.get_long() == Some(name) && name != "print-config")
    }

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
