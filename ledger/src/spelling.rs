//! UUIDs in statements: one value, one spelling.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

/// Reads a UUID as this format has it: 32 lower-case hexadecimal digits in groups of 8, 4, 4, 4 and 12. The library reads
/// other spellings too, by which a text search for a session would miss its statements.
pub(crate) fn uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(
            "a UUID is lower-case hexadecimal digits in groups of 8-4-4-4-12, without anything around",
        )
    })
}

fn parse(text: &str) -> Option<Uuid> {
    let value = Uuid::try_parse(text).ok()?;
    let mut canonical = Uuid::encode_buffer();
    (*value.hyphenated().encode_lower(&mut canonical) == *text).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_only() {
        let text = "0199a6c5-7c3e-7c1e-9a52-2f3a51d1a9c0";
        let value = parse(text).expect("the canonical spelling");
        assert_eq!(value.to_string(), text);
        for other in [
            text.to_uppercase(),
            text.replacen('a', "A", 1),
            text.replace('-', ""),
            format!("{{{text}}}"),
            format!("urn:uuid:{text}"),
            format!(" {text}"),
            text[1..].to_owned(),
            String::new(),
        ] {
            assert_eq!(parse(&other), None, "{other:?}");
        }
    }
}
