//! The rules that lead a pod's connections to the sidecar, whatever its agents do. An init container with NET_ADMIN sets them
//! (`bqwitness-redirect`), reads them back, tries them, and ends; the sidecar itself has no capability.
//!
//! [`rules`] is pure: what the tables should say, and whether they do. [`install`] talks to the kernel through Debian's iptables
//! programs, which need no more than NET_ADMIN.

mod rules;
mod trial;

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

pub use self::rules::{Family, Ports};

/// The rules can't be set, or don't do what they should. The pod must not start then.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// A program is not there, or can't be run.
    #[error("{0}: {1}; the image needs Debian's package iptables")]
    Run(&'static str, io::Error),
    /// A program said no.
    #[error(
        "{0}: {1}; the container needs capability NET_ADMIN, and the node's kernel needs nf_tables and REDIRECT"
    )]
    Refused(&'static str, String),
    /// What was written is not what is there.
    #[error("the {0} rules are not what was written: {1}")]
    NotThere(Family, String),
    /// A connection did not arrive where the rules lead.
    #[error("a trial connection over {0} did not arrive at the sidecar's port: {1}")]
    NotRedirected(Family, String),
}

impl RedirectError {
    /// The fixed name of this error.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Run(..) => "iptables_missing",
            Self::Refused(..) => "iptables_refused",
            Self::NotThere(..) => "rules_differ",
            Self::NotRedirected(..) => "not_redirected",
        }
    }
}

/// Sets the rules of both address families, reads them back and tries them. Doing it again changes nothing.
///
/// # Errors
/// [`RedirectError`]
pub fn install(ports: Ports) -> Result<(), RedirectError> {
    for family in [Family::V4, Family::V6] {
        if family == Family::V6 && !has_ipv6() {
            tracing::info!("this pod has no IPv6, so no connection of its can take that way");
            continue;
        }
        set(family, ports)?;
        match trial::run(family, ports.redirect) {
            Ok(trial::Outcome::Arrived) => {
                tracing::info!(%family, "the rules are set, and a trial connection arrived");
            }
            Ok(trial::Outcome::NoRoute) => {
                tracing::info!(%family, "the rules are set; no connection leaves this pod over it");
            }
            Err(error) => return Err(RedirectError::NotRedirected(family, error.to_string())),
        }
    }
    Ok(())
}

fn set(family: Family, ports: Ports) -> Result<(), RedirectError> {
    let [save, restore] = family.programs();
    let before = run(save, &[], "")?;
    run(restore, &["--noflush"], &rules::script(family, ports, &before))?;
    let after = run(save, &[], "")?;
    rules::check(family, ports, &after).map_err(|difference| RedirectError::NotThere(family, difference))
}

/// Is there an IPv6 address in this network, be it loopback's?
fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.trim().is_empty())
}

fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String, RedirectError> {
    let failed = |error| RedirectError::Run(program, error);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().expect("it was piped");
    // One that doesn't read its input has ended, and says why.
    let _read = stdin.write_all(input.as_bytes()).is_ok();
    drop(stdin);
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RedirectError::Refused(program, format!("{} ({})", said, output.status)))
}
