//! What must be true of a row, as SQL: conditions and their values, in the order of the question marks.

use rusqlite::types::Value;

use super::IndexError;
use crate::authz::{Scope, Within};

/// Conditions on the rows of a table, all of which must hold.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    table: &'static str,
    texts: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    pub(super) fn on(table: &'static str) -> Self {
        Self { table, texts: Vec::new(), values: Vec::new() }
    }

    /// A condition without a value.
    pub(super) fn hold(&mut self, text: &str) {
        self.texts.push(text.into());
    }

    /// A condition with one question mark.
    pub(super) fn add(&mut self, text: &str, value: impl Into<Value>) {
        self.texts.push(text.into());
        self.values.push(value.into());
    }

    /// A condition with two question marks for one value.
    pub(super) fn add_twice(&mut self, text: &str, value: &str) {
        self.texts.push(text.into());
        self.values.extend([value.to_owned().into(), value.to_owned().into()]);
    }

    pub(super) fn equal(&mut self, column: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.add(&format!("{}.{column} = ?", self.table), value.clone());
        }
    }

    /// What a reader may see. `sidecars` is what must hold of a row that is in a readable namespace, besides that.
    pub(super) fn scope(&mut self, scope: &Scope, sidecars: &str) {
        let Scope::Of(clusters) = scope else { return };
        let table = self.table;
        let mut seen = Vec::new();
        for (cluster, within) in clusters {
            let of_cluster = format!("{table}.cluster = ?");
            match within {
                Within::All => {
                    seen.push(of_cluster);
                    self.values.push(cluster.clone().into());
                }
                Within::Namespaces(names) if names.is_empty() => {}
                Within::Namespaces(names) => {
                    let marks = vec!["?"; names.len()].join(", ");
                    seen.push(format!("({of_cluster} AND {table}.namespace IN ({marks}) AND {sidecars})"));
                    self.values.push(cluster.clone().into());
                    self.values.extend(names.iter().cloned().map(Value::from));
                }
            }
        }
        self.texts.push(if seen.is_empty() { "FALSE".into() } else { format!("({})", seen.join(" OR ")) });
    }

    /// `namespace/service-account`, or `namespace/` for all of it.
    pub(super) fn agent(&mut self, agent: Option<&String>) -> Result<(), IndexError> {
        let Some(agent) = agent else { return Ok(()) };
        match agent.strip_suffix('/') {
            Some(namespace) => self.equal("namespace", Some(&namespace.to_owned())),
            None if agent.contains('/') => self.equal("agent", Some(agent)),
            None => {
                let what = "agent is written NAMESPACE/SERVICE-ACCOUNT, or NAMESPACE/";
                return Err(IndexError::Query(what.into()));
            }
        }
        Ok(())
    }

    /// As the text after WHERE.
    pub(super) fn text(&self) -> String {
        if self.texts.is_empty() { "TRUE".into() } else { self.texts.join(" AND ") }
    }

    pub(super) fn into_values(self) -> Vec<Value> {
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_condition() {
        let said = |scope: &Scope| {
            let mut conditions = Conditions::on("calls");
            conditions.scope(scope, "TRUE");
            (conditions.text(), conditions.into_values().len())
        };
        assert_eq!(said(&Scope::Everything), ("TRUE".into(), 0));
        assert_eq!(said(&Scope::Of([].into())), ("FALSE".into(), 0), "nothing is not everything");
        assert_eq!(said(&Scope::namespaces("prod", [])), ("FALSE".into(), 0));
        let two = Scope::namespaces("prod", ["a".to_owned(), "b".to_owned()]);
        assert_eq!(said(&two), ("((calls.cluster = ? AND calls.namespace IN (?, ?) AND TRUE))".into(), 3));
        let all = Scope::Of([("eu".to_owned(), Within::All)].into())
            .or(Scope::namespaces("prod", ["a".to_owned()]));
        let (text, values) = said(&all);
        assert_eq!((text.matches(" OR ").count(), values), (1, 3), "{text}");
    }
}
