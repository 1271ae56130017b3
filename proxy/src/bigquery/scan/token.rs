//! SQL as tokens. Comments, white space and hints are passed over. Never fails: what ends too early ends with the text.

/// What a token is. Numbers and texts have no content that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'s> {
    /// A keyword or an unquoted name.
    Word(&'s str),
    /// A name in backticks, without them, as it was written.
    Quoted(&'s str),
    /// A text or bytes in any of the quotes.
    Text,
    /// A number.
    Number,
    /// `@name`, `@@name`
    Parameter(&'s str),
    /// `|>`
    Pipe,
    /// Any other character.
    Symbol(char),
}

/// A token, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lexeme<'s> {
    pub(super) token: Token<'s>,
    pub(super) start: usize,
    /// It follows a dot, so it is a name even if it reads like a keyword.
    pub(super) dotted: bool,
}

/// Reads tokens from left to right. A clone looks ahead.
#[derive(Clone)]
pub(super) struct Lexer<'s> {
    sql: &'s str,
    at: usize,
    /// The token before was a dot.
    dotted: bool,
    /// The token before ended here, and a dot after it continues a name.
    name_ends: usize,
}

impl<'s> Lexer<'s> {
    pub(super) fn new(sql: &'s str) -> Self {
        Self { sql, at: 0, dotted: false, name_ends: usize::MAX }
    }

    /// Goes on from `at`, which is behind a name.
    pub(super) fn skip_to(&mut self, at: usize) {
        *self = Self { sql: self.sql, at, dotted: false, name_ends: at };
    }

    /// The text that is read.
    pub(super) fn sql(&self) -> &'s str {
        self.sql
    }

    /// The next token, without taking it.
    pub(super) fn peek(&self) -> Option<Token<'s>> {
        self.clone().next().map(|lexeme| lexeme.token)
    }

    /// Takes the next token if it is this word, in any case.
    pub(super) fn takes(&mut self, word: &str) -> bool {
        let mut ahead = self.clone();
        let taken = matches!(ahead.next().map(|lexeme| lexeme.token), Some(Token::Word(next)) if next.eq_ignore_ascii_case(word));
        if taken {
            *self = ahead;
        }
        taken
    }

    /// Takes these words if they come next, in this order; all or none.
    pub(super) fn take_all(&mut self, words: &[&str]) -> bool {
        let mut ahead = self.clone();
        let taken = words.iter().all(|word| ahead.takes(word));
        if taken {
            *self = ahead;
        }
        taken
    }

    fn symbol(&mut self, first: char) -> Token<'s> {
        self.at += first.len_utf8();
        match first {
            '|' if self.rest().starts_with('>') => {
                self.at += 1;
                Token::Pipe
            }
            _ => Token::Symbol(first),
        }
    }

    fn rest(&self) -> &'s str {
        &self.sql[self.at..]
    }

    fn word(&mut self) -> Token<'s> {
        let length = word_len(self.rest());
        let word = &self.rest()[..length];
        let prefix = word.len() <= 2 && word.bytes().all(|byte| matches!(byte, b'r' | b'R' | b'b' | b'B'));
        self.at += length;
        if prefix && !self.dotted && self.rest().starts_with(['\'', '"']) {
            return self.text();
        }
        Token::Word(word)
    }

    fn text(&mut self) -> Token<'s> {
        let rest = self.rest();
        let quote = &rest[..1];
        let triple = rest.len() >= 3 && rest[1..].starts_with(quote) && rest[2..].starts_with(quote);
        let opening = if triple { 3 } else { 1 };
        self.at += opening;
        self.quoted(&rest[..opening]);
        Token::Text
    }

    fn backticks(&mut self) -> Token<'s> {
        self.at += 1;
        Token::Quoted(self.quoted("`"))
    }

    /// Goes behind the closing `quote`; gives what is before it. A backslash keeps the next character, in raw texts too.
    fn quoted(&mut self, quote: &str) -> &'s str {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut end = 0;
        while end < bytes.len() && !bytes[end..].starts_with(quote.as_bytes()) {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let end = end.min(bytes.len());
        self.at += (end + quote.len()).min(bytes.len());
        &rest[..end]
    }

    fn number(&mut self) -> Token<'s> {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| {
            bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let mut length = digits(0);
        if length == 1 && bytes[0] == b'0' && matches!(bytes.get(1), Some(b'x' | b'X')) {
            length = 2 + bytes[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        } else {
            if bytes.get(length) == Some(&b'.') {
                length += 1 + digits(length + 1);
            }
            if matches!(bytes.get(length), Some(b'e' | b'E')) {
                let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
                let exponent = digits(length + 1 + sign);
                length += if exponent > 0 { 1 + sign + exponent } else { 0 };
            }
        }
        self.at += length;
        Token::Number
    }

    fn parameter(&mut self) -> Token<'s> {
        let rest = self.rest();
        let marks = rest.bytes().take_while(|byte| *byte == b'@').count();
        let length = marks + word_len(&rest[marks..]);
        self.at += length;
        Token::Parameter(&rest[..length])
    }

    /// Passes over white space, comments and hints.
    pub(super) fn skip_trivia(&mut self) {
        loop {
            let rest = self.rest();
            let length = match rest.chars().next() {
                Some(c) if c.is_whitespace() => c.len_utf8(),
                Some('#') => line_len(rest),
                Some('-') if rest.starts_with("--") => line_len(rest),
                Some('/') if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |end| end + 4),
                Some('@') if rest.starts_with("@{") => rest.find('}').map_or(rest.len(), |end| end + 1),
                _ => return,
            };
            self.at += length;
        }
    }
}

