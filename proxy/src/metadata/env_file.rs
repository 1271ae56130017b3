//! The variables that an agent needs where its connections are not redirected: the way to the sidecar, its metadata server,
//! and the certificates to trust. One `NAME=value` a line, as Kubernetes, systemd and `set -a; . FILE` read it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::files::{self, Readers};

/// Variables that name the metadata server: Python wants the first two, Node either, `bq` the third, Go and Java the first.
const METADATA: [&str; 3] = ["GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"];

/// Variables that name the way out; gRPC reads the lower-case spelling only.
const PROXY: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];

/// Variables that name what does not go there.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Variables that name a file of roots, one for each family of clients: gcloud and bq, Python over REST, gRPC, Node, Go and
/// OpenSSL, curl.
const ROOTS: [&str; 6] = [
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "REQUESTS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
];

/// Variables with which clients stay with tokens and connections that the sidecar can read: no probing for a metadata server,
/// no client certificates, no certificate-bound tokens, no direct path.
const FIXED: [(&str, &str); 5] = [
    ("METADATA_SERVER_DETECTION", "assume-present"),
    ("GCE_METADATA_MTLS_MODE", "none"),
    ("GOOGLE_API_USE_CLIENT_CERTIFICATE", "false"),
    ("GOOGLE_API_PREVENT_AGENT_TOKEN_SHARING_FOR_GCP_SERVICES", "false"),
    ("GOOGLE_CLOUD_DISABLE_DIRECT_PATH", "true"),
];

/// What the file says.
#[derive(Clone, Copy, Debug)]
pub struct Ways<'a> {
    /// Where agents ask for tunnels.
    pub listen: SocketAddr,
    /// The sidecar's metadata server; none when agents bring their own credentials.
    pub metadata: Option<SocketAddr>,
    /// The certificates to trust.
    pub bundle: &'a Path,
    /// The agents' project.
    pub project: Option<&'a str>,
}

/// Writes the file.
///
/// # Errors
/// The system's.
pub fn write(path: &Path, ways: Ways<'_>) -> io::Result<()> {
    files::replace(path, variables(ways).as_bytes(), Readers::Everyone)
}

fn variables(Ways { listen, metadata, bundle, project }: Ways<'_>) -> String {
    let mut lines = Vec::new();
    let mut set = |name: &str, value: &str| lines.push(format!("{name}={value}\n"));
    PROXY.iter().for_each(|name| set(name, &format!("http://{listen}")));
    NO_PROXY
        .iter()
        .for_each(|name| set(name, "localhost,127.0.0.1,::1,169.254.169.254,metadata.google.internal"));
    ROOTS.iter().for_each(|name| set(name, &bundle.display().to_string()));
    if let Some(metadata) = metadata {
        METADATA.iter().for_each(|name| set(name, &metadata.to_string()));
        FIXED.iter().for_each(|(name, value)| set(name, value));
    }
    if let Some(project) = project {
        set("GOOGLE_CLOUD_PROJECT", project);
        set("CLOUDSDK_CORE_PROJECT", project);
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_it_is_a_credential() {
        let ways = Ways {
            listen: "127.0.0.1:15002".parse().unwrap(),
            metadata: Some("127.0.0.1:15003".parse().unwrap()),
            bundle: Path::new("/run/bqwitness/ca.crt"),
            project: Some("acme"),
        };
        let text = variables(ways);
        for line in [
            "GCE_METADATA_HOST=127.0.0.1:15003\n",
            "https_proxy=http://127.0.0.1:15002\n",
            "GOOGLE_CLOUD_PROJECT=acme\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let passthrough = variables(Ways { metadata: None, project: None, ..ways });
        assert!(
            !passthrough.contains("METADATA")
                && passthrough.contains("SSL_CERT_FILE=/run/bqwitness/ca.crt\n")
        );
        // Kubernetes takes quotes for a part of the value, and a shell a space for its end: Java's options don't go in here.
        let values = text.lines().filter_map(|line| line.split_once('='));
        assert!(values.map(|(_, value)| value).all(|value| !value.contains([' ', '"', '\'', '$'])), "{text}");
    }
}
