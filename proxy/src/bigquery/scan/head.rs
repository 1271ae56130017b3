//! How a statement begins: its kind in BigQuery's words, and what its next name is.

use ledger::call::Access;

use super::token::{Lexer, Token};

/// A script, and the parts of it that BigQuery has no word of its own for.
pub(super) const SCRIPT: &str = "SCRIPT";

/// What a statement's first words say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// BigQuery's `statementType`; `None` for words that begin no statement.
    pub(super) kind: Option<&'static str>,
    pub(super) part: Part,
    pub(super) next: Next,
    pub(super) watch: Watch,
    /// `TEMP`: what is created goes with the script.
    pub(super) temporary: bool,
    /// Nesting of blocks that it opens or closes.
    pub(super) block: Block,
}

/// What it is in the list of a script's statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A statement of the head's kind.
    Statement,
    /// A statement for which BigQuery has no word but `SCRIPT`: this one.
    Scripting(&'static str),
    /// What a block asks of it goes on. No statement, unless it names a table; then this is its word.
    Condition(&'static str),
}

/// What follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The rest of the statement.
    Rest,
    /// The name of the table that it is about, perhaps with an alias.
    Target(Access, bool),
    /// Another statement, as after `BEGIN` and `ELSE`.
    Statement,
}

/// A word further on in the statement that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    Nothing,
    /// `LIKE`, `CLONE`, `COPY` and a table; `AS` and a query.
    Create,
    /// `USING` and a table.
    Using,
    /// `ON` and a table.
    On,
    /// `TABLES` and a list of tables.
    Graph,
    /// `ON TABLE` and a table, in a GRANT (true) or REVOKE.
    Grant(bool),
    /// `THEN` and a statement.
    Then,
    /// `DO` and a statement.
    Do,
    /// `BEGIN` and the statements of a procedure.
    Body,
}

/// What a statement does to the nesting of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Same,
    Open,
    Close,
}

/// What DDL is about: its words, and the kinds of CREATE, DROP and ALTER.
struct Object {
    words: &'static [&'static str],
    kinds: [&'static str; 3],
    names: Names,
}

/// Where DDL has its table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Table,
    OnTable,
    Other,
}

const fn object(words: &'static [&'static str], kinds: [&'static str; 3], names: Names) -> Object {
    Object { words, kinds, names }
}

/// Longer ones first. A kind that BigQuery does not have is that of the plain word.
#[rustfmt::skip]
const OBJECTS: &[Object] = &[
    object(&["ALL", "ROW", "ACCESS", "POLICIES"], ["", "DROP_ROW_ACCESS_POLICY", ""], Names::OnTable),
    object(&["ROW", "ACCESS", "POLICY"], ["CREATE_ROW_ACCESS_POLICY", "DROP_ROW_ACCESS_POLICY", ""], Names::OnTable),
    object(&["TABLE", "FUNCTION"], ["CREATE_TABLE_FUNCTION", "DROP_TABLE_FUNCTION", ""], Names::Other),
    object(&["AGGREGATE", "FUNCTION"], ["CREATE_FUNCTION", "DROP_FUNCTION", ""], Names::Other),
    object(&["EXTERNAL", "TABLE"], ["CREATE_EXTERNAL_TABLE", "DROP_EXTERNAL_TABLE", "ALTER_TABLE"], Names::Table),
    object(&["SNAPSHOT", "TABLE"], ["CREATE_SNAPSHOT_TABLE", "DROP_SNAPSHOT_TABLE", "ALTER_TABLE"], Names::Table),
    object(&["MATERIALIZED", "VIEW"], ["CREATE_MATERIALIZED_VIEW", "DROP_MATERIALIZED_VIEW", "ALTER_MATERIALIZED_VIEW"], Names::Table),
    object(&["EXTERNAL", "SCHEMA"], ["CREATE_EXTERNAL_SCHEMA", "DROP_SCHEMA", "ALTER_SCHEMA"], Names::Other),
    object(&["SEARCH", "INDEX"], ["CREATE_SEARCH_INDEX", "DROP_SEARCH_INDEX", "ALTER_SEARCH_INDEX"], Names::OnTable),
    object(&["VECTOR", "INDEX"], ["CREATE_VECTOR_INDEX", "DROP_VECTOR_INDEX", "ALTER_VECTOR_INDEX"], Names::OnTable),
    object(&["PROPERTY", "GRAPH"], ["CREATE_PROPERTY_GRAPH", "DROP_PROPERTY_GRAPH", ""], Names::Other),
    object(&["TABLE"], ["CREATE_TABLE", "DROP_TABLE", "ALTER_TABLE"], Names::Table),
    object(&["VIEW"], ["CREATE_VIEW", "DROP_VIEW", "ALTER_VIEW"], Names::Table),
    object(&["SCHEMA"], ["CREATE_SCHEMA", "DROP_SCHEMA", "ALTER_SCHEMA"], Names::Other),
    object(&["FUNCTION"], ["CREATE_FUNCTION", "DROP_FUNCTION", ""], Names::Other),
    object(&["PROCEDURE"], ["CREATE_PROCEDURE", "DROP_PROCEDURE", ""], Names::Other),
    object(&["MODEL"], ["CREATE_MODEL", "DROP_MODEL", "ALTER_MODEL"], Names::Other),
    object(&["CONNECTION"], ["CREATE_CONNECTION", "DROP_CONNECTION", "ALTER_CONNECTION"], Names::Other),
    object(&["DATA_POLICY"], ["CREATE_DATA_POLICY", "DROP_DATA_POLICY", "ALTER_DATA_POLICY"], Names::Other),
    object(&["BI_CAPACITY"], ["", "", "ALTER_BI_CAPACITY"], Names::Other),
    object(&["CAPACITY"], ["CREATE_CAPACITY", "DROP_CAPACITY", "ALTER_CAPACITY"], Names::Other),
    object(&["RESERVATION"], ["CREATE_RESERVATION", "DROP_RESERVATION", "ALTER_RESERVATION"], Names::Other),
    object(&["ASSIGNMENT"], ["CREATE_ASSIGNMENT", "DROP_ASSIGNMENT", ""], Names::Other),
    object(&["PROJECT"], ["", "", "ALTER_PROJECT"], Names::Other),
    object(&["ORGANIZATION"], ["", "", "ALTER_ORGANIZATION"], Names::Other),
];

