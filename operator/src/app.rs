//! Wires everything: from settings to a running operator, and from a signal to its end.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use connection::{BigQueryConnection, inject, names};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::runtime::events::{Recorder as Events, Reporter};
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt as _};
use prometheus::Registry;
use runtime::drain::{self, Drain, Watch};
use runtime::readiness::Readiness;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::certificate::InForce;
use crate::certificate::keeper::{Keeper, Stored};
use crate::config::Config;
use crate::configurations::{Wanted, Writer};
use crate::controller::{Asked, Controller};
use crate::entries::diary::Diary;
use crate::entries::probes::Probes;
use crate::entries::speaker::{Speaker, SpeakerSettings};
use crate::lead::Candidate;
use crate::metrics::Metrics;
use crate::watch::{self as watching, Changes, Seen};
use crate::webhook::{Webhook, server};

/// At the end, reviews under way have this long.
const DRAIN: Duration = Duration::from_secs(10);

/// At the end, who leads has this long to give the record what it still has.
const HAND_OVER: Duration = Duration::from_secs(7);

/// The webhook configurations are written anew this often, whatever others did to them.
const CONFIGURE_EVERY: Duration = Duration::from_secs(60);

/// After a failure they are written again this soon.
const CONFIGURE_AGAIN: Duration = Duration::from_secs(2);

/// API servers watch the configurations, and go by them a moment after they are written. A pod that is created in that moment gets
/// no sidecar, so nobody is told before that new ones do.
const HEARD: Duration = Duration::from_secs(2);

/// The operator can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No API server, or no permission.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// The CRD is not there.
    #[error("BigQueryConnections are unknown here ({0}): install the CRD first, kubectl apply -f crds/")]
    NoCrd(kube::Error),
    /// No way to the API server is known.
    #[error("no API server is known ({0}): run in a cluster, or set KUBECONFIG")]
    NoConfig(#[from] kube::config::InferConfigError),
    /// An address that can't be listened on.
    #[error("can't listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The port file can't be written.
    #[error("{0}: {1}")]
    PortFile(PathBuf, io::Error),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// Two metrics of one name: a mistake in the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// An operator that runs.
pub struct Running {
    drain: Drain,
    candidate: Arc<Candidate>,
    leading: Drain,
    lost: tokio::task::JoinHandle<()>,
}

/// What the parts share.
struct Parts {
    client: Client,
    config: Config,
    connections: Store<BigQueryConnection>,
    changes: Changes,
    configure: watch::Sender<u64>,
    bundle: watch::Receiver<Option<Arc<str>>>,
    asked: Asked,
    metrics: Metrics,
    diary: Diary,
    registry: Registry,
}

/// Starts an operator: the webhook at once, and the controllers when it leads.
///
/// # Errors
/// [`StartError`]
pub async fn start(config: Config) -> Result<Running, StartError> {
    let readiness = Readiness::default();
    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    let client = Client::try_from(kube::Config::infer().await?)?;
    let operator = who_am_i(&client).await?;
    let all: Api<BigQueryConnection> = Api::all(client.clone());
    all.list(&kube::api::ListParams::default().limit(1)).await.map_err(StartError::NoCrd)?;

    let (admin, admin_listener) = bind(config.admin).await?;
    let (listen, listener) = bind(config.listen).await?;
    tokio::spawn(runtime::admin::serve(admin_listener, registry.clone(), readiness.clone()));

    let (changes, (configure, _)) = (Changes::default(), watch::channel(0));
    let diary = Diary::new(metrics.clone());
    let connections = watch_connections(all, &changes, &configure, &diary, &metrics);
    let synced = readiness.wait_for("connections");
    let watched = connections.clone();
    tokio::spawn(async move {
        if watching::synced(&watched).await {
            drop(synced);
        } else {
            std::mem::forget(synced); // never ready: the watch is gone
        }
    });

    let in_force = InForce::default();
    let (bundle, bundle_known) = watch::channel(None);
    let keeper = Keeper {
        stored: Stored {
            secrets: Api::namespaced(client.clone(), &config.namespace),
            name: config.secret.clone(),
        },
        names: config.place.names(),
        in_force: in_force.clone(),
        bundle,
        metrics: metrics.clone(),
    };
    tokio::spawn(keeper.keep(readiness.wait_for("certificate")));

    let (drain, draining) = drain::channel();
    let webhook = Webhook {
        connections: connections.clone(),
        settings: Arc::new(config.settings.clone()),
        operator: operator.into(),
        metrics: metrics.clone(),
    };
    let router = unsynced_refused(webhook.router(), readiness.clone());
    tokio::spawn(server::serve(listener, in_force.acceptor()?, router, draining));
    if let Some(path) = &config.port_file {
        let ports = json!({"listen": listen, "admin": admin}).to_string();
        std::fs::write(path, ports).map_err(|error| StartError::PortFile(path.clone(), error))?;
    }
    tracing::info!(%listen, %admin, "listening");

    let candidate = Arc::new(Candidate {
        leases: Api::namespaced(client.clone(), &config.namespace),
        name: config.lease.clone(),
        identity: config.pod_name.clone(),
    });
    let asked = Asked::default();
    let parts = Parts {
        client,
        config,
        connections,
        changes,
        configure,
        bundle: bundle_known,
        asked,
        metrics,
        diary,
        registry,
    };
    let (leading, ending) = drain::channel();
    let lost = tokio::spawn(lead(Arc::clone(&candidate), parts, ending));
    Ok(Running { drain, candidate, leading, lost })
}

impl Running {
    /// Waits until this replica led and no longer does. It should then end, and begin anew as a candidate.
    pub async fn lost(&mut self) {
        // An error is a panic of the controllers: the same to do.
        let _ended = (&mut self.lost).await.is_err();
    }

    /// Ends in order: the session ends, then the lease is given back, and reviews under way are answered.
    pub async fn stop(self) {
        if !self.leading.run(HAND_OVER).await {
            tracing::warn!(limit = ?HAND_OVER, "the record has not taken all");
        }
        self.lost.abort();
        self.candidate.release().await;
        if !self.drain.run(DRAIN).await {
            tracing::warn!(limit = ?DRAIN, "reviews were still open at the end");
        }
    }
}

/// Until the watch is synced nothing is known of connections, and "no connection" would be a guess.
fn unsynced_refused(router: axum::Router, readiness: Readiness) -> axum::Router {
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    router.layer(axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
        let unsynced = readiness.waiting().contains(&"connections");
        async move {
            if unsynced {
                let why = "the operator has not yet read all BigQueryConnections; try again in a moment\n";
                return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
            }
            next.run(request).await
        }
    }))
}

