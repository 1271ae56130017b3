//! The sidecar's certificate authority: made at the first start, limited to Google's API names, and the leaves that clients
//! are shown, one for exactly each name.
//!
//! The key never leaves the CA directory, which only the sidecar mounts. It survives a restart of the container, because
//! clients load their roots once.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use moka::sync::Cache;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::files::{self, Readers};

/// The domains that the CA may speak for: a critical name constraint, which every client but Java enforces. A stolen key
/// is worth nothing elsewhere.
pub const PERMITTED: [&str; 3] = ["googleapis.com", "clients6.google.com", "metadata.google.internal"];

/// How long a CA is valid. It lives as long as its pod's tmpfs, which should be shorter.
const CA_LIFE: Duration = Duration::from_secs(5 * 365 * 24 * 3600);

/// A CA that ends sooner than this is replaced at the next start.
const CA_LEFT: Duration = Duration::from_secs(90 * 24 * 3600);

/// How long a leaf is valid.
const LEAF_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a leaf is used; then a new one is minted.
const LEAF_USE: Duration = Duration::from_secs(24 * 3600);

/// Certificates begin this long before now, for clients whose clock is behind.
const BACKDATE: Duration = Duration::from_secs(3600);

/// Names whose leaves are kept. The longest unused is dropped, and minted again when it is asked for (0.2 ms).
const MAX_LEAVES: u64 = 256;

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";

/// The sidecar's CA, with the TLS settings for each name that it has minted a leaf for.
#[derive(Debug)]
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    leaves: Cache<String, Arc<ServerConfig>>,
}

/// The CA can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the CA directory, or the bundle.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A certificate can't be made.
    #[error("a certificate can't be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// rustls does not take the leaf.
    #[error("a leaf can't be served: {0}")]
    Tls(#[from] rustls::Error),
    /// Not a name that [`PERMITTED`] covers.
    #[error("{0:?} is not a name that this CA may speak for")]
    NotPermitted(String),
}

impl CaError {
    /// The fixed name of this error.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::File { .. } => "ca_file",
            Self::Certificate(_) | Self::Tls(_) => "leaf_failed",
            Self::NotPermitted(_) => "name_not_permitted",
        }
    }
}

impl Ca {
    /// The CA of `dir`: the one that is there when it is whole, ours, and valid for long enough, else a new one.
    ///
    /// # Errors
    /// When the directory can't be written, or no certificate can be made.
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        if let Some(ca) = Self::read(dir)? {
            tracing::info!(dir = %dir.display(), "the CA of an earlier start is used again");
            return Ok(ca);
        }
        let ca = Self::create(dir)?;
        tracing::info!(dir = %dir.display(), "a new CA was made");
        Ok(ca)
    }

    fn create(dir: &Path) -> Result<Self, CaError> {
        let key = KeyPair::generate()?;
        let params = ca_params();
        let certificate = params.self_signed(&key)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| CaError::File { path: dir.into(), error })?;
        // The certificate last: a directory without one has no CA, whatever else lies in it.
        write(&dir.join(KEY_FILE), key.serialize_pem().as_bytes(), Readers::Owner)?;
        write(&dir.join(CERTIFICATE_FILE), certificate.pem().as_bytes(), Readers::Everyone)?;
        Ok(Self::new(Issuer::new(params, key), certificate.der().clone()))
    }

    /// `None` when there is none, or one that a new one should replace.
    fn read(dir: &Path) -> Result<Option<Self>, CaError> {
        let Some(pem) = read(&dir.join(CERTIFICATE_FILE))? else { return Ok(None) };
        let Some(key) = read(&dir.join(KEY_FILE))? else { return Ok(None) };
        let (Ok(certificate), Ok(key)) =
            (CertificateDer::from_pem_slice(pem.as_bytes()), KeyPair::from_pem(&key))
        else {
            return Ok(None);
        };
        if !is_usable(&certificate, &key) {
            return Ok(None);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Some(Self::new(issuer, certificate)))
    }

    fn new(issuer: Issuer<'static, KeyPair>, certificate: CertificateDer<'static>) -> Self {
        let leaves = Cache::builder().max_capacity(MAX_LEAVES).time_to_live(LEAF_USE).build();
        Self { issuer, certificate, leaves }
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Writes what agents must trust, in one file: `public_roots` and this CA.
    ///
    /// # Errors
    /// When the file can't be written; what was there stays.
    pub fn write_bundle(&self, path: &Path, public_roots: &[CertificateDer<'_>]) -> Result<(), CaError> {
        let mut bundle = String::from("# The sidecar's CA for Google's APIs, then the public roots.\n");
        for certificate in std::iter::once(&self.certificate).chain(public_roots) {
            push_pem(&mut bundle, certificate);
        }
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir).map_err(|error| CaError::File { path: dir.into(), error })?;
        }
        write(path, bundle.as_bytes(), Readers::Everyone)
    }

    /// TLS settings with a leaf for exactly `name` (lower case, no trailing dot).
    ///
    /// # Errors
    /// [`CaError::NotPermitted`], or when no leaf can be made.
    pub fn server_config(&self, name: &str) -> Result<Arc<ServerConfig>, CaError> {
        if !is_permitted(name) {
            return Err(CaError::NotPermitted(name.into()));
        }
        if let Some(config) = self.leaves.get(name) {
            return Ok(config);
        }
        let config = Arc::new(self.mint(name)?);
        self.leaves.insert(name.into(), Arc::clone(&config));
        Ok(config)
    }

    fn mint(&self, name: &str) -> Result<ServerConfig, CaError> {
        let key = KeyPair::generate()?;
        let leaf = leaf_params(name)?.signed_by(&key, &self.issuer)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(runtime::tls::provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn is_permitted(name: &str) -> bool {
    PERMITTED
        .iter()
        .any(|domain| name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "bqwitness sidecar CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: PERMITTED
            .iter()
            .map(|domain| GeneralSubtree::DnsName((*domain).into()))
            .collect(),
        excluded_subtrees: Vec::new(),
    });
    (params.not_before, params.not_after) = validity(CA_LIFE, |time| time.into());
    params
}

fn leaf_params(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "bqwitness sidecar");
    params.use_authority_key_identifier_extension = true; // Python 3.13 and later refuse a leaf without it
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = validity(LEAF_LIFE, |time| time.into());
    Ok(params)
}

