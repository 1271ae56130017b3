//! A cluster's identity: its key set, and service account tokens as the Kubernetes API server signs them for a projected
//! volume ("Bound service account tokens": RS256, bound to a pod and its node).

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ledger::digest::Digest;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::trouble::{Doing as _, Result};

/// How long a token is good for. The API server's own default is an hour, and the kubelet renews it long before.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// A cluster that signs tokens.
pub struct Cluster {
    issuer: String,
    key: EncodingKey,
    public: Jwk,
}

/// A cluster's public keys, as whoever trusts it has them.
#[derive(Clone, Debug)]
pub struct Jwks(JwkSet);

impl Jwks {
    /// A key set as `/openid/v1/jwks` has it.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map(Self).doing("reading a key set")
    }

    /// The claims of a token that one of these keys has signed (RS256, and nothing else), of this issuer, for this audience, in
    /// its time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, token: &str, issuer: &str, audience: &str) -> std::result::Result<Value, String> {
        self.verify_at(token, issuer, audience, 0)
    }

    /// The same by a clock that is so many seconds ahead of this machine's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify_at(
        &self,
        token: &str,
        issuer: &str,
        audience: &str,
        ahead: i64,
    ) -> std::result::Result<Value, String> {
        let said = |error: jsonwebtoken::errors::Error| error.to_string();
        let kid = jsonwebtoken::decode_header(token).map_err(said)?.kid.ok_or("no kid")?;
        let key = self.0.find(&kid).ok_or("unknown key")?;
        let key = DecodingKey::from_jwk(key).map_err(said)?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        (validation.validate_exp, validation.validate_nbf) = (false, false); // by the given clock, below
        let claims = jsonwebtoken::decode::<Value>(token, &key, &validation).map_err(said)?.claims;
        let now = Timestamp::now().as_second() + ahead;
        let time = |name: &str| claims.get(name).and_then(Value::as_i64);
        match (time("exp"), time("nbf")) {
            (Some(exp), _) if exp <= now => Err("the token has expired".into()),
            (_, Some(nbf)) if nbf > now => Err("the token is not valid yet".into()),
            (None, _) => Err("the token never expires".into()),
            _ => Ok(claims),
        }
    }
}

/// A pod, as its token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: Uuid,
}

impl Pod {
    /// The first pod of a workload named like its service account, with a fresh UID.
    #[must_use]
    pub fn of(namespace: &str, service_account: &str) -> Self {
        Self {
            namespace: namespace.into(),
            service_account: service_account.into(),
            name: format!("{service_account}-0"),
            uid: Uuid::now_v7(),
        }
    }

    /// `namespace/service-account`, as `bqwitness search --agent` takes it.
    #[must_use]
    pub fn agent(&self) -> String {
        format!("{}/{}", self.namespace, self.service_account)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster with a fresh RSA key of 2,048 bits.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn new(issuer: &str) -> Result<Self> {
        let pair =
            KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).doing("making a cluster's key")?;
        let key =
            EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).doing("reading a cluster's key")?;
        let mut public = Jwk::from_encoding_key(&key, Algorithm::RS256).doing("a cluster's public key")?;
        // As the API server names its keys: the SHA-256 of the public key's DER.
        let kid = URL_SAFE_NO_PAD.encode(Digest::of(&pair.subject_public_key_info()).0);
        public.common.key_id = Some(kid);
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { issuer: issuer.into(), key, public })
    }

    /// The `iss` of its tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its public keys.
    #[must_use]
    pub fn jwks(&self) -> Jwks {
        Jwks(JwkSet { keys: vec![self.public.clone()] })
    }

    /// The same issuer with another key, as after a rotation; whoever has only the old one's public half refuses its tokens.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn rotated(&self) -> Result<Self> {
        Self::new(&self.issuer)
    }

    /// Writes its public keys, as `/openid/v1/jwks` has them.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_jwks(&self, path: &Path) -> Result<()> {
        let set = JwkSet { keys: vec![self.public.clone()] };
        let text = serde_json::to_vec(&set).doing("a key set as JSON")?;
        std::fs::write(path, text).doing(format!("writing {}", path.display()))
    }

    /// Claims of a good token of `pod` for `audience`, from now on. A test that wants a bad one changes them.
    #[must_use]
    pub fn claims(&self, pod: &Pod, audience: &str) -> Value {
        let now = Timestamp::now().as_second();
        let lifetime = i64::try_from(TOKEN_LIFETIME.as_secs()).expect("an hour");
        json!({
            "aud": [audience],
            "exp": now + lifetime,
            "iat": now,
            "iss": self.issuer,
            "jti": Uuid::now_v7(),
            "kubernetes.io": {
                "namespace": pod.namespace,
                "node": { "name": "node-1", "uid": Uuid::from_u128(1) },
                "pod": { "name": pod.name, "uid": pod.uid },
                "serviceaccount": { "name": pod.service_account, "uid": Uuid::from_u128(2) },
            },
            "nbf": now,
            "sub": format!("system:serviceaccount:{}:{}", pod.namespace, pod.service_account),
        })
    }

    /// Signs claims.
    ///
    /// # Errors
    /// Never with the key that [`Cluster::new`] makes.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let header = Header {
            alg: Algorithm::RS256,
            kid: self.public.common.key_id.clone(),
            typ: None,
            ..Header::default()
        };
        jsonwebtoken::encode(&header, claims, &self.key).doing("signing a token")
    }

    /// Writes a token of `pod` for `audience` into a file that only its owner can read.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_token(&self, pod: &Pod, audience: &str, path: &Path) -> Result<()> {
        let token = self.sign(&self.claims(pod, audience))?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(token.as_bytes()))
            .doing(format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_verified_with_the_key_set_and_names_its_pod() {
        let folder = tempfile::tempdir().unwrap();
        let (jwks, token) = (folder.path().join("jwks.json"), folder.path().join("token"));
        let cluster = Cluster::new("https://kubernetes.default.svc").unwrap();
        let pod = Pod::of("agents", "billing");
        cluster.write_jwks(&jwks).unwrap();
        cluster.write_token(&pod, "bqwitness-recorder", &token).unwrap();
        assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);

        let token = std::fs::read_to_string(&token).unwrap();
        let keys: JwkSet = serde_json::from_slice(&std::fs::read(&jwks).unwrap()).unwrap();
        let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
        let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&["bqwitness-recorder"]);
        validation.set_issuer(&["https://kubernetes.default.svc"]);
        let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;
        assert_eq!(claims["sub"], "system:serviceaccount:agents:billing");
        assert_eq!(claims["kubernetes.io"]["pod"]["uid"], pod.uid.to_string());

        let other = Cluster::new("https://kubernetes.default.svc").unwrap();
        let forged = other.sign(&other.claims(&pod, "bqwitness-recorder")).unwrap();
        assert!(jsonwebtoken::decode::<Value>(&forged, &key, &validation).is_err());
    }
}
