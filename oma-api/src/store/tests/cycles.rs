use super::*;
use shared::cycle::DiskProgress;
use shared::ids::Epoch;

#[tokio::test]
async fn a_cycle_comes_back_as_it_was_stored() {
    let mut f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 2, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    assert_eq!(job.id.as_str(), "job-20261121-125546");
    assert_eq!(job.snapshot.as_deref(), Some("mk-job-20261121-125546"));
    assert_eq!(job.disks[1].new_change_id.as_deref(), Some("disk-1/job-20261121-125546"));
    assert_eq!(job.disks.iter().map(|d| d.epoch).collect::<Vec<_>>(), [Epoch(1), Epoch(1)]);
    let disk = DiskProgress {
        disk: Some(job.disks[1].disk.clone()),
        size: 1 << 30,
        planned: 9,
        done: 8,
        read: 7,
        wire: 6,
        data: 5,
        resumed: 4,
        epoch: None,
        plan_complete: true,
    };
    let progress =
        Progress { percent: 12.5, operation: "Transfer".into(), transferred: 8, total: 9, speed: 3, peak: 4 };
    f.store
        .job_progress_record(&job.id, &progress, std::slice::from_ref(&disk), at(4))
        .await
        .expect("progress");
    f.restart().await;
    let read = f.store.job_fetch(&job.id).await.expect("fetch");
    assert_eq!(read.progress, progress);
    assert_eq!(read.disks[1].progress, disk);
    assert_eq!(f.store.job_active(&m.id).await.expect("active"), Some(read.clone()));
    assert_eq!(f.store.job_last(&m.id).await.expect("last"), Some(read.clone()));
    assert_eq!(f.store.job_list_active().await.expect("list"), [read]);
}

#[tokio::test]
async fn ids_are_the_second_or_the_next_free_one() {
    let f = Fixture::new().await;
    let mut ids = Vec::new();
    for n in 1..4 {
        let m = migration_at(&f.store, n, 1, Position::SyncRunning).await;
        ids.push(cycle(&f.store, &m.id, at(58)).await.id);
    }
    assert_eq!(
        ids.iter().map(JobId::as_str).collect::<Vec<_>>(),
        ["job-20261121-125644", "job-20261121-125645", "job-20261121-125646"]
    );
}

/// Which cycle is the newest, and which restore point goes, is not the clock's to say.
#[tokio::test]
async fn a_clock_that_was_set_back_changes_no_order() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let mut jobs = Vec::new();
    for second in [86_400, 0, 86_400, 1] {
        if !jobs.is_empty() {
            act(&f.store, &m.id, Action::Sync).await;
        }
        let job = cycle(&f.store, &m.id, at(second)).await;
        let job = transfer(&f.store, &job, &ranges(&[(0, 65536)])).await;
        f.store.job_commit(&commit_of(&job), at(second)).await.expect("commit");
        jobs.push(job.id.clone());
        assert_eq!(f.store.job_last(&m.id).await.expect("last").map(|j| j.id), Some(job.id.clone()));
        let points = f.store.restore_point_list(&m.id).await.expect("points");
        assert_eq!(points.into_iter().map(|p| p.job).collect::<Vec<_>>(), jobs);
    }
}

#[tokio::test]
async fn a_migration_has_one_cycle_at_a_time_and_only_where_it_may() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncPaused).await;
    let new = new_job(&f.store, &m.id, JobKind::Full).await;
    assert!(matches!(
        f.store.job_create(&new, at(0)).await,
        Err(Error::NotReady { at: Position::SyncPaused, .. })
    ));
    act(&f.store, &m.id, Action::Sync).await;
    let verify = NewJob { kind: JobKind::VerifySource, ..new.clone() };
    assert!(matches!(f.store.job_create(&verify, at(0)).await, Err(Error::NotReady { .. })));
    let job = f.store.job_create(&new, at(0)).await.expect("create");
    assert!(
        matches!(f.store.job_create(&new, at(0)).await, Err(Error::JobActive { job: j, .. }) if j == job.id)
    );
    assert_eq!(f.store.disk_list(&m.id).await.expect("disks")[0].epoch, Epoch(1), "a refusal raises nothing");
    let few = NewJob { disks: vec![], ..new };
    f.store.job_transition(&job.id, &JobStep::Aborted(failure()), at(1)).await.expect("end");
    assert!(matches!(f.store.job_create(&few, at(1)).await, Err(Error::DisksDiffer { .. })));
}

fn failure() -> Failure {
    Failure { reason: "SNAPSHOT_LOST".into(), message: "the snapshot is gone".into() }
}

