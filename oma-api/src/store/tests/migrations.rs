use super::*;
use shared::cycle::{Finding, FindingKind};

#[tokio::test]
async fn a_migration_comes_back_as_it_was_stored() {
    let mut f = Fixture::new().await;
    let new = new_migration(1, 2);
    let made = f.store.migration_create(&new, at(0)).await.expect("create");
    assert_eq!(made.position, Position::BeginRunning);
    assert_eq!(f.store.migration_fetch(&made.id).await.expect("fetch"), made);
    let changed = Migration {
        position: Position::BeginFailed,
        held: true,
        error: Some(Failure { reason: "NO_ROOM".into(), message: "the pool is full; make room".into() }),
        findings: vec![Finding {
            kind: FindingKind::DiskAdded,
            disk: Some("disk-9".parse().expect("a key")),
            message: "new".into(),
        }],
        release_pending: true,
        ..made
    };
    let stored = f.store.migration_transition(&changed, at(5)).await.expect("transition");
    assert_eq!(stored, Migration { generation: 2, updated_at: at(5), ..changed });
    f.restart().await;
    assert_eq!(f.store.migration_fetch(&stored.id).await.expect("fetch"), stored);
    let disks = f.store.disk_list(&stored.id).await.expect("disks");
    let names: Vec<_> = disks.iter().map(|d| (d.position, d.key.as_str(), d.volume.as_str())).collect();
    assert_eq!(names, [(0, "disk-0", "mk-1-0"), (1, "disk-1", "mk-1-1")]);
    assert_eq!(disks[0].content, VolumeContent::Unknown, "until the storage has answered");
}

