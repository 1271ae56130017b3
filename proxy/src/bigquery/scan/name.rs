//! Names of tables: where they end in the text, and what their parts are.

use ledger::call::Access;

use super::Named;
use super::token::{Lexer, Token, word_len};

/// Longest name that is taken apart, in bytes; project, data set and table have at most 30, 1,024 and 1,024 characters.
const MAX_NAME: usize = 16 * 1024;

/// What a name in the text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A table.
    Table,
    /// All tables that begin like this (legacy `TABLE_DATE_RANGE`).
    Prefix,
    /// All tables of a data set (legacy `TABLE_QUERY`).
    Dataset,
}

/// A name in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Its first part, in lower case, as aliases and common table expressions are compared.
    pub(super) first: String,
    /// Its last part, in lower case: the alias that it has when no other is given.
    pub(super) last: String,
    /// It has more than one part.
    pub(super) qualified: bool,
}

/// The name that begins at `start`, where a name is expected.
pub(super) fn read(sql: &str, start: usize) -> Option<Span> {
    let (parts, end) = parts(sql, start)?;
    let split: Vec<&str> = parts.iter().flat_map(|part| part.split(['.', ':'])).collect();
    let (first, last) = (split.first()?.to_lowercase(), split.last()?.to_lowercase());
    Some(Span { start, end, first, last, qualified: split.len() > 1 })
}

/// The table that a name means.
pub(super) fn named(sql: &str, start: usize, form: Form, access: Access) -> Option<Named> {
    let (parts, end) = parts(sql, start)?;
    if end - start > MAX_NAME {
        return None;
    }
    let text = parts.join(".");
    // `example.com:project.dataset.table`, and legacy `project:dataset.table`
    let (prefix, rest) =
        text.rsplit_once(':').map_or((None, text.as_str()), |(prefix, rest)| (Some(prefix), rest));
    let mut words: Vec<&str> = rest.split('.').collect();
    let view = words.iter().position(|word| word.eq_ignore_ascii_case("INFORMATION_SCHEMA"));
    let table = match form {
        Form::Dataset => "*".to_owned(),
        Form::Table | Form::Prefix => words.split_off(view.unwrap_or(words.len() - 1)).join("."),
    };
    let table = if form == Form::Prefix { format!("{table}*") } else { table };
    let dataset = words.pop().map(str::to_owned);
    let project = match (prefix, words.is_empty()) {
        (Some(prefix), true) => Some(prefix.to_owned()),
        (Some(prefix), false) => Some(format!("{prefix}:{}", words.join("."))),
        (None, true) => None,
        (None, false) => Some(words.join(".")),
    };
    Some(Named { project, dataset, table, access, temporary: false })
}

/// The parts of a name, and where it ends.
fn parts(sql: &str, start: usize) -> Option<(Vec<String>, usize)> {
    if let Some(rest) = sql[start..].strip_prefix('[') {
        // Legacy SQL. A bracket or a line's end within means that it is none.
        let length = rest.find([']', '[', '\n']).filter(|end| rest[*end..].starts_with(']'))?;
        let name = rest[..length].trim();
        return (!name.is_empty()).then(|| (vec![name.to_owned()], start + length + 2));
    }
    let mut parts = Vec::new();
    let mut at = start;
    loop {
        let (part, end) = part(sql, at, parts.is_empty())?;
        parts.push(part);
        at = end;
        let mut ahead = Lexer::new(sql);
        ahead.skip_to(end);
        let Some(Token::Symbol('.')) = ahead.next().map(|lexeme| lexeme.token) else { break };
        ahead.skip_trivia();
        let Some(next) = ahead.next().filter(|next| matches!(next.token, Token::Word(_) | Token::Quoted(_)))
        else {
            break;
        };
        at = next.start;
    }
    Some((parts, at))
}

/// One part: a quoted name, or words joined by what names may have in them outside of backticks.
fn part(sql: &str, start: usize, first: bool) -> Option<(String, usize)> {
    let mut lexer = Lexer::new(sql);
    lexer.skip_to(start);
    if sql[start..].starts_with('`') {
        let Token::Quoted(name) = lexer.next()?.token else { return None };
        // An open quote ends with the text.
        return Some((unescape(name), (start + name.len() + 2).min(sql.len())));
    }
    let mut end = start + word_len(&sql[start..]);
    if end == start || (first && sql[start..].starts_with(|c: char| c.is_ascii_digit())) {
        return None;
    }
    // Unquoted projects have dashes in them; legacy SQL has a colon behind the project.
    while sql[end..].starts_with(['-', ':']) {
        let length = word_len(&sql[end + 1..]);
        if length == 0 {
            break;
        }
        end += 1 + length;
    }
    if sql[end..].starts_with('*') {
        end += 1;
    }
    Some((sql[start..end].to_owned(), end))
}

