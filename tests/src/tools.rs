//! What `tests/setup` has put on this machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::trouble::{Doing as _, Result, Trouble};

/// The clients and the emulator that tests may use.
#[derive(Clone, Debug)]
pub struct Tools {
    /// A Python with the BigQuery client.
    pub client_python: PathBuf,
    /// A Python with GoogleSQL's parser, where it could be installed.
    pub parser_python: Option<PathBuf>,
    /// The emulator.
    pub emulator: EmulatorKind,
    /// Its program.
    pub emulator_program: PathBuf,
    /// Its `HOME`, where it finds what it would otherwise download.
    pub emulator_home: PathBuf,
    /// The other emulator, where it could be installed: kind, program, home.
    pub other_emulator: Option<(EmulatorKind, PathBuf, PathBuf)>,
    /// `bq` of the Google Cloud CLI, where the machine has it.
    pub bq: Option<PathBuf>,
    /// Node with its BigQuery client, where the machine has Node.
    pub node: Option<Node>,
    /// Java that runs source files, where the machine has it.
    pub java: Option<PathBuf>,
}

/// Node, and the packages that were installed for it.
#[derive(Clone, Debug)]
pub struct Node {
    /// `node`
    pub program: PathBuf,
    /// `node_modules`
    pub modules: PathBuf,
}

/// Which emulator plays BigQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmulatorKind {
    /// Answers most like BigQuery; needs Python 3.13.
    LocalBigquery,
    /// Answers to a failing `jobs.query` with HTTP 200 and names no referenced tables.
    Bqemulator,
}

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

impl Tools {
    /// Reads what the setup wrote.
    ///
    /// # Errors
    /// The setup has not run, or what it made is gone: says to run it.
    pub fn find() -> Result<Self> {
        let path = root().join("target/test-tools");
        let text = std::fs::read_to_string(&path)
            .doing(format!("reading {} (run tests/setup/python.sh, or `make setup`)", path.display()))?;
        let lines: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let path_of = |key: &str| {
            let found = lines.get(key).map(PathBuf::from).filter(|path| path.exists());
            found.ok_or_else(|| Trouble::new(format!("no {key} on this machine; run tests/setup/python.sh")))
        };
        let kind = |key| lines.get(key).copied().and_then(EmulatorKind::named);
        let emulator = kind("emulator");
        let emulator =
            emulator.ok_or_else(|| Trouble::new(format!("{}: no emulator that is known", path.display())))?;
        let other_emulator = kind("other_emulator").and_then(|kind| {
            Some((kind, path_of("other_emulator_program").ok()?, path_of("other_emulator_home").ok()?))
        });
        Ok(Self {
            client_python: path_of("client_python")?,
            parser_python: path_of("parser_python").ok(),
            emulator,
            emulator_program: path_of("emulator_program")?,
            emulator_home: path_of("emulator_home")?,
            other_emulator,
            bq: on_path("bq"),
            node: node(),
            java: on_path("javac").and_then(|_| on_path("java")),
        })
    }
}

impl Tools {
    /// The same tools with the emulator of this kind, if this machine has it.
    #[must_use]
    pub fn with(self, kind: EmulatorKind) -> Option<Self> {
        if self.emulator == kind {
            return Some(self);
        }
        let (emulator, emulator_program, emulator_home) =
            self.other_emulator.clone().filter(|other| other.0 == kind)?;
        Some(Self { emulator, emulator_program, emulator_home, other_emulator: None, ..self })
    }
}

impl EmulatorKind {
    fn named(name: &str) -> Option<Self> {
        [Self::LocalBigquery, Self::Bqemulator].into_iter().find(|kind| kind.to_string() == name)
    }
}

impl std::fmt::Display for EmulatorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LocalBigquery => "local-bigquery",
            Self::Bqemulator => "bqemulator",
        })
    }
}

/// As `tests/setup/node.sh` wrote it; an empty file where there is no Node.
fn node() -> Option<Node> {
    let modules = std::fs::read_to_string(root().join("target/test-tools-node")).ok()?;
    let modules = PathBuf::from(modules.trim_end());
    on_path("node").filter(|_| modules.is_dir()).map(|program| Node { program, modules })
}

/// A program of this name on `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}
