//! What the Secret should hold. Pure but for random numbers.
//!
//! A new CA signs nothing at once: it joins the bundle that API servers trust, and the next leaf, days later, is its first. So no
//! API server ever meets a certificate whose CA it has not heard of. The old CA leaves the bundle when it has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long a CA and a leaf are valid. Each is renewed when a third is left.
const CA_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Certificates begin this long before now, for API servers whose clock is behind.
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// Keys of the Secret: as `kubernetes.io/tls` has them, and the CA's.
const LEAF: &str = "tls.crt";
const LEAF_KEY: &str = "tls.key";
const BUNDLE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";

/// What the Secret holds: PEM by key.
pub type Held = BTreeMap<String, Vec<u8>>;

/// Certificates that can be served.
#[derive(Debug)]
pub struct Usable {
    /// The leaf and its key.
    pub leaf: CertifiedKey,
    /// The CAs that API servers should trust, in PEM: the newest first.
    pub bundle: String,
    /// When the leaf ends.
    pub ends: Timestamp,
}

/// No certificate can be made or used.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It can't be made.
    #[error("the certificate can't be made: {0}")]
    Make(#[from] rcgen::Error),
    /// Not PEM.
    #[error("the certificate can't be read: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// Not a pair, or not a certificate.
    #[error("the certificate can't be used: {0}")]
    Use(String),
}

/// What the Secret should hold; `None` when it is as it should be.
///
/// # Errors
/// [`IssueError::Make`]
pub fn renew(held: &Held, names: &[String], now: Timestamp) -> Result<Option<Held>, IssueError> {
    let Some(ca) = Ca::read(held).filter(|ca| now < ca.ends) else {
        let ca = Ca::create(now)?;
        return Ok(Some(ca.hold(&ca.leaf(names, now)?, &ca.certificate)));
    };
    if left(ca.begins, ca.ends, now) {
        let next = Ca::create(now)?;
        let bundle = format!("{}{}", next.certificate, still_valid(held, now));
        return Ok(Some(next.hold(&kept_leaf(held), &bundle)));
    }
    let fresh = leaf_of(held).is_some_and(|leaf| {
        !left(leaf.begins, leaf.ends, now) && leaf.names == names.iter().cloned().collect() && leaf.fits_key
    });
    if fresh {
        return Ok(None);
    }
    let bundle = still_valid(held, now);
    Ok(Some(ca.hold(&ca.leaf(names, now)?, &bundle)))
}

/// Is less than a third left?
fn left(begins: Timestamp, ends: Timestamp, now: Timestamp) -> bool {
    ends.duration_since(now) < ends.duration_since(begins) / 3
}

/// What can be served of it.
///
/// # Errors
/// [`IssueError`]
pub fn usable(held: &Held) -> Result<Usable, IssueError> {
    let chain = CertificateDer::pem_slice_iter(part(held, LEAF)).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(part(held, LEAF_KEY))?;
    let ends = chain.first().and_then(validity).ok_or_else(|| IssueError::Use("no certificate".into()))?.1;
    let provider = runtime::tls::provider();
    let leaf =
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| IssueError::Use(error.to_string()))?;
    Ok(Usable { leaf, bundle: String::from_utf8_lossy(part(held, BUNDLE)).into_owned(), ends })
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    key: String,
    certificate: String,
    begins: Timestamp,
    ends: Timestamp,
}

struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Ca {
    fn create(now: Timestamp) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        // API servers tell CAs of one name apart by their keys; people by when they began.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("bqwitness CA {}", now.strftime("%Y-%m-%d")));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let (begins, ends) = (now - BACKDATE, now + CA_LIFE);
        (params.not_before, params.not_after) = (at(begins).into(), at(ends).into());
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { key: key.serialize_pem(), issuer: Issuer::new(params, key), certificate, begins, ends })
    }

    /// The newest CA of the bundle, if its key is there.
    fn read(held: &Held) -> Option<Self> {
        let certificate = CertificateDer::pem_slice_iter(part(held, BUNDLE)).next()?.ok()?;
        let key = String::from_utf8(part(held, CA_KEY).to_vec()).ok()?;
        let pair = KeyPair::from_pem(&key).ok()?;
        let (begins, ends) = validity(&certificate)?;
        if !is_of(&certificate, &pair) {
            return None;
        }
        let certificate_pem = pem(&certificate);
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).ok()?;
        Some(Self { issuer, key, certificate: certificate_pem, begins, ends })
    }

    fn leaf(&self, names: &[String], now: Timestamp) -> Result<Pair, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name.push(DnType::CommonName, "bqwitness");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let ends = (now + LEAF_LIFE).min(self.ends);
        (params.not_before, params.not_after) = (at(now - BACKDATE).into(), at(ends).into());
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() })
    }

    fn hold(&self, leaf: &Pair, bundle: &str) -> Held {
        Held::from([
            (LEAF.into(), leaf.certificate.clone()),
            (LEAF_KEY.into(), leaf.key.clone()),
            (BUNDLE.into(), bundle.as_bytes().to_vec()),
            (CA_KEY.into(), self.key.clone().into_bytes()),
        ])
    }
}

