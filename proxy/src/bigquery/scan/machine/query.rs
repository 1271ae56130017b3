//! Parentheses, the parts of a query, and common table expressions.

use super::{MAX_DEPTH, Machine};
use crate::bigquery::scan::frame::{Expect, Frame, Item, Upper};
use crate::bigquery::scan::token::Token;

impl Machine<'_, '_> {
    pub(super) fn push(&mut self, frame: Frame) {
        if self.frames.len() > MAX_DEPTH {
            self.truncated = true;
            self.too_deep = 1;
            return;
        }
        let (owner, mark) = (self.frames.len(), self.scope.mark());
        self.frames.push(Frame { owner, opened: mark, part: mark, ..frame });
    }

    pub(super) fn open(&mut self) {
        let call = match self.previous {
            Some(Token::Word(word)) => !Upper::new(word).is_reserved(),
            Some(Token::Quoted(_)) => true,
            _ => false,
        };
        self.push(Frame { call, ..Frame::default() });
    }

    /// A parenthesis where a table is expected: a query, or tables that are joined.
    pub(super) fn open_item(&mut self) {
        let owner = self.frame().owner;
        if self.followed_by(&["SELECT", "WITH", "FROM"]) {
            self.push(Frame { item: true, closed: true, ..Frame::default() });
        } else {
            let depth = self.frames.len();
            self.push(Frame {
                item: true,
                from: true,
                expect: Expect::Table(Item::From),
                ..Frame::default()
            });
            if let Some(group) = self.frames.get_mut(depth) {
                group.owner = owner;
            }
        }
    }

    pub(super) fn close_one(&mut self) {
        if !self.at_base() {
            self.close();
        }
    }

    pub(super) fn close(&mut self) {
        self.end_part();
        let Some(frame) = self.frames.pop() else { return };
        frame.expressions.iter().for_each(|expression| self.scope.undefine(expression));
        if frame.closed {
            self.scope.settle(frame.opened);
        }
        let outer = self.frames.last_mut().expect("the statement's own frame is never closed");
        if let Some(expression) = frame.defines {
            self.scope.define(&expression);
            outer.expressions.push(expression);
        }
        if frame.item {
            outer.expect = Expect::Alias(None);
        }
    }

    /// A query, or its next part behind UNION, begins: aliases of the part before do not reach into it.
    pub(super) fn begin_part(&mut self) {
        self.end_part();
        let (depth, mark) = (self.frames.len() - 1, self.scope.mark());
        let frame = self.frame();
        if frame.owner != depth {
            (frame.owner, frame.closed) = (depth, true); // FROM ((SELECT ..) UNION ALL SELECT ..)
        }
        (frame.query, frame.from, frame.with, frame.part) = (true, false, None, mark);
    }

    pub(super) fn end_part(&mut self) {
        if let Expect::Alias(Some(default)) = std::mem::take(&mut self.frame().expect) {
            self.declare(&default);
        }
        let depth = self.frames.len() - 1;
        let frame = self.frame();
        let (part, aliases) = (frame.part, std::mem::take(&mut frame.aliases));
        aliases.iter().for_each(|alias| self.scope.resolve(alias, part, depth));
    }

    /// A common table expression, if one comes next: `name AS (`
    pub(super) fn expression(&mut self, recursive: bool) {
        let mut ahead = self.lexer.clone();
        let name = match ahead.next().map(|lexeme| lexeme.token) {
            Some(Token::Word(name) | Token::Quoted(name)) => name.to_lowercase(),
            _ => return,
        };
        if !ahead.takes("AS") || ahead.next().map(|lexeme| lexeme.token) != Some(Token::Symbol('(')) {
            return;
        }
        self.lexer = ahead;
        let frame = self.frame();
        frame.with = Some(recursive);
        if recursive {
            frame.expressions.push(name.clone());
            self.scope.define(&name);
        }
        self.push(Frame { closed: true, defines: (!recursive).then_some(name), ..Frame::default() });
    }
}
