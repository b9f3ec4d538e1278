//! The `database_url` key: what SQLite file it names.

use super::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A database file that may be opened.
#[derive(Debug)]
pub(super) struct SqliteFile {
    /// For the driver: absolute, escaped, "create the file if it is missing".
    pub(super) url: String,
    /// For people.
    pub(super) shown: String,
}

/// Takes `sqlite:PATH` and `sqlite://PATH`, relative or absolute.
pub(super) fn sqlite_file(database_url: &str) -> Result<SqliteFile, Error> {
    let refuse = |why| Error::Url { url: without_password(database_url), why };
    let Some(path) = database_url.strip_prefix("sqlite:") else {
        return Err(refuse("this build knows SQLite only; write sqlite:///var/lib/migratekit/oma.db"));
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() {
        return Err(refuse("the path is missing; write sqlite:///var/lib/migratekit/oma.db"));
    }
    if path.contains(":memory:") {
        return Err(refuse("a database in memory forgets what was copied; name a file"));
    }
    if path.contains('?') {
        return Err(refuse("options are not taken; name the file only"));
    }
    let path = std::path::absolute(path).map_err(|_| refuse("the path has no absolute form"))?;
    if path.is_dir() {
        return Err(refuse("this is a folder; name a file in it"));
    }
    let folder: PathBuf = path.parent().unwrap_or(Path::new("/")).to_owned();
    if !folder.is_dir() {
        return Err(Error::NoFolder { folder, file: path });
    }
    Ok(SqliteFile { url: format!("sqlite://{}?mode=rwc", escape(&path)?), shown: path.display().to_string() })
}

fn escape(path: &Path) -> Result<String, Error> {
    let text = path.to_str().ok_or_else(|| Error::Url {
        url: path.display().to_string(),
        why: "the path is not UTF-8, which the database driver needs",
    })?;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            other => write!(out, "%{other:02X}").expect("a String takes everything"),
        }
    }
    Ok(out)
}

/// A URL of another database may carry a password; an error message must not.
fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        (None | Some(_), None | Some(_)) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_a_url() {
        for (url, word) in [
            ("postgres://u:secret@h/db", "SQLite only"),
            ("sqlite:", "path is missing"),
            ("sqlite::memory:", "in memory"),
            ("sqlite:///tmp", "folder"),
            ("sqlite:///tmp/a?mode=memory", "options"),
        ] {
            let error = sqlite_file(url).expect_err(url).to_string();
            assert!(error.contains(word), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let error = sqlite_file("sqlite:///no/such/folder/oma.db").expect_err("no folder").to_string();
        assert!(error.contains("/no/such/folder") && error.contains("mkdir -p"), "{error}");
    }

    #[test]
    fn any_file_name_can_be_used() {
        let file = sqlite_file("sqlite:///tmp/a #%é.db").expect("a good path");
        assert_eq!(file.url, "sqlite:///tmp/a%20%23%25%C3%A9.db?mode=rwc");
        assert_eq!(file.shown, "/tmp/a #%é.db");
        assert!(sqlite_file("sqlite:oma.db").expect("relative").shown.starts_with('/'));
    }
}
