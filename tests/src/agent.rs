//! Agents: unmodified BigQuery clients whose surroundings send them through a proxy, as injection does it in a pod. An
//! agent knows nothing of the record.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::emulator::PROJECT;
use crate::tools::{Tools, root};
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
    client_python: PathBuf,
    bq: Option<PathBuf>,
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
        let config = home.join("gcloud");
        std::fs::create_dir_all(&config).doing(format!("making {}", config.display()))?;
        let proxy = format!("http://{proxy}");
        let mut variables = vec![
            ("HOME", home.display().to_string()),
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("LANG", "C.UTF-8".into()),
            ("HTTPS_PROXY", proxy.clone()),
            ("https_proxy", proxy), // grpc reads only this spelling
            ("NO_PROXY", "localhost,127.0.0.1".into()),
            ("no_proxy", "localhost,127.0.0.1".into()),
            ("CLOUDSDK_CONFIG", config.display().to_string()),
            ("CLOUDSDK_CORE_PROJECT", PROJECT.into()),
            ("CLOUDSDK_AUTH_ACCESS_TOKEN", TOKEN.into()),
            ("GOOGLE_CLOUD_PROJECT", PROJECT.into()),
        ];
        variables.extend(BUNDLE_VARIABLES.map(|name| (name, bundle.display().to_string())));
        Ok(Self { home, variables, client_python: tools.client_python.clone(), bq: tools.bq.clone() })
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
        let mut command = Command::new(bq);
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

    async fn python(&self, script: &str, argument: &str) -> Result<Finished> {
        let mut command = Command::new(&self.client_python);
        command.arg(root().join("tests/agents").join(script)).arg(argument);
        self.run(command).await
    }

    async fn run(&self, mut command: Command) -> Result<Finished> {
        let name = format!("{:?}", command.as_std());
        command.env_clear().envs(self.variables.iter().cloned()).current_dir(&self.home);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let start = Instant::now();
        let output = tokio::time::timeout(LIMIT, command.output()).await;
        let output = output.map_err(|_| Trouble::new(format!("{name} did not end within {LIMIT:?}")))?;
        let output = output.doing(format!("running {name}"))?;
        Ok(Finished::new(output, start.elapsed()))
    }
}

impl Finished {
    pub(crate) fn new(output: Output, took: Duration) -> Self {
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
