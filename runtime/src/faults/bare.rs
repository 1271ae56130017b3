//! hyper's own answer in HTTP/1.1: a status line and nothing that says why.

use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, StatusCode};

use super::Fault;

/// No answer of hyper's own is longer, in bytes: a status line, `connection`, `content-length`, `date`.
const LONGEST: usize = 192;

/// Where hyper's own answer begins, if these bytes end with one, and to what it is one.
pub(super) fn bare_answer(bytes: &[u8]) -> Option<(usize, Fault)> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = bytes.len().saturating_sub(LONGEST);
    let at = from + bytes[from..].windows(7).rposition(|window| window == b"HTTP/1.")?;
    let (line, headers) = std::str::from_utf8(&bytes[at..]).ok()?.split_once("\r\n")?;
    let fault = fault_of(line.get(9..12)?)?;
    let said = |line: &str| {
        matches!(line, "" | "connection: close" | "content-length: 0") || line.starts_with("date: ")
    };
    headers.split("\r\n").all(said).then_some((at, fault))
}

fn fault_of(status: &str) -> Option<Fault> {
    match status {
        "400" => Some(Fault::MalformedHead),
        "414" | "431" => Some(Fault::HeadTooLarge), // of which the target is a part
        _ => None,
    }
}

/// Would this answer of a handler be taken for hyper's own? Who forwards answers of others must see to it that it is not.
#[must_use]
pub fn is_bare(status: StatusCode, headers: &HeaderMap) -> bool {
    let of_hyper = |name: &http::HeaderName| [CONTENT_LENGTH, DATE].contains(name);
    fault_of(status.as_str()).is_some() && headers.keys().all(of_hyper)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn what_hyper_says_by_itself_is_known_also_behind_another_answer() {
        assert_eq!(bare_answer(BARE), Some((0, Fault::MalformedHead)));
        let dated = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                      content-length: 0\r\ndate: Sun, 22 Nov 2026 09:00:00 GMT\r\n\r\n";
        assert_eq!(bare_answer(dated), Some((0, Fault::HeadTooLarge)));
        let before = [b"the end of another answer", BARE].concat();
        assert_eq!(bare_answer(&before), Some((25, Fault::MalformedHead)));
    }

    #[test]
    fn answers_of_handlers_are_not_taken_for_it() {
        for other in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\n",
            b"0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nmore",
            b"",
        ] {
            assert_eq!(bare_answer(other), None, "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn a_handler_can_know_whether_its_answer_looks_like_it() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, 0.into());
        assert!(is_bare(StatusCode::BAD_REQUEST, &headers));
        assert!(!is_bare(StatusCode::NOT_FOUND, &headers));
        headers.insert("server", http::HeaderValue::from_static("ESF"));
        assert!(!is_bare(StatusCode::BAD_REQUEST, &headers));
    }
}
