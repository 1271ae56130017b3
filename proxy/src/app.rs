//! Wires everything: from settings to a running sidecar, and from a signal to its end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deliver::{Deliver, DeliverSettings, Delivery, FOLLOW_EVERY, NotRecorded};
use ledger::digest::Digest;
use ledger::statement::SessionStart;
use moka::sync::Cache;
use prometheus::{IntGauge, Registry};
use runtime::drain::{self, Drain};
use runtime::listen::is_no_ipv6;
use runtime::readiness::{Readiness, Wait};
use runtime::tls::TlsError;
use rustls_pki_types::CertificateDer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::body_memory::BodyMemory;
use crate::ca::{Ca, CaError};
use crate::config::{Config, Egress, Results};
use crate::files::{self, Readers};
use crate::forward::Forwarder;
use crate::identity::Identity;
use crate::joins::Joins;
use crate::limits;
use crate::listen::{alias, connect, redirect};
use crate::metadata;
use crate::metadata::env_file::{self, Ways};
use crate::metrics::Metrics;
use crate::names::Names;
use crate::trust_store::{self, StoreError};

/// What every connection needs.
#[derive(Debug)]
pub struct Proxy {
    /// The sidecar's CA and its leaves.
    pub ca: Ca,
    /// Where the agents' certificate bundle lies.
    pub bundle: PathBuf,
    /// What becomes of connections to other hosts.
    pub egress: Egress,
    /// What the record holds of answers.
    pub results: Results,
    /// How names become addresses.
    pub names: Names,
    /// The session.
    pub deliver: Deliver,
    /// The pod's Google identity.
    pub identity: Identity,
    /// The way to BigQuery.
    pub forwarder: Forwarder,
    /// Memory for bodies that decide.
    pub body_memory: BodyMemory,
    /// Room for connections, by all ways in.
    pub room: Arc<Semaphore>,
    /// What joins requests with their jobs.
    pub joins: Arc<Joins>,
    /// What an SRE sees.
    pub metrics: Metrics,
    /// Names and alerts of failed handshakes that were logged.
    pub distrusted: Cache<(String, &'static str), ()>,
}

/// Names and alerts that are remembered as logged; the oldest is logged again when it comes back.
const MAX_DISTRUSTED: u64 = 1024;

/// At the end, connections have this long to be cut off.
const CUT_OFF: Duration = Duration::from_secs(2);

/// At the end, the recorder has this long to take what is left.
const LAST_DELIVERY: Duration = Duration::from_secs(10);

/// The sidecar can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No CA, or no bundle.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// No trust store for Java.
    #[error(transparent)]
    TrustStore(#[from] StoreError),
    /// No public roots for the bundle, or no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address that can't be listened on.
    #[error("can't listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The port file, or the file of variables, can't be written.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// No random numbers.
    #[error("the system has no random numbers")]
    Random,
    /// BigQuery's name leads elsewhere.
    #[error(transparent)]
    NotAliased(#[from] alias::NotAliased),
    /// Two metrics of one name: a mistake in the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A sidecar that runs.
#[derive(Debug)]
pub struct Running {
    /// Where agents reach it.
    pub listen: SocketAddr,
    /// Where redirected connections arrive; none when there is no such way in.
    pub redirect: Vec<SocketAddr>,
    /// Where agents ask for a credential; none when they bring their own.
    pub metadata: Option<SocketAddr>,
    /// Where metrics and readiness are.
    pub admin: SocketAddr,
    /// What it still waits for.
    pub readiness: Readiness,
    deliver: Deliver,
    delivery: Delivery,
    drain: Drain,
    drain_timeout: Duration,
    /// Ends the connections that the drain left open.
    cut: Drain,
    open_calls: IntGauge,
}

/// Starts a sidecar: CA and bundle, session, admin server, listener.
///
/// # Errors
/// [`StartError`]
pub async fn start(config: Config) -> Result<Running, StartError> {
    let readiness = Readiness::default();
    let (listening, acknowledged) = (readiness.wait_for("listener"), readiness.wait_for("recorder"));
    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    let ca = Ca::open(&config.ca_dir)?;
    let roots = public_roots()?;
    ca.write_bundle(&config.bundle, &roots)?;
    let trusted: Vec<_> = std::iter::once(ca.certificate().clone()).chain(roots).collect();
    trust_store::write(&trust_store::beside(&config.bundle), &trusted)?;
    let (admin, admin_listener) = bind(config.admin).await?;
    let (listen, listener) = bind(config.listen).await?;
    let redirected = bind_all(&config.redirect_listen).await?;
    let aliased = bind_all(&config.alias_listen).await?;
    let aliases: Vec<_> = aliased.iter().map(|(address, _)| *address).collect();
    alias::check(&aliases).await?;
    let metadata_bound = match config.metadata_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let metadata = metadata_bound.as_ref().map(|(address, _)| *address);
    let redirect: Vec<_> = redirected.iter().map(|(address, _)| *address).collect();
    let forwarder = Forwarder::new(config.upstream_roots, config.names.clone())?;
    let settings = DeliverSettings {
        recorder: config.recorder,
        connection: Some(config.connection),
        deliver_timeout: config.deliver_timeout,
        progress: config.progress,
        follow_every: FOLLOW_EVERY,
        start: session_start(config.digest),
    };
    let (deliver, delivery) = Deliver::start(settings, &registry)?;
    let project = config.identity.project.clone();
    let identity =
        Identity::start(config.identity, &config.names, config.deliver_timeout, &readiness, &registry)?;
    let proxy = Arc::new(Proxy {
        ca,
        bundle: config.bundle,
        egress: config.egress,
        results: config.results,
        names: config.names,
        deliver: deliver.clone(),
        identity,
        forwarder,
        body_memory: BodyMemory::default(),
        joins: Arc::new(Joins::new(runtime::tls::provider().secure_random).map_err(|_| StartError::Random)?),
        room: Arc::new(Semaphore::new(limits::MAX_CONNECTIONS)),
        metrics,
        distrusted: Cache::new(MAX_DISTRUSTED),
    });
    let (drain, watch) = drain::channel();
    tokio::spawn(runtime::admin::serve(admin_listener, registry, readiness.clone()));
    tokio::spawn(acknowledge(deliver.clone(), acknowledged));
    tokio::spawn(deliver.clone().heartbeats(watch.clone()));
    tokio::spawn(deliver.clone().progress());
    tokio::spawn(deliver.clone().readiness(readiness.clone()));
    let (cut, uncut) = drain::channel();
    let open_calls = proxy.metrics.open_calls.clone();
    for (_, listener) in redirected {
        tokio::spawn(redirect::listen(Arc::clone(&proxy), listener, watch.clone(), uncut.clone()));
    }
    for (_, listener) in aliased {
        tokio::spawn(alias::listen(Arc::clone(&proxy), listener, watch.clone(), uncut.clone()));
    }
    if let Some((_, listener)) = metadata_bound {
        tokio::spawn(metadata::listen(Arc::clone(&proxy), listener, watch.clone(), uncut.clone()));
    }
    tokio::spawn(connect::listen(Arc::clone(&proxy), listener, watch, uncut));
    drop(listening);
    if let Some(path) = config.env_file {
        let ways = Ways { listen, metadata, bundle: &proxy.bundle, project: project.as_deref() };
        env_file::write(&path, ways).map_err(|error| StartError::File(path, error))?;
    }
    if let Some(path) = config.port_file {
        let ports = json!({"listen": listen, "redirect": redirect, "metadata": metadata, "admin": admin});
        let written = files::replace(&path, ports.to_string().as_bytes(), Readers::Everyone);
        written.map_err(|error| StartError::File(path, error))?;
    }
    tracing::info!(%listen, ?redirect, ?aliases, ?metadata, %admin, credential = proxy.identity.name(), session = %deliver.session(), "listening");
    let drain_timeout = config.drain_timeout;
    Ok(Running {
        listen,
        redirect,
        metadata,
        admin,
        readiness,
        deliver,
        delivery,
        drain,
        drain_timeout,
        cut,
        open_calls,
    })
}

impl Running {
    /// Waits until the recorder has closed the session: then this process can record nothing more, and should make room for
    /// a new one.
    pub async fn over(&self) -> NotRecorded {
        self.delivery.over().await
    }

    /// Ends in order: no new connections, calls in progress have their time, then the session's last statement. False when
    /// the recorder did not take all of it.
    pub async fn stop(self, reason: &str) -> bool {
        if !self.drain.run(self.drain_timeout).await {
            let open = self.open_calls.get();
            tracing::warn!(open, limit = ?self.drain_timeout, "calls were still open at the end of the drain");
        }
        cut_off(self.cut, &self.open_calls).await;
        self.deliver.end(reason);
        self.delivery.finish(LAST_DELIVERY).await
    }
}

/// Ends every connection, and waits until the calls on them have their outcomes: those that were open are `aborted`.
async fn cut_off(cut: Drain, open_calls: &IntGauge) {
    let deadline = tokio::time::Instant::now() + CUT_OFF;
    let mut all = cut.run(CUT_OFF).await;
    while all && open_calls.get() > 0 {
        // Streams of HTTP/2 are tasks of their own, which hear of the end a moment after their connection.
        tokio::time::sleep(Duration::from_millis(5)).await;
        all = tokio::time::Instant::now() < deadline;
    }
    if !all {
        tracing::warn!(open = open_calls.get(), "calls are left without an outcome");
    }
}

/// A session that the recorder does not take at the start is followed by another: then this looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Ready when the recorder has a session's first statements.
async fn acknowledge(deliver: Deliver, waiting: Wait) {
    while let Err(error) = deliver.flushed().await {
        tracing::error!(category = error.category(), %error, "the recorder does not take this session");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    tracing::info!(session = %deliver.session(), "the recorder has acknowledged the session");
    drop(waiting);
}

async fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let failed = |error| StartError::Listen(address, error);
    let listener = runtime::listen::bind(address).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

async fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<(SocketAddr, TcpListener)>, StartError> {
    let mut bound = Vec::with_capacity(addresses.len());
    for address in addresses {
        match bind(*address).await {
            // Nothing leads to an address that is not there: the rules were tried (`redirect::install`), and an alias fails.
            Err(StartError::Listen(_, error))
                if is_no_ipv6(&error) && address.is_ipv6() && !bound.is_empty() =>
            {
                tracing::info!(%address, "this pod has no IPv6");
            }
            done => bound.push(done?),
        }
    }
    Ok(bound)
}

fn public_roots() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() { Err(TlsError::NoSystemRoots) } else { Ok(found) }
}

fn session_start(config: Digest) -> SessionStart {
    // Absent outside Linux.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    SessionStart {
        version: runtime::VERSION.into(),
        config_digest: Some(config),
        boot: boot.map(|boot| boot.trim().to_owned()),
        heartbeat_seconds: 0, // deliver knows
        previous: None,
    }
}
