//! Reads statements token by token. The parentheses are a list, not the call stack; no token is looked at more often than a
//! fixed number of times.

use ledger::call::Access;

use super::frame::{Expect, Frame, Item, Upper};
use super::head::{self, Block, Head, Next, SCRIPT, Watch};
use super::name::{self, Form, Span};
use super::scope::{Scope, Table};
use super::token::{Lexeme, Lexer, Token};

/// Deepest nesting that is looked into. BigQuery gives up far earlier; what is deeper is passed over, and the scan says so.
const MAX_DEPTH: usize = 4096;

/// What the statements of a text were.
#[derive(Default)]
pub(super) struct Kinds {
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
    pub(super) fn overall(&self) -> Option<&'static str> {
        let prepared_query = self.others == 1 && self.last == Some("SELECT");
        if self.script || (self.statements > 1 && !prepared_query) { Some(SCRIPT) } else { self.last }
    }
}

/// Takes the tables of each statement.
pub(super) trait Sink {
    /// Tables of a statement that ended, in the order of the text.
    fn tables(&mut self, tables: Vec<Table>);
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

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the statement's own frame is never closed")
    }

    fn at_base(&self) -> bool {
        self.frames.len() == 1
    }
}

/// Statements.
impl Machine<'_, '_> {
    fn begin_statement(&mut self) {
        loop {
            self.frames.clear();
            self.frames.push(Frame { query: true, ..Frame::default() });
            (self.too_deep, self.cases, self.previous) = (0, 0, None);
            if matches!(self.lexer.peek(), None | Some(Token::Symbol(';'))) {
                self.head = Head {
                    kind: None,
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
    fn sets_defaults(&self) -> bool {
        let mut names = self.lexer.clone().take_while(|lexeme| {
            matches!(lexeme.token, Token::Symbol('(' | ',' | ')') | Token::Parameter(_) | Token::Word(_))
        });
        names.any(|lexeme| matches!(lexeme.token, Token::Parameter(name) if {
            ["@@dataset_id", "@@dataset_project_id"].iter().any(|setting| name.eq_ignore_ascii_case(setting))
        }))
    }

    fn end_statement(&mut self) {
        while self.frames.len() > 1 {
            self.close();
        }
        self.end_part();
        let tables = self.scope.finish();
        self.sink.tables(tables);
        let empty = self.head.kind.is_none() && self.head.temporary;
        if !empty {
            self.count();
        }
    }

    /// Counts the statement, unless it is in the body of a procedure.
    fn count(&mut self) {
        let (kind, temporary) = (self.head.kind, self.head.temporary);
        if self.body == 0 {
            self.kinds.push(kind, temporary);
        }
    }

    /// Follows the blocks within the body of a procedure.
    fn nest(&mut self) {
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
    fn next_statement(&mut self) {
        self.end_statement();
        self.begin_statement();
    }
}

/// Tokens.
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
                Token::Pipe => self.frame().from = false,
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
        }
    }

    fn word(&mut self, upper: &Upper) {
        let after = self.previous;
        let piped = after == Some(Token::Pipe);
        match upper.as_str() {
            "SELECT" if piped => self.frame().from = false,
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
                self.frame().from = false
            }
            "TABLE" if self.frame().table_function => {
                self.frame().expect = Expect::Table(Item::Name(Access::Read, false));
            }
            "INSERT" if piped => {
                self.lexer.takes("INTO");
                self.frame().expect = Expect::Table(Item::Name(Access::Write, false));
            }
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

    /// Words of the statement itself that matter because of how it began.
    fn watched(&mut self, word: &str) {
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

    fn as_query(&mut self) {
        if self.followed_by(&["SELECT", "WITH", "FROM"]) || self.lexer.peek() == Some(Token::Symbol('(')) {
            self.head.watch = Watch::Nothing;
            if self.head.kind == Some("CREATE_TABLE") {
                self.head.kind = Some("CREATE_TABLE_AS_SELECT");
            }
        }
    }

    fn grant(&mut self, grant: bool) {
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

/// Parentheses and queries.
impl Machine<'_, '_> {
    fn push(&mut self, frame: Frame) {
        if self.frames.len() > MAX_DEPTH {
            self.truncated = true;
            self.too_deep = 1;
            return;
        }
        let (owner, mark) = (self.frames.len(), self.scope.mark());
        self.frames.push(Frame { owner, opened: mark, part: mark, ..frame });
    }

    fn open(&mut self) {
        let call = match self.previous {
            Some(Token::Word(word)) => !Upper::new(word).is_reserved(),
            Some(Token::Quoted(_)) => true,
            _ => false,
        };
        self.push(Frame { call, ..Frame::default() });
    }

    /// A parenthesis where a table is expected: a query, or tables that are joined.
    fn open_item(&mut self) {
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

    fn close_one(&mut self) {
        if !self.at_base() {
            self.close();
        }
    }

    fn close(&mut self) {
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
    fn begin_part(&mut self) {
        self.end_part();
        let (depth, mark) = (self.frames.len() - 1, self.scope.mark());
        let frame = self.frame();
        if frame.owner != depth {
            (frame.owner, frame.closed) = (depth, true); // FROM ((SELECT ..) UNION ALL SELECT ..)
        }
        (frame.query, frame.from, frame.with, frame.part) = (true, false, None, mark);
    }

    fn end_part(&mut self) {
        if let Expect::Alias(Some(default)) = std::mem::take(&mut self.frame().expect) {
            self.declare(&default);
        }
        let depth = self.frames.len() - 1;
        let frame = self.frame();
        let (part, aliases) = (frame.part, std::mem::take(&mut frame.aliases));
        aliases.iter().for_each(|alias| self.scope.resolve(alias, part, depth));
    }

    /// A common table expression, if one comes next: `name AS (`
    fn expression(&mut self, recursive: bool) {
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

/// Tables.
impl<'s> Machine<'s, '_> {
    /// Handles the token where a table is expected; false when it is something else.
    fn table(&mut self, lexeme: Lexeme<'s>, item: Item) -> bool {
        let from = item == Item::From;
        match lexeme.token {
            Token::Symbol('(') if from => {
                self.open_item();
                true
            }
            Token::Word(word) if from => self.from_word(lexeme, &Upper::new(word)),
            Token::Symbol('[') | Token::Quoted(_) => self.name(lexeme, item),
            Token::Word(word) if !Upper::new(word).is_reserved() => self.name(lexeme, item),
            _ => false,
        }
    }

    fn from_word(&mut self, lexeme: Lexeme<'s>, upper: &Upper) -> bool {
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

    fn name_follows(&self) -> bool {
        match self.lexer.peek() {
            Some(Token::Word(word)) => !Upper::new(word).is_reserved(),
            Some(Token::Quoted(_) | Token::Symbol('(' | '[')) => true,
            _ => false,
        }
    }

    fn takes_parenthesis(&mut self) -> bool {
        let follows = self.lexer.peek() == Some(Token::Symbol('('));
        if follows {
            self.lexer.next();
        }
        follows
    }

    fn legacy_function(&mut self, expect: Expect) {
        self.push(Frame { item: true, call: true, expect, ..Frame::default() });
    }

    fn legacy_name(&mut self, form: Form) {
        let mut ahead = self.lexer.clone();
        let Some(span) = ahead.next().and_then(|lexeme| name::read(self.lexer.sql(), lexeme.start)) else {
            return;
        };
        self.lexer.skip_to(span.end);
        self.scope.table(Table { start: span.start, form, access: Access::Read });
    }

    fn name(&mut self, lexeme: Lexeme<'s>, item: Item) -> bool {
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
    fn read_table(&mut self, span: &Span, for_good: bool) {
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

    fn written_table(&mut self, span: Span, alias: bool) {
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

fn is_word(token: Token<'_>, wanted: &str) -> bool {
    matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(wanted))
}
