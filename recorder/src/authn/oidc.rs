//! An OpenID Connect issuer whose users may read: what its tokens must have, and whom they name.

use std::collections::BTreeMap;

use serde_json::Value;

use super::verifier::{Identity, User, bad_token};
use crate::error::Refusal;

/// Names and groups that begin so are a cluster's own: no issuer may give them.
const RESERVED: &str = "system:";

/// Groups of one token that are looked at; those beyond them count for nothing.
pub const MAX_GROUPS: usize = 1024;

/// What the recorder demands of an issuer's token, and whom it takes its bearer for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The recorder's name for it, as entries of reads have it; or the cluster whose role bindings count for its users.
    pub name: String,
    /// `iss`
    pub issuer: String,
    /// One of `aud`
    pub audience: String,
    /// The claim that names the user.
    pub user_claim: String,
    /// The claim that lists the user's groups.
    pub groups_claim: String,
    /// Before each user's name.
    pub user_prefix: String,
    /// Before each group's.
    pub groups_prefix: String,
}

impl Issuer {
    /// Whom these claims, which were verified, are of.
    ///
    /// # Errors
    /// They name nobody.
    pub(super) fn identify(&self, claims: &Value) -> Result<Identity, Refusal> {
        let name = claims[&self.user_claim].as_str().filter(|name| !name.is_empty());
        let name = name
            .ok_or_else(|| bad_token("the token does not name a user, in the claim that the settings say"))?;
        // An address that nobody has verified is what anybody may say.
        let unverified = self.user_claim == "email" && claims["email_verified"] == Value::Bool(false);
        let name = format!("{}{name}", self.user_prefix);
        if unverified || name.starts_with(RESERVED) {
            return Err(bad_token("the issuer may not give the token's user this name"));
        }
        let user = User {
            cluster: self.name.clone(),
            name,
            uid: String::new(),
            groups: self.groups(&claims[&self.groups_claim]),
            extra: BTreeMap::new(),
        };
        Ok(Identity::of_user(user, claims["exp"].as_i64().unwrap_or_default()))
    }

    /// One group, or a list.
    fn groups(&self, claim: &Value) -> Vec<String> {
        let one = claim.as_str().into_iter();
        let several = claim.as_array().into_iter().flatten().filter_map(Value::as_str);
        let named = one.chain(several).take(MAX_GROUPS).map(|group| format!("{}{group}", self.groups_prefix));
        let authenticated = "system:authenticated".to_owned();
        named.filter(|group| !group.starts_with(RESERVED)).chain([authenticated]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn issuer() -> Issuer {
        Issuer {
            name: "acme".into(),
            issuer: "https://login.acme.example".into(),
            audience: "bqwitness".into(),
            user_claim: "email".into(),
            groups_claim: "groups".into(),
            user_prefix: String::new(),
            groups_prefix: "acme:".into(),
        }
    }

    #[test]
    fn claims_name_a_user() {
        let claims = json!({"email": "analyst-a@acme.example", "email_verified": true, "groups": ["audit", 7, "sales"], "exp": 5});
        let identity = issuer().identify(&claims).expect("good");
        let user = identity.user();
        assert_eq!((user.cluster.as_str(), user.reader().as_str()), ("acme", "user:analyst-a@acme.example"));
        assert_eq!(user.groups, ["acme:audit", "acme:sales", "system:authenticated"]);
        let alone = issuer().identify(&json!({"email": "a", "groups": "audit"})).expect("good");
        assert_eq!(alone.user().groups, ["acme:audit", "system:authenticated"]);
    }

    #[test]
    fn nobody_becomes_the_cluster() {
        let plain = Issuer { user_claim: "sub".into(), groups_prefix: String::new(), ..issuer() };
        for bad in [
            json!({}),
            json!({"sub": ""}),
            json!({"sub": ["analyst-a"]}),
            json!({"sub": "system:serviceaccount:audit:auditor"}),
        ] {
            assert_eq!(plain.identify(&bad).expect_err("bad").category(), "bad_token", "{bad}");
        }
        let unverified = json!({"email": "analyst-a@acme.example", "email_verified": false});
        assert!(issuer().identify(&unverified).is_err());
        let claims = json!({"sub": "x", "groups": ["system:masters", "audit"]});
        assert_eq!(plain.identify(&claims).expect("good").user().groups, ["audit", "system:authenticated"]);
    }
}
