//! What we write, checked by tools that we did not write: Go's `golang.org/x/mod/sumdb`, in the program of
//! `tests/foreign/go`, Tessera's fsck, in that of `tests/foreign/tessera`, and a [`witness`].

mod witness;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::agent::Finished;
use crate::skip;
use crate::tools::root;
use crate::trouble::{Doing as _, Result, Trouble};

pub use self::witness::{ForeignWitness, RunningWitness};

/// Its line `go` says which Go the program needs.
const GO_MOD: &str = include_str!("../foreign/go/go.mod");

/// The environment of `go`: what the files say, nothing newer, nothing from the machine.
const GO_ENVIRONMENT: [(&str, &str); 4] = [
    ("CGO_ENABLED", "0"),
    ("GOFLAGS", "-mod=readonly -buildvcs=false"),
    ("GOTOOLCHAIN", "local"),
    ("GOWORK", "off"),
];

/// The Go program, built.
#[derive(Clone, Debug)]
pub struct Foreign {
    program: PathBuf,
}

/// Checks a whole log: `dir` has `checkpoint` and `tile/`, `vkey` is the text of its key. Gives what the program said of
/// it, or `None`, after it has said SKIPPED, where there is no Go.
///
/// # Errors
/// The log does not verify, or the program can't be built.
pub fn check_log_dir(dir: &Path, vkey: &str) -> Result<Option<String>> {
    let Some(foreign) = Foreign::find()? else { return Ok(None) };
    let checked = foreign.log(dir, vkey)?;
    let said = checked.said();
    if checked.success() { Ok(Some(said)) } else { Err(Trouble::new(format!("{}: {said}", dir.display()))) }
}

/// Tessera's fsck, built.
#[derive(Clone, Debug)]
pub struct Tessera {
    program: PathBuf,
}

impl Tessera {
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
        Ok(Some(Self { program: build("tessera")? }))
    }

    /// Checks the log that is served under `url`, which ends in a slash. Exit codes are those of [`Foreign::log`].
    ///
    /// # Errors
    /// The program can't be run.
    pub fn fsck(&self, url: &str, ca: &Path, token: &Path, vkey: &str) -> Result<Finished> {
        let mut command = Command::new(&self.program);
        run(command.args(["fsck", url]).arg(ca).arg(token).arg(vkey.trim()), "")
    }
}

/// The folder of the Go programs, made, and locked until the file is dropped: other test programs build them too.
fn locked(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).doing(format!("making {}", folder.display()))?;
    let lock = File::create(folder.join("lock")).doing("opening the lock of the Go build")?;
    lock.lock().doing("waiting for another build of a Go program")?;
    Ok(lock)
}

/// Builds the Go program in `tests/foreign/<name>`.
fn build(name: &str) -> Result<PathBuf> {
    let folder = root().join("target/foreign");
    let _lock = locked(&folder)?;
    let program = folder.join(format!("{name}-checker"));
    let mut go = go(&["build", "-o"]);
    go.arg(&program).arg(".").current_dir(root().join("tests/foreign").join(name));
    let output = go.output().doing("running go build")?;
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Trouble::new(format!("go build of tests/foreign/{name}: {said}")))
}

impl Foreign {
    /// The program, built when need be. `None`, after it has said SKIPPED, where there is no Go or only an old one.
    ///
    /// # Errors
    /// It can't be built: with what Go says.
    ///
    /// # Panics
    /// Where it would skip and `CI=true`.
    pub fn find() -> Result<Option<Self>> {
        static BUILT: Mutex<Option<Foreign>> = Mutex::new(None);
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        if built.is_none() {
            if let Err(why) = usable_go() {
                skip::skipped(&why);
                return Ok(None);
            }
            *built = Some(Self { program: build("go")? });
        }
        Ok(built.clone())
    }

    /// Checks a whole log. Exit code 0: it verifies; 1: it does not; 2: it could not be checked. The same for all below.
    ///
    /// # Errors
    /// The program can't be run.
    pub fn log(&self, dir: &Path, vkey: &str) -> Result<Finished> {
        run(self.command("log").arg(dir).arg(vkey.trim()), "")
    }

    /// Checks a whole log that is served at `url`, over TLS with the roots of `ca`, showing the token in the file `token` for
    /// its entries.
    ///
    /// # Errors
    /// The program can't be run.
    pub fn served(&self, url: &str, vkey: &str, ca: &Path, token: &Path) -> Result<Finished> {
        run(self.command("served").arg(url).arg(vkey.trim()).arg(ca).arg(token), "")
    }

    /// Checks that the file `proof` proves the entry in the file `entry`.
    ///
    /// # Errors
    /// The program can't be run.
    pub fn proof(&self, proof: &Path, entry: &Path, vkey: &str) -> Result<Finished> {
        run(self.command("proof").arg(proof).arg(entry).arg(vkey.trim()), "")
    }

    /// Makes a key of this name: a line with its secret text, a line with its vkey.
    ///
    /// # Errors
    /// The program can't be run.
    pub fn key(&self, name: &str) -> Result<Finished> {
        run(self.command("key").arg(name), "")
    }

    /// Signs `text` with the key whose secret text is in the file `key`.
    ///
    /// # Errors
    /// The program can't be run.
    pub fn sign(&self, key: &Path, text: &str) -> Result<Finished> {
        run(self.command("sign").arg(key), text)
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(subcommand);
        command
    }
}

fn run(command: &mut Command, input: &str) -> Result<Finished> {
    let start = Instant::now();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().doing("starting the Go program")?;
    let mut stdin = child.stdin.take().expect("it was piped");
    stdin.write_all(input.as_bytes()).doing("writing to the Go program")?;
    drop(stdin);
    let output = child.wait_with_output().doing("waiting for the Go program")?;
    Ok(Finished::new(output, start.elapsed()))
}

/// Is there a Go that can build the program? If not, why.
fn usable_go() -> std::result::Result<(), String> {
    let needed = GO_MOD.lines().find_map(|line| line.strip_prefix("go ")).expect("go.mod has a line `go`");
    let output = go(&["env", "GOVERSION"]).output().map_err(|error| format!("no Go here: {error}"))?;
    let found = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches("go").to_owned();
    if output.status.success() && minor(&found) >= minor(needed) {
        return Ok(());
    }
    Err(format!("Go {needed} or newer is needed, and here is {found:?}"))
}

/// `1.26.8` and `1.26-rc1` are (1, 26).
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn go(arguments: &[&str]) -> Command {
    let mut command = Command::new("go");
    command.args(arguments).envs(GO_ENVIRONMENT).stdin(Stdio::null());
    command
}
