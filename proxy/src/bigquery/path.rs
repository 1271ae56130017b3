//! Paths and queries: decoded once and strictly where they name something, and cleaned of secrets where they are recorded.

use std::borrow::Cow;

use ledger::call::MAX_PATH;

/// Greatest length of one identifier in a path, in bytes: a table's name has at most 1,024. A longer one is not matched.
const MAX_IDENTIFIER: usize = 1024;

/// What a secret's value is recorded as.
pub(super) const REDACTED: &str = "REDACTED";

/// Query parameters that carry credentials; compared in lower case, decoded, without a leading `$`.
const SECRETS: [&str; 14] = [
    "access_token",
    "oauth_token",
    "bearer_token",
    "key",
    "api_key",
    "token",
    "id_token",
    "refresh_token",
    "assertion",
    "upload_id",
    "authorizationcode",
    "authorization_code",
    "client_secret",
    "password",
];

/// One segment of a path as an identifier. `None` when it is not one that two readers are sure to read alike: bad escapes,
/// not UTF-8, empty, too long, `.` and `..`, or with a control character, slash, question mark, hash or percent sign.
pub(super) fn identifier(segment: &str) -> Option<String> {
    let text = decode(segment)?;
    let harmless = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | '?' | '#' | '%');
    let good = !text.is_empty() && text.len() <= MAX_IDENTIFIER && text != "." && text != "..";
    (good && text.chars().all(harmless)).then(|| text.into_owned())
}

/// Percent-decodes once; `None` for a broken escape or what is not UTF-8.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            bytes.push(escape(rest)?);
            rest = &rest[2..];
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Percent-decodes twice, because a server in between may decode too; a third layer no server undoes.
#[must_use]
pub fn decode_twice(text: &str) -> String {
    decode_lossy(&decode_lossy(text))
}

/// Percent-decodes once, leaving broken escapes as they are.
#[must_use]
pub fn decode_lossy(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match escape(rest).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[2..];
            }
            None => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| (*digits.get(at)? as char).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// The parameters of a query, decoded (`+` is a space). A broken escape stays as it is.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_lossy(&name.replace('+', " ")), decode_lossy(&value.replace('+', " ")))
    })
}

/// Path and query as they are recorded: values of secret parameters replaced, and an upload's id, which is a capability (who
/// has it may send data), the whole cut at [`MAX_PATH`] bytes.
pub(super) fn recorded(path: &str, query: Option<&str>) -> String {
    let mut text = path.to_owned();
    if let Some(query) = query {
        text.push('?');
        for pair in query.split_inclusive(['&', ';']) {
            push_pair(&mut text, pair);
        }
    }
    cut(text, MAX_PATH)
}

fn push_pair(text: &mut String, pair: &str) {
    let bare = pair.trim_end_matches(['&', ';']);
    let Some((name, value)) = bare.split_once('=') else { return text.push_str(pair) };
    let key = decode_lossy(&decode_lossy(name)).to_ascii_lowercase();
    let key = key.trim().trim_start_matches('$');
    text.push_str(name);
    text.push('=');
    if SECRETS.contains(&key) {
        text.push_str(REDACTED);
    } else {
        text.push_str(value);
    }
    text.push_str(&pair[bare.len()..]);
}

/// Cuts a text at `limit` bytes, between two characters.
pub(super) fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identifiers_are_decoded_once() {
        assert_eq!(identifier("invoices").as_deref(), Some("invoices"));
        assert_eq!(identifier("invoices%2420260101").as_deref(), Some("invoices$20260101"));
        assert_eq!(identifier("example.com%3Ap").as_deref(), Some("example.com:p"));
        assert_eq!(identifier("r%C3%A9sum%C3%A9").as_deref(), Some("résumé"));
        for bad in [
            "",
            ".",
            "..",
            "a%2Fb",
            "a%252Fb",
            "a%0a",
            "a%2",
            "a%zz",
            "%ff",
            "%+1",
            "a\\b",
            &"x".repeat(1025),
        ] {
            assert_eq!(identifier(bad), None, "{bad}");
        }
    }

    #[test]
    fn secrets_do_not_reach_the_record() {
        for (query, kept) in [
            ("key=s3cret&alt=json", "/p?key=REDACTED&alt=json"),
            ("alt=json&access_token=s3cret", "/p?alt=json&access_token=REDACTED"),
            ("%6bey=s3cret", "/p?%6bey=REDACTED"),
            ("OAuth_Token=s3cret;alt=json", "/p?OAuth_Token=REDACTED;alt=json"),
            ("$key=s3cret=s3cret", "/p?$key=REDACTED"),
            ("pageToken=abc&maxResults=5&", "/p?pageToken=abc&maxResults=5&"),
            ("flag&x=", "/p?flag&x="),
        ] {
            assert_eq!(recorded("/p", Some(query)), kept);
        }
        let upload = recorded("/u", Some("uploadType=resumable&upload_id=s3cret"));
        assert_eq!(upload, "/u?uploadType=resumable&upload_id=REDACTED");
    }

    #[test]
    fn a_long_path_is_cut_between_characters() {
        let path = format!("/{}", "é".repeat(MAX_PATH));
        assert_eq!(recorded(&path, None).len(), MAX_PATH - 1);
        assert_eq!(recorded("/a", None), "/a");
    }

    proptest! {
        #[test]
        fn any_text_is_decoded_or_refused(text: String) {
            let _identifier = identifier(&text);
            if let Some(decoded) = decode(&text) {
                prop_assert_eq!(decoded.into_owned(), decode_lossy(&text));
            }
            prop_assert!(recorded(&text, Some(&text)).len() <= MAX_PATH);
        }

        #[test]
        fn no_value_of_a_secret_is_recorded(name in prop::sample::select(SECRETS.to_vec()), before in "[a-z=&;%$]{0,20}") {
            let query = format!("{before}&{name}=Z3cretZ");
            prop_assert!(!recorded("/", Some(&query)).contains("Z3cretZ"));
        }
    }
}
