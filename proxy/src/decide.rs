//! The decision on a call that is understood. Pure. Today: every method that is known and unambiguous is allowed, and
//! everything is recorded; a connection's rules come here.

use crate::bigquery::{Recognised, Refusal};

/// May this call be forwarded, as far as its head shows it?
///
/// # Errors
/// Why not.
pub fn decide(call: &Recognised) -> Result<(), Refusal> {
    call.check()
}