fn watch_connections(
    all: Api<BigQueryConnection>,
    changes: &Changes,
    configure: &watch::Sender<u64>,
    diary: &Diary,
    metrics: &Metrics,
) -> Store<BigQueryConnection> {
    let (changes, configure, diary) = (changes.clone(), configure.clone(), diary.clone());
    watching::all(all, "bigqueryconnections", metrics.clone(), move |seen| {
        match seen {
            Seen::There(connection) => diary.connection(connection),
            Seen::Gone(connection) => diary.connection_gone(connection),
            Seen::Listed => {}
        }
        changes.mark(&seen.namespace());
        configure.send_modify(|changed| *changed += 1);
    })
}

/// The operator's user, whom the webhook lets change its own objects.
async fn who_am_i(client: &Client) -> Result<String, StartError> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = answer.status.and_then(|status| status.user_info).and_then(|user| user.username);
    Ok(user.unwrap_or_default())
}

/// Leads, as long as it may.
async fn lead(candidate: Arc<Candidate>, parts: Parts, mut ending: Watch) {
    tokio::select! {
        () = candidate.acquire() => {}
        () = ending.draining() => return,
    }
    tracing::info!(identity = candidate.identity, "leading");
    parts.metrics.leader.set(1);
    parts.diary.lead();
    let leader = parts.metrics.leader.clone();
    let pods: Api<Pod> = Api::all(parts.client.clone());
    let changes = parts.changes.clone();
    let pods = watching::all(pods, "pods", parts.metrics.clone(), move |seen| {
        changes.mark(&seen.namespace());
    });
    let probes = Probes::default();
    tokio::spawn(probes.clone().keep(parts.connections.clone(), parts.changes.clone()));
    let reporter =
        Reporter { controller: names::OPERATOR.into(), instance: Some(candidate.identity.clone()) };
    let controller = Controller {
        client: parts.client.clone(),
        connections: parts.connections.clone(),
        pods: pods.clone(),
        changes: parts.changes.clone(),
        settings: Arc::new(parts.config.settings.clone()),
        recorder: parts.config.recorder.clone(),
        asked: parts.asked.clone(),
        diary: parts.diary.clone(),
        probes: probes.clone(),
        events: Events::new(parts.client.clone(), reporter),
        metrics: parts.metrics.clone(),
        last: HashMap::new(),
        counted: BTreeSet::new(),
    };
    let speaker = Speaker {
        diary: parts.diary.clone(),
        changes: parts.changes.clone(),
        settings: SpeakerSettings {
            url: parts.config.settings.recorder.clone(),
            files: parts.config.recorder.clone(),
            token: parts.config.recorder_token.clone(),
        },
        registry: parts.registry.clone(),
    };
    let connections = parts.connections.clone();
    let namespaces =
        move || connections.state().iter().filter_map(|connection| connection.namespace()).collect();
    let controllers = async move {
        // Pods that are not known yet would be counted as gone.
        let _synced = watching::synced(&pods).await;
        controller.run().await;
    };
    tokio::select! {
        () = candidate.hold() => tracing::error!(identity = candidate.identity, "no longer leading"),
        () = controllers => tracing::error!("the controllers ended"),
        () = speaker.run(ending, namespaces) => tracing::info!("the operator's session has ended"),
        () = configure(parts) => tracing::error!("the webhook configurations are no longer kept"),
    }
    leader.set(0);
}

