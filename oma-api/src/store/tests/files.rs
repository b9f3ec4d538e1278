//! What only SQLite has: a file.

use super::*;

type Fixture = FixtureOn<Sqlite>;

async fn pragma(pool: &sqlx::AnyPool, statement: &'static str) -> String {
    let row = sqlx::query(statement).fetch_one(pool).await.expect(statement);
    row.try_get::<String, _>(0).unwrap_or_else(|_| row.try_get::<i64, _>(0).expect("a number").to_string())
}

#[tokio::test]
async fn writes_survive_power_cuts_and_readers_cannot_write() {
    let f = Fixture::new().await;
    assert_eq!(pragma(&f.store.write, "PRAGMA journal_mode").await, "wal");
    assert_eq!(pragma(&f.store.write, "PRAGMA synchronous").await, "2", "FULL");
    assert_eq!(pragma(&f.store.write, "PRAGMA foreign_keys").await, "1");
    let refused = sqlx::query("DELETE FROM events").execute(&f.store.read).await.expect_err("read only");
    assert!(refused.to_string().contains("readonly"), "{refused}");
}

#[tokio::test]
async fn a_folder_that_is_missing_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("missing/oma.db");
    let error = Store::connect(&format!("sqlite://{}", file.display())).await.expect_err("no folder");
    assert!(matches!(error, Error::NoFolder { .. }), "{error}");
    assert!(!file.exists() && !file.parent().expect("a parent").exists());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("oma.db");
    std::fs::write(&file, "this is a letter, not a database; it is long enough to be read as one".repeat(20))
        .expect("write");
    let before = std::fs::read(&file).expect("read");
    let opened = Store::connect(&format!("sqlite://{}", file.display())).await;
    assert!(matches!(opened, Err(Error::Connect { .. })), "{opened:?}");
    assert_eq!(std::fs::read(&file).expect("read"), before);
}

#[test]
fn the_schema_uses_portable_words_only() {
    let sql = concat!(
        include_str!("../../../migrations/0001_replicate.up.sql"),
        include_str!("../../../migrations/0002_writer.up.sql")
    );
    let code: String =
        sql.lines().filter(|l| !l.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    for word in
        ["BOOLEAN", "DATETIME", "TIMESTAMP", "TINYINT", "DECIMAL", "AUTOINCREMENT", "JSON", "ON CONFLICT"]
    {
        assert!(!code.to_uppercase().contains(word), "{word}");
    }
}

/// A database whose disk was full goes on when there is room again.
#[tokio::test]
async fn a_full_disk_is_survived() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut mount = std::process::Command::new("mount");
    let mounted = mount.args(["-t", "tmpfs", "-o", "size=2M", "none"]).arg(dir.path()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    let store = Store::connect(&format!("sqlite://{}/oma.db", dir.path().display())).await.expect("opened");
    store.migrate().await.expect("migrated");
    let m = migration_at(&store, 1, 1, Position::SyncRunning).await;
    let job = cycle(&store, &m.id, at(0)).await;
    let ballast = dir.path().join("ballast");
    let filled = std::fs::write(&ballast, vec![1; 2 << 20]);
    assert!(filled.is_err(), "the file system is full");
    let set = ranges(&(0..2000).map(|n| (n * 131_072, n * 131_072 + 65_536)).collect::<Vec<_>>());
    let mut failures = 0;
    for _ in 0..20 {
        let done = store.checkpoint_append(&of(&job, 0), CheckpointKind::Intent, &set, at(1)).await;
        failures += u32::from(done.is_err());
    }
    std::fs::remove_file(&ballast).expect("removed");
    let again = store.checkpoint_append(&of(&job, 0), CheckpointKind::Intent, &set, at(2)).await;
    store.close().await;
    let unmounted = std::process::Command::new("umount").arg("-l").arg(dir.path()).status();
    assert!(unmounted.expect("umount is there").success());
    assert!(failures > 0, "nothing failed: nothing is tested");
    again.expect("there is room again");
}

/// A scrape reads all of it: it stays cheap with ten thousand migrations that have two restore points and a cycle each.
/// Without a bound in the statements (a read for each migration) it takes longer than the scrape's own deadline.
#[tokio::test]
async fn ten_thousand_migrations_are_counted_within_a_moment() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(1)).await;
    f.by_hand(
        "CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
         SELECT i, printf('%08d-0000-7000-8000-000000000000', i) AS id FROM n; \
         CREATE TEMP TABLE m AS SELECT m.*, n.id AS new FROM migrations m, n; \
         UPDATE m SET id = new, vm_uuid = new, unfinished_vm = new; ALTER TABLE m DROP COLUMN new; \
         INSERT INTO migrations SELECT * FROM m; \
         CREATE TEMP TABLE j AS SELECT j.*, n.id AS new, n.i FROM replication_jobs j, n; \
         UPDATE j SET migration_id = new, active_migration = new, id = printf('job-20270101-%06d', i); \
         ALTER TABLE j DROP COLUMN new; ALTER TABLE j DROP COLUMN i; INSERT INTO replication_jobs SELECT * FROM j; \
         INSERT INTO restore_points SELECT 'a' || substr(n.id, 2), n.id, 'x' || n.i, 's', m.created_at, m.created_at \
         FROM n, (SELECT created_at FROM migrations LIMIT 1) m; \
         INSERT INTO restore_points SELECT 'b' || substr(n.id, 2), n.id, 'y' || n.i, 's', m.created_at, m.created_at \
         FROM n, (SELECT created_at FROM migrations LIMIT 1) m",
    )
    .await;
    let begun = std::time::Instant::now();
    let census = f.store.census(10_000).await.expect("counted");
    let took = begun.elapsed();
    assert_eq!((census.unfinished.len(), census.active.len()), (10_000, 10_001));
    assert_eq!(census.unfinished.iter().filter(|m| m.restore_points == 2).count(), 10_000);
    assert!(took < std::time::Duration::from_secs(2), "{took:?} for {} cycles", job.id);
}
