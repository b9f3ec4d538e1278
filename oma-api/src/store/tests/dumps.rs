use super::*;
use std::collections::BTreeSet;

const SECONDS_SHIFT: u32 = 20;

async fn records(url: &str) -> (i64, Vec<Record>) {
    let moment = Moment::of(url).await.expect("a database");
    let (schema, mut all) = (moment.schema(), Vec::new());
    let done: Result<(), ()> = moment
        .rows(|record| {
            all.push(record);
            Ok(())
        })
        .await
        .expect("read");
    done.expect("taken");
    (schema, all)
}

async fn restore<D: Database>(f: &FixtureOn<D>, schema: i64, all: &[Record]) {
    let mut load = f.store.load(schema).await.expect("empty");
    for record in all {
        load.row(record).await.expect("a row");
    }
    load.finish().await.expect("whole");
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

/// One migration with two restore points and a running cycle that has written, one that only begun.
async fn filled(f: &Fixture) -> (Migration, Job, Vec<RestorePoint>) {
    let m = migration_at(&f.store, 1, 2, Position::BeginPaused).await;
    whole_cycle(&f.store, &m.id, at(10)).await;
    whole_cycle(&f.store, &m.id, at(20)).await;
    act(&f.store, &m.id, Action::Sync).await;
    let job = cycle(&f.store, &m.id, at(30)).await;
    f.store
        .checkpoint_append(&of(&job, 0), CheckpointKind::Intent, &ranges(&[(0, 65536)]), at(31))
        .await
        .expect("intent");
    migration_at(&f.store, 2, 1, Position::BeginPaused).await;
    let points = f.store.restore_point_list(&m.id).await.expect("points");
    (m, job, points)
}

/// Whatever the rows came from, they are the same in the other, except for who writes.
async fn same_in<D: Database>(schema: i64, all: &[Record]) -> FixtureOn<D> {
    let f = FixtureOn::<D>::new().await;
    assert!(f.store.is_empty().await.expect("read"));
    restore(&f, schema, all).await;
    assert!(!f.store.is_empty().await.expect("read"));
    let without_mark = |all: Vec<Record>| -> Vec<Record> {
        all.into_iter().filter(|r| !r.values.contains(&Value::Text("restoring".to_owned()))).collect()
    };
    let (_, now) = records(&f.url).await;
    let now = without_mark(now);
    assert_eq!(now.len(), all.len());
    for record in all {
        assert!(now.contains(record), "{record:?}");
    }
    // Cut short here, no control plane starts on it.
    f.store.migrate().await.expect("migrate");
    assert!(matches!(f.store.must_be_whole().await, Err(Error::HalfRestored { .. })));
    f
}

#[tokio::test]
async fn a_backup_goes_into_either_database() {
    let f = Fixture::new().await;
    filled(&f).await;
    let (schema, all) = records(&f.url).await;
    assert_eq!(schema, newest_schema());
    assert!(
        all.iter().any(|r| r.table == "checkpoints" && r.values.iter().any(|v| matches!(v, Value::Blob(_))))
    );
    let none = BTreeSet::new();
    let into = same_in::<Sqlite>(schema, &all).await;
    into.store.restored(&none, &none, at(40)).await.expect("restored");
    into.store.must_be_whole().await.expect("whole");
    let into = same_in::<MariaDb>(schema, &all).await;
    into.store.restored(&none, &none, at(40)).await.expect("restored");
    into.store.must_be_whole().await.expect("whole");
}

#[tokio::test]
async fn what_happened_since_the_backup_is_taken_for_unknown() {
    let f = Fixture::new().await;
    let (m, job, points) = filled(&f).await;
    let before = f.store.disk_list(&m.id).await.expect("disks");
    let (schema, all) = records(&f.url).await;
    // Since then: the cycle went on under further epochs.
    for _ in 0..3 {
        f.store.job_epochs_raise(&job.id, at(35)).await.expect("raise");
    }
    let given_out = f.store.disk_list(&m.id).await.expect("disks").into_iter().map(|d| d.epoch).max();
    let events = f.store.event_last().await.expect("events");
    restore(&f, schema, &all).await;
    f.store.migrate().await.expect("migrate");
    let (snapshots, volumes) = (names(&[&points[1].snapshot_name, "rp-other"]), names(&["mk-1-0", "mk-2-0"]));
    let said = f.store.restored(&snapshots, &volumes, at(40)).await.expect("restored");
    assert_eq!(said.migrations, ["vm-1", "vm-2"]);
    assert_eq!(said.cycles, [job.id.to_string()]);
    assert_eq!(said.dropped, [("vm-1".to_owned(), points[0].snapshot_name.clone())]);
    assert_eq!(said.lost, [("vm-1".to_owned(), "disk-1".to_owned(), "mk-1-1".to_owned())]);

    let now = f.store.migration_fetch(&m.id).await.expect("there");
    assert_eq!((now.position, now.held, now.has_committed), (Position::SyncPaused, true, true));
    assert_eq!(f.store.restore_point_list(&m.id).await.expect("points"), points[1..]);
    assert_eq!(f.store.job_active(&m.id).await.expect("read"), None);
    let closed = f.store.job_fetch(&job.id).await.expect("there");
    assert_eq!(closed.status, JobStatus::Aborted);
    assert_eq!(closed.error.map(|e| e.reason).as_deref(), Some(INTERRUPTED_BY_RESTORE));
    let disks = f.store.disk_list(&m.id).await.expect("disks");
    for (disk, old) in disks.iter().zip(&before) {
        assert!(disk.needs_hash_diff && disk.content == VolumeContent::Unknown);
        assert_eq!((disk.replica_verified_at, disk.source_verified_at), (None, None));
        assert_eq!(disk.manifest, old.manifest);
        // No number that was given out since is ever given out again.
        assert!(Some(disk.epoch) > given_out, "{disk:?}");
    }
    assert!(f.store.event_last().await.expect("events") > events);

    // The stream of before is refused: its epoch, and its cycle.
    let stale =
        CheckpointOf { job: job.id.clone(), disk: disks[0].id.clone(), epoch: given_out.expect("some") };
    let late =
        f.store.checkpoint_append(&stale, CheckpointKind::Intent, &ranges(&[(0, 65536)]), at(41)).await;
    assert!(late.is_err(), "{late:?}");

    // A second restore of the same backup, later: above what the first one gave out.
    act(&f.store, &m.id, Action::Sync).await;
    let next = f
        .store
        .job_create(&new_job(&f.store, &m.id, JobKind::Incremental).await, at(42))
        .await
        .expect("a cycle");
    let first = next.disks.iter().map(|d| d.epoch).max();
    restore(&f, schema, &all).await;
    f.store.migrate().await.expect("migrate");
    f.store.restored(&snapshots, &volumes, at(50)).await.expect("restored");
    let second = f.store.disk_list(&m.id).await.expect("disks");
    assert!(second.iter().all(|d| Some(d.epoch) > first));
    // A backup of what was restored, while the clock is behind.
    let (_, again) = records(&f.url).await;
    restore(&f, schema, &again).await;
    f.store.migrate().await.expect("migrate");
    f.store.restored(&snapshots, &volumes, at(-100)).await.expect("restored");
    let third = f.store.disk_list(&m.id).await.expect("disks");
    assert!(third.iter().zip(&second).all(|(now, was)| now.epoch.0 > was.epoch.0 + (1 << SECONDS_SHIFT)));
}

#[tokio::test]
async fn without_a_snapshot_nothing_counts_as_committed() {
    let f = Fixture::new().await;
    let (m, ..) = filled(&f).await;
    let (schema, all) = records(&f.url).await;
    restore(&f, schema, &all).await;
    f.store.migrate().await.expect("migrate");
    let said = f.store.restored(&BTreeSet::new(), &BTreeSet::new(), at(40)).await.expect("restored");
    assert_eq!(said.dropped.len(), 2);
    assert!(!f.store.migration_fetch(&m.id).await.expect("there").has_committed);
}

#[tokio::test]
async fn a_backup_of_an_older_schema_is_brought_up_to_date() {
    let f = Fixture::new().await;
    f.by_hand("INSERT INTO agents VALUES ('vma-01', '1', 1, 'a', 0, 's', '2026-11-21T12:55:46.000000Z', '2026-11-21T12:55:46.000000Z')").await;
    f.store.migrate_down(4).await.expect("down");
    let (schema, all) = records(&f.url).await;
    assert_eq!(schema, 4);
    f.store.migrate().await.expect("up");
    restore(&f, schema, &all).await;
    f.store.migrate().await.expect("migrate");
    f.store.restored(&BTreeSet::new(), &BTreeSet::new(), at(40)).await.expect("restored");
    assert_eq!(f.store.agent_list().await.expect("agents").len(), 1);
}

#[tokio::test]
async fn what_a_backup_cannot_say_is_refused() {
    let f = Fixture::new().await;
    let mut load = f.store.load(newest_schema()).await.expect("begun");
    for (table, column) in [("writer", "name"), ("sqlite_master", "name"), ("tokens", "id) VALUES (1); --")] {
        let record =
            Record { table: table.to_owned(), columns: vec![column.to_owned()], values: vec![Value::Null] };
        assert!(matches!(load.row(&record).await, Err(Error::BadRecord { .. })), "{table} {column}");
    }
}