/// Keeps the webhook configurations as they should be.
async fn configure(mut parts: Parts) {
    let writer = Writer {
        client: parts.client.clone(),
        name: parts.config.webhooks.clone(),
        owner: parts.config.owner.clone(),
    };
    let _synced = watching::synced(&parts.connections).await;
    let mut changed = parts.configure.subscribe();
    loop {
        changed.mark_unchanged();
        let pause = match wanted(&mut parts) {
            None => CONFIGURE_AGAIN, // no certificate yet
            Some(wanted) => match writer.write(&wanted).await {
                Ok(()) => {
                    tokio::spawn(heard(parts.asked.clone(), parts.changes.clone(), wanted.namespaces));
                    CONFIGURE_EVERY
                }
                Err(error) => {
                    parts.asked.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
                    parts.metrics.failed("webhooks");
                    tracing::warn!("the webhook configurations are tried again: {error}");
                    CONFIGURE_AGAIN
                }
            },
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // An error means that the certificate's keeper is gone; the sleep goes on.
            Ok(()) = parts.bundle.changed() => {}
            Ok(()) = changed.changed() => {}
        }
    }
}

/// Says that the webhook is asked about these namespaces, when API servers have heard of it.
async fn heard(asked: Asked, changes: Changes, namespaces: BTreeSet<String>) {
    tokio::time::sleep(HEARD).await;
    let mut asked = asked.write().unwrap_or_else(PoisonError::into_inner);
    let before = asked.replace(namespaces.clone()).unwrap_or_default();
    namespaces.difference(&before).for_each(|namespace| changes.mark(namespace));
}

fn wanted(parts: &mut Parts) -> Option<Wanted> {
    let bundle = parts.bundle.borrow_and_update().clone()?;
    let connections = parts.connections.state();
    let settings = &parts.config.settings;
    let mut audiences = BTreeSet::from([settings.audience.clone()]);
    for connection in &connections {
        audiences.extend(inject::secret_audiences(connection, settings).into_iter().map(str::to_owned));
    }
    let namespaces = connections.iter().filter_map(|connection| connection.namespace()).collect();
    Some(Wanted { place: parts.config.place.clone(), bundle, namespaces, audiences })
}

/// A wildcard address for both families becomes IPv4's where the machine has no IPv6.
async fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let failed = |error| StartError::Listen(address, error);
    let listener = runtime::listen::bind(address).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use tower_service::Service as _;

    #[tokio::test]
    async fn until_the_connections_are_known_no_review_is_answered() {
        let readiness = Readiness::default();
        let (synced, certificate) = (readiness.wait_for("connections"), readiness.wait_for("certificate"));
        let router = axum::Router::new().route("/mutate-pods", axum::routing::post(|| async { "answered" }));
        let mut router = unsynced_refused(router, readiness);
        let mut ask = async || {
            let request = Request::post("/mutate-pods").body(Body::empty()).unwrap();
            let answer = router.call(request).await.unwrap();
            let status = answer.status().as_u16();
            let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        let (status, said) = ask().await;
        assert!(status == 503 && said.contains("try again"), "{said}");
        drop(synced);
        assert_eq!(ask().await, (200, "answered".to_owned()), "what else is waited for makes no difference");
        drop(certificate);
    }
}
