//! Counts the rows of an insertAll as its body streams by: `{"rows":[{"insertId":"...","json":{...}}, ...]}`.

use ledger::call::RowsSent;

/// Longest name of a member that matters here, with one byte to tell a longer one.
const NAME: usize = 10;

/// Reads JSON byte by byte, and knows no more of it than where the rows are. What is no JSON gives no count.
#[derive(Debug, Default)]
pub struct RowCounter {
    rows: RowsSent,
    depth: u32,
    in_text: bool,
    escaped: bool,
    /// The text that was read last, cut at [`NAME`].
    text: Vec<u8>,
    /// The member `rows` of the body, and its array, are being read.
    at_rows: bool,
    in_rows: bool,
    /// What follows is the value of a row's `insertId`.
    at_id: bool,
    has_id: bool,
    begun: bool,
    broken: bool,
}

impl RowCounter {
    /// The next piece of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.in_text {
                self.text_byte(*byte);
            } else {
                self.structure_byte(*byte);
            }
        }
    }

    /// How many rows there were; `None` when the body was not one whole JSON object.
    #[must_use]
    pub fn finish(&self) -> Option<RowsSent> {
        (self.begun && !self.broken && self.depth == 0 && !self.in_text).then_some(self.rows)
    }

    fn text_byte(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_text = false,
            _ if self.text.len() <= NAME => self.text.push(byte),
            _ => {}
        }
    }

    fn structure_byte(&mut self, byte: u8) {
        if byte.is_ascii_whitespace() {
            return;
        }
        if std::mem::take(&mut self.at_id) {
            self.has_id = byte != b'n'; // null is none
        }
        match byte {
            b'"' => {
                self.in_text = true;
                self.text.clear();
            }
            b':' if self.depth == 1 => self.at_rows = self.text == b"rows",
            b':' if self.depth == 3 && self.in_rows => {
                self.at_id = [&b"insertId"[..], b"insert_id"].contains(&self.text.as_slice());
            }
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.close(),
            _ => self.broken |= self.depth == 0,
        }
    }

    fn open(&mut self, byte: u8) {
        self.broken |= self.depth == 0 && (self.begun || byte == b'[');
        self.begun = true;
        match (self.depth, byte) {
            (1, b'[') => self.in_rows = self.at_rows,
            (2, b'{') if self.in_rows => {
                self.rows.count += 1;
                self.has_id = false;
            }
            _ => {}
        }
        self.depth = self.depth.saturating_add(1);
    }

    fn close(&mut self) {
        match self.depth {
            0 => self.broken = true,
            2 => (self.in_rows, self.at_rows) = (false, false),
            3 if self.in_rows => self.rows.with_insert_id += u64::from(self.has_id),
            _ => {}
        }
        self.depth = self.depth.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counted(body: &[u8], piece: usize) -> Option<(u64, u64)> {
        let mut counter = RowCounter::default();
        body.chunks(piece).for_each(|piece| counter.feed(piece));
        counter.finish().map(|rows| (rows.count, rows.with_insert_id))
    }

    #[test]
    fn rows_and_their_ids_are_counted_in_any_pieces() {
        for (body, expected) in [
            (
                r#"{"rows":[{"insertId":"a","json":{"x":[{"insertId":"no"}]}},{"json":{"rows":[{}]}}]}"#,
                Some((2, 1)),
            ),
            (
                r#"{"kind":"k","skipInvalidRows":true,"rows" : [ {"json":{"q":"a\"}]{"},"insert_id":"b"} ] }"#,
                Some((1, 1)),
            ),
            (r#"{"rows":[{"insertId":null,"json":{}}],"templateSuffix":"rows"}"#, Some((1, 0))),
            (r#"{"rows":[],"other":[{}]}"#, Some((0, 0))),
            ("{}", Some((0, 0))),
            ("", None),
            (r#"[{"rows":[{}]}]"#, None),
            (r#"{"rows":[{"json":{}}"#, None),
            (r#"{"rows":[{}]}}"#, None),
            (r#"{"rows":[{}]} {}"#, None),
        ] {
            for piece in 1..body.len().max(2) {
                assert_eq!(counted(body.as_bytes(), piece), expected, "{body} by {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(body: Vec<u8>) {
            let _count = counted(&body, 7);
        }

        #[test]
        fn what_serde_writes_is_counted(ids in prop::collection::vec(prop::option::of("\\PC{1,9}"), 0..9), text in "\\PC{0,20}") {
            let rows: Vec<_> = ids.iter().map(|id| match id {
                Some(id) => serde_json::json!({"insertId": id, "json": {&text: [{"insertId": 1}]}}),
                None => serde_json::json!({"json": {"rows": [{}], "a": text}}),
            }).collect();
            let body = serde_json::json!({"rows": rows, "ignoreUnknownValues": true}).to_string();
            let with_id = ids.iter().flatten().count() as u64;
            prop_assert_eq!(counted(body.as_bytes(), 5), Some((ids.len() as u64, with_id)));
        }
    }
}