/// Quoted names have the escapes of texts, so `` `\x62illing` `` is `billing`.
fn unescape(name: &str) -> String {
    if !name.contains('\\') {
        return name.to_owned();
    }
    let mut text = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let (c, length) = escape(&rest[at + 1..]);
        text.extend(c);
        rest = &rest[at + 1 + length..];
    }
    text.push_str(rest);
    text
}

/// The character that an escape stands for, and the length of the escape behind its backslash.
fn escape(text: &str) -> (Option<char>, usize) {
    let digits = |from: usize, count: usize, radix: u32| {
        let digits = text
            .get(from..from + count)
            .filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)))?;
        Some((char::from_u32(u32::from_str_radix(digits, radix).ok()?), from + count))
    };
    let Some(first) = text.chars().next() else { return (None, 0) };
    let found = match first {
        'x' | 'X' => digits(1, 2, 16),
        'u' => digits(1, 4, 16),
        'U' => digits(1, 8, 16),
        '0'..='3' => digits(0, 3, 8),
        _ => None,
    };
    found.unwrap_or((Some(first), first.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(sql: &str) -> String {
        let named = named(sql, 0, Form::Table, Access::Read);
        named.map_or_else(String::new, |named| {
            [named.project, named.dataset, Some(named.table)].map(Option::unwrap_or_default).join("|")
        })
    }

    #[test]
    fn parts_of_names() {
        for (sql, expected) in [
            ("invoices WHERE", "||invoices"),
            ("billing.invoices", "|billing|invoices"),
            ("p.billing.invoices", "p|billing|invoices"),
            ("`p.billing.invoices`", "p|billing|invoices"),
            ("`p`.`billing`.`invoices`", "p|billing|invoices"),
            ("`p.billing`.invoices", "p|billing|invoices"),
            ("p . billing /* c */ . invoices x", "p|billing|invoices"),
            ("my-project-123.billing.invoices", "my-project-123|billing|invoices"),
            ("my-project-1.billing.2026_invoices", "my-project-1|billing|2026_invoices"),
            ("`example.com:p.billing.invoices`", "example.com:p|billing|invoices"),
            ("[p:billing.invoices]", "p|billing|invoices"),
            ("[example.com:p:billing.invoices]", "example.com:p|billing|invoices"),
            ("[billing.invoices$20260101]", "|billing|invoices$20260101"),
            ("publicdata:samples.shakespeare", "publicdata|samples|shakespeare"),
            ("`billing.events_*`", "|billing|events_*"),
            ("billing.events_*", "|billing|events_*"),
            ("billing.INFORMATION_SCHEMA.TABLES", "|billing|INFORMATION_SCHEMA.TABLES"),
            ("p.`region-us`.INFORMATION_SCHEMA.JOBS", "p|region-us|INFORMATION_SCHEMA.JOBS"),
            ("region-us.INFORMATION_SCHEMA.JOBS", "|region-us|INFORMATION_SCHEMA.JOBS"),
            ("INFORMATION_SCHEMA.SCHEMATA", "||INFORMATION_SCHEMA.SCHEMATA"),
            (r"`\x62illing.invo\u0069ces`", "|billing|invoices"),
            ("p.catalog.ns.t", "p.catalog|ns|t"),
            ("billing.select", "|billing|select"),
            ("tab-le.", "||tab-le"),
            ("`open.name", "|open|name"),
            ("[open", ""),
            ("(", ""),
            ("1x", ""),
        ] {
            assert_eq!(table(sql), expected, "{sql}");
        }
    }

    #[test]
    fn legacy_functions_name_many_tables() {
        let named = |form| named("[p:d.events_]", 0, form, Access::Read).map(|named| named.table);
        assert_eq!(named(Form::Prefix).as_deref(), Some("events_*"));
        assert_eq!(named(Form::Dataset).as_deref(), Some("*"));
    }

    #[test]
    fn aliases_of_names() {
        let span = read("`p.Billing.Invoices` x", 0).expect("a name");
        assert_eq!(
            (span.first.as_str(), span.last.as_str(), span.qualified, span.end),
            ("p", "invoices", true, 20)
        );
        assert!(!read("Invoices", 0).expect("a name").qualified);
    }

    proptest! {
        #[test]
        fn any_text_has_a_name_or_not(sql in "[a-z`.:*\\\\\\[\\]é \\-]{0,40}") {
            if let Some(span) = read(&sql, 0) {
                prop_assert!(span.end > 0 && sql.is_char_boundary(span.end));
                prop_assert!(named(&sql, 0, Form::Table, Access::Read).is_some());
            }
        }
    }
}
