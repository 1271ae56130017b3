//! HAProxy in the proxy's place: TLS on both sides, no recording. What terminating and forwarding costs those who have
//! tuned it for twenty years.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::bigquery::HOST;
use super::cores::Cores;
use crate::ca::TestCa;
use crate::process::{Process, free_port};
use crate::trouble::{Doing as _, Result};

/// It starts in tenths of a second.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// Where Debian's package puts it; `/usr/sbin` is not on everybody's path.
const PROGRAM: &str = "/usr/sbin/haproxy";

/// A running HAProxy.
#[derive(Debug)]
pub(crate) struct HaProxy {
    process: Process,
    address: SocketAddr,
}

/// The program, where it is installed.
pub(crate) fn find() -> Option<PathBuf> {
    Some(PathBuf::from(PROGRAM)).filter(|program| program.is_file())
}

impl HaProxy {
    /// Starts it on `cores` before `upstream`, with certificates of `ca`.
    ///
    /// # Errors
    /// It doesn't get ready.
    pub(crate) async fn start(
        program: &Path,
        cores: &Cores,
        folder: &Path,
        ca: &TestCa,
        upstream: SocketAddr,
    ) -> Result<Self> {
        let address = free_port()?;
        let leaf = ca.leaf(&[HOST])?;
        let read = |path: &Path| fs::read_to_string(path).doing(format!("reading {}", path.display()));
        let (pem, config) = (folder.join("haproxy.pem"), folder.join("haproxy.cfg"));
        let write =
            |path: &Path, text: String| fs::write(path, text).doing(format!("writing {}", path.display()));
        write(&pem, read(&leaf.certificate)? + &read(&leaf.key)?)?;
        write(&config, settings(address, &pem, upstream, &ca.path(), cores.count()?))?;
        let under = cores.under();
        let mut command = Command::new(under[0]);
        command.args(&under[1..]).arg(program).arg("-db").arg("-f").arg(&config);
        let mut process = Process::start("haproxy", &mut command, folder)?;
        process
            .until("open port", READY_LIMIT, || async { tokio::net::TcpStream::connect(address).await.ok() })
            .await?;
        Ok(Self { process, address })
    }

    /// Where clients reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

fn settings(address: SocketAddr, pem: &Path, upstream: SocketAddr, ca: &Path, threads: usize) -> String {
    let (pem, ca) = (pem.display(), ca.display());
    format!(
        "global\n  nbthread {threads}\n  maxconn 4096\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 120s\n  timeout server 120s\n  http-reuse always\n\
         frontend agents\n  bind {address} ssl crt {pem} alpn http/1.1\n  default_backend bigquery\n\
         backend bigquery\n  server upstream {upstream} ssl verify required ca-file {ca} sni str({HOST}) alpn http/1.1\n"
    )
}
