//! The schema, rows that somebody else damaged, and what an operator asks by hand.

use super::*;

#[tokio::test]
async fn the_schema_goes_up_down_and_up_with_rows() {
    let mut f = Fixture::new().await;
    let made = migration_at(&f.store, 1, 2, Position::BeginPaused).await;
    whole_cycle(&f.store, &made.id, at(10)).await;
    f.store.migrate().await.expect("again: nothing");
    assert_eq!(f.store.restore_point_list(&made.id).await.expect("list").len(), 1);

    f.store.migrate_down(0).await.expect("down");
    assert_eq!(f.tables().await, [] as [String; 0]);
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
        f.by_hand(sql).await;
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

/// On a server: red with TEXT, which ends at 64 KiB, and with a collation that takes A for a or é for e.
#[tokio::test]
async fn long_texts_and_small_differences_are_kept() {
    use shared::cycle::{Finding, FindingKind};
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncPaused).await;
    let finding = Finding { kind: FindingKind::DiskAdded, disk: None, message: "né 💾 ".repeat(20_000) };
    let stored = f.store.migration_transition(&Migration { findings: vec![finding], ..m }, at(1)).await;
    let stored = stored.expect("a long list");
    assert_eq!(f.store.migration_fetch(&stored.id).await.expect("fetch"), stored);
    f.by_hand("INSERT INTO counters (name, value) VALUES ('é', 1), ('e', 2), ('E', 3)").await;
    let row = sqlx::query("SELECT value FROM counters WHERE name = 'e'").fetch_all(&f.store.read).await;
    let values: Vec<i64> = row.expect("read").iter().map(|row| row.get(0)).collect();
    assert_eq!(values, [2]);
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
        peak: 0,
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

/// Services run on any thread; a method whose future cannot move between them would be found out only there.
#[tokio::test]
async fn the_methods_can_run_on_any_thread() {
    fn any_thread<F: Future + Send>(future: F) -> F {
        future
    }
    let f = Fixture::new().await;
    let m = any_thread(migration_at(&f.store, 1, 1, Position::SyncRunning)).await;
    let job = any_thread(cycle(&f.store, &m.id, at(0))).await;
    let job = any_thread(transfer(&f.store, &job, &ranges(&[(0, 1)]))).await;
    any_thread(f.store.job_commit(&commit_of(&job), at(1))).await.expect("commit");
    any_thread(f.store.job_list(&m.id)).await.expect("jobs");
    any_thread(f.store.restore_point_list(&m.id)).await.expect("points");
    any_thread(f.store.agent_list()).await.expect("agents");
    any_thread(f.store.event_list(0, Some(&m.id), 1)).await.expect("events");
}
