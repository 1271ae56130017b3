//! Who may read what by the settings alone, where no API server is asked.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::scope::{Right, Scope, Within};
use crate::authn::verifier::User;

/// To some users and groups of one issuer, or of one cluster: something to read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// The recorder's name for whoever vouches for them: an issuer's, or a cluster's.
    of: String,
    #[serde(default)]
    users: BTreeSet<String>,
    #[serde(default)]
    groups: BTreeSet<String>,
    /// The whole log.
    #[serde(default)]
    everything: bool,
    /// Or of this cluster all, or these namespaces.
    #[serde(default)]
    cluster: Option<String>,
    #[serde(default)]
    namespaces: Option<BTreeSet<String>>,
    /// May it also be taken out?
    #[serde(default)]
    exports: bool,
}

impl Grant {
    /// What is wrong with it.
    ///
    /// # Errors
    /// It says nothing, or two things.
    pub fn check(&self) -> Result<(), String> {
        if self.users.is_empty() && self.groups.is_empty() {
            return Err("a grant names users or groups".into());
        }
        match (self.everything, &self.cluster, &self.namespaces) {
            (true, None, None) | (false, Some(_), _) => Ok(()),
            (true, ..) => Err("a grant is of everything, or of a cluster's namespaces".into()),
            (false, None, _) => {
                Err("a grant says everything, or a cluster and perhaps namespaces of it".into())
            }
        }
    }

    /// Is it for this user?
    fn is_for(&self, user: &User) -> bool {
        let named =
            self.users.contains(&user.name) || user.groups.iter().any(|group| self.groups.contains(group));
        named && self.of == user.cluster
    }

    fn scope(&self) -> Scope {
        let Some(cluster) = self.cluster.as_ref().filter(|_| !self.everything) else {
            return Scope::Everything;
        };
        let within = self.namespaces.clone().map_or(Within::All, Within::Namespaces);
        Scope::Of([(cluster.clone(), within)].into())
    }
}

/// What the grants let this user do, in one namespace or in all.
#[must_use]
pub fn granted(grants: &[Grant], user: &User, right: Right, namespace: Option<&str>) -> Scope {
    let theirs =
        grants.iter().filter(|grant| grant.is_for(user) && (right != Right::Export || grant.exports));
    let scope = theirs.map(Grant::scope).fold(Scope::Of([].into()), Scope::or);
    match namespace {
        Some(namespace) => scope.only(namespace),
        None => scope,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(of: &str, name: &str, groups: &[&str]) -> User {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        User { cluster: of.into(), name: name.into(), groups, ..User::default() }
    }

    #[test]
    fn grants_add_up_and_are_an_issuers_own() {
        let grants: Vec<Grant> = serde_json::from_str(
            r#"[{"of": "acme", "groups": ["sales"], "cluster": "prod", "namespaces": ["sales"], "exports": true},
                {"of": "acme", "users": ["analyst-a"], "cluster": "eu"},
                {"of": "acme", "users": ["root"], "everything": true}]"#,
        )
        .expect("grants");
        assert!(grants.iter().all(|grant| grant.check().is_ok()));
        let may = |user: &User, right, namespace| granted(&grants, user, right, namespace);
        let sales = Scope::namespaces("prod", ["sales".to_owned()]);
        let all_of_eu = Scope::Of([("eu".to_owned(), Within::All)].into());
        let both = user("acme", "analyst-a", &["sales"]);
        assert_eq!(may(&both, Right::List, None), sales.clone().or(all_of_eu));
        assert_eq!(may(&both, Right::Export, None), sales, "exports are granted by themselves");
        assert!(may(&both, Right::Export, Some("agents")).is_empty());
        assert_eq!(may(&user("acme", "root", &[]), Right::Get, None), Scope::Everything);
        for nobody in
            [user("other", "root", &["sales"]), user("acme", "analyst-b", &["Sales"]), user("acme", "", &[])]
        {
            assert!(may(&nobody, Right::List, None).is_empty(), "{nobody:?}");
        }
    }

    #[test]
    fn what_says_nothing_is_a_mistake() {
        for bad in [
            r#"{"of": "acme", "everything": true}"#,
            r#"{"of": "acme", "users": ["a"]}"#,
            r#"{"of": "acme", "users": ["a"], "namespaces": ["b"]}"#,
            r#"{"of": "acme", "users": ["a"], "everything": true, "cluster": "b"}"#,
        ] {
            let grant: Grant = serde_json::from_str(bad).expect("a grant");
            assert!(grant.check().is_err(), "{bad}");
        }
    }
}
