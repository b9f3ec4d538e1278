//! The file, the schema, and rows that somebody else damaged.

use super::*;
use sqlx::Row as _;

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

#[tokio::test]
async fn the_schema_goes_up_down_and_up_with_rows() {
    let mut f = Fixture::new().await;
    let made = migration_at(&f.store, 1, 2, Position::BeginPaused).await;
    whole_cycle(&f.store, &made.id, at(10)).await;
    f.store.migrate().await.expect("again: nothing");
    assert_eq!(f.store.restore_point_list(&made.id).await.expect("list").len(), 1);

    f.store.migrate_down(0).await.expect("down");
    let left = sqlx::query("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlx%' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND name NOT LIKE 'sqlite%'")
        .fetch_all(&f.store.read)
        .await
        .expect("the schema");
    assert_eq!(left.len(), 0, "{:?}", left.iter().map(|r| r.get::<String, _>(0)).collect::<Vec<_>>());
    assert!(f.store.migration_fetch(&made.id).await.is_err());

    f.store.migrate().await.expect("up again");
    let again = migration_at(&f.store, 1, 2, Position::BeginPaused).await;
    whole_cycle(&f.store, &again.id, at(10)).await;
    f.restart().await;
    assert_eq!(f.store.migration_list(Which::All).await.expect("list").len(), 1);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let f = Fixture::new().await;
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', 1, x'00', 0)")
        .execute(&f.store.write)
        .await
        .expect("pretend");
    let error = f.store.migrate().await.expect_err("newer");
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test]
async fn a_damaged_row_is_named_and_never_guessed() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncPaused).await;
    for (sql, column) in [
        ("UPDATE migrations SET phase = 'synch'", "phase"),
        ("UPDATE migrations SET phase = 'sync', state = 'aborted'", "state"),
        ("UPDATE migrations SET state = 'paused', held = 7", "held"),
        ("UPDATE migrations SET held = 0, generation = -1", "generation"),
        ("UPDATE migrations SET generation = 1, created_at = 'yesterday'", "created_at"),
    ] {
        sqlx::query(sql).execute(&f.store.write).await.expect(sql);
        match f.store.migration_fetch(&m.id).await {
            Err(Error::Corrupt { table: "migrations", id, column: found, .. }) => {
                assert_eq!((id.as_str(), found), (m.id.as_str(), column));
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
    let disk = f.store.disk_list(&m.id).await.expect("disks").remove(0);
    f.store.required_append(&disk.id, &ranges(&[(0, 65536)]), at(0)).await.expect("append");
    sqlx::query("UPDATE checkpoints SET ranges = x'ff'").execute(&f.store.write).await.expect("damage");
    let loaded = f.store.required_load(&disk.id, &job_id("job-x")).await;
    assert!(
        matches!(loaded, Err(Error::Corrupt { table: "checkpoints", column: "ranges", .. })),
        "{loaded:?}"
    );
}

/// What an operator types; seed 004 shows the second.
#[tokio::test]
async fn the_selects_of_the_manuals_run() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    let progress = Progress {
        percent: 2.17,
        operation: "Transfer".into(),
        transferred: 933_232_640,
        total: 42_949_672_960,
        speed: 5,
    };
    f.store.job_progress_record(&job.id, &progress, &[], at(3)).await.expect("progress");
    let row = sqlx::query("SELECT progress_percent, bytes_transferred, current_operation, updated_at FROM replication_jobs WHERE id = ?")
        .bind(job.id.as_str())
        .fetch_one(&f.store.read)
        .await
        .expect("the manual's SELECT");
    assert!((row.get::<f64, _>(0) - 2.17).abs() < 1e-9);
    assert_eq!(row.get::<i64, _>(1), 933_232_640);
    assert_eq!(row.get::<String, _>(2), "Transfer");
    assert_eq!(row.get::<String, _>(3), "2026-11-21T12:55:49.000000Z");
}

#[test]
fn the_schema_uses_portable_words_only() {
    let sql = include_str!("../../../migrations/0001_replicate.up.sql");
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
