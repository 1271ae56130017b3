//! Text from the record, made safe for a terminal: an agent's SQL may hold escape sequences.

/// `text` with every control character but newline and tab shown as U+FFFD, so that it can't move the cursor, change
/// colours, or hide what follows. Bidirectional overrides count as control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() || is_bidirectional(c) => '\u{fffd}',
            c => c,
        })
        .collect()
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

fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    }

    #[test]
    fn one_line_of_a_width() {
        assert_eq!(one_line("SELECT\n  1,\r\n\t2", 80), "SELECT 1, 2");
        assert_eq!(one_line("SELECT 1", 5), "SELE\u{2026}");
        assert_eq!(one_line("ÄÖÜ", 3), "ÄÖÜ");
    }
}
