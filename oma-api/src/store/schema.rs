//! The schema's versions, embedded, up and down.
//!
//! A version that has been released is never edited: sqlx keeps a checksum of each and refuses to go on.
//!
//! SQLite changes a schema in a transaction. A MariaDB or MySQL server commits each CREATE and DROP by itself, so that a
//! program killed in the middle leaves a version half made, and marked so: the next start makes what is missing of it.

use super::Error;
use super::dialect::Dialect;
use super::error::Doing as _;
use super::transaction::number;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Row as _, SqlSafeStr as _};
use tracing::warn;

struct Version {
    number: i64,
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

const VERSIONS: &[Version] = &[
    Version {
        number: 1,
        name: "replicate",
        up: include_str!("../../migrations/0001_replicate.up.sql"),
        down: include_str!("../../migrations/0001_replicate.down.sql"),
    },
    Version {
        number: 2,
        name: "writer",
        up: include_str!("../../migrations/0002_writer.up.sql"),
        down: include_str!("../../migrations/0002_writer.down.sql"),
    },
    Version {
        number: 3,
        name: "rate",
        up: include_str!("../../migrations/0003_rate.up.sql"),
        down: include_str!("../../migrations/0003_rate.down.sql"),
    },
    Version {
        number: 4,
        name: "peak",
        up: include_str!("../../migrations/0004_peak.up.sql"),
        down: include_str!("../../migrations/0004_peak.down.sql"),
    },
    Version {
        number: 5,
        name: "configuration",
        up: include_str!("../../migrations/0005_configuration.up.sql"),
        down: include_str!("../../migrations/0005_configuration.down.sql"),
    },
    Version {
        number: 6,
        name: "tokens",
        up: include_str!("../../migrations/0006_tokens.up.sql"),
        down: include_str!("../../migrations/0006_tokens.down.sql"),
    },
    Version {
        number: 7,
        name: "schedules",
        up: include_str!("../../migrations/0007_schedules.up.sql"),
        down: include_str!("../../migrations/0007_schedules.down.sql"),
    },
    Version {
        number: 8,
        name: "actions",
        up: include_str!("../../migrations/0008_actions.up.sql"),
        down: include_str!("../../migrations/0008_actions.down.sql"),
    },
    Version {
        number: 9,
        name: "profiles",
        up: include_str!("../../migrations/0009_profiles.up.sql"),
        down: include_str!("../../migrations/0009_profiles.down.sql"),
    },
    Version {
        number: 10,
        name: "trace",
        up: include_str!("../../migrations/0010_trace.up.sql"),
        down: include_str!("../../migrations/0010_trace.down.sql"),
    },
    Version {
        number: 12,
        name: "retired_disks",
        up: include_str!("../../migrations/0012_retired_disks.up.sql"),
        down: include_str!("../../migrations/0012_retired_disks.down.sql"),
    },
    Version {
        number: 14,
        name: "crowd",
        up: include_str!("../../migrations/0014_crowd.up.sql"),
        down: include_str!("../../migrations/0014_crowd.down.sql"),
    },
    Version {
        number: 15,
        name: "attempts",
        up: include_str!("../../migrations/0015_attempts.up.sql"),
        down: include_str!("../../migrations/0015_attempts.down.sql"),
    },
    Version {
        number: 16,
        name: "workflow",
        up: include_str!("../../migrations/0016_workflow.up.sql"),
        down: include_str!("../../migrations/0016_workflow.down.sql"),
    },
    Version {
        number: 17,
        name: "failover",
        up: include_str!("../../migrations/0017_failover.up.sql"),
        down: include_str!("../../migrations/0017_failover.down.sql"),
    },
    Version {
        number: 18,
        name: "live",
        up: include_str!("../../migrations/0018_live.up.sql"),
        down: include_str!("../../migrations/0018_live.down.sql"),
    },
    Version {
        number: 19,
        name: "asks",
        up: include_str!("../../migrations/0019_asks.up.sql"),
        down: include_str!("../../migrations/0019_asks.down.sql"),
    },
    Version {
        number: 21,
        name: "notices",
        up: include_str!("../../migrations/0021_notices.up.sql"),
        down: include_str!("../../migrations/0021_notices.down.sql"),
    },
    Version {
        number: 22,
        name: "undone",
        up: include_str!("../../migrations/0022_undone.up.sql"),
        down: include_str!("../../migrations/0022_undone.down.sql"),
    },
];

/// Tables of a version that hold what is worth keeping, each after those it refers to. Not `writer`: who writes is not the
/// past's.
pub(super) fn tables(version: i64) -> Vec<&'static str> {
    let of =
        |v: &Version| v.up.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")).collect::<Vec<_>>();
    let names = VERSIONS.iter().filter(|v| v.number <= version).flat_map(of);
    names.filter_map(|rest| rest.split([' ', '(']).next()).filter(|name| *name != "writer").collect()
}

