//! Reads statements token by token: what is expected comes first, then keywords, then what the kind of statement adds. The
//! parentheses are a list, not the call stack; no token is looked at more often than a fixed number of times.

mod query;
mod statement;
mod table;

use ledger::call::Access;

pub(super) use statement::Kinds;

use super::frame::{Expect, Frame, Item, Upper};
use super::head::{self, Head};
use super::scope::{Scope, Table};
use super::token::{Lexeme, Lexer, Token};

/// Deepest nesting that is looked into. BigQuery gives up far earlier; what is deeper is passed over, and the scan says so.
const MAX_DEPTH: usize = 4096;

/// What ended, among the statements of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A statement of this kind; `None` for one that begins like nothing that is known.
    Statement(Option<&'static str>),
    /// The condition of a block, with the block's word.
    Condition(&'static str),
    /// More of the statement before it, as the body of a procedure is.
    Before,
}

/// Takes the tables of each statement.
pub(super) trait Sink {
    /// A statement ended; its tables, in the order of the text.
    fn statement(&mut self, place: Place, tables: Vec<Table>);
    /// A temporary table is about to be created: a name from here on.
    fn temporary(&mut self, table: Table);
    /// The script sets what unqualified names stand for.
    fn sets_defaults(&mut self);
}

pub(super) struct Machine<'s, 'k> {
    lexer: Lexer<'s>,
    sink: &'k mut dyn Sink,
    scope: Scope,
    frames: Vec<Frame>,
    /// Open parentheses beyond [`MAX_DEPTH`].
    too_deep: usize,
    previous: Option<Token<'s>>,
    head: Head,
    /// CASE expressions that are open in the condition of an IF.
    cases: usize,
    /// Blocks that are open in the body of a procedure that is being created.
    body: usize,
    kinds: Kinds,
    truncated: bool,
}

impl<'s, 'k> Machine<'s, 'k> {
    pub(super) fn new(sql: &'s str, sink: &'k mut dyn Sink) -> Self {
        let lexer = Lexer::new(sql);
        let head = head::read(&mut Lexer::new(""));
        Self {
            lexer,
            sink,
            scope: Scope::default(),
            frames: vec![Frame::default()],
            too_deep: 0,
            previous: None,
            head,
            cases: 0,
            body: 0,
            kinds: Kinds::default(),
            truncated: false,
        }
    }

    /// Reads all; the kinds of the statements, and whether something was passed over.
    pub(super) fn run(mut self) -> (Kinds, bool) {
        self.begin_statement();
        while let Some(lexeme) = self.lexer.next() {
            if lexeme.token == Token::Symbol(';') {
                self.end_statement();
                self.begin_statement();
                continue;
            }
            self.token(lexeme);
            self.previous = Some(lexeme.token);
        }
        self.end_statement();
        (self.kinds, self.truncated)
    }

    fn leave_from(&mut self) {
        self.frame().from = false;
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the statement's own frame is never closed")
    }

    fn at_base(&self) -> bool {
        self.frames.len() == 1
    }
}

impl<'s> Machine<'s, '_> {
    fn token(&mut self, lexeme: Lexeme<'s>) {
        if self.too_deep > 0 {
            return self.pass_over(lexeme.token);
        }
        let depth = self.frames.len() - 1;
        if !self.expected(lexeme) {
            match lexeme.token {
                Token::Symbol('(') => self.open(),
                Token::Symbol(')') => self.close_one(),
                Token::Symbol(',') => self.comma(),
                Token::Pipe => self.leave_from(),
                Token::Word(word) if !lexeme.dotted => self.word(&Upper::new(word)),
                _ => (),
            }
        }
        if let Some(frame) = self.frames.get_mut(depth) {
            frame.begun = true;
        }
    }

    fn pass_over(&mut self, token: Token<'_>) {
        match token {
            Token::Symbol('(') => self.too_deep += 1,
            Token::Symbol(')') => self.too_deep -= 1,
            _ => (),
        }
    }

    /// Handles what the frame waits for; true when the token was used up by that.
    fn expected(&mut self, lexeme: Lexeme<'s>) -> bool {
        match std::mem::take(&mut self.frame().expect) {
            Expect::Anything => false,
            Expect::Table(item) => self.table(lexeme, item),
            Expect::Alias(default) => self.alias(lexeme.token, default),
            Expect::AliasName => match lexeme.token {
                Token::Word(name) | Token::Quoted(name) => self.declare(name),
                _ => false,
            },
            Expect::Arguments(table_function) => self.arguments(lexeme.token, table_function),
        }
    }

    fn alias(&mut self, token: Token<'s>, default: Option<String>) -> bool {
        if let Token::Word(word) = token {
            let upper = Upper::new(word);
            if upper.as_str() == "AS" {
                self.frame().expect = Expect::AliasName;
                return true;
            }
            let operator = ["PIVOT", "UNPIVOT", "MATCH_RECOGNIZE"].contains(&upper.as_str());
            if operator && self.operator_follows() {
                self.declare_default(default);
                self.frame().expect = Expect::Arguments(false);
                return true;
            }
            if !upper.is_reserved() {
                return self.declare(word);
            }
        }
        if let Token::Quoted(name) = token {
            return self.declare(name);
        }
        self.declare_default(default);
        false
    }

    /// Is the PIVOT just read the operator, not an alias?
    fn operator_follows(&self) -> bool {
        let mut ahead = self.lexer.clone();
        ahead.peek() == Some(Token::Symbol('(')) || ahead.takes("INCLUDE") || ahead.takes("EXCLUDE")
    }

    fn arguments(&mut self, token: Token<'s>, table_function: bool) -> bool {
        match token {
            Token::Symbol('(') => {
                self.push(Frame { item: true, call: true, table_function, ..Frame::default() });
                true
            }
            Token::Word(_) => {
                self.frame().expect = Expect::Arguments(table_function); // INCLUDE NULLS
                true
            }
            _ => false,
        }
    }

    fn declare(&mut self, alias: &str) -> bool {
        let owner = self.frame().owner;
        self.frames[owner].aliases.insert(alias.to_lowercase());
        true
    }

    fn declare_default(&mut self, default: Option<String>) {
        if let Some(default) = default {
            self.declare(&default);
        }
    }

    fn comma(&mut self) {
        let frame = self.frame();
        if let Some(recursive) = frame.with {
            self.expression(recursive);
        } else if frame.from {
            frame.expect = Expect::Table(Item::From);
        } else if frame.tables {
            frame.expect = Expect::Table(Item::Name(Access::Read, false));
        }
    }

    fn word(&mut self, upper: &Upper) {
        let after = self.previous;
        let piped = after == Some(Token::Pipe);
        match upper.as_str() {
            "SELECT" if piped => self.leave_from(),
            "SELECT" => self.begin_part(),
            "FROM" => self.from(),
            "JOIN" => {
                let frame = self.frame();
                (frame.from, frame.expect) = (true, Expect::Table(Item::From));
            }
            "WITH" => {
                let recursive = self.lexer.takes("RECURSIVE");
                self.expression(recursive);
            }
            "UNION" | "INTERSECT" => self.begin_part(),
            "EXCEPT" if self.followed_by(&["ALL", "DISTINCT"]) => self.begin_part(),
            "WHERE" | "GROUP" | "HAVING" | "QUALIFY" | "WINDOW" | "ORDER" | "LIMIT" | "SET" => {
                self.leave_from();
            }
            "TABLE" if self.frame().table_function => {
                self.frame().expect = Expect::Table(Item::Name(Access::Read, false));
            }
            "INSERT" if piped => {
                self.lexer.takes("INTO");
                self.frame().expect = Expect::Table(Item::Name(Access::Write, false));
            }
            "CALL" if piped => self.frame().expect = Expect::Table(Item::From),
            "AS" if piped => self.frame().expect = Expect::AliasName,
            other if self.at_base() => self.watched(other),
            _ => (),
        }
    }

    fn from(&mut self) {
        let of_operator = self.previous.is_some_and(|token| is_word(token, "DISTINCT")); // IS DISTINCT FROM
        let frame = self.frame();
        if of_operator || !(frame.query || (!frame.begun && !frame.call)) {
            return;
        }
        if !frame.begun {
            self.begin_part();
        }
        let frame = self.frame();
        (frame.query, frame.from, frame.with, frame.expect) = (true, true, None, Expect::Table(Item::From));
    }

    fn followed_by(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.lexer.clone().takes(word))
    }
}

fn is_word(token: Token<'_>, wanted: &str) -> bool {
    matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(wanted))
}
