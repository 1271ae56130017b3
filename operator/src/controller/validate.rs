//! Second step: can the spec be used? Pure. What passes has all that building needs.

use std::sync::Arc;

use connection::BigQueryConnection;
use connection::refuse::Refusal;

use super::dereference::Found;
use crate::webhook::connections::check;

/// A connection that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Valid {
    /// The recorder's CA, in PEM.
    pub ca: String,
    /// The verifier key of its log.
    pub key: String,
}

/// What passes, or every reason why not.
///
/// # Errors
/// Each with a sentence that says what to change.
pub fn connection(connection: &Arc<BigQueryConnection>, found: &Found) -> Result<Valid, Vec<Refusal>> {
    let mut refusals = check(connection);
    let recorder = match (&connection.spec.recorder, &found.recorder) {
        (Some(own), _) => Some(Valid { ca: own.ca.clone(), key: own.key.clone() }),
        (None, Ok((ca, key))) => Some(Valid { ca: ca.clone(), key: key.clone() }),
        (None, Err(error)) => {
            refusals.push(Refusal::new(
                "recorder_files",
                format!("the operator's recorder can't be proved: {error}"),
            ));
            None
        }
    };
    recorder.filter(|_| refusals.is_empty()).ok_or(refusals)
}
