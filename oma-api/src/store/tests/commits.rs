use super::*;
use shared::ids::Epoch;
use std::future::Future as _;
use std::task::{Context, Waker};

/// Everything that a commit may change, to compare before and after.
#[derive(Debug, PartialEq)]
struct All {
    migration: Migration,
    disks: Vec<Disk>,
    jobs: Vec<Job>,
    points: Vec<RestorePoint>,
    events: Vec<Event>,
    unknown: Vec<RangeSet>,
    required: Vec<RangeSet>,
}

async fn all(store: &Store, id: &MigrationId) -> All {
    let disks = store.disk_list(id).await.expect("disks");
    let (mut unknown, mut required) = (Vec::new(), Vec::new());
    for d in &disks {
        unknown.push(store.unknown_load(&d.id).await.expect("unknown"));
        required.push(store.required_load(&d.id, &job_id("none")).await.expect("required"));
    }
    All {
        migration: store.migration_fetch(id).await.expect("migration"),
        jobs: store.job_list(id).await.expect("jobs"),
        points: store.restore_point_list(id).await.expect("points"),
        events: store.event_list(0, None, 10_000).await.expect("events"),
        disks,
        unknown,
        required,
    }
}

async fn ready(store: &Store, n: u8) -> (Migration, Job) {
    let m = migration_at(store, n, 2, Position::SyncRunning).await;
    let job =
        transfer(store, &cycle(store, &m.id, at(0)).await, &ranges(&[(0, 65536), (131_072, 196_608)])).await;
    (m, job)
}

#[tokio::test]
async fn a_commit_makes_everything_at_once() {
    let mut f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 2, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    for d in &job.disks {
        f.store.disk_content_set(&d.disk, VolumeContent::Zeros).await.expect("set");
        f.store.disk_hash_diff_require(&d.disk).await.expect("set");
    }
    let job = transfer(&f.store, &job, &ranges(&[(0, 65536)])).await;
    let commit = commit_of(&job);
    let made = f.store.job_commit(&commit, at(5)).await.expect("commit");
    f.restart().await;
    let now = all(&f.store, &m.id).await;
    assert_eq!(now.migration, made.migration);
    assert_eq!((now.migration.position, now.migration.has_committed), (Position::SyncPaused, true));
    assert_eq!(now.points, [made.restore_point]);
    assert_eq!(now.points[0].snapshot_name, "rp-job-20261121-125546");
    assert_eq!((now.points[0].taken_at, now.points[0].committed_at), (at(0), at(5)));
    for (disk, part) in now.disks.iter().zip(&commit.disks) {
        assert_eq!(disk.change_id, Some(format!("{}/{}", disk.key, job.id)));
        assert_eq!(disk.committed_size, Some(1 << 30));
        assert_eq!(disk.manifest, Some(part.manifest.clone()));
        assert_eq!(disk.content, VolumeContent::Unknown);
        assert!(!disk.needs_hash_diff, "a full cycle settles it");
    }
    assert_eq!((now.jobs[0].status, now.jobs[0].finished_at), (JobStatus::Completed, Some(at(5))));
    assert_eq!(now.unknown, [RangeSet::new(), RangeSet::new()]);
    assert_eq!(f.store.job_active(&m.id).await.expect("active"), None);
    assert_eq!(f.store.job_kind_next(&m.id).await.expect("kind"), JobKind::Incremental);
    assert_eq!(now.events.last().expect("an event").kind, "migration_changed");
}

#[tokio::test]
async fn a_commit_again_changes_nothing_and_answers_the_same() {
    let f = Fixture::new().await;
    let (m, job) = ready(&f.store, 1).await;
    let first = f.store.job_commit(&commit_of(&job), at(5)).await.expect("commit");
    let before = all(&f.store, &m.id).await;
    let again = f.store.job_commit(&commit_of(&job), at(6)).await.expect("again, with another id");
    assert_eq!(again, first);
    assert_eq!(all(&f.store, &m.id).await, before);
}

/// Rule 2. Each refusal is found after parts of the transaction were written: nothing of them may stay.
#[tokio::test]
async fn a_commit_that_fails_leaves_nothing() {
    let f = Fixture::new().await;
    let (other, other_job) = ready(&f.store, 9).await;
    let taken =
        f.store.job_commit(&commit_of(&other_job), at(4)).await.expect("another VM's").restore_point.id;
    let (m, job) = ready(&f.store, 1).await;
    let before = all(&f.store, &m.id).await;
    let good = commit_of(&job);

    let clash = CycleCommit { restore_point: taken, ..good.clone() };
    assert!(
        matches!(f.store.job_commit(&clash, at(5)).await, Err(Error::Database { .. })),
        "the id is taken"
    );
    let mut huge = good.clone();
    huge.disks[1].manifest.version = u64::MAX;
    assert!(
        matches!(f.store.job_commit(&huge, at(5)).await, Err(Error::TooLarge { .. })),
        "the second disk fails"
    );
    let mut short = good.clone();
    short.disks.pop();
    assert!(matches!(f.store.job_commit(&short, at(5)).await, Err(Error::DisksDiffer { .. })));
    let mut foreign = good.clone();
    foreign.disks[1].disk = f.store.disk_list(&other.id).await.expect("disks")[0].id.clone();
    assert!(matches!(f.store.job_commit(&foreign, at(5)).await, Err(Error::DisksDiffer { .. })));
    assert_eq!(all(&f.store, &m.id).await, before);
    f.store.job_commit(&good, at(6)).await.expect("and then it goes");
}

