//! JSON that every reader reads alike: UTF-8, no name twice in an object, not nested deeply. What is recorded verbatim must
//! not mean one thing to this recorder and another to an auditor's program.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How deeply objects and arrays may be nested.
pub const MAX_DEPTH: usize = 32;

/// The bytes are not JSON that every reader reads alike.
#[derive(Debug, thiserror::Error)]
pub enum NotStrict {
    /// Not UTF-8.
    #[error("a statement is UTF-8: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    /// Not JSON, a name twice, or too deep.
    #[error("not a statement: {0}")]
    Json(#[from] serde_json::Error),
}

/// Checks one JSON value.
///
/// # Errors
/// [`NotStrict`]
pub fn check(bytes: &[u8]) -> Result<(), NotStrict> {
    let text = std::str::from_utf8(bytes)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    Value { depth: 0 }.deserialize(&mut reader)?;
    Ok(reader.end()?)
}

#[derive(Clone, Copy)]
struct Value {
    depth: usize,
}

impl Value {
    fn below<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested more than {MAX_DEPTH} deep")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let below = self.below()?;
        let mut names = HashSet::new();
        while let Some(name) = map.next_key_seed(Name)? {
            map.next_value_seed(below)?;
            if let Some(twice) = names.replace(name) {
                return Err(A::Error::custom(format_args!("the name {twice:?} occurs twice in an object")));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let below = self.below()?;
        while items.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A name, borrowed from the text where it is written without escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_read_differently() {
        for good in [r#"{"a":[1,-2,3.5,"x",true,null],"b":{"a":{}}}"#, "[]", "{}"] {
            assert!(check(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            &br#"{"a":1,"a":2}"#[..],
            br#"{"x":{"a":1,"\u0061":2}}"#,
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\0\"}",
            br#"{"a":"\ud800"}"#,
            br#"{"a":1} {}"#,
            br#"{"a":1e999}"#,
            b"",
        ] {
            assert!(check(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(check(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(check(nested(30_000).as_bytes()).is_err());
    }
}
