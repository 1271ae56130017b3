//! What must be true of a row, as SQL: conditions and their values, in the order of the question marks.

use rusqlite::types::Value;

use super::IndexError;

/// Conditions on the rows of a table, all of which must hold.
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

    pub(super) fn equal(&mut self, column: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.add(&format!("{}.{column} = ?", self.table), value.clone());
        }
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