/// The database refuses each kind of write that a commit makes, one after the other: nothing of the others may stay.
#[tokio::test]
async fn a_commit_that_fails_at_any_write_leaves_nothing() {
    let f = Fixture::new().await;
    let (m, job) = ready(&f.store, 1).await;
    f.store
        .required_append(&job.disks[1].disk, &ranges(&[(1 << 20, 2 << 20)]), at(2))
        .await
        .expect("a finding");
    let before = all(&f.store, &m.id).await;
    for write in [
        "UPDATE ON disks",
        "DELETE ON checkpoints",
        "INSERT ON checkpoints",
        "INSERT ON restore_points",
        "INSERT ON restore_point_disks",
        "UPDATE ON replication_jobs",
        "UPDATE ON counters",
        "INSERT ON events",
        "UPDATE ON migrations",
    ] {
        f.by_hand(&Fixture::trigger(write)).await;
        let refused = f.store.job_commit(&commit_of(&job), at(5)).await;
        f.by_hand("DROP TRIGGER cut").await;
        assert!(matches!(refused, Err(Error::Database { .. })), "{write}: {refused:?}");
        assert_eq!(all(&f.store, &m.id).await, before, "{write}");
    }
    f.store.job_commit(&commit_of(&job), at(6)).await.expect("and then it goes");
}

/// The caller is dropped in the middle, as a shutdown does it: whatever that cuts, the database holds all or nothing.
#[tokio::test]
async fn a_commit_that_is_dropped_is_all_or_nothing() {
    let mut f = Fixture::new().await;
    let (m, job) = ready(&f.store, 1).await;
    let before = all(&f.store, &m.id).await;
    for polls in 1..=12 {
        let commit = commit_of(&job);
        let mut running = Box::pin(f.store.job_commit(&commit, at(5)));
        for _ in 0..polls {
            if running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
            // Gives the database's thread time to answer; how far each poll gets does not matter.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        drop(running);
        f.restart().await;
        let now = all(&f.store, &m.id).await;
        if now != before {
            let disks = now.disks.iter().all(|d| d.manifest.is_some() && d.change_id.is_some());
            assert!(
                disks && now.points.len() == 1 && now.migration.position == Position::SyncPaused,
                "{now:#?}"
            );
            assert_eq!((now.jobs[0].status, &now.unknown[0]), (JobStatus::Completed, &RangeSet::new()));
            break;
        }
    }
    let made = f.store.job_commit(&commit_of(&job), at(9)).await.expect("repeated after the start");
    assert_eq!(f.store.restore_point_list(&m.id).await.expect("list"), [made.restore_point]);
}

/// Rule 15 at the last gate: red when `settled` is not asked.
#[tokio::test]
async fn an_announced_write_that_is_not_durable_keeps_a_cycle_from_committing() {
    let f = Fixture::new().await;
    let (m, job) = ready(&f.store, 1).await;
    // As a row that came in by the back door: sealing refuses it as well.
    sqlx::query("UPDATE job_disks SET finished = 0").execute(&f.store.write).await.expect("unseal");
    sqlx::query("UPDATE replication_jobs SET status = 'running'").execute(&f.store.write).await.expect("run");
    let wide = ranges(&[(0, 65536 * 5)]);
    f.store.checkpoint_append(&of(&job, 1), CheckpointKind::Intent, &wide, at(2)).await.expect("intent");
    let seal = f.store.job_disk_finish(&job.id, &job.disks[1].disk, job.disks[1].epoch, None, at(2)).await;
    assert!(matches!(seal, Err(Error::Unsettled { bytes: 196_608, .. })), "{seal:?}");
    sqlx::query("UPDATE job_disks SET finished = 1").execute(&f.store.write).await.expect("seal");
    sqlx::query("UPDATE replication_jobs SET status = 'committing'")
        .execute(&f.store.write)
        .await
        .expect("commit");
    let refused = f.store.job_commit(&commit_of(&job), at(3)).await;
    assert!(matches!(refused, Err(Error::Unsettled { bytes: 196_608, .. })), "{refused:?}");
    assert_eq!(f.store.restore_point_list(&m.id).await.expect("list"), []);
}

#[tokio::test]
async fn a_cycle_that_is_not_committing_or_was_overtaken_does_not_commit() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    let early = f.store.job_commit(&commit_of(&job), at(1)).await;
    assert!(matches!(early, Err(Error::JobStatus { status: JobStatus::Running, .. })), "{early:?}");
    let job = transfer(&f.store, &job, &RangeSet::new()).await;
    sqlx::query("UPDATE disks SET epoch = 7")
        .execute(&f.store.write)
        .await
        .expect("somebody took the replica");
    let overtaken = f.store.job_commit(&commit_of(&job), at(2)).await;
    assert!(matches!(overtaken, Err(Error::StaleEpoch { current: Epoch(7), .. })), "{overtaken:?}");
}

