//! What only a server has: sessions, locks, connections that are lost, a second program on another machine.

use super::wire::{Break, Wire};
use super::*;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

type Fixture = FixtureOn<MariaDb>;

async fn variable(pool: &sqlx::AnyPool, name: &'static str) -> String {
    let query = format!("SELECT CAST(@@{name} AS CHAR)");
    let row = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(pool).await.expect(name);
    row.get(0)
}

fn name_of(url: &str) -> &str {
    url.rsplit('/').next().expect("a name")
}

/// As root, in the fixture's database.
fn by_root(f: &Fixture, statements: &str) -> String {
    Server::shared().sql(name_of(&f.url), statements).expect("by root")
}

/// The test's server has other defaults in all of these.
#[tokio::test]
async fn sessions_and_tables_do_not_depend_on_the_server() {
    let f = Fixture::new().await;
    for pool in [&f.store.write, &f.store.read] {
        assert_eq!(variable(pool, "tx_isolation").await, "REPEATABLE-READ");
        assert_eq!(variable(pool, "time_zone").await, "+00:00");
        assert!(variable(pool, "sql_mode").await.starts_with("STRICT_ALL_TABLES,"));
        assert_eq!(variable(pool, "collation_connection").await, "utf8mb4_bin");
    }
    let refused = sqlx::query("DELETE FROM events").execute(&f.store.read).await.expect_err("read only");
    assert!(refused.to_string().contains("READ ONLY"), "{refused}");
    let kept = "SELECT DISTINCT engine, table_collation FROM information_schema.tables \
                WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'";
    assert_eq!(by_root(&f, kept), "InnoDB\tutf8mb4_bin\n");
    // Whoever restored the database under another name can ask them, too.
    let views = "SELECT DISTINCT security_type, collation_connection FROM information_schema.views \
                 WHERE table_schema = DATABASE()";
    assert_eq!(by_root(&f, views), "INVOKER\tutf8mb4_bin\n");
}

#[tokio::test]
async fn a_server_that_forgets_is_refused_at_the_start() {
    let server = Server::start(&["--innodb-flush-log-at-trx-commit=0"]).expect("a server");
    let url = server.database().expect("a database");
    let error = Store::connect(&url).await.expect_err("it forgets");
    assert!(matches!(error, Error::Server { .. }), "{error:?}");
    let said = shared::error::chain(&error);
    assert!(said.contains("innodb_flush_log_at_trx_commit is 0") && !said.contains("word"), "{said}");
    server.sql("", "SET GLOBAL innodb_flush_log_at_trx_commit = 2").expect("set");
    Store::connect(&url).await.expect("warned of");
}

#[tokio::test]
async fn what_does_not_let_us_in_is_named_without_the_password() {
    let f = Fixture::new().await;
    let wrong = f.url.replace("%23", "%24");
    let nowhere = f.url.replace(name_of(&f.url), "other");
    for (url, word) in [(&wrong, "Access denied"), (&nowhere, "other")] {
        let error = Store::connect(url).await.expect_err("refused");
        let said = format!("{} {error:?} {:?}", shared::error::chain(&error), f.store);
        assert!(matches!(error, Error::Connect { .. }) && said.contains(word), "{said}");
        let why = shared::error::chain(&error);
        assert_eq!(why.matches("000): ").count(), 1, "the server's words, once: {why}");
        assert!(!said.contains("ss/word") && !said.contains("ss%2Fword"), "{said}");
    }
}

/// The statements of the progress manual, as they are printed there.
#[tokio::test]
async fn the_statements_of_the_manual_run_as_printed() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let then = "2025-09-05T16:24:27Z".parse().expect("a time");
    let job = cycle(&f.store, &m.id, then).await;
    assert_eq!(job.id.as_str(), "job-20250905-162427");
    by_root(
        &f,
        "UPDATE replication_jobs SET
    progress_percent = 2.17,
    current_operation = 'Transfer',
    bytes_transferred = 933232640,
    total_bytes = 42949672960, 
    transfer_speed_bps = 0,
    updated_at = NOW()
WHERE id = 'job-20250905-162427'",
    );
    let form = by_root(&f, "SELECT updated_at FROM replication_jobs");
    assert_eq!((form.trim().len(), form.as_bytes()[10]), (19, b' '), "{form}");
    let read = f.store.job_fetch(&job.id).await.expect("the database's form of a time is read");
    assert_eq!((read.progress.transferred, read.progress.total), (933_232_640, 42_949_672_960));
    assert!((read.progress.percent - 2.17).abs() < 1e-9 && read.updated_at > then);
    by_root(&f, "SET foreign_key_checks = 0; UPDATE replication_jobs SET id = 'job-test-123'");
    let printed = by_root(
        &f,
        "SELECT progress_percent, bytes_transferred FROM replication_jobs WHERE id='job-test-123'",
    );
    assert_eq!(printed, "2.17\t933232640\n");
}

