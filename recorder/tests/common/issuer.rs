//! An issuer of tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{AUDIENCE, ISSUER};

/// Signs tokens as a cluster does.
pub struct Issuer {
    key: rcgen::KeyPair,
    key_id: String,
}

impl Issuer {
    pub fn new() -> Self {
        Self::with_key_id("k1")
    }

    pub fn with_key_id(id: &str) -> Self {
        Self { key: rcgen::KeyPair::generate().unwrap(), key_id: id.into() }
    }

    pub fn jwks(&self) -> String {
        let point = self.key.public_key_raw();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.key_id,
            "x": part(&point[1..33]), "y": part(&point[33..65])}]})
        .to_string()
    }

    /// The claims of a good token for a pod of `namespace`/`account`.
    pub fn claims(namespace: &str, account: &str) -> Value {
        let now = Timestamp::now().as_second();
        json!({
            "iss": ISSUER, "aud": [AUDIENCE], "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "iat": now, "nbf": now, "exp": now + 3600,
            "kubernetes.io": {
                "namespace": namespace,
                "node": {"name": "node-1", "uid": "n"},
                "pod": {"name": format!("{account}-0"), "uid": format!("uid-of-{account}-0")},
                "serviceaccount": {"name": account, "uid": "s"},
            },
        })
    }

    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.key_id.clone());
        self.sign_with(&header, claims)
    }

    pub fn sign_with(&self, header: &Header, claims: &Value) -> String {
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(header, claims, &key).unwrap()
    }

    pub fn token(&self, namespace: &str, account: &str) -> String {
        self.sign(&Self::claims(namespace, account))
    }
}
