//! Holds what a test can hold of the house rules: what ARCHITECTURE.md lists as "never".
//!
//! It reads the source as text, comments cut off: words that may stand in some folders only, edges between the
//! packages, lengths of files, what lies at the top. What needs judgement (a handler that decides, a synonym) is left
//! to readers.

use std::path::{Path, PathBuf};

/// Words that belong to certain folders. Paths are relative to the repository; a path without an ending means the
/// module: the file and the folder of that name.
struct Words {
    words: &'static [&'static str],
    place: Place,
    why: &'static str,
}

enum Place {
    /// Nowhere but here.
    Only(&'static [&'static str]),
    /// Anywhere but here.
    Never(&'static [&'static str]),
}

const WORDS: &[Words] = &[
    Words {
        words: &["proto::v1", "proto::{"],
        place: Place::Only(&[
            "proto",
            "shared/src/wire",
            "oma-api/src/grpc",
            "vma-agent/src/connect",
            "vma-agent/src/grpc",
            "vma-agent/src/transfer", // the client of TransferService
            "migratekit/src/cli",
            "integration-tests",
        ]),
        why: "generated types stay at the edges: convert them there, or in shared::wire",
    },
    Words { words: &["pub use proto"], place: Place::Only(&[]), why: "generated types are not handed on" },
    Words {
        words: &["sqlx", "rusqlite"],
        place: Place::Only(&["oma-api/src/store"]),
        why: "SQL lives in oma-api/src/store",
    },
    Words {
        words: &["unsafe", "allow(unsafe_code", "expect(unsafe_code"],
        place: Place::Only(&["migratekit/src/nbd/ffi"]),
        why: "unsafe code lives in migratekit/src/nbd/ffi (ffi.rs and the declarations beside it)",
    },
    Words {
        words: &[
            "SystemTime",
            "Instant",
            "::now(",
            "tokio",
            "std::fs",
            "std::net",
            "std::env",
            "std::process",
        ],
        place: Place::Never(&["shared/src/migration"]),
        why: "the state machine has no IO and no clock",
    },
    Words {
        words: &[
            "SystemTime",
            "Instant",
            "::now(",
            "tokio",
            "std::fs",
            "std::env",
            "std::process",
            "Store",
            ".store",
        ],
        place: Place::Never(&["oma-api/src/preflight"]),
        why: "a preflight is a function of the facts that service::check has gathered",
    },
    Words {
        // The store's types may be converted there; the store itself may not be asked.
        words: &[
            "Store",
            ".store",
            "crate::storage",
            "crate::cloudstack",
            "crate::linstor",
            "crate::reconcile",
        ],
        place: Place::Never(&["oma-api/src/grpc", "oma-api/src/rest", "oma-api/src/web"]),
        why: "a handler authorises, converts and calls a service; nothing else",
    },
    Words {
        words: &["crate::failover", "crate::cloudstack", "crate::linstor", "crate::storage"],
        place: Place::Never(&["oma-api/src/workflow"]),
        why: "the workflow engine knows no product",
    },
    Words {
        words: &["anyhow"],
        place: Place::Never(&["shared", "proto"]),
        why: "errors are typed; anyhow is for main, the CLI and tests",
    },
];

/// Which packages of the workspace each may name in its Cargo.toml, [dev-dependencies] included.
const EDGES: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("shared", &["proto"]),
    ("migratekit", &["proto", "shared", "integration-tests"]),
    ("vma-agent", &["proto", "shared", "migratekit", "integration-tests"]),
    ("oma-api", &["proto", "shared", "migratekit", "integration-tests"]),
    ("integration-tests", &["proto", "shared", "migratekit", "vma-agent", "oma-api"]),
];

const MAX_LINES: usize = 500;
const MAX_LINES_OF_MAIN: usize = 60;

/// Everything that is against the rules in the repository at `root`, one line each.
fn violations(root: &Path) -> Vec<String> {
    let mut found = top_level(root);
    found.extend(EDGES.iter().flat_map(|(package, allowed)| edges(root, package, allowed)));
    for file in EDGES.iter().flat_map(|(package, _)| rust_files(&root.join(package))) {
        let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        found.extend(lengths(&path, &text));
        // The lists above hold every word.
        if !path.starts_with("integration-tests/src/architecture") {
            found.extend(WORDS.iter().flat_map(|rule| words(rule, &path, &text)));
        }
    }
    found
}

/// What .gitignore names is a matter of the working copy, as are hidden files.
fn top_level(root: &Path) -> Vec<String> {
    let ignored = std::fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let allowed = |name: &str| {
        name.starts_with('.')
            || name == "deploy"
            || EDGES.iter().any(|(package, _)| *package == name)
            || ignored.lines().any(|line| line.trim_matches('/') == name)
    };
    let folders = entries(root).into_iter().filter(|entry| entry.is_dir());
    let names = folders.filter_map(|entry| Some(entry.file_name()?.to_string_lossy().into_owned()));
    names
        .filter(|name| !allowed(name))
        .map(|name| format!("{name}/: no such folder belongs at the top"))
        .collect()
}

fn edges(root: &Path, package: &str, allowed: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(root.join(package).join("Cargo.toml")).unwrap_or_default();
    let named =
        text.lines().filter_map(|line| line.split(['.', '=', ' ']).next()).map(|key| key.replace('_', "-"));
    named
        .filter(|key| EDGES.iter().any(|(other, _)| other == key) && key != package)
        .filter(|key| !allowed.contains(&key.as_str()))
        .map(|key| format!("{package}/Cargo.toml: {package} must not depend on {key}"))
        .collect()
}

fn lengths(path: &str, text: &str) -> Option<String> {
    let most = if path.ends_with("/main.rs") { MAX_LINES_OF_MAIN } else { MAX_LINES };
    let lines = text.lines().count();
    (lines > most).then(|| format!("{path}: {lines} lines, {most} at most: split it"))
}

fn words(rule: &Words, path: &str, text: &str) -> Vec<String> {
    let within = |places: &[&str]| places.iter().any(|place| is_within(path, place));
    let applies = match rule.place {
        Place::Only(places) => !within(places),
        Place::Never(places) => within(places),
    };
    if !applies {
        return Vec::new();
    }
    let hit = |line: &str| rule.words.iter().find(|word| has_word(without_comment(line), word));
    let numbered = text.lines().zip(1..).filter_map(|(line, number)| Some((number, hit(line)?)));
    numbered.map(|(number, word)| format!("{path}:{number}: `{word}`: {}", rule.why)).collect()
}

fn is_within(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

/// Cut at the first `//` that is not part of a URL.
fn without_comment(line: &str) -> &str {
    let is_comment = |at: &usize| !line[..*at].ends_with(':');
    line.match_indices("//").map(|(at, _)| at).find(is_comment).map_or(line, |at| &line[..at])
}

/// `word` with nothing of an identifier on its open sides.
fn has_word(line: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().filter(|_| word.starts_with(in_name));
        let after = line[at + word.len()..].chars().next().filter(|_| word.ends_with(in_name));
        !before.into_iter().chain(after).any(in_name)
    })
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in entries(folder) {
        if entry.is_dir() {
            found.extend(rust_files(&entry));
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            found.push(entry);
        }
    }
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    found
}

mod map;
mod tests;
