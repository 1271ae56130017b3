//! JSON that every reader reads alike: checked whole, without building it.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::refusal::Refusal;

/// Most members of one JSON object; a body with more is refused as malformed. The names of the objects that are open are
/// all that the check keeps.
const MAX_MEMBERS: usize = 4096;

/// Begins the message of a duplicate, to tell it from what serde says itself.
const DUPLICATE: &str = "the member ";

/// Checks that `body` is one JSON object in UTF-8, nested at most 127 deep, with no member given twice.
///
/// # Errors
/// [`Refusal::AmbiguousBody`] for a duplicate, otherwise [`Refusal::MalformedBody`].
pub(super) fn check(body: &[u8]) -> Result<(), Refusal> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Refusal::MalformedBody("it is not a JSON object".into()));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    Strict.deserialize(&mut json).and_then(|()| json.end()).map_err(|error| refusal(&error))
}

/// Reads what a call needs from a body that [`check`] accepted.
///
/// # Errors
/// A member under both of its spellings (`dryRun`, `dry_run`), or of another type than the API's.
pub(super) fn read<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| refusal(&error))
}

fn refusal(error: &serde_json::Error) -> Refusal {
    let text = error.to_string();
    if text.starts_with(DUPLICATE) || text.starts_with("duplicate field") {
        Refusal::AmbiguousBody(text)
    } else {
        Refusal::MalformedBody(text)
    }
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if names.len() == MAX_MEMBERS {
                return Err(A::Error::custom(format_args!("an object has more than {MAX_MEMBERS} members")));
            }
            if let Some(name) = names.replace(name) {
                let name: String = name.chars().take(64).collect();
                return Err(A::Error::custom(format_args!("{DUPLICATE}{name:?} is there twice")));
            }
            map.next_value_seed(Self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Self)?.is_some() {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn category(body: &[u8]) -> &'static str {
        check(body).map_or_else(|refusal| refusal.category(), |()| "ok")
    }

    #[test]
    fn one_reading_only() {
        for (body, expected) in [
            (&br#"{"query":"SELECT 1","labels":{"a":"b"},"queryParameters":[{"a":1},{"a":2.5}],"x":null,"y":true}"#[..], "ok"),
            (b"{}", "ok"),
            (b" {} \n", "ok"),
            (b"[]", "malformed_body"),
            (br#"{"query":"SELECT 1","query":"DROP TABLE t"}"#, "ambiguous_body"),
            (br#"{"query":"SELECT 1","qu\u0065ry":"DROP TABLE t"}"#, "ambiguous_body"),
            (br#"{"a":[{"b":{"c":1,"c":1}}]}"#, "ambiguous_body"),
            (b"{} {}", "malformed_body"),
            (b"{}x", "malformed_body"),
            (b"", "malformed_body"),
            (b"{\"query\":\"\xff\"}", "malformed_body"),
            (b"\xef\xbb\xbf{}", "malformed_body"),
            (b"{'query':'x'}", "malformed_body"),
            (b"{\"a\":1,}", "malformed_body"),
            (b"{\"a\":\"\\ud800\"}", "malformed_body"),
            (b"{\"a\":NaN}", "malformed_body"),
        ] {
            assert_eq!(category(body), expected, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn depth_and_width_are_bounded() {
        let deep = |depth| [&b"{\"a\":"[..], &b"[".repeat(depth), &b"]".repeat(depth), b"}"].concat();
        assert_eq!(category(&deep(100)), "ok");
        assert_eq!(category(&deep(1 << 20)), "malformed_body");
        let wide = |members: usize| {
            let members: Vec<_> = (0..members).map(|number| format!("\"{number}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(category(wide(MAX_MEMBERS).as_bytes()), "ok");
        assert_eq!(category(wide(MAX_MEMBERS + 1).as_bytes()), "malformed_body");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body: Vec<u8>) {
            let body = [b"{\"a\":", &body[..], b"}"].concat();
            let expected = serde_json::from_slice::<serde_json::Value>(&body).is_ok();
            prop_assert_eq!(category(&body) == "ok", expected); // random bytes have no duplicates
        }
    }
}
