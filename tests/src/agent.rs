//! Agents: unmodified BigQuery clients whose surroundings send them through a proxy, as injection does it in a pod. An
//! agent knows nothing of the record.

use std::ffi::OsStr;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::emulator::PROJECT;
use crate::namespace::Namespace;
use crate::process::DIES_WITH_US;
use crate::tools::{Node, Tools, root};
use crate::trouble::{Doing as _, Result, Trouble};

/// The bearer token that agents send.
pub const TOKEN: &str = "agents-placeholder-token";

/// No command of an agent takes this long; one that does hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Variables that name the file of roots, one for each family of clients.
const BUNDLE_VARIABLES: [&str; 6] = [
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", // bq, gcloud
    "REQUESTS_CA_BUNDLE",                 // Python over REST
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",   // Python over gRPC
    "NODE_EXTRA_CA_CERTS",                // Node
    "SSL_CERT_FILE",                      // Go, OpenSSL
    "CURL_CA_BUNDLE",                     // curl
];

/// An agent's machine: a home of its own, and the way out.
#[derive(Clone, Debug)]
pub struct Agent {
    home: PathBuf,
    variables: Vec<(&'static str, String)>,
    /// More of them, which came with the way out.
    given: Vec<(String, String)>,
    /// The words before each program: whom and where it runs as.
    under: Vec<String>,
    client_python: PathBuf,
    bq: Option<PathBuf>,
    node: Option<Node>,
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// Its complaints.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Agent {
    /// An agent with the folder `home`, whose traffic goes through `proxy` (HTTP CONNECT), and who trusts `bundle`.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn new(tools: &Tools, home: PathBuf, proxy: SocketAddr, bundle: &Path) -> Result<Self> {
        let proxy = format!("http://{proxy}");
        let way_out = [
            ("HTTPS_PROXY", proxy.clone()),
            ("https_proxy", proxy), // grpc reads only this spelling
            ("NO_PROXY", "localhost,127.0.0.1".into()),
            ("no_proxy", "localhost,127.0.0.1".into()),
        ];
        let mut agent = Self::at_home(tools, home, bundle)?;
        agent.variables.extend(way_out);
        Ok(agent)
    }

