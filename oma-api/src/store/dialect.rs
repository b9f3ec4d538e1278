//! What differs between the databases: session settings, the word that opens a transaction, the end of CREATE TABLE.
//!
//! All other SQL is one text for both.

use std::borrow::Cow;

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    /// And MySQL.
    MariaDb,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Writer,
    Reader,
}

impl Dialect {
    /// What is said on every new connection.
    pub(super) const fn session(self, role: Role) -> &'static [&'static str] {
        match (self, role) {
            // FULL: a COMMIT that returned survives a power cut; WAL alone would only survive a crash of the program.
            (Self::Sqlite, Role::Writer) => &[
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                "PRAGMA foreign_keys = ON",
                "PRAGMA busy_timeout = 10000",
            ],
            (Self::Sqlite, Role::Reader) => &["PRAGMA busy_timeout = 10000", "PRAGMA query_only = ON"],
            // The server drops a silent connection, and the locks it held, so that the place of a machine that lost its
            // power can be taken; a connection that it dropped is opened again when it is needed.
            (Self::MariaDb, Role::Writer) => &[MODES, NAMES, ISOLATION, "SET SESSION wait_timeout = 60"],
            (Self::MariaDb, Role::Reader) => &[MODES, NAMES, ISOLATION, "SET SESSION TRANSACTION READ ONLY"],
        }
    }

    /// Opens a writing transaction.
    pub(super) const fn begin(self) -> &'static str {
        match self {
            // The write lock is taken before the first read, so nothing read can be stale when written.
            Self::Sqlite => "BEGIN IMMEDIATE",
            // Here the first statement does that: see `transaction`.
            Self::MariaDb => "START TRANSACTION",
        }
    }

    /// A version of the schema in this database's words.
    pub(super) fn schema(self, sql: &'static str) -> Cow<'static, str> {
        match self {
            Self::Sqlite => sql.into(),
            // Ids and words compare byte by byte, whatever the server's defaults; MEDIUMTEXT because a TEXT ends at
            // 64 KiB, and a list of findings need not.
            Self::MariaDb => sql
                .replace("\n);", "\n) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;")
                .replace(" TEXT", " MEDIUMTEXT")
                .into(),
        }
    }
}

/// Not those of the server: a value that does not fit is an error, never cut; a lock is not waited for for long.
const MODES: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
     time_zone = '+00:00', autocommit = 1, default_storage_engine = 'InnoDB', foreign_key_checks = 1, unique_checks = 1, innodb_lock_wait_timeout = 5";
const NAMES: &str = "SET NAMES utf8mb4 COLLATE utf8mb4_bin";
/// Readers see one moment; the writer's moment begins after it has the lock.
const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_mariadb_says_how_it_is_kept() {
        let sql = Dialect::MariaDb.schema("CREATE TABLE a (\n    b TEXT NOT NULL\n);\nDROP TABLE c;");
        assert_eq!(
            sql,
            "CREATE TABLE a (\n    b MEDIUMTEXT NOT NULL\n) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 \
             COLLATE utf8mb4_bin;\nDROP TABLE c;"
        );
    }
}
