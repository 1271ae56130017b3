//! What a JWT says, unverified: whoever needs it to be true lets its issuer's keys decide.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Map, Value};

/// Greatest length of a token that is read, in bytes. Google's have less than 12 KiB.
const MAX_TOKEN: usize = 16 * 1024;

/// Claims that are texts and say who; none of them is secret.
const NAMES: [&str; 5] = ["iss", "sub", "aud", "azp", "email"];

/// What a token says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// `iss`, `sub`, `aud`, `azp`, `email`, as far as they are texts.
    pub(crate) texts: BTreeMap<String, String>,
    /// `exp`, in seconds since 1970.
    pub(crate) expires: Option<i64>,
}

/// The claims of a token of the form of a JWT; nothing of any other.
pub(crate) fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    if token.len() > MAX_TOKEN {
        return None;
    }
    object(header).filter(|header| header.contains_key("alg"))?;
    let claims = object(claims)?;
    let texts = NAMES.iter().filter_map(|name| Some(((*name).to_owned(), text(claims.get(*name)?)?)));
    Some(Claims { texts: texts.collect(), expires: claims.get("exp").and_then(Value::as_i64) })
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64.decode(part.trim_end_matches('=')).ok()?).ok()
}

/// A text, or the first of a list of them: `aud` can be either.
fn text(value: &Value) -> Option<String> {
    let first = value.as_array().and_then(|list| list.first());
    first.unwrap_or(value).as_str().map(str::to_owned)
}

/// A JWT with these claims and a signature that is none.
#[cfg(test)]
pub(crate) fn unsigned(claims: &str) -> String {
    format!("{}.{}.c2lnbmF0dXJl", BASE64.encode(r#"{"alg":"RS256"}"#), BASE64.encode(claims))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_it_says_and_nothing_else() {
        let token =
            unsigned(r#"{"iss":"https://i","sub":"s","aud":["one","two"],"exp":7,"secret":"x","email":5}"#);
        let claims = claims(&token).unwrap();
        assert_eq!(claims.expires, Some(7));
        let texts: Vec<_> = claims.texts.iter().map(|(name, text)| format!("{name}={text}")).collect();
        assert_eq!(texts, ["aud=one", "iss=https://i", "sub=s"]);
        for none in ["", "a.b", "a.b.c", "a.b.c.d", "ya29.a0Af.x"] {
            assert_eq!(super::claims(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_asked(text: String) {
            let _claims = claims(&text);
        }
    }
}
