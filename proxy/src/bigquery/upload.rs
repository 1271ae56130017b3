//! Uploads: the job in the first part of a `multipart/related` body, and the id that joins a resumable upload's requests.

use std::ops::Range;

use super::path::parameters;
use super::refusal::Refusal;

/// Longest boundary (RFC 2046, section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// Greatest length of a part's headers, in bytes; above it the body is refused.
const MAX_PART_HEADERS: usize = 8 * 1024;

/// The id of a resumable upload, which every request of it has. It is a capability: who has it may send data.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadId(String);

impl UploadId {
    /// An id as a query has it, decoded; `None` for no text.
    #[must_use]
    pub fn new(id: &str) -> Option<Self> {
        (!id.is_empty()).then(|| Self(id.to_owned()))
    }

    /// The id itself, which must not reach the record or the log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UploadId(REDACTED)")
    }
}

/// The id in the `Location` header that answers the first request of a resumable upload.
#[must_use]
pub fn id_of_location(location: &str) -> Option<UploadId> {
    let (_, query) = location.split_once('?')?;
    parameters(query).find(|(name, _)| name == "upload_id").and_then(|(_, id)| UploadId::new(&id))
}

/// Where the first part's content is within `body`, a prefix of the whole; `None` when more of it has to be read.
///
/// # Errors
/// [`Refusal::MalformedBody`] when it can't be a multipart body with an unencoded first part.
pub fn first_part(boundary: &str, body: &[u8]) -> Result<Option<Range<usize>>, Refusal> {
    let malformed = |what: &str| Err(Refusal::MalformedBody(what.to_owned()));
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
        return malformed("the multipart boundary has no characters, or more than 70");
    }
    let opening = format!("--{boundary}");
    // No preamble: what stands before the first boundary is ignored by some readers and refused by others.
    let Some(rest) = strip(body, opening.as_bytes()) else {
        return malformed("a multipart body begins with its boundary");
    };
    let Some(rest) = rest else { return Ok(None) };
    let Some(newline) = [&b"\r\n"[..], b"\n"].into_iter().find(|newline| rest.starts_with(newline)) else {
        return if rest.len() < 2 { Ok(None) } else { malformed("the first boundary does not end its line") };
    };
    let Some(headers) = find(rest, &newline.repeat(2)) else {
        return if rest.len() > MAX_PART_HEADERS {
            malformed("headers of the first part without an end")
        } else {
            Ok(None)
        };
    };
    if encoded(&rest[..headers]) {
        return malformed("the first part has a transfer encoding");
    }
    let start = body.len() - rest.len() + headers + 2 * newline.len();
    let closing = [newline, opening.as_bytes()].concat();
    Ok(find(&body[start..], &closing).map(|length| start..start + length))
}

/// Cuts `prefix` off; `Some(None)` when `body` is too short to tell.
fn strip<'a>(body: &'a [u8], prefix: &[u8]) -> Option<Option<&'a [u8]>> {
    if body.len() < prefix.len() {
        return prefix.starts_with(body).then_some(None);
    }
    body.strip_prefix(prefix).map(Some)
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn encoded(headers: &[u8]) -> bool {
    let headers = String::from_utf8_lossy(headers).to_ascii_lowercase();
    headers.lines().filter_map(|line| line.split_once(':')).any(|(name, value)| {
        let plain = ["binary", "7bit", "8bit", "identity"].contains(&value.trim());
        ["content-transfer-encoding", "content-encoding"].contains(&name.trim()) && !plain
    })
}

/// A parameter of a header like `multipart/related; boundary="x"`.
pub(super) fn parameter(value: &str, wanted: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODY: &[u8] =
        b"--===x==\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{\"configuration\":{}}\r\n\
        --===x==\r\ncontent-type: */*\r\n\r\na,b\n1,2\n\r\n--===x==--";

    #[test]
    fn the_first_part_of_a_multipart_body() {
        let range = first_part("===x==", BODY).expect("multipart").expect("complete");
        assert_eq!(&BODY[range], b"{\"configuration\":{}}");
        // Python's email package, which some clients use, ends lines with a line feed alone.
        let unix = String::from_utf8_lossy(BODY).replace("\r\n", "\n");
        let range = first_part("===x==", unix.as_bytes()).expect("multipart").expect("complete");
        assert_eq!(&unix[range], "{\"configuration\":{}}");
    }

    #[test]
    fn a_prefix_is_enough_or_more_is_asked_for() {
        let whole = first_part("===x==", BODY).expect("multipart").expect("complete");
        let needed = whole.end + b"\r\n--===x==".len();
        for end in 0..BODY.len() {
            let part = first_part("===x==", &BODY[..end]).expect("a prefix is never malformed");
            assert_eq!(part, (end >= needed).then(|| whole.clone()), "{end}");
        }
    }

    #[test]
    fn what_two_readers_may_read_differently_is_refused() {
        for (boundary, body) in [
            ("x", "preamble\r\n--x\r\n\r\n{}\r\n--x--"),
            ("x", "--x\r\ncontent-transfer-encoding: base64\r\n\r\ne30=\r\n--x--"),
            ("x", "--x\r\nContent-Encoding: gzip\r\n\r\n..\r\n--x--"),
            ("x", "--xy\r\n\r\n{}\r\n--xy--"),
            ("", "--\r\n\r\n{}\r\n----"),
        ] {
            assert_eq!(
                first_part(boundary, body.as_bytes()).map_err(|e| e.category()),
                Err("malformed_body"),
                "{body}"
            );
        }
        let endless = format!("--x\r\n{}", "a".repeat(MAX_PART_HEADERS));
        assert!(first_part("x", endless.as_bytes()).is_err());
    }

    #[test]
    fn the_requests_of_an_upload_have_one_id() {
        let location = "https://bigquery.googleapis.com/upload/bigquery/v2/projects/p/jobs?uploadType=resumable&upload_id=AB%2Dc";
        assert_eq!(id_of_location(location), UploadId::new("AB-c"));
        assert_eq!(id_of_location("https://bigquery.googleapis.com/upload?x=y"), None);
        assert!(!format!("{:?}", id_of_location(location)).contains("AB"));
    }

    #[test]
    fn parameters_of_a_header() {
        assert_eq!(parameter("multipart/related; boundary=\"=x=\"", "boundary").as_deref(), Some("=x="));
        assert_eq!(parameter("multipart/related;Boundary=x ; a=b", "boundary").as_deref(), Some("x"));
        assert_eq!(parameter("application/json", "charset"), None);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>, boundary in "[a-z]{1,3}") {
            let with_opening = [format!("--{boundary}\r\n").as_bytes(), &body].concat();
            for body in [&body, &with_opening] {
                if let Ok(Some(range)) = first_part(&boundary, body) {
                    prop_assert!(range.end <= body.len());
                }
            }
        }
    }
}
