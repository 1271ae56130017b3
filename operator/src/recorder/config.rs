//! Settings of the keeper: flags, read once. [`Flags::validate`] makes a [`Config`] or names every mistake.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use runtime::telemetry::LogFormat;

use crate::config::Mistakes;

/// Keeps the recorder's certificate, and publishes what proves the recorder.
#[derive(Clone, Debug, Parser)]
#[command(name = "bqwitness-keeper", version, max_term_width = 100)]
pub struct Flags {
    /// The recorder's namespace
    #[arg(long, value_name = "NAME")]
    pub namespace: String,
    /// The Secret of certificate and CA, which the keeper makes
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "given",
        required_unless_present = "given",
        requires = "name"
    )]
    pub secret: Option<String>,
    /// A name that the certificate is for (repeatable)
    #[arg(long, value_name = "DNS NAME OR ADDRESS")]
    pub name: Vec<String>,
    /// Instead: a directory with tls.crt, tls.key and ca.crt that somebody else keeps
    #[arg(long, value_name = "DIR")]
    pub given: Option<PathBuf>,
    /// Where tls.crt and tls.key are written for the recorder
    #[arg(long, value_name = "DIR")]
    pub tls_dir: PathBuf,
    /// The recorder's port file, in which it says its log's verifier key
    #[arg(long, value_name = "FILE")]
    pub port_file: PathBuf,
    /// The ConfigMap that says what proves the recorder: ca.pem and log.vkey
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub publish: String,
    /// Where clients of the cluster reach the recorder, https://HOST:PORT: said beside what proves it
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Address of metrics and readiness (plain HTTP)
    #[arg(long, default_value = "[::]:9091", value_name = "ADDR:PORT")]
    pub admin: String,
    /// Log filter: error, warn, info, debug, or one for each module
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log_level: String,
    /// Log lines for people (text) or collectors (json)
    #[arg(long, default_value = "json", value_name = "FORMAT")]
    pub log_format: String,
}

/// Settings that hold together.
#[derive(Clone, Debug)]
pub struct Config {
    /// See [`Flags::namespace`].
    pub namespace: String,
    /// Where the certificate comes from.
    pub certificate: CertificateFrom,
    /// See [`Flags::tls_dir`].
    pub tls_dir: PathBuf,
    /// See [`Flags::port_file`].
    pub port_file: PathBuf,
    /// Namespace and name of the ConfigMap.
    pub publish: (String, String),
    /// See [`Flags::url`].
    pub url: Option<String>,
    /// See [`Flags::admin`].
    pub admin: SocketAddr,
}

/// Where the recorder's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFrom {
    /// The keeper makes it, and keeps it in this Secret.
    Secret {
        /// The Secret's name.
        name: String,
        /// What the certificate is for.
        names: Vec<String>,
    },
    /// Somebody else keeps it in this directory.
    Given(PathBuf),
}

impl Flags {
    /// Checks all settings.
    ///
    /// # Errors
    /// [`Mistakes`], all of them.
    pub fn validate(self) -> Result<Config, Mistakes> {
        let mut mistakes = Vec::new();
        let publish =
            self.publish.split_once('/').map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        if publish.is_none() {
            mistakes.push(format!("--publish: {:?} is not of the form NAMESPACE/NAME", self.publish));
        }
        let admin = self.admin.parse::<SocketAddr>();
        if let Err(error) = &admin {
            mistakes.push(format!("--admin: {error}"));
        }
        if let Err(error) = self.log_format.parse::<LogFormat>() {
            mistakes.push(format!("--log-format: {error}"));
        }
        let certificate = match (self.secret, self.given) {
            (Some(name), _) => Some(CertificateFrom::Secret { name, names: self.name }),
            (None, given) => given.map(CertificateFrom::Given),
        };
        match (publish, admin, certificate) {
            (Some(publish), Ok(admin), Some(certificate)) if mistakes.is_empty() => Ok(Config {
                namespace: self.namespace,
                certificate,
                tls_dir: self.tls_dir,
                port_file: self.port_file,
                publish,
                url: self.url,
                admin,
            }),
            _ => Err(Mistakes(mistakes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 7] = [
        "bqwitness-keeper",
        "--namespace=bqwitness",
        "--tls-dir=/tls",
        "--port-file=/ports",
        "--publish=bqwitness-system/bqwitness-recorder",
        "--secret=tls",
        "--name=bqwitness-recorder.bqwitness.svc",
    ];

    #[test]
    fn a_certificate_is_made_or_given_and_not_both() {
        let made = Flags::try_parse_from(GOOD).expect("good").validate().expect("good");
        let names = vec!["bqwitness-recorder.bqwitness.svc".to_owned()];
        assert_eq!(made.certificate, CertificateFrom::Secret { name: "tls".into(), names });
        assert!(Flags::try_parse_from(&GOOD[..5]).is_err(), "neither");
        assert!(Flags::try_parse_from(&GOOD[..6]).is_err(), "for no name");
        let both = GOOD.iter().chain(&["--given=/given"]);
        assert!(Flags::try_parse_from(both).is_err());
        let given = GOOD[..5].iter().chain(&["--given=/given"]);
        let given = Flags::try_parse_from(given).expect("good").validate().expect("good");
        assert_eq!(given.certificate, CertificateFrom::Given("/given".into()));
    }

    #[test]
    fn one_start_shows_every_mistake() {
        let bad = GOOD.map(|flag| if flag.starts_with("--publish") { "--publish=nowhere" } else { flag });
        let flags =
            Flags::try_parse_from(bad.iter().chain(&["--admin=here", "--log-format=xml"])).expect("flags");
        let mistakes = flags.validate().expect_err("bad").0;
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
    }
}