#[tokio::test]
async fn every_new_attempt_has_a_higher_epoch_except_for_sealed_disks() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 2, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    f.store.job_disk_finish(&job.id, &job.disks[0].disk, Epoch(1), None, at(1)).await.expect("seal");
    let raised = f.store.job_epochs_raise(&job.id, at(2)).await.expect("raise");
    assert_eq!(
        raised.disks.iter().map(|d| (d.epoch, d.finished)).collect::<Vec<_>>(),
        [(Epoch(1), true), (Epoch(2), false)]
    );
    f.store.job_transition(&job.id, &JobStep::Aborted(failure()), at(3)).await.expect("end");
    assert!(matches!(f.store.job_epochs_raise(&job.id, at(3)).await, Err(Error::JobClosed { .. })));
    let next = cycle(&f.store, &m.id, at(4)).await;
    assert_eq!(next.disks.iter().map(|d| d.epoch).collect::<Vec<_>>(), [Epoch(2), Epoch(3)]);
    let disk = f.store.disk_fetch(&next.disks[1].disk).await.expect("disk");
    assert_eq!((disk.epoch, disk.epoch_job), (Epoch(3), Some(next.id)));
}

#[tokio::test]
async fn one_cycle_has_one_snapshot() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    let again = f.store.job_snapshot_record(&job.id, "mk-job-20261121-125546", at(9), &[], at(9)).await;
    assert_eq!(again.expect("the same one again"), job);
    let other = f.store.job_snapshot_record(&job.id, "mk-other", at(9), &[], at(9)).await;
    assert!(matches!(other, Err(Error::SnapshotDiffers { .. })), "{other:?}");
    let disks = f.store.disk_list(&m.id).await.expect("list");
    assert!(disks.iter().all(|d| d.change_id.is_none()), "change ids are the commit's, not the snapshot's");
    f.store.job_transition(&job.id, &JobStep::Aborted(failure()), at(1)).await.expect("end");
    let new = new_job(&f.store, &m.id, JobKind::Full).await;
    let next = f.store.job_create(&new, at(2)).await.expect("create");
    let short = f.store.job_snapshot_record(&next.id, "mk-next", at(2), &[], at(2)).await;
    assert!(matches!(short, Err(Error::NoSnapshot { .. })), "{short:?}");
    assert_eq!(f.store.job_fetch(&next.id).await.expect("fetch").snapshot, None, "nothing of it was stored");
}

