//! Places where a table is named.

use ledger::call::Access;

use super::Machine;
use crate::bigquery::scan::frame::{Expect, Frame, Item, Upper};
use crate::bigquery::scan::name::{self, Form, Span};
use crate::bigquery::scan::scope::Table;
use crate::bigquery::scan::token::{Lexeme, Token};

impl<'s> Machine<'s, '_> {
    /// Handles the token where a table is expected; false when it is something else.
    pub(super) fn table(&mut self, lexeme: Lexeme<'s>, item: Item) -> bool {
        let from = item == Item::From;
        match lexeme.token {
            Token::Symbol('(') if from => {
                self.open_item();
                true
            }
            Token::Word(word) if from => self.item(lexeme, &Upper::new(word)),
            Token::Symbol('[') | Token::Quoted(_) => self.name(lexeme, item),
            Token::Word(word) if !Upper::new(word).is_reserved() => self.name(lexeme, item),
            _ => false,
        }
    }

    pub(super) fn item(&mut self, lexeme: Lexeme<'s>, upper: &Upper) -> bool {
        let again = Expect::Table(Item::From);
        match upper.as_str() {
            "UNNEST" => self.frame().expect = Expect::Arguments(false),
            "LATERAL" => self.frame().expect = again,
            "EACH" if self.name_follows() => self.frame().expect = again, // legacy JOIN EACH
            "FLATTEN" if self.takes_parenthesis() => self.legacy_function(again),
            "TABLE_DATE_RANGE" | "TABLE_DATE_RANGE_STRICT" if self.takes_parenthesis() => {
                self.legacy_function(Expect::Anything);
                self.legacy_name(Form::Prefix);
            }
            "TABLE_QUERY" if self.takes_parenthesis() => {
                self.legacy_function(Expect::Anything);
                self.legacy_name(Form::Dataset);
            }
            _ if upper.is_reserved() => return false,
            _ => return self.name(lexeme, Item::From),
        }
        true
    }

    pub(super) fn name_follows(&self) -> bool {
        match self.lexer.peek() {
            Some(Token::Word(word)) => !Upper::new(word).is_reserved(),
            Some(Token::Quoted(_) | Token::Symbol('(' | '[')) => true,
            _ => false,
        }
    }

    pub(super) fn takes_parenthesis(&mut self) -> bool {
        let follows = self.lexer.peek() == Some(Token::Symbol('('));
        if follows {
            self.lexer.next();
        }
        follows
    }

    pub(super) fn legacy_function(&mut self, expect: Expect) {
        self.push(Frame { item: true, call: true, expect, ..Frame::default() });
    }

    pub(super) fn legacy_name(&mut self, form: Form) {
        let mut ahead = self.lexer.clone();
        let Some(span) = ahead.next().and_then(|lexeme| name::read(self.lexer.sql(), lexeme.start)) else {
            return;
        };
        self.lexer.skip_to(span.end);
        self.scope.table(Table { start: span.start, form, access: Access::Read });
    }

    pub(super) fn name(&mut self, lexeme: Lexeme<'s>, item: Item) -> bool {
        let Some(span) = name::read(self.lexer.sql(), lexeme.start) else { return false };
        self.lexer.skip_to(span.end);
        match item {
            Item::From if self.lexer.peek() == Some(Token::Symbol('(')) => {
                self.frame().expect = Expect::Arguments(true); // a table function
            }
            Item::From => {
                self.read_table(&span, false);
                self.frame().expect = Expect::Alias(Some(span.last));
            }
            Item::Name(Access::Read, _) => self.read_table(&span, true),
            Item::Name(Access::Write, alias) => self.written_table(span, alias),
        }
        true
    }

    /// A table that is read, unless the name is that of a common table expression or of an array. A name behind TABLE, CLONE
    /// or LIKE is never an array.
    pub(super) fn read_table(&mut self, span: &Span, for_good: bool) {
        if self.scope.is_expression(span) {
            return;
        }
        let table = Table { start: span.start, form: Form::Table, access: Access::Read };
        let owner = self.frame().owner;
        if for_good {
            self.scope.table(table);
        } else if !(span.qualified && self.frames[owner].aliases.contains(&span.first)) {
            self.scope.candidate(span, table, owner);
        }
    }

    pub(super) fn written_table(&mut self, span: Span, alias: bool) {
        let table = Table { start: span.start, form: Form::Table, access: Access::Write };
        if self.head.temporary && !span.qualified {
            self.sink.temporary(table);
        }
        self.scope.table(table);
        if alias {
            self.frame().expect = Expect::Alias(Some(span.last));
        }
    }
}
