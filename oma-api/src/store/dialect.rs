//! What differs between the databases: session settings, the word that opens a transaction, the end of CREATE TABLE, and
//! indexes.
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
            Self::Sqlite if sql.contains("DROP INDEX ") => {
                // An index's name is one of the whole database's there.
                lines(sql, |line| {
                    Some(drop_index(line).map_or_else(|| line.to_owned(), |drop| format!("{drop};")))
                })
                .into()
            }
            Self::Sqlite => sql.into(),
            // Ids and words compare byte by byte, whatever the server's defaults; MEDIUMTEXT because a TEXT ends at
            // 64 KiB, and a list of findings need not.
            Self::MariaDb => lines(sql, of_mariadb)
                .replace("\n);", "\n) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;")
                .replace(" TEXT", " MEDIUMTEXT")
                // As whoever asks, not as whoever made it: he may be none of this server's.
                .replace("CREATE VIEW ", "CREATE SQL SECURITY INVOKER VIEW ")
                .into(),
        }
    }
}

/// Indexes that MariaDB makes by itself, because a foreign key needs them: another one in their place could not be dropped.
const OF_KEYS: [&str; 3] = ["replication_jobs_migration", "restore_points_migration", "job_disks_disk"];

/// Names in a TEXT, of which MariaDB indexes so many characters at most.
const OF_TEXTS: [(&str, &str); 2] = [("migrations_name", "(vm_name)"), ("agent_vms_name", "(name)")];

fn lines(sql: &str, change: impl Fn(&str) -> Option<String>) -> String {
    sql.lines().filter_map(change).map(|line| line + "\n").collect()
}

/// `DROP INDEX a ON b;` without the table.
fn drop_index(line: &str) -> Option<&str> {
    line.starts_with("DROP INDEX ").then(|| line.split(" ON ").next()).flatten()
}

fn of_mariadb(line: &str) -> Option<String> {
    let index = line.strip_prefix("CREATE INDEX ").or_else(|| line.strip_prefix("DROP INDEX "));
    let Some(index) = index.and_then(|rest| rest.split(' ').next()) else { return Some(line.to_owned()) };
    if OF_KEYS.contains(&index) {
        return None;
    }
    let text = OF_TEXTS.iter().find(|(name, _)| *name == index);
    Some(
        text.map_or_else(
            || line.to_owned(),
            |(_, column)| line.replace(column, &column.replace(')', "(191))")),
        ),
    )
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
    fn indexes_are_made_and_dropped_in_the_words_of_each() {
        let up = "CREATE INDEX job_disks_disk ON job_disks (disk_id, job_id);\nCREATE INDEX migrations_name ON migrations (vm_name);";
        assert_eq!(Dialect::Sqlite.schema(up), up);
        assert_eq!(
            Dialect::MariaDb.schema(up),
            "CREATE INDEX migrations_name ON migrations (vm_name(191));\n"
        );
        let down = "DROP INDEX job_disks_disk ON job_disks;\nDROP INDEX migrations_vm ON migrations;";
        assert_eq!(Dialect::Sqlite.schema(down), "DROP INDEX job_disks_disk;\nDROP INDEX migrations_vm;\n");
        assert_eq!(Dialect::MariaDb.schema(down), "DROP INDEX migrations_vm ON migrations;\n");
    }

    #[test]
    fn a_table_of_mariadb_says_how_it_is_kept() {
        let sql = Dialect::MariaDb.schema("CREATE TABLE a (\n    b TEXT NOT NULL\n);\nDROP TABLE c;");
        assert_eq!(
            sql,
            "CREATE TABLE a (\n    b MEDIUMTEXT NOT NULL\n) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 \
             COLLATE utf8mb4_bin;\nDROP TABLE c;\n"
        );
    }
}
