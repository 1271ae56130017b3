//! The story's end: evidence leaves the recorder, and is believed where nobody can be asked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::agent::Finished;
use crate::narrator::Narrator;
use crate::programs::{Auditor, program};
use crate::skip;
use crate::tools::root;
use crate::trouble::{Doing as _, Result};

/// Evidence that was taken out. It stays when the story is over.
#[derive(Debug)]
pub struct Evidence {
    /// The bundle.
    pub bundle: PathBuf,
    /// The log's key, by another way.
    pub key: PathBuf,
    /// The page for people.
    pub page: PathBuf,
}

/// The auditor takes out everything.
pub(super) async fn take_out(narrator: &Narrator, auditor: &Auditor, key: &Path) -> Result<Evidence> {
    narrator.step(
        "Evidence leaves the recorder",
        "One file, with all that proves it. That it was taken out, by whom and what, is itself an entry of the log.",
    );
    let folder = root().join("target/demo");
    std::fs::create_dir_all(&folder).doing("making a folder for the evidence")?;
    let place = |name: &str| folder.join(format!("{name}-{}", std::process::id()));
    let evidence = Evidence {
        bundle: place("evidence").with_extension("bqw"),
        key: place("log").with_extension("vkey"),
        page: place("evidence").with_extension("html"),
    };
    std::fs::copy(key, &evidence.key).doing("copying the log's key")?;
    narrator.command("auditor", "bqwitness export --key log.vkey -o evidence.bqw");
    let (key, file) = (key.display().to_string(), evidence.bundle.display().to_string());
    let exported = auditor.bqwitness(&["export", "--key", &key, "-o", &file]).await?;
    narrator.output(&exported.said());
    narrator.claim(exported.success(), "the bundle is written, and holds")?;
    Ok(evidence)
}

/// Somebody else verifies it, without any network.
pub(super) fn verify_alone(narrator: &Narrator, evidence: &Evidence) -> Result<()> {
    narrator.step(
        "Nobody is asked",
        "The file is verified in a network namespace that has no interface at all: no recorder, no clock server, nobody.",
    );
    let verifier = program("bqwitness")?;
    let mut command = match unshare()? {
        Some(arguments) => {
            let mut command = Command::new("unshare");
            command.args(arguments).arg(verifier);
            command
        }
        None => {
            skip::skipped("no network namespace can be made here (unshare): it is verified outside of one");
            Command::new(verifier)
        }
    };
    narrator.command("somebody", "unshare --net bqwitness verify evidence.bqw --key log.vkey");
    command
        .arg("verify")
        .arg(&evidence.bundle)
        .arg("--key")
        .arg(&evidence.key)
        .arg("--page")
        .arg(&evidence.page);
    let start = Instant::now();
    let output = command.output().doing("running unshare")?;
    let verified = Finished::new(output, start.elapsed());
    narrator.output(&verified.said());
    let holds = verified.code == Some(0) && verified.stdout.contains("VERIFIED");
    narrator.claim(holds, "the evidence stands alone (exit code 0)")?;
    narrator.say(&format!("the page for people: {}", evidence.page.display()));
    Ok(())
}

/// With which arguments `unshare` makes a network namespace here: as root, or as somebody who may make user namespaces.
fn unshare() -> Result<Option<&'static [&'static str]>> {
    let ways: [&[&str]; 2] = [&["--net"], &["--map-root-user", "--net"]];
    for way in ways {
        let tried = Command::new("unshare").args(way).arg("true").output().doing("running unshare")?;
        if tried.status.success() {
            return Ok(Some(way));
        }
    }
    Ok(None)
}