/// Every status against every step, for both kinds: the picture in the module's text.
#[tokio::test]
async fn statuses_move_along_their_edges_only() {
    let f = Fixture::new().await;
    let steps = || {
        [
            JobStep::Resumed,
            JobStep::Paused,
            JobStep::Committing,
            JobStep::Compared,
            JobStep::Failed(failure()),
            JobStep::Aborted(failure()),
        ]
    };
    let mut n = 0;
    let mut allowed = Vec::new();
    for kind in [JobKind::Incremental, JobKind::VerifySource] {
        for &from in JobStatus::ALL {
            for step in steps() {
                n += 1;
                let position = if kind.writes() { Position::SyncRunning } else { Position::SyncPaused };
                let m = migration_at(&f.store, n, 0, position).await;
                let job =
                    f.store.job_create(&new_job(&f.store, &m.id, kind).await, at(0)).await.expect("create");
                let set =
                    sqlx::query("UPDATE replication_jobs SET status = ?, wanted = 'pause' WHERE id = ?")
                        .bind(from.as_str())
                        .bind(job.id.as_str());
                set.execute(&f.store.write).await.expect("set");
                match f.store.job_transition(&job.id, &step, at(1)).await {
                    Ok((job, _)) if job.status != from => {
                        allowed.push(format!("{kind} {from}→{}", job.status))
                    }
                    Ok(_) => assert_eq!(step.leads_to(), from, "only the same again changes nothing"),
                    Err(Error::JobStatus { status, .. }) => assert_eq!(status, from),
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
    let expected = "incremental running→paused, incremental running→committing, incremental running→failed, incremental running→aborted, \
        incremental paused→running, incremental paused→failed, incremental paused→aborted, incremental committing→failed, incremental committing→aborted, \
        verify_source running→paused, verify_source running→completed, verify_source running→failed, verify_source running→aborted, \
        verify_source paused→running, verify_source paused→failed, verify_source paused→aborted, verify_source committing→failed, verify_source committing→aborted";
    assert_eq!(allowed.join(", "), expected);
}

#[tokio::test]
async fn the_end_of_a_cycle_moves_its_migration_with_it() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    let running = f.store.migration_fetch(&m.id).await.expect("fetch");
    f.store.migration_direct(&running, Some(Wanted::Pause), None, at(1)).await.expect("want");
    assert_eq!(f.store.job_fetch(&job.id).await.expect("fetch").wanted, Wanted::Pause);
    let (paused, moved) = f.store.job_transition(&job.id, &JobStep::Paused, at(1)).await.expect("pause");
    assert_eq!((paused.status, moved.position), (JobStatus::Paused, Position::SyncPaused));
    assert_eq!(
        f.store.job_active(&m.id).await.expect("active").map(|j| j.id),
        Some(job.id.clone()),
        "kept, to go on from"
    );

    act(&f.store, &m.id, Action::Sync).await;
    let asked = f.store.migration_fetch(&m.id).await.expect("fetch");
    f.store.migration_direct(&asked, Some(Wanted::Run), None, at(2)).await.expect("want");
    f.store.job_transition(&job.id, &JobStep::Resumed, at(2)).await.expect("resume");
    // The agent reported the pause again, and is heard only now.
    let late = f.store.job_transition(&job.id, &JobStep::Paused, at(2)).await;
    assert!(matches!(late, Err(Error::JobStatus { status: JobStatus::Running, .. })), "{late:?}");
    let going_on = f.store.migration_fetch(&m.id).await.expect("fetch");
    assert_eq!(going_on.position, Position::SyncRunning, "nobody asked for that pause");
    let (failed, moved) =
        f.store.job_transition(&job.id, &JobStep::Failed(failure()), at(3)).await.expect("fail");
    assert_eq!((failed.status, moved.position), (JobStatus::Failed, Position::SyncFailed));
    assert_eq!((failed.error, moved.error), (Some(failure()), Some(failure())));
    assert_eq!(failed.finished_at, Some(at(3)));
    let repeated =
        f.store.job_transition(&job.id, &JobStep::Failed(failure()), at(9)).await.expect("again").0;
    assert_eq!(repeated.finished_at, Some(at(3)), "again: changes nothing");

    // While an abort runs, the end of the cycle is not the end of the abort.
    let m = migration_at(&f.store, 2, 1, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    act(&f.store, &m.id, Action::Abort).await;
    f.by_hand("UPDATE replication_jobs SET wanted = 'pause'").await;
    let (_, moved) = f.store.job_transition(&job.id, &JobStep::Paused, at(1)).await.expect("pause");
    assert_eq!(moved.position, Position::AbortRunning);

    // A verification that fails says nothing about the sync.
    let m = migration_at(&f.store, 3, 1, Position::SyncPaused).await;
    let job = f
        .store
        .job_create(&new_job(&f.store, &m.id, JobKind::VerifySource).await, at(0))
        .await
        .expect("create");
    let (_, moved) = f.store.job_transition(&job.id, &JobStep::Failed(failure()), at(1)).await.expect("fail");
    assert_eq!((moved.position, moved.error), (Position::SyncPaused, None));
}

#[tokio::test]
async fn an_unsealed_disk_keeps_a_cycle_from_committing() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 2, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    f.store
        .job_disk_finish(&job.id, &job.disks[0].disk, job.disks[0].epoch, None, at(1))
        .await
        .expect("seal one");
    let early = f.store.job_transition(&job.id, &JobStep::Committing, at(1)).await;
    assert!(matches!(early, Err(Error::Unfinished { disk, .. }) if disk == job.disks[1].disk));
    assert_eq!(f.store.job_fetch(&job.id).await.expect("fetch").status, JobStatus::Running);
}

#[tokio::test]
async fn a_strategy_changes_until_the_disk_is_sealed() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    let disk = &job.disks[0].disk;
    for strategy in [Strategy::Changed { since: "c1".into() }, Strategy::HashDiff] {
        let changed = f.store.job_strategy_set(&job.id, disk, &strategy, at(1)).await.expect("set");
        assert_eq!(changed.disks[0].strategy, strategy);
    }
    f.store.job_disk_finish(&job.id, disk, job.disks[0].epoch, None, at(1)).await.expect("seal");
    assert!(matches!(
        f.store.job_strategy_set(&job.id, disk, &Strategy::Full, at(1)).await,
        Err(Error::Sealed { .. })
    ));
}

#[tokio::test]
async fn a_late_report_moves_no_finished_bar() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let job = transfer(&f.store, &cycle(&f.store, &m.id, at(0)).await, &RangeSet::new()).await;
    f.store.job_commit(&commit_of(&job), at(2)).await.expect("commit");
    let late = Progress { percent: 50.0, ..Progress::default() };
    f.store.job_progress_record(&job.id, &late, &[], at(3)).await.expect("ignored");
    let read = f.store.job_fetch(&job.id).await.expect("fetch");
    assert!((read.progress.percent - 100.0).abs() < f64::EPSILON, "{}", read.progress.percent);
}