fn part<'a>(held: &'a Held, key: &str) -> &'a [u8] {
    held.get(key).map(Vec::as_slice).unwrap_or_default()
}

fn kept_leaf(held: &Held) -> Pair {
    Pair { certificate: part(held, LEAF).to_vec(), key: part(held, LEAF_KEY).to_vec() }
}

/// The CAs of the bundle that have not ended.
fn still_valid(held: &Held, now: Timestamp) -> String {
    let all = CertificateDer::pem_slice_iter(part(held, BUNDLE)).filter_map(Result::ok);
    all.filter(|one| validity(one).is_some_and(|(_, ends)| now < ends)).map(|one| pem(&one)).collect()
}

struct Leaf {
    begins: Timestamp,
    ends: Timestamp,
    names: std::collections::BTreeSet<String>,
    fits_key: bool,
}

fn leaf_of(held: &Held) -> Option<Leaf> {
    let certificate = CertificateDer::from_pem_slice(part(held, LEAF)).ok()?;
    let key = KeyPair::from_pem(std::str::from_utf8(part(held, LEAF_KEY)).ok()?).ok()?;
    let (begins, ends) = validity(&certificate)?;
    let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??.value.general_names.iter();
    let names = names.filter_map(|name| match name {
        x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
        x509_parser::extensions::GeneralName::IPAddress([a, b, c, d]) => Some(format!("{a}.{b}.{c}.{d}")),
        _ => None,
    });
    Some(Leaf { begins, ends, names: names.collect(), fits_key: is_of(&certificate, &key) })
}

fn is_of(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| *parsed.public_key().subject_public_key.data == *key.public_key_raw())
}

fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let second = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((second(parsed.validity().not_before)?, second(parsed.validity().not_after)?))
}

fn at(time: Timestamp) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines = encoded.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
    format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["bqwitness-operator.bqwitness.svc".into()]
    }

    fn day(number: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + number * 86_400).unwrap()
    }

    fn trusts(held_by_api_server: &str, leaf: &Usable, now: Timestamp) -> bool {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(held_by_api_server.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = runtime::tls::provider();
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
        let name = names()[0].clone().try_into().unwrap();
        let time =
            rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().unsigned_abs()));
        use rustls::client::danger::ServerCertVerifier as _;
        verifier.verify_server_cert(&leaf.leaf.cert[0], &[], &name, &[], time).is_ok()
    }

    #[test]
    fn nothing_becomes_a_pair_and_stays() {
        let first = renew(&Held::new(), &names(), day(0)).unwrap().expect("there was nothing");
        let served = usable(&first).unwrap();
        assert!(trusts(&served.bundle, &served, day(0)));
        assert_eq!(renew(&first, &names(), day(1)).unwrap(), None);
        assert_eq!(renew(&first, &names(), day(19)).unwrap(), None);
    }

    #[test]
    fn three_years_pass_and_every_connection_is_trusted_by_what_was_heard_before() {
        let mut held = renew(&Held::new(), &names(), day(0)).unwrap().expect("there was nothing");
        let mut heard = usable(&held).unwrap().bundle;
        let (mut leaves, mut bundles) = (0, 0);
        for number in 0..3 * 365 {
            if let Some(next) = renew(&held, &names(), day(number)).unwrap() {
                leaves += usize::from(next["tls.crt"] != held["tls.crt"]);
                held = next;
                // An API server that has not heard of it yet still meets a leaf that it trusts.
                assert!(trusts(&heard, &usable(&held).unwrap(), day(number)), "day {number}");
            }
            let served = usable(&held).unwrap();
            bundles += usize::from(served.bundle != heard);
            heard = served.bundle.clone();
            assert!(trusts(&heard, &served, day(number)), "day {number}");
            assert!(day(number) < served.ends);
        }
        assert!((40..70).contains(&leaves), "{leaves}");
        assert!((4..12).contains(&bundles), "{bundles}");
    }

    #[test]
    fn other_names_and_a_damaged_secret_are_repaired() {
        let first = renew(&Held::new(), &names(), day(0)).unwrap().expect("there was nothing");
        let other = vec!["elsewhere.svc".to_owned()];
        let renamed = renew(&first, &other, day(1)).unwrap().expect("the names differ");
        assert_eq!(renamed["ca.crt"], first["ca.crt"]);
        for key in ["tls.crt", "tls.key", "ca.crt", "ca.key"] {
            let mut damaged = first.clone();
            damaged.insert(key.into(), b"garbage".to_vec());
            let repaired =
                renew(&damaged, &names(), day(1)).unwrap().unwrap_or_else(|| panic!("{key} is damaged"));
            let served = usable(&repaired).unwrap();
            assert!(trusts(&served.bundle, &served, day(1)), "{key}");
        }
    }
}
