//! The settings file: the lines that `--print-config` writes, `name = "value"`. A flag wins over its environment variable,
//! and that wins over the file.

use std::ffi::OsString;

/// The settings file can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadFile {
    /// It can't be read.
    #[error("--config {0}: {1}")]
    Unreadable(String, String),
    /// A line is not a setting.
    #[error("--config {path}, line {line}: {what}")]
    Line {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

/// The program's arguments, with the settings of the file that they (or `BQWITNESS_CONFIG`) name put before them.
/// `variable` reads the environment; `known` says which names are settings.
///
/// # Errors
/// [`BadFile`]
pub fn expand(
    arguments: Vec<OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
    known: impl Fn(&str) -> bool,
) -> Result<Vec<OsString>, BadFile> {
    let Some(path) = flag(&arguments, "config").or_else(|| variable("BQWITNESS_CONFIG")) else {
        return Ok(arguments);
    };
    let path = path.to_string_lossy().into_owned();
    let text =
        std::fs::read_to_string(&path).map_err(|e| BadFile::Unreadable(path.clone(), e.to_string()))?;
    let mut expanded = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: String| BadFile::Line { path: path.clone(), line: number + 1, what };
        let Some((name, value)) = parse_line(line).map_err(|what| wrong(what.into()))? else { continue };
        if name == "config" || !known(name) {
            return Err(wrong(format!("{name:?} is not a setting; --help lists them")));
        }
        let said = format!("BQWITNESS_{}", name.replace('-', "_").to_uppercase());
        if flag(&arguments, name).is_none() && variable(&said).is_none() {
            expanded.push(OsString::from(format!("--{name}={value}")));
        }
    }
    let mut arguments = arguments.into_iter();
    let program = arguments.next();
    Ok(program.into_iter().chain(expanded).chain(arguments).collect())
}

/// The value of a flag, written `--name value` or `--name=value`.
fn flag(arguments: &[OsString], name: &str) -> Option<OsString> {
    let (alone, joined) = (format!("--{name}"), format!("--{name}="));
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        if text == alone {
            return arguments.next().cloned();
        }
        if let Some(value) = text.strip_prefix(&joined) {
            return Some(value.into());
        }
    }
    None
}

/// `name = "value"`, with JSON's escapes; nothing for an empty line and a comment.
fn parse_line(line: &str) -> Result<Option<(&str, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = line.split_once('=').ok_or("a setting is written name = \"value\"")?;
    let value = serde_json::from_str(value.trim()).map_err(|_| "a value is written in double quotes")?;
    Ok(Some((name.trim(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(file: &str, arguments: &[&str], variables: &[&str]) -> Result<Vec<String>, BadFile> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("settings");
        std::fs::write(&path, file).expect("room");
        let mut all = vec!["program".to_owned(), format!("--config={}", path.display())];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let variable = |name: &str| variables.contains(&name).then(|| "x".into());
        let known = |name: &str| ["data", "listen", "reader"].contains(&name);
        let expanded = expand(all.into_iter().map(OsString::from).collect(), variable, known)?;
        let words = expanded.into_iter().map(|word| word.into_string().expect("UTF-8"));
        Ok(words.skip(1).filter(|word| !word.starts_with("--config")).collect())
    }

    #[test]
    fn flags_win_over_variables_and_those_over_the_file() {
        let file = "# a comment\n\ndata = \"/data\"\nlisten=\"a \\\"b\\\"\"\nreader = \"x/y\"\n";
        assert_eq!(
            expanded(file, &[], &[]),
            Ok(vec!["--data=/data".into(), "--listen=a \"b\"".into(), "--reader=x/y".into()])
        );
        assert_eq!(
            expanded(file, &["--data", "/other"], &["BQWITNESS_LISTEN"]),
            Ok(vec!["--reader=x/y".into(), "--data".into(), "/other".into()])
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        for (file, part) in [
            ("data = \"x\"\nnothing", "line 2: a setting is written"),
            ("data = x", "line 1: a value is written in double quotes"),
            ("dta = \"x\"", "line 1: \"dta\" is not a setting"),
        ] {
            let error = expanded(file, &[], &[]).expect_err("bad").to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
