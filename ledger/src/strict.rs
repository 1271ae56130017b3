//! JSON that every reader reads alike: UTF-8, no name twice in an object, not too deep, not too wide. What is recorded
//! verbatim, and what BigQuery is asked, must not mean one thing to us and another to somebody else's program.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How much JSON is taken. serde_json itself stops at a depth of 127.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How deeply objects and arrays may be nested.
    pub depth: usize,
    /// Most members of one object.
    pub members: usize,
    /// Which names count as one.
    pub spelling: Spelling,
}

/// Which names of one object count as one, so that they may not both be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// Equal ones.
    Exact,
    /// Also `use_legacy_sql` and `useLegacySql`: Google's APIs read both (protobuf's JSON mapping), and nobody says which
    /// of them wins.
    Protobuf,
}

/// The bytes are not JSON that every reader reads alike.
#[derive(Debug, thiserror::Error)]
pub enum NotStrict {
    /// Not UTF-8.
    #[error("it is not UTF-8: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    /// Two readers may read it differently.
    #[error("a name occurs twice in an object: {0}")]
    Duplicate(serde_json::Error),
    /// Not JSON, too deep or too wide.
    #[error("{0}")]
    Json(serde_json::Error),
}

/// Checks that `bytes` are one JSON value, within `limits`.
///
/// # Errors
/// [`NotStrict`]
pub fn check(bytes: &[u8], limits: Limits) -> Result<(), NotStrict> {
    let text = std::str::from_utf8(bytes)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let twice = Cell::new(false);
    let value = Value { depth: 0, limits, twice: &twice };
    value.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|error| match twice.get() {
        true => NotStrict::Duplicate(error),
        false => NotStrict::Json(error),
    })
}

#[derive(Clone, Copy)]
struct Value<'a> {
    depth: usize,
    limits: Limits,
    /// Set when a name occurs twice: serde's errors are texts.
    twice: &'a Cell<bool>,
}

impl Value<'_> {
    fn below<E: Error>(self) -> Result<Self, E> {
        if self.depth == self.limits.depth {
            return Err(E::custom(format_args!("nested more than {} deep", self.limits.depth)));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let below = self.below()?;
        let mut names = HashSet::new();
        while let Some(name) = map.next_key_seed(Name)? {
            if names.len() == self.limits.members {
                return Err(A::Error::custom(format_args!(
                    "an object has more than {} members",
                    names.len()
                )));
            }
            let name = match self.limits.spelling {
                Spelling::Exact => name,
                Spelling::Protobuf => camel_case(name),
            };
            if let Some(twice) = names.replace(name) {
                self.twice.set(true);
                return Err(A::Error::custom(format_args!("{:?}", cut(&twice))));
            }
            map.next_value_seed(below)?;
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

/// The camel-case spelling that protobuf gives a name.
fn camel_case(name: Cow<'_, str>) -> Cow<'_, str> {
    if !name.contains('_') {
        return name;
    }
    let mut camel = String::with_capacity(name.len());
    let mut after_underscore = false;
    for c in name.chars() {
        match c {
            '_' => after_underscore = true,
            c if after_underscore => {
                camel.push(c.to_ascii_uppercase());
                after_underscore = false;
            }
            c => camel.push(c),
        }
    }
    Cow::Owned(camel)
}

/// Enough of a name to find it.
fn cut(name: &str) -> String {
    name.chars().take(64).collect()
}

/// A name, borrowed from the text where it is written without escapes.
pub struct Name;

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

    const LIMITS: Limits = Limits { depth: 32, members: 100, spelling: Spelling::Exact };

    #[test]
    fn what_readers_read_differently() {
        for good in [r#"{"a":[1,-2,3.5,"x",true,null],"b":{"a":{}}}"#, "[]", "{}"] {
            assert!(check(good.as_bytes(), LIMITS).is_ok(), "{good}");
        }
        for twice in [r#"{"a":1,"a":2}"#, r#"{"x":{"a":1,"\u0061":2}}"#, r#"{"a":[{"b":1,"b":1}]}"#] {
            assert!(matches!(check(twice.as_bytes(), LIMITS), Err(NotStrict::Duplicate(_))), "{twice}");
        }
        for bad in [&b"{\"a\":\"\0\"}"[..], br#"{"a":"\ud800"}"#, br#"{"a":1} {}"#, br#"{"a":1e999}"#, b""] {
            assert!(
                matches!(check(bad, LIMITS), Err(NotStrict::Json(_))),
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
        assert!(matches!(check(b"{\"a\":\"\xff\"}", LIMITS), Err(NotStrict::Utf8(_))));
    }

    #[test]
    fn protobuf_has_two_spellings_of_one_name() {
        let protobuf = Limits { spelling: Spelling::Protobuf, ..LIMITS };
        for twice in [r#"{"useLegacySql":false,"use_legacy_sql":true}"#, r#"{"a":{"x_y_z":1,"xYZ":1}}"#] {
            assert!(check(twice.as_bytes(), LIMITS).is_ok(), "{twice}");
            assert!(matches!(check(twice.as_bytes(), protobuf), Err(NotStrict::Duplicate(_))), "{twice}");
        }
        for fine in [r#"{"labels":{"a_b":"1","ab":"2"}}"#, r#"{"dry_run":true,"useLegacySql":false}"#] {
            assert!(check(fine.as_bytes(), protobuf).is_ok(), "{fine}");
        }
    }

    #[test]
    fn depth_and_width_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(LIMITS.depth).as_bytes(), LIMITS).is_ok());
        assert!(check(nested(LIMITS.depth + 1).as_bytes(), LIMITS).is_err());
        assert!(check(nested(30_000).as_bytes(), Limits { depth: usize::MAX, ..LIMITS }).is_err());
        let wide = |members: usize| {
            let members: Vec<_> = (0..members).map(|number| format!("\"{number}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(check(wide(LIMITS.members).as_bytes(), LIMITS).is_ok());
        assert!(check(wide(LIMITS.members + 1).as_bytes(), LIMITS).is_err());
    }
}
