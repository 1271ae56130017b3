//! Where statements begin and end, and the words of each kind that matter.

use ledger::call::Access;

use super::{Machine, Place};
use crate::bigquery::scan::frame::{Expect, Frame, Item};
use crate::bigquery::scan::head::{self, Block, Head, Next, Part, SCRIPT, Watch};
use crate::bigquery::scan::token::Token;

/// What the statements of a text were.
#[derive(Default)]
pub(in crate::bigquery::scan) struct Kinds {
    statements: usize,
    /// Statements that are not CREATE TEMP FUNCTION.
    others: usize,
    last: Option<&'static str>,
    script: bool,
}

impl Kinds {
    fn push(&mut self, kind: Option<&'static str>, temporary: bool) {
        self.statements += 1;
        self.others += usize::from(!(temporary && kind == Some("CREATE_FUNCTION")));
        self.script |= kind == Some(SCRIPT);
        self.last = kind;
    }

    /// The kind of all statements together. Temporary functions before one query do not make a script.
    pub(in crate::bigquery::scan) fn overall(&self) -> Option<&'static str> {
        let prepared_query = self.others == 1 && self.last == Some("SELECT");
        if self.script || (self.statements > 1 && !prepared_query) { Some(SCRIPT) } else { self.last }
    }
}

impl Machine<'_, '_> {
    pub(super) fn begin_statement(&mut self) {
        loop {
            self.frames.clear();
            self.frames.push(Frame { query: true, ..Frame::default() });
            (self.too_deep, self.cases, self.previous) = (0, 0, None);
            if matches!(self.lexer.peek(), None | Some(Token::Symbol(';'))) {
                self.head = Head {
                    kind: None,
                    part: Part::Statement,
                    next: Next::Rest,
                    watch: Watch::Nothing,
                    temporary: true,
                    block: Block::Same,
                };
                return;
            }
            let starts_set = self.lexer.clone().takes("SET");
            self.head = head::read(&mut self.lexer);
            self.nest();
            if starts_set && self.sets_defaults() {
                self.sink.sets_defaults();
            }
            match self.head.next {
                Next::Statement => self.count(),
                Next::Target(access, alias) => {
                    return self.frame().expect = Expect::Table(Item::Name(access, alias));
                }
                Next::Rest => return,
            }
        }
    }

    /// Does this SET set `@@dataset_id` or `@@dataset_project_id`? They are the first thing in it, or within parentheses.
    pub(super) fn sets_defaults(&self) -> bool {
        let mut names = self.lexer.clone().take_while(|lexeme| {
            matches!(lexeme.token, Token::Symbol('(' | ',' | ')') | Token::Parameter(_) | Token::Word(_))
        });
        names.any(|lexeme| matches!(lexeme.token, Token::Parameter(name) if {
            ["@@dataset_id", "@@dataset_project_id"].iter().any(|setting| name.eq_ignore_ascii_case(setting))
        }))
    }

    pub(super) fn end_statement(&mut self) {
        while self.frames.len() > 1 {
            self.close();
        }
        self.end_part();
        let tables = self.scope.finish();
        let empty = self.head.kind.is_none() && self.head.temporary;
        let place = match self.head.part {
            _ if empty || self.body > 0 => Place::Before,
            Part::Statement => Place::Statement(self.head.kind),
            Part::Scripting(word) => Place::Statement(Some(word)),
            Part::Condition(word) => Place::Condition(word),
        };
        self.sink.statement(place, tables);
        if !empty {
            self.count();
        }
    }

    /// Counts the statement, unless it is in the body of a procedure.
    pub(super) fn count(&mut self) {
        let (kind, temporary) = (self.head.kind, self.head.temporary);
        if self.body == 0 {
            self.kinds.push(kind, temporary);
        }
    }

    /// Follows the blocks within the body of a procedure.
    pub(super) fn nest(&mut self) {
        match self.head.block {
            Block::Open if self.body > 0 => self.body += 1,
            Block::Close if self.body > 1 => self.body -= 1,
            Block::Close if self.body == 1 => {
                // The procedure was counted when its body began; this END belongs to it.
                self.body = 0;
                self.head = Head { kind: None, temporary: true, ..self.head };
            }
            _ => (),
        }
    }

    /// A condition, or the head of a procedure, ends here, and statements follow.
    pub(super) fn next_statement(&mut self) {
        self.end_statement();
        self.begin_statement();
    }
    /// Words of the statement itself that matter because of how it began.
    pub(super) fn watched(&mut self, word: &str) {
        let read = Expect::Table(Item::Name(Access::Read, false));
        match (self.head.watch, word) {
            (Watch::Create, "LIKE" | "CLONE" | "COPY") => self.frame().expect = read,
            (Watch::Create, "AS") if self.lexer.take_all(&["REPLICA", "OF"]) => self.frame().expect = read,
            (Watch::Create, "AS") => self.as_query(),
            (Watch::Using, "USING") => {
                self.head.watch = Watch::Nothing;
                self.frame().expect = Expect::Table(Item::From);
            }
            (Watch::On, "ON") => {
                self.head.watch = Watch::Nothing;
                self.frame().expect = Expect::Table(Item::Name(Access::Write, false));
            }
            (Watch::Grant(grant), "ON") => self.grant(grant),
            (Watch::Graph, "TABLES") if self.takes_parenthesis() => {
                self.push(Frame { tables: true, expect: read, ..Frame::default() });
            }
            (Watch::Then | Watch::Do, "CASE") => self.cases += 1,
            (Watch::Then | Watch::Do, "END") => self.cases = self.cases.saturating_sub(1),
            (Watch::Then, "THEN") if self.cases == 0 => self.next_statement(),
            (Watch::Do, "DO") if self.cases == 0 => self.next_statement(),
            (Watch::Body, "BEGIN") => {
                self.end_statement();
                self.body = 1;
                self.begin_statement();
            }
            _ => (),
        }
    }

    pub(super) fn as_query(&mut self) {
        if self.followed_by(&["SELECT", "WITH", "FROM"]) || self.lexer.peek() == Some(Token::Symbol('(')) {
            self.head.watch = Watch::Nothing;
            if self.head.kind == Some("CREATE_TABLE") {
                self.head.kind = Some("CREATE_TABLE_AS_SELECT");
            }
        }
    }

    pub(super) fn grant(&mut self, grant: bool) {
        self.head.watch = Watch::Nothing;
        let kind = |granted, revoked| Some(if grant { granted } else { revoked });
        if self.lexer.takes("SCHEMA") || self.lexer.takes("DATASET") {
            self.head.kind = kind("GRANT_ON_SCHEMA", "REVOKE_ON_SCHEMA");
            return;
        } else if self.lexer.takes("PROJECT") {
            self.head.kind = kind("GRANT_ON_PROJECT", "REVOKE_ON_PROJECT");
            return;
        } else if self.lexer.takes("VIEW") {
            self.head.kind = kind("GRANT_ON_VIEW", "REVOKE_ON_VIEW");
        } else {
            let _words = self.lexer.take_all(&["EXTERNAL", "TABLE"]) || self.lexer.takes("TABLE");
        }
        self.frame().expect = Expect::Table(Item::Name(Access::Write, false));
    }
}
