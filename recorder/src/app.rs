//! Wires the recorder together, and takes it apart again.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ledger::policy::Policy;
use ledger::statement::LogEvent;
use prometheus::Registry;
use runtime::drain::Drain;
use runtime::readiness::Readiness;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::api::certificate::{Certificate, CertificateError};
use crate::api::stall::Patience;
use crate::api::{Api, Witnessed, server};
use crate::authn::Verifier;
use crate::authn::source::KeysError;
use crate::authz::AccessControl;
use crate::config::Config;
use crate::descriptors;
use crate::index::{IndexError, Indexer, Progress, Searcher};
use crate::metrics::{Metrics, RELOAD_CERTIFICATE, RELOAD_KEYS};
use crate::orders::carry_out::Orders;
use crate::reads::Reads;
use crate::sequencer::{Queue, Sequencer};
use crate::store::error::StoreError;
use crate::store::files::{LocalFiles, Lock};
use crate::store::keys::Signer;
use crate::store::publish::Published;
use crate::store::reader::LogReader;
use crate::store::recover::{self, Opened};
use crate::witness::Witnesses;

/// How long a drain waits for requests that are under way.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(15);

/// How long the last words of reads may take.
pub const LAST_WORDS_LIMIT: Duration = Duration::from_secs(10);

/// How long the last writes may take.
pub const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The recorder can't start, or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The log can't be opened or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No search index can be made.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The issuer's keys can't be read.
    #[error("the token issuer's keys (--jwks): {0}")]
    Keys(#[from] KeysError),
    /// Certificate or key can't be used.
    #[error("TLS: {0}")]
    Tls(#[from] CertificateError),
    /// An address can't be listened on.
    #[error("can't listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The port file can't be written.
    #[error("--port-file {0}: {1}")]
    PortFile(String, std::io::Error),
    /// The witnesses' policy can't be used.
    #[error("--witness-policy {0}: {1}")]
    Policy(String, String),
    /// A metric is registered twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The system refuses signal handlers or threads.
    #[error("the system: {0}")]
    System(#[from] std::io::Error),
    /// A thread ended without saying why.
    #[error("the {0} thread panicked. Please report this; nothing acknowledged is lost")]
    Panicked(&'static str),
}

impl AppError {
    /// A fixed word for metrics and logs.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Store(error) => error.category(),
            Self::Index(_) => "index_failed",
            Self::Keys(_) => "bad_keys",
            Self::Tls(_) => "bad_tls",
            Self::Listen(..) => "listen",
            Self::PortFile(..) => "port_file",
            Self::Policy(..) => "bad_policy",
            Self::Metrics(_) => "metrics",
            Self::System(_) => "system",
            Self::Panicked(_) => "panicked",
        }
    }
}

/// A running recorder.
pub struct App {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    drain: Drain,
    /// Ends the waiting of readers.
    ending: watch::Sender<bool>,
    queue: Queue,
    reads: Arc<Reads>,
    sequencer: Worker,
    publisher: Worker,
    indexer: Worker,
    tasks: Vec<JoinHandle<()>>,
    _lock: Lock,
}

impl App {
    /// Opens the log and serves it.
    ///
    /// # Errors
    /// [`AppError`]: what must be put right before it can start.
    pub async fn start(config: Config) -> Result<Self, AppError> {
        descriptors::raise();
        let registry = Registry::new();
        let metrics = Arc::new(Metrics::new(&registry)?);
        let readiness = Readiness::default();
        let (recovering, listening) = (readiness.wait_for("recovery"), readiness.wait_for("listener"));
        let verifier = Arc::new(Verifier::new(config.trusted(), config.issuers.clone()).await?);
        let access = AccessControl::new(&config.trusted(), config.grants.clone())?;
        let certificate = Arc::new(Certificate::read(config.tls_cert.clone(), config.tls_key.clone())?);
        let (admin_listener, admin) = listen(config.admin).await?;
        let mut tasks = vec![tokio::spawn(runtime::admin::serve(admin_listener, registry, readiness))];
        let failures = |what| metrics.reload_failures.with_label_values(&[what]);
        tasks.push(tokio::spawn(verifier.clone().reload(failures(RELOAD_KEYS))));
        tasks.push(tokio::spawn(certificate.clone().reload(failures(RELOAD_CERTIFICATE))));

        let (lock, opened) = open_log(&config, metrics.clone()).await?;
        let Opened { signer, wal, tail, publisher, reader, history, torn_bytes } = opened;
        let start = start_event(history.stopped, tail.size(), torn_bytes);
        let indexer = Indexer::open(&config.data, &signer.first_vkey(), reader.clone(), metrics.clone())?;
        let index = indexer.progress();
        let (ending, ends) = watch::channel(false);
        let searcher = Searcher::new(config.data.clone(), reader.clone(), index.clone(), ends);
        let (sequencer, queue) =
            Sequencer::new(wal, tail.clone(), reader.clone(), history, &config.origin, metrics.clone());
        let mut publisher = Worker::spawn("publisher", move || publisher.run(&tail))?;
        let (begun, beginning) = oneshot::channel();
        let mut sequencer = Worker::spawn("sequencer", move || sequencer.run(start, begun))?;
        until_begun(beginning, [&mut sequencer, &mut publisher]).await?;
        let runtime = Handle::current();
        let indexer = Worker::spawn("indexer", move || {
            indexer.run(&runtime);
            Ok(())
        })?;
        drop(recovering);

        let newest = watch_witnesses(&config, &reader, &metrics, &mut tasks)?;
        let reads = Arc::new(Reads::new(queue.clone()));
        tasks.push(tokio::spawn(reads.clone().watch()));
        let witnessed = Witnessed { newest, wait: config.wait_for_witnesses };
        let api = Arc::new(Api::new(
            (verifier, access),
            (queue.clone(), reads.clone()),
            signer.clone(),
            reader.clone(),
            searcher,
            witnessed,
            metrics.clone(),
        ));
        let (listener, listen) = listen(config.listen).await?;
        let (drain, watch) = runtime::drain::channel();
        tasks.push(tokio::spawn(server::serve(
            listener,
            certificate,
            api.router(),
            watch,
            metrics,
            Patience::default(),
        )));
        if let Some(path) = &config.port_file {
            write_ports(path, listen, admin, &signer)
                .map_err(|error| AppError::PortFile(path.display().to_string(), error))?;
        }
        tasks.push(tokio::spawn(orders(&config, (listen, admin), &queue, &reader, &signer, index).run()));
        drop(listening);
        tracing::info!(%listen, %admin, origin = config.origin, "the recorder is ready");
        Ok(Self {
            listen,
            admin,
            drain,
            ending,
            queue,
            reads,
            sequencer,
            publisher,
            indexer,
            tasks,
            _lock: lock,
        })
    }

    /// Runs until `shutdown` is heard, then stops in order; or until a write fails.
    ///
    /// # Errors
    /// What ended it. Nothing acknowledged is lost.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), AppError> {
        let drain = tokio::select! {
            () = shutdown => true,
            () = self.sequencer.ended() => false,
            () = self.publisher.ended() => false,
        };
        self.finish(drain).await
    }

    /// Takes no more connections, lets requests finish if that makes sense, says goodbye in the log and publishes it.
    async fn finish(self, drain: bool) -> Result<(), AppError> {
        let Self {
            drain: running,
            ending,
            queue,
            reads,
            mut sequencer,
            mut publisher,
            mut indexer,
            tasks,
            ..
        } = self;
        ending.send_replace(true);
        let limit = if drain { DRAIN_LIMIT } else { Duration::ZERO };
        if !running.run(limit).await && drain {
            tracing::warn!("some requests did not finish in time");
        }
        if drain && tokio::time::timeout(LAST_WORDS_LIMIT, reads.close(Duration::ZERO)).await.is_err() {
            tracing::warn!("not every read has its last word in the log");
        }
        let stopping = tokio::task::spawn_blocking(move || queue.stop());
        let ended = async {
            sequencer.ended().await;
            publisher.ended().await;
            indexer.ended().await;
        };
        if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
            tracing::error!("the disk is too slow to stop in order; the next start recovers");
        }
        tasks.iter().for_each(JoinHandle::abort);
        stopping.abort();
        // When one thread fails the other stops: the one that failed knows why.
        let errors = [publisher.error(), sequencer.error()].into_iter().flatten();
        let mut errors = errors.filter(|error| !matches!(error, AppError::Store(StoreError::Stopping)));
        errors.next().map_or(Ok(()), Err)
    }
}