fn validity<T>(life: Duration, convert: impl Fn(SystemTime) -> T) -> (T, T) {
    let now = SystemTime::now();
    (convert(now - BACKDATE), convert(now + life))
}

/// Is this certificate of this key, valid for a while, and limited as we limit it today?
fn is_usable(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let left = parsed.validity().time_to_expiration().and_then(|left| Duration::try_from(left).ok());
    let lasts = left.is_some_and(|left| left >= CA_LEFT);
    let same_key = *parsed.public_key().subject_public_key.data == *key.public_key_raw();
    same_key && lasts && permitted_by(&parsed) == PERMITTED.map(str::to_owned)
}

fn permitted_by(certificate: &X509Certificate<'_>) -> Vec<String> {
    let constraints = certificate.name_constraints().ok().flatten();
    let subtrees = constraints.and_then(|constraints| constraints.value.permitted_subtrees.as_ref());
    let names = subtrees.into_iter().flatten().map(|subtree| match subtree.base {
        GeneralName::DNSName(name) => name.to_owned(),
        _ => String::new(),
    });
    names.collect()
}

/// Characters of base64 in a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

fn push_pem(text: &mut String, certificate: &CertificateDer<'_>) {
    let encoded = BASE64.encode(certificate);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
}

fn write(path: &Path, content: &[u8], readers: Readers) -> Result<(), CaError> {
    files::replace(path, content, readers).map_err(|error| CaError::File { path: path.into(), error })
}

