//! The `database_url` key: what database it names.

use super::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

/// A database that may be opened.
#[derive(Debug)]
pub(super) enum Location {
    Sqlite(SqliteFile),
    MariaDb(Server),
}

/// A database file.
#[derive(Debug)]
pub(super) struct SqliteFile {
    /// For the driver: absolute, escaped, "create the file if it is missing".
    pub(super) url: String,
    /// For people.
    pub(super) shown: String,
}

/// A database of a server.
pub(super) struct Server {
    /// For the driver; with the password.
    pub(super) url: String,
    /// For people: without password and options.
    pub(super) shown: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

const EXAMPLES: &str =
    "write sqlite:///var/lib/migratekit/oma.db or mysql://USER:PASSWORD@HOST:3306/DATABASE";

/// Of a server's URL; what is not among them is the store's own business.
const OPTIONS: &[&str] = &["socket", "ssl-mode", "ssl-ca", "ssl-cert", "ssl-key"];

/// Takes `sqlite:PATH`, `sqlite://PATH`, and `mysql://` or `mariadb://` with user, host and database.
pub(super) fn parse(database_url: &str) -> Result<Location, Error> {
    if let Some(path) = database_url.strip_prefix("sqlite:") {
        return sqlite_file(database_url, path).map(Location::Sqlite);
    }
    let server = ["mysql://", "mariadb://"].into_iter().find_map(|s| database_url.strip_prefix(s));
    match server {
        Some(rest) => mariadb(rest).map(Location::MariaDb),
        None => Err(Error::Url {
            url: redacted(database_url),
            why: format!("this names no database; {EXAMPLES}"),
        }),
    }
}

fn sqlite_file(database_url: &str, path: &str) -> Result<SqliteFile, Error> {
    let refuse = |why: &str| Error::Url { url: database_url.to_owned(), why: why.to_owned() };
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
    let text =
        path.to_str().ok_or_else(|| refuse("the path is not UTF-8, which the database driver needs"))?;
    Ok(SqliteFile { url: format!("sqlite://{}?mode=rwc", escape(text)), shown: path.display().to_string() })
}

/// `rest` is what follows `mysql://`.
fn mariadb(rest: &str) -> Result<Server, Error> {
    let refuse = |why: &str| Error::Url { url: redacted(&format!("mysql://{rest}")), why: why.to_owned() };
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    if database.contains(['/', '@']) || options.contains('@') || rest.contains('#') {
        return Err(refuse("write the characters / ? # @ and % of a password as %2F %3F %23 %40 %25"));
    }
    let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user = login.split_once(':').map_or(login, |(user, _)| user);
    if user.is_empty() {
        return Err(refuse("the user is missing; write mysql://USER:PASSWORD@HOST:3306/DATABASE"));
    }
    if host.is_empty() || host.starts_with(':') {
        return Err(refuse("the host is missing; write localhost where ?socket=/PATH says more"));
    }
    if database.is_empty() {
        return Err(refuse("the database is missing; write mysql://USER:PASSWORD@HOST:3306/DATABASE"));
    }
    for option in options.split('&').filter(|o| !o.is_empty()) {
        let name = option.split('=').next().unwrap_or(option);
        if !OPTIONS.contains(&name) {
            return Err(refuse(&format!("the option {name} is not taken; those are {}", OPTIONS.join(" "))));
        }
    }
    let url = format!("mysql://{rest}");
    // The driver's own words say which part it is, not what stands there.
    sqlx::mysql::MySqlConnectOptions::from_str(&url).map_err(|e| refuse(&e.to_string()))?;
    Ok(Server { url, shown: format!("mysql://{user}@{host}/{database}") })
}

fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            other => write!(out, "%{other:02X}").expect("a String takes everything"),
        }
    }
    out
}

/// What may be a password must not be in a message: all between the scheme and the last @.
fn redacted(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        (None | Some(_), None | Some(_)) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        parse(url).expect_err(url).to_string()
    }

    #[test]
    fn says_what_is_wrong_with_a_url() {
        for (url, word) in [
            ("postgres://u:secret@h/db", "mysql://USER"),
            ("sqlite:", "path is missing"),
            ("sqlite::memory:", "in memory"),
            ("sqlite:///tmp", "folder"),
            ("sqlite:///tmp/a?mode=memory", "options"),
            ("mysql://u:secret@h", "database is missing"),
            ("mysql://h/db", "user is missing"),
            ("mariadb://u:secret@/db", "host is missing"),
            ("mysql://u:secret@h:port/db", "port"),
            ("mysql://u:secret@h/db?charset=latin1", "charset is not taken"),
            ("mysql://u:secret@h/db?ssl-mode=maybe", "maybe"),
            ("mysql://u:sec/ret@h/db", "%2F"),
            ("mysql://u:sec?ret@h/db", "%3F"),
            ("mysql://u:sec#ret@h/db", "%23"),
        ] {
            let error = refused(url);
            assert!(error.contains(word), "{error}");
            assert!(!error.contains("sec") && !error.contains("ret"), "{error}");
        }
        let error = refused("sqlite:///no/such/folder/oma.db");
        assert!(error.contains("/no/such/folder") && error.contains("mkdir -p"), "{error}");
    }

    #[test]
    fn any_file_name_can_be_used() {
        let file = |url: &str| match parse(url).expect("a good path") {
            Location::Sqlite(file) => file,
            Location::MariaDb(_) => panic!("{url} is a file"),
        };
        let odd = file("sqlite:///tmp/a #%é.db");
        assert_eq!(odd.url, "sqlite:///tmp/a%20%23%25%C3%A9.db?mode=rwc");
        assert_eq!(odd.shown, "/tmp/a #%é.db");
        assert!(file("sqlite:oma.db").shown.starts_with('/'));
    }

    #[test]
    fn a_password_goes_to_the_driver_only() {
        let server = |url: &str| match parse(url).expect(url) {
            Location::MariaDb(server) => server,
            Location::Sqlite(_) => panic!("{url} is no file"),
        };
        let one = server(
            "mariadb://oma:p%40ss@db.example:3307/migratekit?ssl-mode=VERIFY_IDENTITY&ssl-ca=/etc/ca.pem",
        );
        assert!(one.url.starts_with("mysql://oma:p%40ss@db.example:3307/migratekit?"), "{}", one.url);
        assert_eq!(one.shown, "mysql://oma@db.example:3307/migratekit");
        assert!(!format!("{one:?}").contains("p%40ss"));
        assert_eq!(server("mysql://oma@localhost/m?socket=/run/db.sock").shown, "mysql://oma@localhost/m");
    }
}