/// A server commits every CREATE by itself: whoever is killed between two of them leaves half a version.
#[tokio::test]
async fn a_schema_that_was_cut_short_is_completed() {
    let mut f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::BeginPaused).await;
    let whole = f.tables().await;
    f.store.migrate_down(1).await.expect("down");
    by_root(
        &f,
        "DROP TABLE events, restore_point_disks; \
         DROP INDEX restore_points_job ON restore_points; UPDATE _sqlx_migrations SET success = 0",
    );
    f.restart().await;
    assert_eq!(f.tables().await, whole);
    assert!(by_root(&f, "SHOW INDEX FROM restore_points").contains("restore_points_job"));
    whole_cycle(&f.store, &m.id, at(1)).await;
    f.store.migrate().await.expect("again: nothing");
}

/// The same of a version that makes a view anew: cut short between the two statements, there is none.
#[tokio::test]
async fn a_view_that_was_dropped_and_not_made_is_made() {
    let mut f = Fixture::new().await;
    by_root(&f, "DROP VIEW job_tracking; UPDATE _sqlx_migrations SET success = 0 WHERE version = 19");
    f.restart().await;
    by_root(&f, "SELECT asked_by FROM job_tracking");
    f.store.migrate_down(18).await.expect("down");
    assert!(!by_root(&f, "SHOW COLUMNS FROM job_tracking").contains("asked_by"));
    f.store.migrate().await.expect("up again");
    by_root(&f, "SELECT asked_by FROM job_tracking");
}

/// However the wire breaks at a COMMIT: done once, and said to be done. Red when an outcome is guessed either way (a lost
/// COMMIT counted as done: nothing changed; as not done: the second attempt meets its own first one), and when a
/// transaction that was given up is not repeated.
#[tokio::test]
async fn a_commit_is_done_once_however_the_wire_breaks() {
    let wire = Wire::new().await;
    let store = Store::connect(&wire.url).await.expect("connect");
    store.migrate().await.expect("migrate");
    let mut m = migration_at(&store, 1, 1, Position::SyncPaused).await;
    let mut events = store.event_last().await.expect("events");
    for how in [Break::Before, Break::After, Break::GivenUp, Break::HalfOpen, Break::Silence, Break::After] {
        wire.breaks(how);
        let changed = Migration { held: !m.held, ..m.clone() };
        let stored = store.migration_transition(&changed, at(1)).await;
        assert!(wire.is_broken(), "{how:?}: nothing was tested");
        let stored = stored.unwrap_or_else(|error| panic!("{how:?}: {}", shared::error::chain(&error)));
        m = store.migration_fetch(&m.id).await.expect("fetch");
        assert_eq!((&stored, m.generation), (&m, changed.generation + 1), "{how:?}");
        events += 1;
        assert_eq!(store.event_last().await.expect("events"), events, "{how:?}: one event each");
    }
}

/// A real deadlock, with a transaction of somebody else who has done more: ours is the one that the server gives up.
#[tokio::test]
async fn a_deadlock_is_survived() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncPaused).await;
    f.by_hand("CREATE TABLE scratch (a BIGINT)").await;
    let pool = sqlx::any::AnyPoolOptions::new().max_connections(1).connect(&f.url).await.expect("another");
    let mut other = pool.begin().await.expect("begin");
    let heavy = (0..500).map(|n| format!("({n})")).collect::<Vec<_>>().join(",");
    for statement in
        [format!("INSERT INTO scratch VALUES {heavy}"), "UPDATE counters SET value = value + 0".into()]
    {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *other).await.expect("theirs");
    }
    let held = Migration { held: true, ..m };
    let ours = tokio::spawn({
        let (store, held) = (f.store.clone(), held.clone());
        async move { store.migration_transition(&held, at(1)).await }
    });
    let database = name_of(&f.url).to_owned();
    let waits = format!(
        "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p \
         ON p.id = t.trx_mysql_thread_id WHERE p.db = '{database}' AND t.trx_state = 'LOCK WAIT'"
    );
    let end = Instant::now() + std::time::Duration::from_secs(30);
    while by_root(&f, &waits) != "1\n" {
        assert!(Instant::now() < end && !ours.is_finished(), "ours does not wait for theirs");
        // The server looks anew only when nobody has asked for a tenth of a second.
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }
    let deadlocks = || by_root(&f, "SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'");
    let before = deadlocks();
    let crossed = sqlx::raw_sql("UPDATE writer SET name = name").execute(&mut *other).await;
    crossed.expect("theirs goes on: ours was given up");
    assert_ne!(deadlocks(), before, "there was no deadlock");
    other.rollback().await.expect("theirs ends");
    let stored = ours.await.expect("no panic").expect("begun again");
    assert_eq!(stored.generation, held.generation + 1);
}