/// A thread that may block, and how it ended.
struct Worker {
    name: &'static str,
    outcome: oneshot::Receiver<Result<(), StoreError>>,
    ended: Option<Result<(), AppError>>,
}

impl Worker {
    fn spawn(
        name: &'static str,
        work: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) -> Result<Self, AppError> {
        let (sender, outcome) = oneshot::channel();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            // An error means that the process does not wait for this thread any more.
            let _unheard = sender.send(work()).is_err();
        })?;
        Ok(Self { name, outcome, ended: None })
    }

    /// Waits until the thread has ended.
    async fn ended(&mut self) {
        if self.ended.is_none() {
            let outcome = (&mut self.outcome).await;
            let panicked = Err(AppError::Panicked(self.name));
            self.ended = Some(outcome.map_or(panicked, |outcome| outcome.map_err(AppError::from)));
        }
    }

    /// Why it ended before its time; `None` while it runs.
    fn error(self) -> Option<AppError> {
        self.ended.and_then(Result::err)
    }
}

/// Waits for the log's word that the recorder runs: a recorder that is ready has a log that can be written.
async fn until_begun(
    beginning: oneshot::Receiver<()>,
    [sequencer, publisher]: [&mut Worker; 2],
) -> Result<(), AppError> {
    if beginning.await.is_ok() {
        return Ok(());
    }
    sequencer.ended().await;
    publisher.ended().await; // nobody writes to the directory when its lock is given back
    Err(sequencer.ended.take().and_then(Result::err).unwrap_or(AppError::Panicked(sequencer.name)))
}

