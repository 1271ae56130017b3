//! Text from the record, made safe for a terminal: an agent's SQL may hold escape sequences.

/// `text` with every control character but newline and tab shown as U+FFFD, so that it can't move the cursor, change
/// colours, or hide what follows. What is invisible or turns the direction of text counts as a control character.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if is_deceptive(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// The same on one line: what stands in a line of its own, like a verdict, is never from the record.
pub(crate) fn on_one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], "\u{fffd}")
}

/// `text` on one line of at most `width` characters.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let flat = printable(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    if flat.chars().count() <= width {
        return flat;
    }
    let kept: String = flat.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}

/// `1 call`, `2 calls`, `3 entries`
pub(crate) fn counted(count: u64, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {noun}s"),
    }
}

/// `1,234,567`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// JSON text with the same characters escaped, which its readers read as they were. (They can only stand in strings.)
pub(crate) fn escaped_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_deceptive(c) {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Control characters; line and paragraph separators; zero-width and invisible ones, fillers and selectors of variants among them, in which a
/// text can hide another; marks, embeddings and overrides of direction.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(
            printable("a\x1b[31mred\x07\u{9b}2J\u{202e}x\n\tb"),
            "a\u{fffd}[31mred\u{fffd}\u{fffd}2J\u{fffd}x\n\tb"
        );
        for hidden in ['\u{34f}', '\u{115f}', '\u{3164}', '\u{fe01}', '\u{e0101}', '\u{2066}', '\u{200d}'] {
            assert_eq!(printable(&hidden.to_string()), "\u{fffd}", "{:x}", u32::from(hidden));
        }
    }

    #[test]
    fn a_line_stays_one() {
        assert_eq!(
            on_one_line("by intruder\nVERIFIED\t\r\n"),
            "by intruder\u{fffd}VERIFIED\u{fffd}\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn json_stays_the_same_json() {
        let hostile = "a\u{9b}31m\u{202e}\u{2028}\u{e0041}\n\"\u{1b}[2J ok \u{1f600}";
        let json = serde_json::to_string(hostile).unwrap();
        let escaped = escaped_json(&json);
        assert!(!escaped.chars().any(is_deceptive), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), hostile);
    }

    #[test]
    fn numbers_for_people() {
        let counts = [counted(1, "entry"), counted(2, "entry"), counted(0, "call")];
        assert_eq!(counts, ["1 entry", "2 entries", "0 calls"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn one_line_of_a_width() {
        assert_eq!(one_line("SELECT\n  1,\r\n\t2", 80), "SELECT 1, 2");
        assert_eq!(one_line("SELECT 1", 5), "SELE\u{2026}");
        assert_eq!(one_line("ÄÖÜ", 3), "ÄÖÜ");
    }
}