#[tokio::test]
async fn of_two_changes_from_one_reading_one_is_refused() {
    let f = Fixture::new().await;
    let read = f.store.migration_create(&new_migration(1, 1), at(0)).await.expect("create");
    let first = Migration { held: true, ..read.clone() };
    let second = Migration { position: Position::BeginPaused, ..read.clone() };
    f.store.migration_transition(&first, at(1)).await.expect("the first");
    let refused = f.store.migration_transition(&second, at(1)).await;
    assert!(
        matches!(&refused, Err(Error::Conflict { migration, generation: 1 }) if *migration == read.id),
        "{refused:?}"
    );
    let now = f.store.migration_fetch(&read.id).await.expect("fetch");
    assert!(now.held && now.position == Position::BeginRunning);
    let gone = Migration { id: MigrationId::generate(), ..now };
    assert!(matches!(f.store.migration_transition(&gone, at(1)).await, Err(Error::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_begins_of_one_vm_one_wins() {
    let f = Fixture::new().await;
    let begins = (0..8).map(|_| {
        let store = f.store.clone();
        tokio::spawn(async move { store.migration_create(&new_migration(1, 1), at(0)).await })
    });
    let mut made = Vec::new();
    let mut refused = Vec::new();
    for begin in begins.collect::<Vec<_>>() {
        match begin.await.expect("no panic") {
            Ok(m) => made.push(m.id),
            Err(Error::AlreadyProtected { migration, .. }) => refused.push(migration),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((made.len(), refused.len()), (1, 7));
    assert!(refused.iter().all(|id| *id == made[0]), "the refusal names the winner");
    assert_eq!(f.store.migration_list(Which::All).await.expect("list").len(), 1);
}

#[tokio::test]
async fn an_ended_migration_frees_its_vm_and_stays_as_history() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::AbortRunning).await;
    assert!(matches!(
        f.store.migration_create(&new_migration(1, 1), at(1)).await,
        Err(Error::AlreadyProtected { migration, .. }) if migration == m.id
    ));
    let ended = Migration { position: Position::AbortAborted, release_pending: true, ..m };
    let ended = f.store.migration_transition(&ended, at(2)).await.expect("end");
    assert_eq!(ended.finished_at, Some(at(2)));
    assert_eq!(f.store.migration_of_vm(&vm(1)).await.expect("none"), None);
    let next = f.store.migration_create(&new_migration(1, 1), at(3)).await.expect("again");
    assert_eq!(f.store.migration_of_vm(&vm(1)).await.expect("one"), Some(next.clone()));
    let ids = |list: Vec<Migration>| list.into_iter().map(|m| m.id).collect::<Vec<_>>();
    assert_eq!(
        ids(f.store.migration_list(Which::All).await.expect("list")),
        [next.id.clone(), ended.id.clone()]
    );
    assert_eq!(
        ids(f.store.migration_list(Which::Unfinished).await.expect("list")),
        std::slice::from_ref(&next.id)
    );
    let of_agent = f.store.migration_list_of_agent(&ended.agent).await.expect("list");
    assert_eq!(ids(of_agent), [ended.id.clone(), next.id.clone()], "the source is not rid of the first");
    let released = Migration { release_pending: false, ..ended };
    f.store.migration_transition(&released, at(4)).await.expect("released");
    assert_eq!(ids(f.store.migration_list_of_agent(&released.agent).await.expect("list")), [next.id]);
}

#[tokio::test]
async fn a_migration_that_cannot_be_made_whole_is_not_made() {
    let f = Fixture::new().await;
    let mut twice = new_migration(1, 2);
    twice.disks[1].key = twice.disks[0].key.clone();
    assert!(matches!(f.store.migration_create(&twice, at(0)).await, Err(Error::DiskExists { .. })));
    let mut huge = new_migration(1, 1);
    huge.disks[0].size = u64::MAX;
    assert!(matches!(f.store.migration_create(&huge, at(0)).await, Err(Error::TooLarge { .. })));
    assert_eq!(f.store.migration_list(Which::All).await.expect("list"), []);
    assert_eq!(f.store.event_last().await.expect("last"), 0);
}

#[tokio::test]
async fn a_disk_can_join_later() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncPaused).await;
    let mut new = new_migration(1, 2).disks.remove(1);
    let disk = f.store.disk_create(&m.id, &new).await.expect("join");
    assert_eq!(disk.position, 1);
    new.id = DiskId::generate();
    assert!(matches!(f.store.disk_create(&m.id, &new).await, Err(Error::DiskExists { .. })));
    f.store.disk_content_set(&disk.id, VolumeContent::Zeros).await.expect("set");
    f.store.disk_verified_set(&disk.id, Arm::Replica, at(7)).await.expect("set");
    f.store.disk_hash_diff_require(&disk.id).await.expect("set");
    let read = f.store.disk_fetch(&disk.id).await.expect("fetch");
    let expected = Disk {
        content: VolumeContent::Zeros,
        replica_verified_at: Some(at(7)),
        needs_hash_diff: true,
        ..disk
    };
    assert_eq!(read, expected);
    assert!(matches!(f.store.disk_hash_diff_require(&DiskId::generate()).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn events_have_one_order_and_wake_watchers() {
    let mut f = Fixture::new().await;
    let mut changes = f.store.changes();
    let one = migration_at(&f.store, 1, 1, Position::BeginPaused).await;
    let two = migration_at(&f.store, 2, 1, Position::BeginPaused).await;
    changes.changed().await.expect("woken");
    assert_eq!(*changes.borrow_and_update(), 4);
    let all = f.store.event_list(0, None, 100).await.expect("list");
    assert_eq!(all.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(all[1].body["phase"], "begin");
    let of_two = f.store.event_list(3, Some(&two.id), 100).await.expect("list");
    assert_eq!(
        of_two.iter().map(|e| (e.seq, e.kind.as_str())).collect::<Vec<_>>(),
        [(4, "migration_changed")]
    );
    assert_eq!(f.store.event_list(0, Some(&one.id), 1).await.expect("list").len(), 1, "the limit holds");
    assert_eq!(f.store.event_delete(at(1)).await.expect("delete"), 4);
    f.restart().await;
    assert_eq!(*f.store.changes().borrow(), 4);
    f.store.migration_transition(&Migration { held: true, ..two }, at(2)).await.expect("change");
    assert_eq!(f.store.event_list(0, None, 9).await.expect("list")[0].seq, 5, "numbers are not used again");
}

#[tokio::test]
async fn what_rests_is_not_at_work() {
    let f = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 1..=4 {
        let made = f.store.migration_create(&new_migration(n, 1), at(0)).await.expect("create");
        let rests = Migration { position: Position::BeginPaused, ..made };
        ids.push(f.store.migration_transition(&rests, at(1)).await.expect("transition"));
    }
    let at_work = async || {
        let list = f.store.migration_list_at_work().await.expect("list");
        list.into_iter().map(|m| m.id).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(at_work().await.is_empty(), "nothing runs");
    let runs = Migration { position: Position::SyncRunning, ..ids[0].clone() };
    f.store.migration_transition(&runs, at(2)).await.expect("runs");
    let mut scheduled = ids[1].clone();
    scheduled.wishes.scheduled_at = Some(at(900));
    f.store.migration_transition(&scheduled, at(2)).await.expect("scheduled");
    // A cycle that was paused, of a migration that rests.
    let runs = Migration { position: Position::SyncRunning, ..ids[2].clone() };
    let runs = f.store.migration_transition(&runs, at(2)).await.expect("runs");
    let disks = f.store.disk_list(&runs.id).await.expect("disks");
    let disks = disks.iter().map(|d| (d.id.clone(), shared::cycle::Strategy::Full)).collect();
    let job = NewJob { migration: runs.id.clone(), kind: JobKind::Full, disks };
    f.store.job_create(&job, at(3)).await.expect("a cycle");
    let rests = Migration { position: Position::SyncPaused, ..runs };
    f.store.migration_transition(&rests, at(4)).await.expect("rests");
    let expected = ids[..3].iter().map(|m| m.id.clone()).collect();
    assert_eq!(at_work().await, expected);
}

#[tokio::test]
async fn many_are_shown_together_in_the_order_they_were_asked_for() {
    let f = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 1..=3 {
        ids.push(f.store.migration_create(&new_migration(n, 2), at(0)).await.expect("create").id);
    }
    ids.reverse();
    let shown = f.store.migrations_shown(&ids).await.expect("shown");
    assert_eq!(shown.iter().map(|s| s.migration.id.clone()).collect::<Vec<_>>(), ids);
    for one in &shown {
        assert_eq!(one.disks, f.store.disk_list(&one.migration.id).await.expect("disks"));
        assert!(one.job.is_none() && one.restore_points.is_empty());
    }
    ids.push(MigrationId::generate());
    assert!(matches!(f.store.migrations_shown(&ids).await, Err(Error::NotFound { .. })));
}
