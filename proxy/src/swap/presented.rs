//! What an agent presented as its credential. Pure.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use http::request::Parts;
use ledger::digest::Digest;
use ledger::statement::{ClaimedCredential, MAX_CLAIM};

use super::{KEYS, SEPARATORS, TOKENS, name, pairs};
use crate::bigquery::decode_parameter;
use crate::identity::jwt;
use crate::identity::placeholder::Placeholders;

const API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// A token that is shorter than this could be guessed from its digest, which is then not recorded.
const LEAST_DIGESTED: usize = 32;

/// What came with a request. `Debug` shows no token.
#[derive(Default)]
pub struct Presented {
    placeholders: Vec<String>,
    own: Option<ClaimedCredential>,
    api_key: bool,
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { placeholders, own, api_key } = self;
        let placeholders = placeholders.len();
        f.debug_struct("Presented")
            .field("placeholders", &placeholders)
            .field("own", own)
            .field("api_key", api_key)
            .finish()
    }
}

impl Presented {
    /// What is in this head: in its headers, and in its query.
    #[must_use]
    pub fn of(head: &Parts) -> Self {
        let mut presented = Self { api_key: head.headers.contains_key(API_KEY), ..Self::default() };
        for token in authorizations(&head.headers) {
            presented.add(token);
        }
        for pair in pairs(head.uri.query().unwrap_or_default()) {
            let (name, pair) = (name(pair), pair.trim_end_matches(SEPARATORS));
            presented.api_key |= KEYS.contains(&name.as_str());
            if TOKENS.contains(&name.as_str()) {
                let value = pair.split_once('=').map_or("", |(_, value)| value);
                presented.add(&decode_parameter(&value.replace('+', " ")));
            }
        }
        presented
    }

    fn add(&mut self, token: &str) {
        if Placeholders::is_one(token) {
            self.placeholders.push(token.to_owned());
        } else if self.own.is_none() {
            self.own = Some(claimed(token));
        }
    }

    /// Is there a token of any kind? An API key alone says which project, not who.
    #[must_use]
    pub fn has_token(&self) -> bool {
        !self.placeholders.is_empty() || self.own.is_some()
    }

    /// Is there anything that Google may take for a credential?
    #[must_use]
    pub fn is_anything(&self) -> bool {
        self.has_token() || self.api_key
    }

    /// What is meant to be a placeholder.
    #[must_use]
    pub fn placeholders(&self) -> &[String] {
        &self.placeholders
    }

    /// What is to be said of the agent's own token: the first, if there are several.
    #[must_use]
    pub fn own(&self) -> Option<&ClaimedCredential> {
        self.own.as_ref()
    }
}

/// The tokens of all `Authorization` headers; without a scheme, the value itself.
fn authorizations(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(AUTHORIZATION).iter().map(|value| {
        // What is no text is a token all the same, of which nothing can be said.
        let value = value.to_str().unwrap_or_default().trim();
        value.split_once(' ').map_or(value, |(_scheme, token)| token.trim())
    })
}

fn claimed(token: &str) -> ClaimedCredential {
    let digest = (token.len() >= LEAST_DIGESTED).then(|| Digest::of(token.as_bytes()));
    let Some(claims) = jwt::claims(token) else {
        return ClaimedCredential { form: "opaque".into(), digest, ..ClaimedCredential::default() };
    };
    let texts = claims.texts.into_iter().map(|(name, text)| (name, cut(text)));
    ClaimedCredential { form: "jwt".into(), digest, claims: texts.collect() }
}

fn cut(mut text: String) -> String {
    let end = (0..=MAX_CLAIM.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn presented(uri: &str, headers: &[(&str, &str)]) -> Presented {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Presented::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn nothing_is_nothing() {
        let none = presented("/p?alt=json&pageToken=x", &[("x-goog-user-project", "p")]);
        assert!(!none.is_anything() && !none.has_token());
        let key = presented("/p?key=AIza", &[]);
        assert!(key.is_anything() && !key.has_token());
        assert!(presented("/p", &[("x-goog-api-key", "AIza")]).is_anything());
    }

    #[test]
    fn placeholders_are_found_wherever_they_are() {
        let placeholder = Placeholders::default().issue();
        let bearer = format!("Bearer {placeholder}");
        for found in [
            presented("/p", &[("authorization", &bearer)]),
            presented("/p", &[("authorization", &format!("bearer  {placeholder} "))]),
            presented("/p", &[("authorization", "Bearer other"), ("authorization", &bearer)]),
            presented(&format!("/p?access_token={placeholder}"), &[]),
            presented(&format!("/p?%6fauth_token={placeholder}"), &[("authorization", "Bearer other")]),
        ] {
            assert_eq!(found.placeholders(), std::slice::from_ref(&placeholder), "{found:?}");
            assert!(!format!("{found:?}").contains(&placeholder));
        }
    }

    #[test]
    fn of_a_token_only_digest_and_claims_are_said() {
        let own = presented("/p", &[("authorization", "Bearer short")]).own().cloned().unwrap();
        assert_eq!((own.form.as_str(), own.digest), ("opaque", None));
        let long = "ya29.".to_owned() + &"x".repeat(40);
        let own = presented("/p", &[("authorization", &format!("Bearer {long}"))]).own().cloned().unwrap();
        assert_eq!((own.form.as_str(), own.digest), ("opaque", Some(Digest::of(long.as_bytes()))));
        let token = jwt::unsigned(&format!(r#"{{"email":"a@b","sub":"{}"}}"#, "s".repeat(300)));
        let own = presented(&format!("/p?access_token={token}"), &[]).own().cloned().unwrap();
        assert_eq!((own.form.as_str(), own.claims["email"].as_str()), ("jwt", "a@b"));
        assert_eq!(own.claims["sub"].len(), MAX_CLAIM);
    }
}
