//! JSON in one form, for digests: names sorted, no white space.

use serde_json::{Map, Value};

use crate::digest::Digest;

/// The same value with the names of every object sorted, whatever order the map type keeps. Its text has no white space.
#[must_use]
pub fn canonical(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut members: Vec<_> = object.into_iter().collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(
                members.into_iter().map(|(name, value)| (name, canonical(value))).collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        other => other,
    }
}

/// SHA-256 of the canonical text.
#[must_use]
pub fn digest(value: Value) -> Digest {
    Digest::of(canonical(value).to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn order_makes_no_difference_and_values_do() {
        let one = json!({"b": [{"y": 1, "x": 2}], "a": null});
        assert_eq!(canonical(one.clone()).to_string(), r#"{"a":null,"b":[{"x":2,"y":1}]}"#);
        assert_eq!(
            digest(one.clone()),
            digest(serde_json::from_str(r#"{"a":null, "b":[{"x":2,"y":1}]}"#).expect("JSON"))
        );
        assert_ne!(digest(one), digest(json!({"a": null, "b": [{"x": 2, "y": 2}]})));
    }
}
