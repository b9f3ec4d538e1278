use super::*;
use proptest::prelude::*;
use shared::ids::Epoch;

/// Rule 14 and the fencing of DESIGN §5: red when `epoch_current` lets a lower epoch pass.
#[tokio::test]
async fn an_overtaken_writer_is_refused_and_told_by_whom() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    let old = of(&job, 0);
    let set = ranges(&[(0, 65536)]);
    f.store.checkpoint_append(&old, CheckpointKind::Intent, &set, at(1)).await.expect("current");
    let raised = f.store.job_epochs_raise(&job.id, at(2)).await.expect("raise");
    for kind in [CheckpointKind::Intent, CheckpointKind::Durable, CheckpointKind::Required] {
        match f.store.checkpoint_append(&old, kind, &set, at(3)).await {
            Err(Error::StaleEpoch { asked: Epoch(1), current: Epoch(2), by, disk }) => {
                assert_eq!((by, disk), (Some(job.id.clone()), old.disk.clone()));
            }
            other => panic!("{other:?}"),
        }
    }
    let stale = f.store.job_disk_finish(&job.id, &old.disk, Epoch(1), None, at(3)).await;
    assert!(matches!(stale, Err(Error::StaleEpoch { .. })), "{stale:?}");
    let future = CheckpointOf { epoch: Epoch(3), ..old.clone() };
    let made_up = f.store.checkpoint_append(&future, CheckpointKind::Durable, &set, at(3)).await;
    assert!(matches!(made_up, Err(Error::StaleEpoch { .. })), "only the database makes epochs");
    assert_eq!(f.store.checkpoint_load(&job.id, &old.disk).await.expect("load").durable, RangeSet::new());
    f.store
        .checkpoint_append(&of(&raised, 0), CheckpointKind::Durable, &set, at(4))
        .await
        .expect("the new attempt");
}