impl Head {
    const fn plain(kind: &'static str) -> Self {
        Self {
            kind: Some(kind),
            part: Part::Statement,
            next: Next::Rest,
            watch: Watch::Nothing,
            temporary: false,
            block: Block::Same,
        }
    }

    const fn target(kind: &'static str, alias: bool) -> Self {
        Self { next: Next::Target(Access::Write, alias), ..Self::plain(kind) }
    }

    const fn watching(kind: &'static str, watch: Watch) -> Self {
        Self { watch, ..Self::plain(kind) }
    }

    const fn then_statement() -> Self {
        Self { next: Next::Statement, ..Self::plain(SCRIPT) }
    }

    const fn scripting(word: &'static str) -> Self {
        Self { part: Part::Scripting(word), ..Self::plain(SCRIPT) }
    }

    const fn condition(word: &'static str, watch: Watch) -> Self {
        Self { part: Part::Condition(word), ..Self::watching(SCRIPT, watch) }
    }

    const fn closing(self) -> Self {
        Self { block: Block::Close, ..self }
    }

    const fn opening(self) -> Self {
        Self { block: Block::Open, ..self }
    }
}

/// Reads the head of a statement. The first token of a query is left where it is.
pub(super) fn read(lexer: &mut Lexer<'_>) -> Head {
    let mut ahead = lexer.clone();
    let word = match ahead.next().map(|lexeme| lexeme.token) {
        Some(Token::Word(word)) => word.to_ascii_uppercase(),
        Some(Token::Symbol('(')) => return Head::plain("SELECT"),
        _ => return Head { kind: None, ..Head::plain(SCRIPT) },
    };
    if ahead.peek() == Some(Token::Symbol(':')) {
        ahead.next(); // a label
        *lexer = ahead;
        return Head::then_statement();
    }
    if let Some(head) = query(&word) {
        return head;
    }
    let head = data(&word, &mut ahead)
        .or_else(|| definition(&word, &mut ahead))
        .or_else(|| procedural(&word, &mut ahead));
    *lexer = ahead;
    head.unwrap_or(Head { kind: None, ..Head::plain(SCRIPT) })
}

fn query(word: &str) -> Option<Head> {
    ["SELECT", "WITH", "FROM", "GRAPH"].contains(&word).then_some(Head::plain("SELECT"))
}

/// Statements that change or move rows.
fn data(word: &str, lexer: &mut Lexer<'_>) -> Option<Head> {
    let head = match word {
        "INSERT" => {
            lexer.takes("INTO");
            Head::target("INSERT", false)
        }
        "DELETE" => {
            lexer.takes("FROM");
            Head::target("DELETE", true)
        }
        "UPDATE" => Head::target("UPDATE", true),
        "MERGE" => {
            lexer.takes("INTO");
            Head { watch: Watch::Using, ..Head::target("MERGE", true) }
        }
        "TRUNCATE" => {
            lexer.takes("TABLE");
            Head::target("TRUNCATE_TABLE", false)
        }
        "EXPORT" if lexer.takes("MODEL") => Head::plain("EXPORT_MODEL"),
        "EXPORT" if lexer.take_all(&["TABLE", "METADATA", "FROM"]) => {
            Head { next: Next::Target(Access::Read, false), ..Head::plain("EXPORT_METADATA") }
        }
        "EXPORT" => Head::plain("EXPORT_DATA"),
        "LOAD" => {
            let _words = lexer.takes("DATA") && (lexer.takes("INTO") || lexer.takes("OVERWRITE"));
            let temporary = lexer.takes("TEMP") || lexer.takes("TEMPORARY");
            let _table = temporary && lexer.takes("TABLE");
            Head { temporary, ..Head::target("LOAD_DATA", false) }
        }
        "GRANT" => Head::watching("GRANT_ON_TABLE", Watch::Grant(true)),
        "REVOKE" => Head::watching("REVOKE_ON_TABLE", Watch::Grant(false)),
        _ => return None,
    };
    Some(head)
}

