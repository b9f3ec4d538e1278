//! Disks that are accepted, and disks that have left.

use super::*;

fn new_disk(key: &str) -> NewDisk {
    let id = DiskId::generate();
    NewDisk { volume: format!("mk-{id}"), id, key: key.parse().expect("a key"), size: 1 << 30 }
}

fn accepted(changes: Vec<DiskChange>, order: &[&str]) -> Accepted {
    let order = order.iter().map(|key| key.parse().expect("a key")).collect();
    Accepted { changes, order, by: "alice".to_owned() }
}

/// Protected, with a restore point of two disks.
async fn committed(f: &Fixture) -> (Migration, Vec<Disk>) {
    let made = migration_at(&f.store, 1, 2, Position::BeginPaused).await;
    let migration = whole_cycle(&f.store, &made.id, at(10)).await.migration;
    let disks = f.store.disk_list(&made.id).await.expect("disks");
    (migration, disks)
}

#[tokio::test]
async fn a_disk_is_added_retired_and_added_again_under_its_key() {
    let mut f = Fixture::new().await;
    let (m, before) = committed(&f).await;
    let points = f.store.restore_point_list(&m.id).await.expect("points");
    let jobs = f.store.job_list(&m.id).await.expect("jobs");
    let first = accepted(vec![DiskChange::Add(new_disk("disk-8"))], &["disk-1", "disk-8", "disk-0"]);
    let m = f.store.migration_accept(&m, &first, at(15)).await.expect("accepted");
    assert_eq!(f.store.restore_point_list(&m.id).await.expect("points"), points, "in its order");
    let changes = vec![
        DiskChange::Retire(before[0].id.clone()),
        DiskChange::Add(new_disk("disk-0")),
        DiskChange::Add(new_disk("disk-9")),
    ];
    let m = f
        .store
        .migration_accept(&m, &accepted(changes, &["disk-9", "disk-1", "disk-0"]), at(20))
        .await
        .expect("accepted");
    f.restart().await;
    let now = f.store.disk_list(&m.id).await.expect("disks");
    let keys: Vec<_> = now.iter().map(|d| d.key.as_str()).collect();
    assert_eq!(keys, ["disk-9", "disk-1", "disk-0", "disk-8"], "in the source's order");
    assert!(now[2].id != before[0].id && now[2].manifest.is_none() && now[1].manifest.is_some());
    let retired = f.store.disk_list_retired(&m.id).await.expect("retired");
    assert_eq!(retired.len(), 1);
    assert_eq!((retired[0].disk.clone(), retired[0].key.as_str()), (before[0].id.clone(), "disk-0"));
    assert_eq!((retired[0].restore_points, retired[0].by.as_str()), (1, "alice"));
    // What was, is as it was, in its order.
    assert_eq!(f.store.restore_point_list(&m.id).await.expect("points"), points);
    assert_eq!(f.store.job_list(&m.id).await.expect("jobs")[0].disks, jobs[0].disks);
    assert!(f.store.disk_was_retired(&m.id, &before[0].key).await.expect("read"));
    assert!(!f.store.disk_was_retired(&m.id, &before[1].key).await.expect("read"));

    // Twice under one key: the second is refused, and nothing is half done.
    let twice = vec![DiskChange::Retire(now[1].id.clone()), DiskChange::Add(new_disk("disk-0"))];
    let refused = f.store.migration_accept(&m, &accepted(twice, &[]), at(21)).await;
    assert!(matches!(refused, Err(Error::DiskExists { .. })), "{refused:?}");
    assert_eq!(f.store.disk_list(&m.id).await.expect("disks"), now);
    assert_eq!(f.store.migration_fetch(&m.id).await.expect("fetch"), m);
}

/// Red without the compare-and-swap: two operators would each add the disk.
#[tokio::test]
async fn of_two_that_accept_at_once_the_second_looks_again() {
    let f = Fixture::new().await;
    let (m, _) = committed(&f).await;
    let one = accepted(vec![DiskChange::Add(new_disk("disk-2"))], &[]);
    f.store.migration_accept(&m, &one, at(20)).await.expect("accepted");
    let two = accepted(vec![DiskChange::Add(new_disk("disk-3"))], &[]);
    let late = f.store.migration_accept(&m, &two, at(20)).await;
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    assert_eq!(f.store.disk_list(&m.id).await.expect("disks").len(), 3);
}

