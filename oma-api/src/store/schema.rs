//! The schema's versions, embedded, up and down.
//!
//! A version that has been released is never edited: sqlx keeps a checksum of each and refuses to go on.

use super::Error;
use sqlx::AnyPool;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

struct Version {
    number: i64,
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

const VERSIONS: &[Version] = &[Version {
    number: 1,
    name: "replicate",
    up: include_str!("../../migrations/0001_replicate.up.sql"),
    down: include_str!("../../migrations/0001_replicate.down.sql"),
}];

fn migrator() -> Migrator {
    let pair = |v: &Version| {
        [(MigrationType::ReversibleUp, v.up), (MigrationType::ReversibleDown, v.down)].map(
            |(direction, sql)| Migration::new(v.number, v.name.into(), direction, sql.into_sql_str(), false),
        )
    };
    Migrator::with_migrations(VERSIONS.iter().flat_map(pair).collect())
}

pub(super) async fn up(pool: &AnyPool) -> Result<(), Error> {
    migrator().run(pool).await.map_err(Error::Schema)
}

pub(super) async fn down(pool: &AnyPool, version: i64) -> Result<(), Error> {
    migrator().undo(pool, version).await.map_err(Error::Schema)
}