impl<'s> Iterator for Lexer<'s> {
    type Item = Lexeme<'s>;

    fn next(&mut self) -> Option<Lexeme<'s>> {
        self.skip_trivia();
        let start = self.at;
        let first = self.rest().chars().next()?;
        let second = self.rest().as_bytes().get(1).copied().unwrap_or_default();
        let continues_name = self.name_ends == start;
        let token = match first {
            '`' => self.backticks(),
            '\'' | '"' => self.text(),
            '@' => self.parameter(),
            _ if is_word(first) && (self.dotted || !first.is_ascii_digit()) => self.word(),
            '0'..='9' => self.number(),
            '.' if second.is_ascii_digit() && !continues_name => self.number(),
            _ => self.symbol(first),
        };
        let lexeme = Lexeme { token, start, dotted: self.dotted };
        let name = matches!(token, Token::Word(_) | Token::Quoted(_) | Token::Symbol(')' | ']'));
        self.name_ends = if name { self.at } else { usize::MAX };
        self.dotted = token == Token::Symbol('.');
        Some(lexeme)
    }
}

/// Letters, digits, underscore; everything beyond ASCII that is no white space.
pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || (!c.is_ascii() && !c.is_whitespace())
}

pub(super) fn word_len(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

fn line_len(text: &str) -> usize {
    text.find(['\n', '\r']).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(sql: &str) -> Vec<Token<'_>> {
        Lexer::new(sql).map(|lexeme| lexeme.token).collect()
    }

    #[test]
    fn texts_and_comments() {
        let one = |sql| assert_eq!(tokens(sql), [Token::Text, Token::Word("x")], "{sql}");
        for sql in [
            "'a' x",
            "\"a'b\" x",
            r"'it\'s' x",
            r"r'\' FROM t' x",
            "'''a'b''c''' x",
            "\"\"\"a\"\"b\nc\"\"\" x",
            "b'a' x",
            "rb\"\"\"a\\\"\"\"\" x",
            "BR'a' x",
            "'' x",
            "'''''' x",
            "'-- no comment' x",
            "/* 'a */ 'b' x",
            "-- it's\n'b' x",
            "# it's\r'b' x",
            "/**/''/***/x",
        ] {
            one(sql);
        }
        assert_eq!(tokens("'open"), [Token::Text]);
        assert_eq!(tokens("`open"), [Token::Quoted("open")]);
        assert_eq!(tokens("/* open"), []);
        assert_eq!(tokens("-- end"), []);
    }

    #[test]
    fn names_numbers_and_symbols() {
        use Token::{Number, Parameter, Pipe, Quoted, Symbol, Word};
        assert_eq!(tokens("a.`b c`.3d"), [Word("a"), Symbol('.'), Quoted("b c"), Symbol('.'), Word("3d")]);
        assert_eq!(tokens("1.5e-3 .5 0xFF 1e"), [Number, Number, Number, Number, Word("e")]);
        assert_eq!(tokens("1FROM"), [Number, Word("FROM")]);
        assert_eq!(
            tokens("f(x).1"),
            [Word("f"), Symbol('('), Word("x"), Symbol(')'), Symbol('.'), Word("1")]
        );
        assert_eq!(
            tokens("@p @@dataset_id |> a||b"),
            [
                Parameter("@p"),
                Parameter("@@dataset_id"),
                Pipe,
                Word("a"),
                Symbol('|'),
                Symbol('|'),
                Word("b"),
            ]
        );
        assert_eq!(tokens("FROM\u{a0}prüfung\u{3000}x"), [Word("FROM"), Word("prüfung"), Word("x")]);
        assert_eq!(tokens("JOIN @{hint=a} t"), [Word("JOIN"), Word("t")]);
        assert_eq!(tokens(r"`a\`b`"), [Quoted(r"a\`b")]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(sql in "\\PC*|[-'\"`/*#@\\\\.|{}0-9a-z\n]*") {
            let mut lexer = Lexer::new(&sql);
            let mut last = None;
            for lexeme in lexer.by_ref() {
                prop_assert!(last < Some(lexeme.start));
                last = Some(lexeme.start);
            }
            prop_assert_eq!(lexer.rest(), "");
        }
    }
}
