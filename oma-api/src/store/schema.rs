//! The schema's versions, embedded, up and down.
//!
//! A version that has been released is never edited: sqlx keeps a checksum of each and refuses to go on.

use super::Error;
use super::dialect::Dialect;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, AssertSqlSafe, SqlSafeStr as _};

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
];

fn migrator(dialect: Dialect) -> Migrator {
    let pair = |v: &Version| {
        [(MigrationType::ReversibleUp, v.up), (MigrationType::ReversibleDown, v.down)].map(
            |(direction, sql)| {
                let sql = AssertSqlSafe(dialect.schema(sql).into_owned()).into_sql_str();
                Migration::new(v.number, v.name.into(), direction, sql, false)
            },
        )
    };
    Migrator::with_migrations(VERSIONS.iter().flat_map(pair).collect())
}

pub(super) async fn up(pool: &AnyPool, dialect: Dialect) -> Result<(), Error> {
    migrator(dialect).run(pool).await.map_err(Error::Schema)
}

pub(super) async fn down(pool: &AnyPool, dialect: Dialect, version: i64) -> Result<(), Error> {
    migrator(dialect).undo(pool, version).await.map_err(Error::Schema)
}