/// A lock that somebody else holds for longer than the server lets us wait.
#[tokio::test]
async fn a_lock_that_is_held_for_long_is_waited_for() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncPaused).await;
    let pool = sqlx::any::AnyPoolOptions::new().max_connections(1).connect(&f.url).await.expect("another");
    let mut other = pool.begin().await.expect("begin");
    sqlx::raw_sql("UPDATE counters SET value = value + 0").execute(&mut *other).await.expect("theirs");
    let begun = Instant::now();
    let changed = Migration { held: true, ..m };
    let ours = f.store.migration_transition(&changed, at(1));
    let theirs = async {
        tokio::time::sleep(std::time::Duration::from_millis(5500)).await;
        other.rollback().await.expect("theirs ends");
    };
    let (ours, ()) = tokio::join!(ours, theirs);
    assert_eq!(ours.expect("begun again").generation, changed.generation + 1);
    assert!(begun.elapsed().as_secs() >= 5, "the lock was not waited for: nothing is tested");
}

#[tokio::test]
async fn a_second_program_does_not_start() {
    let f = Fixture::new().await;
    let claim = f.store.claim().await.expect("free").expect("of a server");
    let second = Store::connect(&f.url).await.expect("connect");
    let refused = second.claim().await.expect_err("taken");
    assert!(matches!(refused, Error::Taken { connection: Some(_), .. }), "{refused:?}");
    drop(claim);
    second.claim().await.expect("free again").expect("of a server");
}

/// Red when `enter` does not ask for the owner.
#[tokio::test]
async fn a_program_whose_database_was_taken_writes_nothing_more_and_ends() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncPaused).await;
    let claim = f.store.claim().await.expect("free").expect("of a server");
    let keep = tokio::spawn(claim.keep(CancellationToken::new()));
    // As on another node of a Galera cluster, where the first one's lock is not seen.
    let second = Store::connect(&f.url).await.expect("connect");
    second.migrate().await.expect("migrate");
    let held = Migration { held: true, ..m };
    let refused = f.store.migration_transition(&held, at(1)).await;
    assert!(matches!(refused, Err(Error::Overtaken { .. })), "{refused:?}");
    let ended = keep.await.expect("no panic");
    assert!(matches!(ended, Err(Error::Overtaken { .. })), "{ended:?}");
    second.migration_transition(&held, at(2)).await.expect("the second writes");
}

#[tokio::test]
async fn a_claim_that_was_lost_is_taken_again_unless_another_was_there() {
    let f = Fixture::new().await;
    let claim = f.store.claim().await.expect("free").expect("of a server");
    let holder = "SELECT IS_USED_LOCK(CONCAT('migratekit:', MD5(DATABASE())))";
    let first = by_root(&f, holder);
    let shutdown = CancellationToken::new();
    let period = std::time::Duration::from_millis(20);
    let keep = tokio::spawn(claim.keep_every(period, shutdown.clone()));
    by_root(&f, &format!("KILL {}", first.trim()));
    let end = Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let now = by_root(&f, holder);
        if now.trim().parse::<u64>().is_ok() && now != first {
            break;
        }
        assert!(Instant::now() < end && !keep.is_finished(), "the claim is not taken again: {now}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    shutdown.cancel();
    keep.await.expect("no panic").expect("kept to the end");

    let claim = f.store.claim().await.expect("free").expect("of a server");
    let second = Store::connect(&f.url).await.expect("connect");
    second.migrate().await.expect("another has been here");
    by_root(&f, &format!("KILL {}", by_root(&f, holder).trim()));
    let ended = claim.keep_every(period, CancellationToken::new()).await;
    assert!(matches!(ended, Err(Error::Overtaken { .. })), "{ended:?}");
}

/// Somebody asks, and goes away at any moment, while a transaction is opened, a statement prepared, or an answer read;
/// whoever asks later is told how things stand then.
#[tokio::test]
async fn a_read_that_was_given_up_spoils_nothing_for_the_next() {
    let f = Fixture::new().await;
    let made = f.store.migration_create(&new_migration(1, 1), at(0)).await.expect("made");
    let mut given_up = 0;
    for (n, after) in (0..4).cycle().take(60).enumerate() {
        // A text that no connection has prepared yet.
        let asked = format!("SELECT id, vm_name, generation, {n} FROM migrations WHERE generation > ?");
        let prepared = sqlx::query(sqlx::AssertSqlSafe(asked)).bind(0_i64).fetch_all(&f.store.read);
        let prepared = crate::testing::cut(prepared, after).await.is_some();
        let opened = crate::testing::cut(f.store.failover_live(&made.id), after).await.is_some();
        given_up += usize::from(!prepared) + usize::from(!opened);
        // An old moment begins with the first read in it.
        for _ in 0..2 {
            let mut changed = f.store.migration_fetch(&made.id).await.expect("read");
            changed.rate += 1;
            let stored = f.store.migration_transition(&changed, at(1)).await;
            let stored = stored.unwrap_or_else(|error| panic!("given up after {after} polls: {error}"));
            // Each connection of the pool, and one more.
            for _ in 0..=READERS {
                let now = f.store.migration_fetch(&made.id).await.expect("read");
                assert_eq!(now.rate, stored.rate, "given up after {after} polls");
            }
        }
    }
    assert!(given_up > 9, "only {given_up}");
}