    /// An agent in `namespace`, whom nothing in its environment tells of a proxy, and who trusts `bundle`.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn redirected(tools: &Tools, home: PathBuf, namespace: &Namespace, bundle: &Path) -> Result<Self> {
        let mut agent = Self::at_home(tools, home, bundle)?;
        agent.under = namespace.as_agent();
        Ok(agent)
    }

    /// The same without any key or token: its clients find a credential as they do in a pod. `more` are variables that they
    /// need for that.
    #[must_use]
    pub fn keyless(mut self, more: Vec<(String, String)>) -> Self {
        self.variables.retain(|(name, _)| *name != "CLOUDSDK_AUTH_ACCESS_TOKEN");
        self.given.extend(more);
        self
    }

    /// The names of all its variables.
    #[must_use]
    pub fn variables(&self) -> Vec<&str> {
        let given = self.given.iter().map(|(name, _)| name.as_str());
        self.variables.iter().map(|(name, _)| *name).chain(given).collect()
    }

    fn at_home(tools: &Tools, home: PathBuf, bundle: &Path) -> Result<Self> {
        let config = home.join("gcloud");
        std::fs::create_dir_all(&config).doing(format!("making {}", config.display()))?;
        let mut variables = vec![
            ("HOME", home.display().to_string()),
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("LANG", "C.UTF-8".into()),
            ("CLOUDSDK_CONFIG", config.display().to_string()),
            ("CLOUDSDK_CORE_PROJECT", PROJECT.into()),
            ("CLOUDSDK_AUTH_ACCESS_TOKEN", TOKEN.into()),
            ("GOOGLE_CLOUD_PROJECT", PROJECT.into()),
        ];
        variables.extend(BUNDLE_VARIABLES.map(|name| (name, bundle.display().to_string())));
        let (client_python, bq, node) = (tools.client_python.clone(), tools.bq.clone(), tools.node.clone());
        Ok(Self { home, variables, given: Vec::new(), under: Vec::new(), client_python, bq, node })
    }

    /// Has the machine the real `bq`?
    #[must_use]
    pub fn has_bq(&self) -> bool {
        self.bq.is_some()
    }

    /// `bq query SQL`, as JSON: the Google Cloud CLI, over `jobs.insert`.
    ///
    /// # Errors
    /// There is no `bq` here, or it hangs. That the query fails is no error: see [`Finished::success`].
    pub async fn bq_query(&self, sql: &str) -> Result<Finished> {
        let bq = self.bq.as_ref().ok_or_else(|| Trouble::new("this machine has no bq"))?;
        let mut command = self.command(bq);
        command.args(["--headless", "--quiet", "--format=json", "query", "--use_legacy_sql=false", sql]);
        self.run(command).await
    }

    /// `Client.query_and_wait(SQL)` of the Python client, as JSON: one call of `jobs.query`.
    ///
    /// # Errors
    /// It hangs.
    pub async fn python_query(&self, sql: &str) -> Result<Finished> {
        self.python("query.py", sql).await
    }

    /// `Client.query(SQL).result()` of the Python client, as JSON: `jobs.insert` and `jobs.getQueryResults`.
    ///
    /// # Errors
    /// It hangs.
    pub async fn python_job(&self, sql: &str) -> Result<Finished> {
        self.python("job.py", sql).await
    }

    /// Reads all rows of `dataset.table` over the Storage Read API (gRPC) with the Python client; prints their number.
    ///
    /// # Errors
    /// It hangs.
    pub async fn python_read_rows(&self, table: &str) -> Result<Finished> {
        self.python("read_rows.py", table).await
    }

    /// Has the machine Node with its BigQuery client?
    #[must_use]
    pub fn has_node(&self) -> bool {
        self.node.is_some()
    }

    /// `bigquery.query(SQL)` of the Node client, as JSON: one call of `jobs.query`.
    ///
    /// # Errors
    /// There is no Node here, or it hangs.
    pub async fn node_query(&self, sql: &str) -> Result<Finished> {
        self.node("query.cjs", sql).await
    }

    async fn node(&self, script: &str, argument: &str) -> Result<Finished> {
        let node =
            self.node.as_ref().ok_or_else(|| Trouble::new("this machine has no Node with its client"))?;
        let mut command = self.command(&node.program);
        command.env("NODE_PATH", &node.modules);
        command.arg(root().join("tests/agents").join(script)).arg(argument);
        self.run(command).await
    }

    /// The Python client does a little of everything in a data set of its own: see the script.
    ///
    /// # Errors
    /// It hangs.
    pub async fn python_everything(&self, dataset: &str) -> Result<Finished> {
        self.python("everything.py", dataset).await
    }

    /// The same with the Node client.
    ///
    /// # Errors
    /// There is no Node here, or it hangs.
    pub async fn node_everything(&self, dataset: &str) -> Result<Finished> {
        self.node("everything.cjs", dataset).await
    }

    /// The same with `bq`, whose shell reads a command a line.
    ///
    /// # Errors
    /// There is no `bq` here, or it hangs.
    pub async fn bq_everything(&self, dataset: &str) -> Result<Finished> {
        let bq = self.bq.as_ref().ok_or_else(|| Trouble::new("this machine has no bq"))?;
        let script = std::fs::read_to_string(root().join("tests/agents/everything.bq"));
        let script = script.doing("reading what bq is to do")?.replace("DATASET", dataset);
        let (commands, rows) = (self.home.join(dataset), self.home.join("rows.json"));
        std::fs::write(&commands, script).doing("writing what bq is to do")?;
        // The same row twice: `bq head` shows some of them, and which come first nobody promises.
        std::fs::write(&rows, "{\"id\": 1, \"name\": \"a\"}\n".repeat(2)).doing("writing rows")?;
        let mut command = self.command(bq);
        command.args(["--headless", "--quiet", "--format=json", "shell"]);
        command.stdin(File::open(&commands).doing("opening what bq is to do")?);
        self.run(command).await
    }

    /// A night's work with the Python client: a load, a stream, an export; see the script.
    ///
    /// # Errors
    /// It hangs.
    pub async fn nightly(&self) -> Result<Finished> {
        let mut command = self.command(&self.client_python);
        command.arg(root().join("tests/agents/nightly.py"));
        self.run(command).await
    }

    /// Calls of `jobs.query` that are never tried again, as `calls.py` says: how many, SQL, and options.
    ///
    /// # Errors
    /// It hangs.
    pub async fn calls(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = self.command(&self.client_python);
        command.arg(root().join("tests/agents/calls.py")).args(arguments);
        self.run(command).await
    }

    /// Speaks to an address as no client does; see the script. Prints what came of it.
    ///
    /// # Errors
    /// It hangs.
    pub async fn go_round(&self, attempt: &[&str]) -> Result<Finished> {
        let mut command = self.command(&self.client_python);
        command.arg(root().join("tests/agents/go_round.py")).args(attempt);
        self.run(command).await
    }

    /// Sends what it is given wherever a request has room for a credential; see the script.
    ///
    /// # Errors
    /// It hangs.
    pub async fn plant(&self, words: &[&str]) -> Result<Finished> {
        let mut command = self.command(&self.client_python);
        command.arg(root().join("tests/agents/plant.py")).args(words);
        self.run(command).await
    }

    async fn python(&self, script: &str, argument: &str) -> Result<Finished> {
        let mut command = self.command(&self.client_python);
        command.arg(root().join("tests/agents").join(script)).arg(argument);
        self.run(command).await
    }

    fn command(&self, program: &Path) -> Command {
        let before = DIES_WITH_US.iter().map(OsStr::new).chain(self.under.iter().map(OsStr::new));
        let mut words = before.chain([program.as_os_str()]);
        let mut command = Command::new(words.next().expect("there is at least the program"));
        command.args(words).env_clear().envs(self.variables.iter().cloned()).envs(self.given.iter().cloned());
        command.stdin(Stdio::null());
        command
    }

    async fn run(&self, mut command: Command) -> Result<Finished> {
        command.current_dir(&self.home);
        finish(command).await
    }
}

/// Runs a command to its end; whatever it started ends with it.
pub(crate) async fn finish(mut command: Command) -> Result<Finished> {
    let name = format!("{:?}", command.as_std());
    command.process_group(0).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let child = command.spawn().doing(format!("running {name}"))?;
    let _group = Group::of(&child);
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let output = output.map_err(|_| Trouble::new(format!("{name} did not end within {LIMIT:?}")))?;
    let output = output.doing(format!("running {name}"))?;
    Ok(Finished::new(output, start.elapsed()))
}

/// A command's process group. Dropped, all that is left of it ends: `bq` is a shell script, whose Python would go on.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // An error means that nothing is left.
        let _ended = self.0.map(|group| kill_process_group(group, Signal::KILL).is_ok());
    }
}

impl Finished {
    /// What a program left behind, and how long it took.
    #[must_use]
    pub fn new(output: Output, took: Duration) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr), took }
    }

    /// Did it exit 0?
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// All that it printed: `bq` prints errors to its standard output.
    #[must_use]
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr).trim().to_owned()
    }
}