/// The version that the schema has; `None` before the first.
pub(super) async fn current(connection: &mut AnyConnection) -> Result<Option<i64>, sqlx::Error> {
    let row = sqlx::query("SELECT CAST(MAX(version) AS SIGNED) FROM _sqlx_migrations WHERE success = 1");
    row.fetch_one(connection).await?.try_get(0)
}

/// The version of this program.
pub fn newest() -> i64 {
    VERSIONS.last().map_or(0, |v| v.number)
}

fn migrator(dialect: Dialect, to: i64) -> Migrator {
    let pair = |v: &Version| {
        [(MigrationType::ReversibleUp, v.up), (MigrationType::ReversibleDown, v.down)].map(
            |(direction, sql)| {
                let sql = AssertSqlSafe(dialect.schema(sql).into_owned()).into_sql_str();
                Migration::new(v.number, v.name.into(), direction, sql, false)
            },
        )
    };
    Migrator::with_migrations(VERSIONS.iter().filter(|v| v.number <= to).flat_map(pair).collect())
}

pub(super) async fn up(pool: &AnyPool, dialect: Dialect) -> Result<(), Error> {
    up_to(pool, dialect, newest()).await
}

/// Not further than `version`.
pub(super) async fn up_to(pool: &AnyPool, dialect: Dialect, version: i64) -> Result<(), Error> {
    if dialect == Dialect::MariaDb {
        complete(pool, dialect).await.doing("completing the database schema")?;
    }
    migrator(dialect, version).run(pool).await.map_err(Error::Schema)?;
    if dialect == Dialect::MariaDb {
        keep(pool).await.doing("looking at the table of the schema's versions")?;
    }
    Ok(())
}

/// The migrator makes its own table by the defaults of the server and of the database; it is kept as ours are.
async fn keep(pool: &AnyPool) -> Result<(), sqlx::Error> {
    let other = sqlx::query(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations' \
         AND (engine <> 'InnoDB' OR table_collation <> 'utf8mb4_bin')",
    );
    if other.fetch_optional(pool).await?.is_some() {
        let kept = "ALTER TABLE _sqlx_migrations ENGINE = InnoDB, \
                    CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
        sqlx::raw_sql(kept).execute(pool).await?;
    }
    Ok(())
}

/// There already: a table, a column, an index, a row.
const THERE: [u16; 4] = [1050, 1060, 1061, 1062];

/// Makes what is missing of versions that are half made.
async fn complete(pool: &AnyPool, dialect: Dialect) -> Result<(), sqlx::Error> {
    let half = sqlx::query("SELECT version FROM _sqlx_migrations WHERE success = 0 ORDER BY version");
    let half = match half.fetch_all(pool).await {
        Ok(rows) => rows,
        // No schema at all yet.
        Err(error) if number(&error) == Some(1146) => return Ok(()),
        Err(error) => return Err(error),
    };
    for row in half {
        let of: i64 = row.try_get(0)?;
        // One of a newer program is left to it: the migrator says so.
        let Some(version) = VERSIONS.iter().find(|v| v.number == of) else { continue };
        warn!(version = of, "the change of the database schema was cut short; it is completed");
        for statement in statements(&dialect.schema(version.up)) {
            match sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await {
                Err(error) if number(&error).is_some_and(|n| THERE.contains(&n)) => {}
                done => done.map(|_| ())?,
            }
        }
        let done = sqlx::query("UPDATE _sqlx_migrations SET success = 1 WHERE version = ?").bind(of);
        done.execute(pool).await?;
    }
    Ok(())
}

/// Each ends with a line that ends with a semicolon; comments are lines of their own.
fn statements(sql: &str) -> Vec<String> {
    let code: Vec<_> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let mut all: Vec<_> =
        code.join("\n").split(";\n").map(|s| s.trim().trim_end_matches(';').to_owned()).collect();
    all.retain(|statement| !statement.is_empty());
    all
}

pub(super) async fn down(pool: &AnyPool, dialect: Dialect, version: i64) -> Result<(), Error> {
    migrator(dialect, newest()).undo(pool, version).await.map_err(Error::Schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_cut_into_its_statements() {
        let all = |v: &Version| [statements(v.up), statements(v.down)].concat();
        let words = [
            "CREATE TABLE ",
            "CREATE INDEX ",
            "CREATE UNIQUE INDEX ",
            "INSERT INTO ",
            "DROP TABLE ",
            "DROP INDEX ",
            "ALTER TABLE ",
            "CREATE VIEW ",
            "DROP VIEW ",
        ];
        // A view tells words apart; no literal of one has a semicolon.
        let quotes = |s: &str| s.starts_with("INSERT") || s.starts_with("CREATE VIEW");
        for statement in VERSIONS.iter().flat_map(all) {
            assert!(words.iter().any(|word| statement.starts_with(word)), "{statement}");
            assert!(!statement.contains(';') || statement.starts_with("INSERT"), "{statement}");
            assert!(!statement.contains('\'') || quotes(&statement), "{statement}");
        }
        assert_eq!(statements(VERSIONS[1].up).len(), 2);
    }
}