#[tokio::test]
async fn an_abort_that_came_first_wins_over_the_commit() {
    let f = Fixture::new().await;
    let (m, job) = ready(&f.store, 1).await;
    act(&f.store, &m.id, Action::Abort).await;
    let before = all(&f.store, &m.id).await;
    let denied = f.store.job_commit(&commit_of(&job), at(5)).await;
    assert!(matches!(denied, Err(Error::Denied(_))), "{denied:?}");
    assert_eq!(all(&f.store, &m.id).await, before);
}

#[tokio::test]
async fn a_hold_during_the_cycle_does_not_disturb_the_commit() {
    let f = Fixture::new().await;
    let (m, job) = ready(&f.store, 1).await;
    let read = f.store.migration_fetch(&m.id).await.expect("fetch");
    f.store.migration_transition(&Migration { held: true, ..read }, at(2)).await.expect("hold");
    let made = f.store.job_commit(&commit_of(&job), at(5)).await.expect("commit");
    assert!(made.migration.held && made.migration.position == Position::SyncPaused);
}

#[tokio::test]
async fn a_delta_leaves_the_need_of_a_hash_diff() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::BeginPaused).await;
    whole_cycle(&f.store, &m.id, at(1)).await;
    let disk = f.store.disk_list(&m.id).await.expect("disks").remove(0);
    f.store.disk_hash_diff_require(&disk.id).await.expect("require");
    whole_cycle(&f.store, &m.id, at(10)).await;
    let disk = f.store.disk_fetch(&disk.id).await.expect("fetch");
    assert!(disk.needs_hash_diff, "that cycle trusted change tracking");
}

#[tokio::test]
async fn the_newest_restore_point_is_needed_until_an_abort() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::BeginPaused).await;
    let mut made = Vec::new();
    for n in 1..=4 {
        made.push(whole_cycle(&f.store, &m.id, at(n * 10)).await);
    }
    let ids = |points: &[RestorePoint]| points.iter().map(|p| p.id.clone()).collect::<Vec<_>>();
    let newest = &made[3].restore_point.id;
    let needed = f.store.restore_point_delete(newest, at(50)).await;
    assert!(matches!(needed, Err(Error::RestorePointNeeded { .. })), "{needed:?}");
    for Committed { restore_point: point, .. } in &made[..2] {
        f.store.restore_point_delete(&point.id, at(50)).await.expect("delete");
        f.store.restore_point_delete(&point.id, at(50)).await.expect("again");
    }
    let left = f.store.restore_point_list(&m.id).await.expect("list");
    assert_eq!(ids(&left), [made[2].restore_point.id.clone(), newest.clone()]);
    act(&f.store, &m.id, Action::Abort).await;
    f.store.restore_point_delete(newest, at(60)).await.expect("an abort takes the newest too");
}

#[tokio::test]
async fn who_has_restore_points_that_go_is_found() {
    let f = Fixture::new().await;
    let [one, three] = [1, 2].map(|n| migration_at(&f.store, n, 1, Position::BeginPaused));
    let (one, three) = (one.await, three.await);
    whole_cycle(&f.store, &one.id, at(0)).await;
    for n in 1..=3 {
        whole_cycle(&f.store, &three.id, at(n * 10)).await;
    }
    let found = async |count, oldest| {
        let all = f.store.migration_list_surplus(count, oldest).await.expect("listed");
        all.into_iter().map(|m| m.vm_name).collect::<Vec<_>>()
    };
    let name = three.vm_name.as_str();
    assert_eq!(found(2, None).await, [name]);
    assert_eq!(found(3, None).await, [""; 0]);
    let taken = f.store.restore_point_list(&three.id).await.expect("points")[0].taken_at;
    assert_eq!(found(3, Some(taken)).await, [""; 0]);
    let later = taken + std::time::Duration::from_micros(1);
    assert_eq!(found(3, Some(later)).await, [name], "the only one of another stays, however old");
    act(&f.store, &three.id, Action::Abort).await;
    assert_eq!(found(2, None).await, [name], "until it is aborted");
}

/// Whoever looks at cycles that are over sees how much each moved, and how fast, whatever was reported last.
#[tokio::test]
async fn a_cycle_that_is_over_shows_what_it_moved() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 2, Position::SyncRunning).await;
    let job = transfer(&f.store, &cycle(&f.store, &m.id, at(0)).await, &ranges(&[(0, 65536)])).await;
    for d in &job.disks {
        assert_eq!((d.progress.planned, d.progress.done, d.progress.plan_complete), (65536, 65536, true));
    }
    let none = Progress { transferred: 131_072, total: 131_072, ..Progress::default() };
    f.store.job_progress_record(&job.id, &none, &[], at(1)).await.expect("recorded");
    f.store.job_commit(&commit_of(&job), at(4)).await.expect("commit");
    let job = f.store.job_fetch(&job.id).await.expect("there");
    assert_eq!((job.progress.percent, job.progress.speed), (100.0, 131_072 / 4));
}
