//! Reads whose connection is ended under them, by the server's own KILL.

use super::*;
use std::time::{Duration, Instant};

type Fixture = FixtureOn<MariaDb>;

/// Statements as root, in the fixture's database, on a thread that may wait.
async fn by_root(f: &Fixture, statements: &str) -> String {
    let statements = statements.to_owned();
    let database = f.url.rsplit('/').next().expect("a name").to_owned();
    let said = tokio::task::spawn_blocking(move || Server::shared().sql(&database, &statements));
    said.await.expect("no panic").unwrap_or_default()
}

/// The number of the connection that `query` names, once there is one that is not `but`.
async fn connection(f: &Fixture, query: &'static str, but: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = by_root(f, query).await.trim().to_owned();
        if !found.is_empty() && found != but {
            return found;
        }
        assert!(Instant::now() < deadline, "no connection: {query}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn kill(f: &Fixture, connection: &str) {
    by_root(f, &format!("KILL {connection}")).await;
}

const READER: &str = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND \
     state LIKE 'Waiting for table metadata lock%' LIMIT 1";
const HOLDER: &str = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND \
     info LIKE 'SELECT SLEEP%' LIMIT 1";

/// A table that is locked holds a read up for as long as it takes to end its connection. Red without the repetition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_whose_connection_is_killed_is_done_again() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    let locking = by_root(&f, "LOCK TABLES migrations WRITE, replication_jobs WRITE; SELECT SLEEP(60)");
    let reading = async {
        let holder = connection(&f, HOLDER, "").await;
        let reads = tokio::spawn({
            let (store, m, job) = (f.store.clone(), m.id.clone(), job.id.clone());
            async move { (store.migration_fetch(&m).await, store.job_fetch(&job).await) }
        });
        let first = connection(&f, READER, "").await;
        kill(&f, &first).await;
        let second = connection(&f, READER, &first).await;
        kill(&f, &second).await;
        connection(&f, READER, &second).await;
        kill(&f, &holder).await;
        reads.await.expect("no panic")
    };
    let (_, (migration, read)) = tokio::join!(locking, reading);
    assert_eq!(migration.expect("read").id, m.id);
    assert_eq!(read.expect("read").id, job.id);
}

/// What is no connection's fault is said at once.
#[tokio::test]
async fn a_read_that_fails_otherwise_is_not_repeated() {
    let f = Fixture::new().await;
    f.by_hand("DROP TABLE agent_vms; DROP TABLE agents").await;
    let begun = Instant::now();
    let refused = f.store.agent_list().await.expect_err("there is no such table");
    assert!(matches!(refused, Error::Database { .. }), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let said = shared::error::chain(&refused);
    assert_eq!(said.matches("1146").count(), 1, "{said}");
}
