//! Which connection, generation and version a pod was injected with: the annotation for people, and the sidecar's arguments,
//! which nobody can change once the pod exists.

use std::fmt::{self, Display, Formatter};

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;

use crate::digest::spec_digest;
use crate::names;
use crate::resource::BigQueryConnection;

/// What a pod was injected with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// UID of the connection; empty where the injector had none, as in `bqwitness inject`.
    pub uid: String,
    /// Generation of its spec.
    pub generation: i64,
    /// SHA-256 of its spec.
    pub digest: String,
    /// The sidecar's image.
    pub image: String,
}

const UID: &str = "--connection-uid=";
const GENERATION: &str = "--connection-generation=";
const DIGEST: &str = "--connection-digest=";

impl Stamp {
    /// What a pod that is created now gets.
    #[must_use]
    pub fn of_connection(connection: &BigQueryConnection, image: &str) -> Self {
        Self {
            uid: connection.uid().unwrap_or_default(),
            generation: connection.metadata.generation.unwrap_or(0),
            digest: spec_digest(&connection.spec).to_string(),
            image: image.into(),
        }
    }

    /// What a pod has; `None` when it has no sidecar of ours.
    #[must_use]
    pub fn of_pod(pod: &Pod) -> Option<Self> {
        let sidecar = sidecar(pod)?;
        let value = |flag: &str| {
            let mut arguments = sidecar.args.iter().flatten();
            arguments.find_map(|argument| argument.strip_prefix(flag)).unwrap_or_default().to_owned()
        };
        Some(Self {
            uid: value(UID),
            generation: value(GENERATION).parse().unwrap_or(0),
            digest: value(DIGEST),
            image: sidecar.image.clone().unwrap_or_default(),
        })
    }

    /// As the sidecar is told. Outside a cluster there is only a digest.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Self { uid, generation, digest, image: _ } = self;
        let mut arguments = vec![format!("{DIGEST}{digest}")];
        if !uid.is_empty() {
            arguments.extend([format!("{UID}{uid}"), format!("{GENERATION}{generation}")]);
        }
        arguments
    }
}

impl Display for Stamp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { uid, generation, digest, image: _ } = self;
        write!(f, "version={} uid={uid} generation={generation} spec={digest}", env!("CARGO_PKG_VERSION"))
    }
}

/// The sidecar of a pod.
#[must_use]
pub fn sidecar(pod: &Pod) -> Option<&Container> {
    let spec = pod.spec.as_ref()?;
    let sidecar = spec.init_containers.iter().flatten().find(|container| container.name == names::PROXY)?;
    (sidecar.restart_policy.as_deref() == Some("Always")).then_some(sidecar)
}