/// CREATE, DROP, UNDROP and ALTER.
fn definition(word: &str, lexer: &mut Lexer<'_>) -> Option<Head> {
    let verb = match word {
        "CREATE" => 0,
        "DROP" => 1,
        "ALTER" => 2,
        "UNDROP" => return Some(Head::plain("UNDROP_SCHEMA")),
        _ => return None,
    };
    lexer.take_all(&["OR", "REPLACE"]);
    let temporary = lexer.takes("TEMP") || lexer.takes("TEMPORARY");
    let object = OBJECTS.iter().find(|object| lexer.take_all(object.words));
    let _condition = lexer.take_all(&["IF", "NOT", "EXISTS"]) || lexer.take_all(&["IF", "EXISTS"]);
    let Some(object) = object else {
        return Some(Head { kind: None, ..Head::plain(SCRIPT) });
    };
    let kind = Some(object.kinds[verb]).filter(|kind| !kind.is_empty());
    let next = if object.names == Names::Table { Next::Target(Access::Write, false) } else { Next::Rest };
    let watch = match (object.names, verb, object.kinds[0]) {
        (Names::OnTable, ..) => Watch::On,
        (Names::Table, 0, _) => Watch::Create,
        (Names::Other, 0, "CREATE_PROCEDURE") => Watch::Body,
        (Names::Other, 0, "CREATE_PROPERTY_GRAPH") => Watch::Graph,
        _ => Watch::Nothing,
    };
    Some(Head { kind, part: Part::Statement, next, watch, temporary, block: Block::Same })
}

/// Statements of scripts.
fn procedural(word: &str, lexer: &mut Lexer<'_>) -> Option<Head> {
    let head = match word {
        "BEGIN" if lexer.takes("TRANSACTION") => Head::plain("BEGIN_TRANSACTION"),
        "BEGIN" if matches!(lexer.peek(), None | Some(Token::Symbol(';'))) => {
            Head::plain("BEGIN_TRANSACTION")
        }
        "BEGIN" | "LOOP" | "REPEAT" => Head::then_statement().opening(),
        "COMMIT" => Head::plain("COMMIT_TRANSACTION"),
        "ROLLBACK" => Head::plain("ROLLBACK_TRANSACTION"),
        "CALL" => Head::plain("CALL"),
        "ASSERT" => Head::plain("ASSERT"),
        "IF" => Head::condition("IF", Watch::Then).opening(),
        "CASE" => Head::condition("CASE", Watch::Then).opening(),
        "ELSEIF" => Head::condition("ELSEIF", Watch::Then),
        "WHEN" | "EXCEPTION" => Head::condition("WHEN", Watch::Then),
        "ELSE" => Head::then_statement(),
        "WHILE" => Head::condition("WHILE", Watch::Do).opening(),
        "FOR" => Head::condition("FOR", Watch::Do).opening(),
        // `END IF`, `UNTIL x END REPEAT`: the rest of the statement names no table but in the condition.
        "END" => Head::condition("END", Watch::Nothing).closing(),
        "UNTIL" => Head::condition("UNTIL", Watch::Nothing).closing(),
        "DECLARE" => Head::scripting("DECLARE"),
        "SET" => Head::scripting("SET"),
        "EXECUTE" => Head::scripting("EXECUTE_IMMEDIATE"),
        "RETURN" => Head::scripting("RETURN"),
        "RAISE" => Head::scripting("RAISE"),
        "BREAK" | "LEAVE" => Head::scripting("BREAK"),
        "CONTINUE" | "ITERATE" => Head::scripting("CONTINUE"),
        _ => return None,
    };
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bigquery::method_table::STATEMENT_TYPES;

    #[test]
    fn kinds_are_bigquerys_words() {
        let kinds = OBJECTS.iter().flat_map(|object| object.kinds).filter(|kind| !kind.is_empty());
        let others = [
            "SELECT",
            "INSERT",
            "DELETE",
            "UPDATE",
            "MERGE",
            "TRUNCATE_TABLE",
            "EXPORT_MODEL",
            "EXPORT_METADATA",
            "EXPORT_DATA",
            "LOAD_DATA",
            "GRANT_ON_TABLE",
            "GRANT_ON_VIEW",
            "GRANT_ON_SCHEMA",
            "GRANT_ON_PROJECT",
            "REVOKE_ON_TABLE",
            "REVOKE_ON_VIEW",
            "REVOKE_ON_SCHEMA",
            "REVOKE_ON_PROJECT",
            "UNDROP_SCHEMA",
            "CALL",
            "ASSERT",
            "BEGIN_TRANSACTION",
            "COMMIT_TRANSACTION",
            "ROLLBACK_TRANSACTION",
            "CREATE_TABLE_AS_SELECT",
            SCRIPT,
        ];
        let ours: std::collections::BTreeSet<_> = kinds.chain(others).collect();
        let theirs: std::collections::BTreeSet<_> = STATEMENT_TYPES.iter().copied().collect();
        assert_eq!(ours, theirs);
    }
}
