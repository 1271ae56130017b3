//! JSON that every reader reads alike: checked whole, without building it.

use ledger::strict::{self, Limits, NotStrict, Spelling};

use super::refusal::Refusal;

/// Most members of one JSON object; a body with more is refused as malformed. The names of the objects that are open are
/// all that the check keeps.
const MAX_MEMBERS: usize = 4096;

/// How deeply a body may be nested; as deep as serde_json goes.
const MAX_DEPTH: usize = 127;

/// Checks that `body` is one JSON object in UTF-8, nested at most 127 deep, with no member given twice.
///
/// # Errors
/// [`Refusal::AmbiguousBody`] for a duplicate, otherwise [`Refusal::MalformedBody`].
pub(super) fn check(body: &[u8]) -> Result<(), Refusal> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Refusal::MalformedBody("it is not a JSON object".into()));
    }
    strict::check(body, Limits { depth: MAX_DEPTH, members: MAX_MEMBERS, spelling: Spelling::Protobuf })
        .map_err(|error| match error {
            NotStrict::Duplicate(_) => Refusal::AmbiguousBody(error.to_string()),
            NotStrict::Utf8(_) | NotStrict::Json(_) => Refusal::MalformedBody(error.to_string()),
        })
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
    if text.starts_with("duplicate field") {
        Refusal::AmbiguousBody(text)
    } else {
        Refusal::MalformedBody(text)
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
            (br#"{"useLegacySql":false,"use_legacy_sql":true}"#, "ambiguous_body"),
            (br#"{"configuration":{"query":{"query_parameters":[],"queryParameters":[]}}}"#, "ambiguous_body"),
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
