//! Access tokens of the stand-ins: JWTs, so that whoever gets one can tell whose it is, and whether it is one at all.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::identity::{Cluster, Jwks};
use crate::trouble::Result;

/// What the credential must be good for at BigQuery.
pub const BIGQUERY_SCOPE: &str = "https://www.googleapis.com/auth/bigquery";

/// What a federated token must be good for to act as a service account.
pub const IAM_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Who issues them.
const ISSUER: &str = "https://accounts.google.test";

/// Whom they are for.
const AUDIENCE: &str = "https://www.googleapis.com/";

/// Signs access tokens, and knows its own. Clones share the key.
#[derive(Clone, Debug)]
pub struct Tokens {
    key: Arc<Cluster>,
    public: Jwks,
}

/// Whom a good token is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// A service account's e-mail address, or a `principal://`.
    pub principal: String,
    /// What it is good for.
    pub scope: String,
}

/// Why a token is none: said to the one who sent it, as Google does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl Tokens {
    pub(super) fn new() -> Result<Self> {
        let key = Cluster::new(ISSUER)?;
        Ok(Self { public: key.jwks(), key: Arc::new(key) })
    }

    /// A token of `principal` that lives so long. Its `email` is what the emulator takes for the user.
    ///
    /// # Errors
    /// Never with a key that was just made.
    pub fn issue(&self, principal: &str, scope: &str, lifetime: Duration) -> Result<String> {
        let now = Timestamp::now().as_second();
        let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        self.key.sign(&json!({
            "iss": ISSUER, "aud": [AUDIENCE], "sub": principal, "email": principal, "scope": scope,
            "iat": now, "exp": now.saturating_add(lifetime), "jti": Uuid::now_v7(),
        }))
    }

    /// Whose token these headers carry, if it is one of ours that is still good, and the only one.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn bearer(&self, headers: &HeaderMap) -> std::result::Result<Bearer, Refused> {
        let refused = |why: &str| Refused(why.to_owned());
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or_else(|| refused("no credential"))?;
        if values.next().is_some() {
            return Err(refused("two credentials"));
        }
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| refused("not a bearer token"))?;
        let claims = self.public.verify(token, ISSUER, AUDIENCE).map_err(Refused)?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        match (text("sub"), text("scope")) {
            (Some(principal), Some(scope)) => Ok(Bearer { principal, scope }),
            _ => Err(refused("a token without subject or scope")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(tokens: &Tokens, value: &str) -> std::result::Result<Bearer, Refused> {
        tokens.bearer(&HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]))
    }

    #[test]
    fn only_its_own_are_taken() {
        let (tokens, others) = (Tokens::new().unwrap(), Tokens::new().unwrap());
        let hour = Duration::from_secs(3600);
        let good = tokens.issue("a@b", BIGQUERY_SCOPE, hour).unwrap();
        assert_eq!(of(&tokens, &format!("Bearer {good}")).unwrap().principal, "a@b");
        let forged = others.issue("a@b", BIGQUERY_SCOPE, hour).unwrap();
        let mut parts = good.split('.');
        let (_, claims) = (parts.next(), parts.next().unwrap());
        let none = format!("eyJhbGciOiJub25lIn0.{claims}.");
        for bad in [forged, none, "ya29.x".into(), "bqwitness-placeholder-x".into()] {
            assert!(of(&tokens, &format!("Bearer {bad}")).is_err(), "{bad}");
        }
        assert!(of(&tokens, &good).is_err());
        let expired = tokens.issue("a@b", BIGQUERY_SCOPE, Duration::ZERO).unwrap();
        assert!(of(&tokens, &format!("Bearer {expired}")).is_err());
    }
}
