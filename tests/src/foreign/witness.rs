//! A witness that we did not write: transparency-dev's, in the program of `tests/foreign/witness`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use super::{go, locked, usable_go};
use crate::skip;
use crate::tools::root;
use crate::trouble::{Doing as _, Result, Trouble};

/// Where the file in `missing/` belongs in the vendored sources.
const MISSING: &str = "vendor/github.com/transparency-dev/merkle/proof/subtree.go";

/// The program, built.
#[derive(Clone, Debug)]
pub struct ForeignWitness {
    program: PathBuf,
}

/// A witness that runs until this is dropped.
#[derive(Debug)]
pub struct RunningWitness {
    process: Child,
    /// Its address, HOST:PORT.
    pub listen: String,
    /// The vkey of its cosignatures.
    pub vkey: String,
}

impl ForeignWitness {
    /// The program, built when need be. `None`, after it has said SKIPPED, where there is no Go or only an old one.
    ///
    /// # Errors
    /// It can't be built: with what Go says.
    ///
    /// # Panics
    /// Where it would skip and `CI=true`.
    pub fn find() -> Result<Option<Self>> {
        if let Err(why) = usable_go() {
            skip::skipped(&why);
            return Ok(None);
        }
        let folder = root().join("target/foreign");
        let _lock = locked(&folder)?;
        let (sources, program) = (folder.join("witness"), folder.join("witness-checker"));
        vendored(&sources)?;
        let mut build = go(&["build", "-mod=vendor", "-o"]);
        said(build.arg(&program).arg(".").current_dir(&sources), "go build of tests/foreign/witness")?;
        Ok(Some(Self { program }))
    }

    /// Starts a witness of this name, with a new key and no memory, for the log of this key.
    ///
    /// # Errors
    /// It can't be started, or says nothing.
    pub fn start(&self, name: &str, vkey: &str) -> Result<RunningWitness> {
        #[derive(Deserialize)]
        struct Said {
            listen: String,
            vkey: String,
        }
        let mut command = Command::new(&self.program);
        command.args(["serve", name, vkey.trim()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().doing("starting the witness")?;
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it was piped");
        BufReader::new(stdout).read_line(&mut line).doing("reading what the witness says")?;
        let Said { listen, vkey } = serde_json::from_str(&line).doing("reading what the witness says")?;
        Ok(RunningWitness { process, listen, vkey })
    }
}

impl RunningWitness {
    /// A policy that wants its cosignature, under the name `w`.
    #[must_use]
    pub fn policy(&self) -> String {
        format!("witness w {} http://{}/\nquorum w\n", self.vkey, self.listen)
    }
}

impl Drop for RunningWitness {
    fn drop(&mut self) {
        // One that has ended by itself is no trouble any more.
        let _ended = self.process.kill().and_then(|()| self.process.wait()).is_ok();
    }
}

/// The program's sources with all that they need beside them, and the file that the published version of one module lacks.
fn vendored(sources: &Path) -> Result<()> {
    let original = root().join("tests/foreign/witness");
    fs::create_dir_all(sources).doing(format!("making {}", sources.display()))?;
    for name in ["go.mod", "go.sum", "main.go"] {
        fs::copy(original.join(name), sources.join(name)).doing(format!("copying {name}"))?;
    }
    said(go(&["mod", "vendor"]).current_dir(sources), "go mod vendor of tests/foreign/witness")?;
    fs::copy(original.join("missing/subtree.go.txt"), sources.join(MISSING))
        .doing("adding what is missing")?;
    Ok(())
}

fn said(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().doing(what.to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    Err(Trouble::new(format!("{what}: {}", String::from_utf8_lossy(&output.stderr))))
}
