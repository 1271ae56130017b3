//! Bodies that carry secrets: a connection's password, a transfer's access token. They pass to Google as they are, and are
//! recorded without the secrets: the values are cut out of the bytes, and all else stays verbatim.

use super::path::REDACTED;

/// The body with the text of every secret member replaced; `None` when it has no secret. `body` is JSON that was checked.
pub(super) fn without(body: &[u8]) -> Option<Vec<u8>> {
    let mut clean = Vec::new();
    let mut copied = 0;
    let mut reader = Reader { body, at: 0 };
    let mut secret = false;
    while let Some((text, is_name)) = reader.next_text() {
        if is_name {
            secret = names_a_secret(&body[text.start..text.end]);
        } else if secret && text.end > text.start {
            clean.extend_from_slice(&body[copied..text.start]);
            clean.extend_from_slice(REDACTED.as_bytes());
            copied = text.end;
        }
    }
    (copied > 0).then(|| {
        clean.extend_from_slice(&body[copied..]);
        clean
    })
}

/// Parts of a member's name that say that its text is a secret; compared in lower case, without `_` and `-`.
const SECRETS: [&str; 6] = ["password", "passphrase", "secret", "token", "credential", "authorizationcode"];

/// Ends of such names. (A name is text in the body: `accessKeyId` is none, `accountKey` is one.)
const SECRET_END: &str = "key";

/// Members that end so, and hold no secret.
const HARMLESS: [&str; 2] = ["pagetoken", "kmskey"];

fn names_a_secret(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    // An escaped name is rare enough to be taken for a secret's.
    if name.contains('\\') {
        return true;
    }
    let name = name.replace(['_', '-'], "").to_ascii_lowercase();
    let secret = SECRETS.iter().any(|part| name.contains(part)) || name.ends_with(SECRET_END);
    secret && !HARMLESS.iter().any(|end| name.ends_with(end))
}

/// Reads the texts of JSON that was checked.
struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Where the next text lies between its quotation marks, and whether it is the name of a member.
    fn next_text(&mut self) -> Option<(std::ops::Range<usize>, bool)> {
        let start = self.at + self.body[self.at..].iter().position(|byte| *byte == b'"')? + 1;
        let mut end = start;
        while *self.body.get(end)? != b'"' {
            end += if self.body[end] == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        let next = self.body[self.at..].iter().find(|byte| !byte.is_ascii_whitespace());
        Some((start..end, next == Some(&b':')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cleaned(body: &str) -> Option<String> {
        without(body.as_bytes()).map(|clean| String::from_utf8(clean).expect("UTF-8 stays UTF-8"))
    }

    #[test]
    fn secrets_are_cut_out_and_the_rest_is_verbatim() {
        for (body, clean) in [
            (
                r#"{"cloudSql": { "credential":{"username":"u","password" : "s3c\"ret"}, "type":"POSTGRES"}}"#,
                r#"{"cloudSql": { "credential":{"username":"u","password" : "REDACTED"}, "type":"POSTGRES"}}"#,
            ),
            (
                r#"{"params":{"secret_access_key":"k","access_key_id":"AKIA","data_path":"s3://b"}}"#,
                r#"{"params":{"secret_access_key":"REDACTED","access_key_id":"AKIA","data_path":"s3://b"}}"#,
            ),
            (r#"{"tokens":["a","b"],"x":"c"}"#, r#"{"tokens":["REDACTED","REDACTED"],"x":"c"}"#),
            (r#"{"pass\u0077ord":"s3cret"}"#, r#"{"pass\u0077ord":"REDACTED"}"#),
        ] {
            assert_eq!(cleaned(body).as_deref(), Some(clean));
        }
        for harmless in [
            r#"{"params":{"query":"SELECT 'password'"},"kmsKey":"projects/p","password":""}"#,
            r#"{"pageToken":"x","password":null}"#,
            "{}",
        ] {
            assert_eq!(cleaned(harmless), None);
        }
    }

    proptest! {
        #[test]
        fn any_json_stays_json_of_the_same_shape(
            texts in prop::collection::btree_map(".{0,8}", ".{0,8}", 0..6), password in "[^\"]{1,20}"
        ) {
            let mut value = serde_json::json!({"texts": texts, "password": password});
            let clean = without(value.to_string().as_bytes()).expect("a secret");
            let clean: serde_json::Value = serde_json::from_slice(&clean).expect("JSON");
            prop_assert_eq!(&clean["password"], REDACTED);
            value["password"] = REDACTED.into();
            prop_assert_eq!(clean["texts"].as_object().map(serde_json::Map::len), Some(value["texts"].as_object().map_or(0, serde_json::Map::len)));
        }
    }
}
