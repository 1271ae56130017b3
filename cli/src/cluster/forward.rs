//! A way to the recorder's pod through the API server, as `kubectl port-forward` makes one: a local port, each of whose
//! connections is a stream to the pod. What is said on it is TLS with the recorder itself.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::api::Portforwarder;
use kube::{Api, Client};
use tokio::net::{TcpListener, TcpStream};

use crate::error::CliError;

/// Namespace and pod behind a Service's name, `SERVICE.NAMESPACE.svc`. A log has one writer: the first pod of the StatefulSet that
/// has the Service's name. So nobody must be allowed to list pods who only wants to read the record.
pub(super) fn pod_of(host: &str) -> Option<(String, String)> {
    let host = host.strip_suffix(".cluster.local").unwrap_or(host);
    let (service, namespace) = host.strip_suffix(".svc")?.split_once('.')?;
    let label = |name: &str| !name.is_empty() && !name.contains('.');
    (label(service) && label(namespace)).then(|| (namespace.to_owned(), format!("{service}-0")))
}

/// Opens it. The first stream is there when this returns: whoever may not have one is told so now.
pub(super) async fn open(
    client: Client,
    namespace: String,
    pod: String,
    port: u16,
) -> Result<SocketAddr, CliError> {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let failed = |error: &dyn std::fmt::Display| CliError::Forward {
        pod: format!("{namespace}/{pod}"),
        error: error.to_string(),
    };
    let first = pods.portforward(&pod, &[port]).await.map_err(|error| failed(&error))?;
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| failed(&error))?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    tokio::spawn(serve(listener, pods, pod, port, first));
    Ok(address)
}

async fn serve(listener: TcpListener, pods: Api<Pod>, pod: String, port: u16, first: Portforwarder) {
    let mut first = Some(first);
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let forwarder = match first.take() {
            Some(first) => Ok(first),
            None => pods.portforward(&pod, &[port]).await,
        };
        // Without one the connection is closed, and the request on it fails.
        if let Ok(forwarder) = forwarder {
            tokio::spawn(copy(stream, forwarder, port));
        }
    }
}

async fn copy(mut stream: TcpStream, mut forwarder: Portforwarder, port: u16) {
    if let Some(mut pod) = forwarder.take_stream(port) {
        // How it ended is for those to say who speak TLS on it.
        let _ended = tokio::io::copy_bidirectional(&mut stream, &mut pod).await.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_name_says_its_pod() {
        let pod = Some(("bqwitness".to_owned(), "bqwitness-recorder-0".to_owned()));
        assert_eq!(pod_of("bqwitness-recorder.bqwitness.svc"), pod);
        assert_eq!(pod_of("bqwitness-recorder.bqwitness.svc.cluster.local"), pod);
        for other in ["recorder.example.com", "svc", ".svc", "a.b.c.svc", "a..svc", "10.0.0.1"] {
            assert_eq!(pod_of(other), None, "{other}");
        }
    }
}
