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