#[tokio::test]
async fn a_writer_of_another_cycle_is_refused_even_with_the_right_number() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let first = cycle(&f.store, &m.id, at(0)).await;
    let lost = Failure { reason: "SNAPSHOT_LOST".into(), message: "gone".into() };
    f.store.job_transition(&first.id, &JobStep::Aborted(lost), at(1)).await.expect("end");
    let second = cycle(&f.store, &m.id, at(2)).await;
    let forged = CheckpointOf { job: first.id, ..of(&second, 0) };
    let refused =
        f.store.checkpoint_append(&forged, CheckpointKind::Durable, &ranges(&[(0, 1)]), at(3)).await;
    assert!(
        matches!(&refused, Err(Error::StaleEpoch { by: Some(by), .. }) if *by == second.id),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_sealed_disk_and_an_ended_cycle_take_nothing() {
    let f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 2, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    let set = ranges(&[(0, 65536)]);
    f.store
        .job_disk_finish(&job.id, &job.disks[0].disk, job.disks[0].epoch, None, at(1))
        .await
        .expect("seal");
    f.store
        .job_disk_finish(&job.id, &job.disks[0].disk, job.disks[0].epoch, None, at(1))
        .await
        .expect("again");
    let sealed = f.store.checkpoint_append(&of(&job, 0), CheckpointKind::Intent, &set, at(1)).await;
    assert!(matches!(sealed, Err(Error::Sealed { .. })), "{sealed:?}");
    let failed = Failure { reason: "X".into(), message: "x".into() };
    f.store.job_transition(&job.id, &JobStep::Failed(failed), at(2)).await.expect("fail");
    let closed = f.store.checkpoint_append(&of(&job, 1), CheckpointKind::Durable, &set, at(3)).await;
    assert!(matches!(closed, Err(Error::JobClosed { status: JobStatus::Failed, .. })), "{closed:?}");
}

/// Rule 15: red when intents of cycles that never committed are not handed on.
#[tokio::test]
async fn what_a_dead_cycle_announced_is_required_of_the_next_and_of_the_one_after() {
    let mut f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let lost = || JobStep::Aborted(Failure { reason: "SNAPSHOT_LOST".into(), message: "gone".into() });
    let first = cycle(&f.store, &m.id, at(0)).await;
    let disk = first.disks[0].disk.clone();
    f.store
        .checkpoint_append(&of(&first, 0), CheckpointKind::Intent, &ranges(&[(0, 100)]), at(1))
        .await
        .expect("intent");
    f.store
        .checkpoint_append(&of(&first, 0), CheckpointKind::Durable, &ranges(&[(0, 50)]), at(1))
        .await
        .expect("durable");
    assert_eq!(
        f.store.required_load(&disk, &first.id).await.expect("load"),
        RangeSet::new(),
        "its own are not"
    );
    f.store.job_transition(&first.id, &lost(), at(2)).await.expect("end");

    let second = cycle(&f.store, &m.id, at(3)).await;
    f.store
        .checkpoint_append(&of(&second, 0), CheckpointKind::Intent, &ranges(&[(200, 300)]), at(4))
        .await
        .expect("intent");
    f.restart().await;
    assert_eq!(f.store.required_load(&disk, &second.id).await.expect("load"), ranges(&[(0, 100)]));
    f.store.required_append(&disk, &ranges(&[(500, 600)]), at(4)).await.expect("a finding");
    assert_eq!(
        f.store.required_load(&disk, &second.id).await.expect("load"),
        ranges(&[(0, 100), (500, 600)])
    );
    assert_eq!(f.store.unknown_load(&disk).await.expect("load"), ranges(&[(0, 100), (200, 300)]));
    f.store.job_transition(&second.id, &lost(), at(5)).await.expect("end");

    let third = cycle(&f.store, &m.id, at(6)).await;
    assert_eq!(
        f.store.required_load(&disk, &third.id).await.expect("load"),
        ranges(&[(0, 100), (200, 300), (500, 600)])
    );
    let open = f.store.job_disk_finish(&third.id, &disk, third.disks[0].epoch, None, at(7)).await;
    assert!(matches!(open, Err(Error::Unsettled { bytes: 200, .. })), "{open:?}");
    f.store
        .checkpoint_append(&of(&third, 0), CheckpointKind::Durable, &ranges(&[(0, 300)]), at(8))
        .await
        .expect("sent");
    // A finding that the cycle happens to send in part: that part is settled, the rest is not.
    f.store.required_append(&disk, &ranges(&[(250, 350)]), at(8)).await.expect("a finding");
    let done = transfer(&f.store, &third, &ranges(&[(0, 300)])).await;
    f.store.job_commit(&commit_of(&done), at(9)).await.expect("commit");
    assert_eq!(f.store.unknown_load(&disk).await.expect("load"), RangeSet::new());
    assert_eq!(
        f.store.required_load(&disk, &job_id("job-next")).await.expect("load"),
        ranges(&[(300, 350), (500, 600)]),
        "not sent, so still required"
    );
}

#[tokio::test]
async fn many_rows_become_few_and_lose_nothing() {
    let mut f = Fixture::new().await;
    let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
    let job = cycle(&f.store, &m.id, at(0)).await;
    let of = of(&job, 0);
    let mut model = Checkpoints::default();
    for n in 0..700u64 {
        let set = ranges(&[(n * 131_072, n * 131_072 + 65536)]);
        let kind = if n % 3 == 0 { CheckpointKind::Intent } else { CheckpointKind::Durable };
        f.store.checkpoint_append(&of, kind, &set, at(1)).await.expect("append");
        if n % 3 == 0 { model.intents.union(&set) } else { model.durable.union(&set) }
    }
    let rows = sqlx::query("SELECT seq FROM checkpoints").fetch_all(&f.store.read).await.expect("rows").len();
    assert!(rows < 450, "{rows} rows");
    // More ranges than one row may hold.
    let wide: RangeSet = (0..10_000u64)
        .map(|n| ByteRange::new((1 << 40) + n * 131_072, (1 << 40) + n * 131_072 + 1))
        .collect();
    f.store.checkpoint_append(&of, CheckpointKind::Durable, &wide, at(2)).await.expect("append");
    model.durable.union(&wide);
    f.restart().await;
    assert_eq!(f.store.checkpoint_load(&job.id, &of.disk).await.expect("load"), model);
    let longest = sqlx::query("SELECT MAX(LENGTH(ranges)) FROM checkpoints")
        .fetch_one(&f.store.read)
        .await
        .expect("row");
    assert!(sqlx::Row::get::<i64, _>(&longest, 0) < 65_536, "a BLOB of MariaDB ends there");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever attempts and cycles record: loading gives back exactly the union, per cycle and kind.
    #[test]
    fn loads_what_was_recorded(steps in prop::collection::vec((0u8..5, 0u64..40, 1u64..10), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let f = Fixture::new().await;
            let m = migration_at(&f.store, 1, 1, Position::SyncRunning).await;
            let mut job = cycle(&f.store, &m.id, at(0)).await;
            let disk = job.disks[0].disk.clone();
            let (mut own, mut older, mut found) = (Checkpoints::default(), RangeSet::new(), RangeSet::new());
            for (what, start, len) in steps {
                let set = ranges(&[(start, start + len)]);
                let kind = match what {
                    0 => CheckpointKind::Intent,
                    1 => CheckpointKind::Durable,
                    2 => CheckpointKind::Required,
                    3 => {
                        job = f.store.job_epochs_raise(&job.id, at(1)).await.expect("raise");
                        continue;
                    }
                    _ => {
                        let lost = Failure { reason: "SNAPSHOT_LOST".into(), message: "gone".into() };
                        f.store.job_transition(&job.id, &JobStep::Aborted(lost), at(1)).await.expect("end");
                        job = cycle(&f.store, &m.id, at(2)).await;
                        older.union(&own.intents);
                        own = Checkpoints::default();
                        continue;
                    }
                };
                f.store.checkpoint_append(&of(&job, 0), kind, &set, at(1)).await.expect("append");
                match kind {
                    CheckpointKind::Intent => own.intents.union(&set),
                    CheckpointKind::Durable => own.durable.union(&set),
                    CheckpointKind::Required => found.union(&set),
                }
            }
            let loaded = f.store.checkpoint_load(&job.id, &disk).await.expect("load");
            let required = f.store.required_load(&disk, &job.id).await.expect("load");
            let unknown = f.store.unknown_load(&disk).await.expect("load");
            prop_assert_eq!(&loaded, &own);
            let mut expected = older.clone();
            expected.union(&found);
            prop_assert_eq!(required, expected);
            older.union(&own.intents);
            prop_assert_eq!(unknown, older);
            Ok(())
        })?;
    }
}