/// Who carries out what is ordered in the data directory.
fn orders(
    config: &Config,
    (listen, admin): (SocketAddr, SocketAddr),
    queue: &Queue,
    reader: &LogReader,
    signer: &Signer,
    index: watch::Receiver<Progress>,
) -> Orders {
    let (port_file, said) = (config.port_file.clone(), signer.clone());
    let keys_changed = move || {
        if let Some(path) = &port_file
            && let Err(error) = write_ports(path, listen, admin, &said)
        {
            tracing::error!(%error, path = %path.display(), "the port file does not say the log's new keys");
        }
    };
    Orders {
        files: reader.files(),
        queue: queue.clone(),
        reader: reader.clone(),
        signer: signer.clone(),
        index,
        keys_changed: Box::new(keys_changed),
    }
}

/// Begins to ask the witnesses, where there are any.
fn watch_witnesses(
    config: &Config,
    reader: &LogReader,
    metrics: &Arc<Metrics>,
    tasks: &mut Vec<JoinHandle<()>>,
) -> Result<watch::Receiver<Option<Published>>, AppError> {
    let Some(file) = &config.witness_policy else { return Ok(watch::channel(None).1) };
    let bad = |what: String| AppError::Policy(file.display().to_string(), what);
    let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
    let policy = Policy::parse(&text).map_err(|error| bad(error.to_string()))?;
    let client = Witnesses::client().map_err(|error| bad(error.to_string()))?;
    let (witnesses, newest) = Witnesses::new(policy, client, reader.clone(), metrics.clone());
    tasks.push(tokio::spawn(witnesses.run()));
    Ok(newest)
}

async fn open_log(config: &Config, metrics: Arc<Metrics>) -> Result<(Lock, Opened), AppError> {
    let (data, origin) = (config.data.clone(), config.origin.clone());
    let opening = tokio::task::spawn_blocking(move || {
        let files = Arc::new(LocalFiles::open(&data)?);
        let lock = Lock::take(&data)?;
        Ok::<_, StoreError>((lock, recover::open(files, &origin, metrics)?))
    });
    Ok(opening.await.map_err(|_| AppError::Panicked("recovery"))??)
}

fn start_event(stopped: Option<bool>, size: u64, torn_bytes: u64) -> LogEvent {
    let recovered = stopped == Some(false);
    if recovered {
        tracing::warn!(size, torn_bytes, "the last run did not end in order; the log is whole");
    }
    LogEvent { stopping: false, version: runtime::VERSION.into(), size, recovered, torn_bytes }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), AppError> {
    let failed = |error| AppError::Listen(address, error);
    let listener = runtime::listen::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Whoever sees the file sees both addresses.
fn write_ports(path: &Path, listen: SocketAddr, admin: SocketAddr, signer: &Signer) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    let (vkey, said) = (signer.keys().verifiers().to_string(), signer.notes());
    let ports = serde_json::json!({ "listen": listen.to_string(), "admin": admin.to_string(), "vkey": vkey,
        "keys": *said });
    writeln!(file, "{ports}")?;
    drop(file);
    std::fs::rename(temporary, path)
}