/// A cycle has all disks of its migration from its making to its commit (DESIGN §6 rule 2).
#[tokio::test]
async fn no_disk_changes_under_a_cycle_and_no_cycle_begins_without_its_volumes() {
    let f = Fixture::new().await;
    let (m, disks) = committed(&f).await;
    act(&f.store, &m.id, Action::Sync).await;
    let job = transfer(&f.store, &cycle(&f.store, &m.id, at(20)).await, &ranges(&[(0, 65536)])).await;
    let running = f.store.migration_fetch(&m.id).await.expect("fetch");
    let add = accepted(vec![DiskChange::Add(new_disk("disk-2"))], &[]);
    let refused = f.store.migration_accept(&running, &add, at(21)).await;
    assert!(matches!(&refused, Err(Error::JobActive { job: busy, .. }) if *busy == job.id), "{refused:?}");
    let m = f.store.job_commit(&commit_of(&job), at(22)).await.expect("commit").migration;

    let DiskChange::Add(new) = add.changes[0].clone() else { panic!("one is added") };
    let grow = DiskChange::Grow { disk: disks[1].id.clone(), size: 2 << 30 };
    let changes = accepted(vec![grow, DiskChange::Add(new.clone())], &[]);
    f.store.migration_accept(&m, &changes, at(23)).await.expect("accepted");
    act(&f.store, &m.id, Action::Sync).await;
    for (made, size) in [(&disks[1].id, 2 << 30), (&new.id, 1 << 30)] {
        let job = new_job(&f.store, &m.id, JobKind::Incremental).await;
        let early = f.store.job_create(&job, at(24)).await;
        assert!(matches!(&early, Err(Error::VolumePending { disk, .. }) if disk == made), "{early:?}");
        // Of another size than is wanted by now: not the one.
        f.store.disk_volume_made(made, 5, VolumeContent::Zeros).await.expect("recorded");
        let early = f.store.job_create(&job, at(24)).await;
        assert!(matches!(&early, Err(Error::VolumePending { disk, .. }) if disk == made), "{early:?}");
        f.store.disk_volume_made(made, size, VolumeContent::Unknown).await.expect("recorded");
    }
    let now = f.store.disk_list(&m.id).await.expect("disks");
    assert!(now.iter().all(|d| d.work == VolumeWork::Done));
    assert!(now[1].needs_hash_diff && now[1].size == 2 << 30 && now[1].committed_size == Some(1 << 30));
    // One that leaves the new disk out is refused.
    let mut short = new_job(&f.store, &m.id, JobKind::Incremental).await;
    short.disks.retain(|(disk, _)| *disk != new.id);
    let short = f.store.job_create(&short, at(25)).await;
    assert!(matches!(short, Err(Error::DisksDiffer { .. })), "{short:?}");
    assert_eq!(cycle(&f.store, &m.id, at(26)).await.disks.len(), 3);
}

/// DESIGN §6 rule 9: what a restore point is made of is not cleaned up.
#[tokio::test]
async fn a_retired_disk_is_needed_until_its_last_restore_point_goes() {
    let f = Fixture::new().await;
    let (m, disks) = committed(&f).await;
    let retire = accepted(vec![DiskChange::Retire(disks[1].id.clone())], &[]);
    let m = f.store.migration_accept(&m, &retire, at(20)).await.expect("accepted");
    let old = f.store.restore_point_list(&m.id).await.expect("points").remove(0);
    let needed = f.store.disk_volume_gone(&disks[1].id).await;
    assert!(matches!(needed, Err(Error::VolumeNeeded { .. })), "{needed:?}");
    let new = whole_cycle(&f.store, &m.id, at(30)).await.restore_point;
    assert_eq!((old.disks.len(), new.disks.len()), (2, 1));
    f.store.restore_point_delete(&old.id, at(40)).await.expect("deleted");
    assert_eq!(f.store.disk_list_retired(&m.id).await.expect("retired")[0].restore_points, 0);
    let manifest = old.disks[1].manifest.file.clone();
    let named = || async { Moment::of(&f.url).await.expect("there").manifests().await.expect("read") };
    assert!(named().await.contains(&manifest), "a backup takes it while the volume is there");
    f.store.disk_volume_gone(&disks[1].id).await.expect("gone");
    f.store.disk_volume_gone(&disks[1].id).await.expect("again");
    assert!(!named().await.contains(&manifest), "and does not miss it later");
    assert_eq!(f.store.disk_list_retired(&m.id).await.expect("retired"), []);
}