fn read(path: &Path) -> Result<Option<String>, CaError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CaError::File { path: path.into(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls_pki_types::{ServerName, UnixTime};
    use std::os::unix::fs::PermissionsExt as _;
    use x509_parser::extensions::ParsedExtension;

    fn ca() -> (tempfile::TempDir, Ca) {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = Ca::open(dir.path()).expect("a CA");
        (dir, ca)
    }

    fn leaf(ca: &Ca, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        leaf_params(name).expect("a name").signed_by(&key, &ca.issuer).expect("a leaf").der().clone()
    }

    fn accepts(ca: &Ca, leaf: &CertificateDer<'_>, name: &'static str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate().clone()).expect("a root");
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), runtime::tls::provider()).build();
        let name = ServerName::try_from(name).expect("a name");
        verifier.expect("roots").verify_server_cert(leaf, &[], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn leaves_are_accepted_for_their_name_alone() {
        let (_dir, ca) = ca();
        let bigquery = leaf(&ca, "bigquery.us-central1.rep.googleapis.com");
        assert!(accepts(&ca, &bigquery, "bigquery.us-central1.rep.googleapis.com"));
        assert!(!accepts(&ca, &bigquery, "bigquery.googleapis.com"));
        assert!(!accepts(&ca, &leaf(&ca, "example.com"), "example.com"), "the name constraint holds");
        assert!(!accepts(&ca, &leaf(&ca, "evilgoogleapis.com"), "evilgoogleapis.com"));
        assert!(ca.server_config("bigquery.googleapis.com").is_ok());
        for name in ["example.com", "evilgoogleapis.com", "googleapis.com.example", ""] {
            assert!(matches!(ca.server_config(name), Err(CaError::NotPermitted(_))), "{name}");
        }
    }

    #[test]
    fn certificates_have_what_strict_clients_ask_for() {
        let (_dir, ca) = ca();
        let leaf = leaf(&ca, "bigquery.googleapis.com");
        let (_, leaf) = X509Certificate::from_der(&leaf).expect("DER");
        let (_, root) = X509Certificate::from_der(ca.certificate()).expect("DER");
        let has = |certificate: &X509Certificate<'_>,
                   wanted: fn(&ParsedExtension<'_>) -> bool,
                   critical: bool| {
            certificate.extensions().iter().any(|e| wanted(e.parsed_extension()) && e.critical == critical)
        };
        assert!(has(&root, |e| matches!(e, ParsedExtension::KeyUsage(_)), true));
        assert!(has(&root, |e| matches!(e, ParsedExtension::NameConstraints(_)), true));
        assert!(has(&root, |e| matches!(e, ParsedExtension::BasicConstraints(_)), true));
        assert!(has(&root, |e| matches!(e, ParsedExtension::SubjectKeyIdentifier(_)), false));
        assert!(has(&leaf, |e| matches!(e, ParsedExtension::AuthorityKeyIdentifier(_)), false));
        assert!(has(
            &leaf,
            |e| matches!(e, ParsedExtension::ExtendedKeyUsage(eku) if eku.server_auth),
            false
        ));
        assert!(has(&leaf, |e| matches!(e, ParsedExtension::SubjectAlternativeName(_)), false));
    }

    #[test]
    fn a_leaf_is_minted_once() {
        let (_dir, ca) = ca();
        let (one, two) =
            (ca.server_config("bigquery.googleapis.com"), ca.server_config("bigquery.googleapis.com"));
        assert!(Arc::ptr_eq(&one.expect("a leaf"), &two.expect("a leaf")));
    }

    #[test]
    fn the_next_start_uses_the_same_ca_unless_it_is_broken() {
        let (dir, ca) = ca();
        let mode =
            |file: &str| dir.path().join(file).metadata().expect("written").permissions().mode() & 0o777;
        assert_eq!((mode(KEY_FILE), mode(CERTIFICATE_FILE)), (0o600, 0o644));
        let again = Ca::open(dir.path()).expect("the same");
        assert_eq!(again.certificate(), ca.certificate());
        assert!(accepts(&ca, &leaf(&again, "bigquery.googleapis.com"), "bigquery.googleapis.com"));

        let other = KeyPair::generate().expect("a key");
        fs::write(dir.path().join(KEY_FILE), other.serialize_pem()).expect("written");
        let replaced = Ca::open(dir.path()).expect("a new one");
        assert_ne!(replaced.certificate(), ca.certificate(), "a key that is not the certificate's is no CA");
        fs::write(dir.path().join(CERTIFICATE_FILE), "torn").expect("written");
        assert_ne!(Ca::open(dir.path()).expect("a new one").certificate(), replaced.certificate());
    }

    #[test]
    fn a_ca_that_ends_soon_or_is_not_limited_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = KeyPair::generate().expect("a key");
        let store = |params: CertificateParams| {
            fs::write(dir.path().join(KEY_FILE), key.serialize_pem()).expect("written");
            let certificate = params.self_signed(&key).expect("a CA");
            fs::write(dir.path().join(CERTIFICATE_FILE), certificate.pem()).expect("written");
            Ca::read(dir.path()).expect("readable").is_some()
        };
        assert!(store(ca_params()), "the control");
        let mut ending = ca_params();
        (ending.not_before, ending.not_after) = validity(Duration::from_secs(24 * 3600), |time| time.into());
        assert!(!store(ending));
        let mut unlimited = ca_params();
        unlimited.name_constraints = None;
        assert!(!store(unlimited));
    }

    #[test]
    fn the_bundle_has_the_public_roots_and_the_ca() {
        let (dir, ca) = ca();
        let other =
            Ca::new(Issuer::new(ca_params(), KeyPair::generate().expect("a key")), ca.certificate().clone());
        let path = dir.path().join("bundle.pem");
        ca.write_bundle(&path, &[other.certificate().clone()]).expect("written");
        let read = runtime::tls::read_certificates(&path).expect("PEM");
        assert_eq!(read, [ca.certificate().clone(), other.certificate().clone()]);
        assert_eq!(path.metadata().expect("written").permissions().mode() & 0o777, 0o644);
    }
}
