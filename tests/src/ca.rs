//! A throw-away certificate authority: for the front, which plays Google, and for the recorder.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;

use crate::trouble::{Doing as _, Result};

/// A certificate authority with a fresh key.
#[derive(Debug)]
pub struct TestCa {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its chain, and its key: two PEM files.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Leaf, then the authority.
    pub certificate: PathBuf,
    /// PKCS #8.
    pub key: PathBuf,
}

impl TestCa {
    /// Makes one; its files, and those of its leaves, lie in `folder`.
    ///
    /// # Errors
    /// When the key or the files can't be made.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().doing("making the key of a test CA")?;
        let certificate = params.self_signed(&key).doing("signing the certificate of a test CA")?;
        let ca = Self { folder: folder.into(), issuer: Issuer::new(params, key), pem: certificate.pem() };
        std::fs::write(ca.path(), &ca.pem).doing(format!("writing {}", ca.path().display()))?;
        Ok(ca)
    }

    /// The authority's certificate, as a PEM file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for `names` (DNS names, wildcards, IP addresses), valid for servers. The first name names its files.
    ///
    /// # Errors
    /// A name that is none, or files that can't be written.
    pub fn leaf(&self, names: &[&str]) -> Result<Leaf> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let file = |end: &str| self.folder.join(format!("{}.{end}", names[0]));
        let (certificate, key) = (file("crt"), file("key"));
        let mut params =
            CertificateParams::new(names.clone()).doing(format!("a certificate for {names:?}"))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true; // Python 3.13 refuses a chain without it
        let pair = KeyPair::generate().doing("making a key")?;
        let signed = params.signed_by(&pair, &self.issuer).doing("signing a certificate")?;
        std::fs::write(&certificate, signed.pem() + &self.pem).doing("writing a certificate")?;
        std::fs::write(&key, pair.serialize_pem()).doing("writing a key")?;
        Ok(Leaf { certificate, key })
    }

    /// A TLS server for `names` that speaks HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// As [`TestCa::leaf`].
    pub fn server(&self, names: &[&str]) -> Result<ServerConfig> {
        let leaf = self.leaf(names)?;
        runtime::tls::server_config(&leaf.certificate, &leaf.key).doing("setting up a TLS server")
    }
}
