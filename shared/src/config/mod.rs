//! Configuration files of the daemons: TOML, read once, before any port is bound.
//!
//! A key nobody knows is refused, with its line and the nearest known key: a misspelt limit that is silently ignored
//! is a limit that is not there. For that every configuration struct carries `#[serde(deny_unknown_fields)]`, nested
//! ones too.
//!
//! Not here: the daemons' own structs and their checks (see [`Error::invalid`]), reloading, defaults from the
//! environment. Secrets do not stand in these files; paths to them do.

mod period;
pub mod ports;
mod size;
mod unknown;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use period::Period;
pub use size::ByteSize;

/// Exit code of a program that could not use its configuration or its arguments (`EX_USAGE`).
pub const EXIT_CONFIGURATION: u8 = 64;

/// What is wrong with a configuration file. `Display` names the file, the place and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such file.
    #[error("configuration file {} does not exist: name another one, or start from the example in deploy/examples", path.display())]
    Missing {
        /// As given.
        path: PathBuf,
    },
    /// It is there and cannot be read: rights, a folder, no UTF-8.
    #[error("configuration file {} cannot be read: check that it is a text file and that this user may read it", path.display())]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{}:{line}:{column}: this is not TOML: {message}", path.display())]
    Syntax {
        /// As given.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The parser's words, on one line.
        message: String,
    },
    /// A key that nothing reads.
    #[error("{}:{line}: unknown key `{key}`: {hint}", path.display())]
    UnknownKey {
        /// As given.
        path: PathBuf,
        /// From 1; 0 where it is not known.
        line: usize,
        /// With its tables: `transfer.window`.
        key: String,
        /// The nearest known key, where one is near.
        nearest: Option<String>,
        /// What to write instead.
        hint: String,
    },
    /// A key whose value cannot be used, or a required key that is missing.
    #[error("{}:{line}: {message}", path.display())]
    Value {
        /// As given.
        path: PathBuf,
        /// From 1; 0 where it is not known.
        line: usize,
        /// With its tables; empty at the top.
        key: String,
        /// The key and what was expected.
        message: String,
    },
    /// A value that a daemon's own check refused.
    #[error("{}: `{key}` {message}", path.display())]
    Invalid {
        /// As given.
        path: PathBuf,
        /// With its tables.
        key: String,
        /// A sentence that goes on from the key: "must be at least 1; …".
        message: String,
    },
}

impl Error {
    /// For checks that the types cannot make; `message` goes on from the key: "must be …".
    pub fn invalid(path: &Path, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { path: path.to_owned(), key: key.into(), message: message.into() }
    }
}

/// Reads and checks a configuration file.
///
/// # Errors
/// See [`Error`]; nothing of a file that is wrong anywhere is used.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
        _ => Error::Unreadable { path: path.to_owned(), source },
    })?;
    parse(path, &text)
}

/// As [`load`], of a text that is already there; `path` is for the messages.
///
/// # Errors
/// See [`Error`].
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Error> {
    let syntax = |error: &toml::de::Error| {
        let (line, column) = error.span().map_or((0, 0), |span| place(text, span.start));
        let message = one_line(error.message());
        Error::Syntax { path: path.to_owned(), line, column, message }
    };
    let document = toml::Deserializer::parse(text).map_err(|error| syntax(&error))?;
    serde_path_to_error::deserialize(document).map_err(|error| explain(path, text, &error))
}

fn explain(path: &Path, text: &str, error: &serde_path_to_error::Error<toml::de::Error>) -> Error {
    let table = error.path().to_string();
    let table = if table == "." { String::new() } else { table };
    let start = error.inner().span().map(|span| span.start);
    let line = start.map_or(0, |at| place(text, at).0);
    let message = one_line(error.inner().message());
    let path = path.to_owned();
    if let Some(found) = unknown::parse(&message) {
        let line = start.map_or(0, |at| place(text, unknown::find(text, at, &found.key)).0);
        let key = unknown::full_key(&table, &found.key);
        let nearest = found.nearest();
        let hint = found.hint();
        return Error::UnknownKey { path, line, key, nearest, hint };
    }
    let message = match (message.strip_prefix("missing field "), table.is_empty()) {
        (Some(key), true) => format!("the required key {key} is missing at the top of the file"),
        (Some(key), false) => format!("the required key {key} is missing in `{table}`"),
        (None, true) => message,
        (None, false) => format!("`{table}`: {message}"),
    };
    Error::Value { path, line, key: table, message }
}

/// An example file with the keys that stand there as `#key = default` switched on: what is documented has to be
/// readable, too. Prose begins with `# `. For the tests of the examples in `deploy/`.
pub fn with_all_keys(example: &str) -> String {
    let is_key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines =
        example.lines().map(|line| line.strip_prefix('#').filter(|rest| is_key(rest)).unwrap_or(line));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// Line and column, from 1, of a byte offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

/// Some of the parser's messages have several lines; a log line has one.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
