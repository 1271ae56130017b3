//! The difference that a webhook answers with.

use json_patch::Patch;
use serde_json::Value;

/// The operations that make `after` of `before`; empty when nothing changes.
#[must_use]
pub fn between(before: &Value, after: &Value) -> Patch {
    json_patch::diff(before, after)
}
