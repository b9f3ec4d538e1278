use super::*;
use crate::store::JobStep;
use crate::testing::Plant;
use shared::cycle::CycleEvent;
use shared::migration::Action;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// What one disk of the cycle has moved and done, in bytes.
fn at(disk: &JobDisk, data: u64, done: u64) -> DiskProgress {
    DiskProgress {
        disk: Some(disk.disk.clone()),
        size: 131_072,
        planned: 131_072,
        done,
        data,
        plan_complete: true,
        ..DiskProgress::default()
    }
}

async fn running() -> (Plant, Job) {
    let plant = Plant::begun().await;
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    plant.snapshot_taken(&job, "1").await;
    let job = plant.job().await;
    (plant, job)
}

async fn view(plant: &Plant, id: &str) -> View {
    let of = plant.app.progress_find(id).await.expect("known");
    plant.app.progress_view(&of).await.expect("read")
}

/// The last state of a burst is stored although the cycle says nothing more; and at its end, at once.
#[tokio::test]
async fn the_last_counters_are_stored_a_second_later_or_with_the_end() {
    let (plant, job) = running().await;
    let (app, shutdown) = (plant.app.clone(), CancellationToken::new());
    let stop = shutdown.clone();
    let running = AbortOnDropHandle::new(tokio::spawn(async move { app.progress_run(stop).await }));
    for bytes in 1..=1000 {
        plant.say(&job, CycleEvent::Progress(vec![at(&job.disks[0], bytes, bytes)])).await;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while plant.job().await.progress.transferred != 1000 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", plant.job().await.progress);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Within the second after that write nothing more is due; the failure does not wait for it.
    plant.say(&job, CycleEvent::Progress(vec![at(&job.disks[0], 5000, 5000)])).await;
    let (reason, message) = ("SOURCE_GONE".to_owned(), "no such disk".to_owned());
    plant.say(&job, CycleEvent::Failed { reason, message }).await;
    let failed = plant.app.store.job_fetch(&job.id).await.expect("read");
    assert_eq!((failed.status, failed.progress.transferred), (JobStatus::Failed, 5000));
    let view = view(&plant, job.id.as_str()).await;
    assert_eq!((view.status, view.last_error.as_deref()), (Status::Failed, Some("no such disk")));
    shutdown.cancel();
    running.await.expect("ended");
}

#[tokio::test]
async fn what_is_not_stored_is_stored_when_the_daemon_ends_and_before_the_commit() {
    let (plant, job) = running().await;
    plant.say(&job, CycleEvent::Progress(vec![at(&job.disks[0], 300, 300)])).await;
    assert_eq!(plant.job().await.progress.transferred, 0, "nobody stores it here");
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    plant.app.progress_run(shutdown).await;
    assert_eq!(plant.job().await.progress.transferred, 300);
    plant.say(&job, CycleEvent::Progress(vec![at(&job.disks[0], 700, 700)])).await;
    plant.seal(&job).await;
    // The agent's last report is late; what came with the disk's end counts.
    plant.app.progress_sent(&job.id, &job.disks[0].disk, 900, 131_072 - 900);
    plant.step().await;
    let done = plant.app.store.job_fetch(&job.id).await.expect("read");
    assert_eq!((done.status, done.progress.transferred), (JobStatus::Completed, 900));
    let disk = &done.disks[0].progress;
    assert_eq!((disk.data, disk.planned, disk.done, disk.plan_complete), (900, 131_072, 131_072, true));
    assert!(plant.app.hub.pace.waiting().is_empty());
}

/// The columns are bytes that were moved, in all attempts, and run neither backwards nor beyond the whole.
#[tokio::test]
async fn an_attempt_that_begins_anew_takes_nothing_back() {
    let (plant, job) = running().await;
    let stored = async |data: u64, done: u64| {
        plant.say(&job, CycleEvent::Progress(vec![at(&job.disks[0], data, done)])).await;
        plant.app.progress_flush(&job.id).await;
        let job = plant.job().await;
        (job.progress.transferred, job.progress.percent)
    };
    let whole = 2.0 * 131_072.0;
    // The other disk has said nothing: its size counts.
    assert_eq!(stored(65_536, 65_536).await, (65_536, 65_536.0 * 100.0 / whole));
    assert_eq!(stored(1024, 32_768).await, (66_560, 65_536.0 * 100.0 / whole), "a new attempt");
    // The daemon begins anew, too.
    plant.app.hub.live_forget(&job.id);
    assert_eq!(stored(1024, 98_304).await, (67_584, 98_304.0 * 100.0 / whole));
    assert_eq!(stored(1 << 40, 131_072).await.0, 262_144, "never more than there is");
    let disk = view(&plant, &format!("{VOLUME}{}", job.disks[0].disk)).await;
    assert_eq!((disk.total_bytes, disk.percentage, disk.bytes_transferred), (131_072, 100.0, 131_072));
    assert_eq!(disk.status, Status::Running, "done is not committed");
}

#[tokio::test]
async fn a_cycle_is_shown_as_the_progress_api_shows_a_job() {
    let plant = Plant::begun().await;
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    let queued = view(&plant, job.id.as_str()).await;
    assert_eq!((queued.status, queued.phase.as_str(), queued.percentage), (Status::Queued, "Discover", 0.0));
    assert_eq!((queued.sync_type.as_str(), queued.vm_info.name.as_str()), ("full", "web-1"));
    plant.snapshot_taken(&job, "1").await;
    plant.say(&job, CycleEvent::Progress(vec![at(&job.disks[1], 1024, 65_536)])).await;
    let running = view(&plant, job.id.as_str()).await;
    assert_eq!(
        (running.status, running.phase.as_str(), running.percentage),
        (Status::Running, "Transfer", 25.0)
    );
    assert_eq!((running.bytes_transferred, running.total_bytes), (1024, 262_144));
    assert!(running.vm_info.cbt_enabled && running.phases[1].end_time.is_empty(), "{running:?}");
    let disk = view(&plant, &format!("{VOLUME}{}", job.disks[1].disk)).await;
    assert_eq!((disk.percentage, disk.bytes_transferred, disk.total_bytes), (50.0, 1024, 131_072));
    plant.seal(&job).await;
    plant.step().await;
    for id in [job.id.to_string(), format!("{VOLUME}{}", job.disks[0].disk)] {
        let done = view(&plant, &id).await;
        assert_eq!((done.status, done.percentage, done.job_id), (Status::Completed, 100.0, id));
        let phases: Vec<_> = done.phases.iter().map(|p| (p.name.as_str(), p.end_time.is_empty())).collect();
        assert_eq!(phases, [("Discover", false), ("Transfer", false), ("Complete", false)]);
    }
    for unknown in ["job-20010101-000000", "migration-vol-x", "../etc", ""] {
        let refused = plant.app.progress_find(unknown).await.expect_err("unknown");
        assert!(matches!(refused, Error::JobUnknown { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_paused_cycle_waits() {
    let (plant, job) = running().await;
    plant.say(&job, CycleEvent::Progress(vec![at(&job.disks[0], 1024, 65_536)])).await;
    plant.app.step(&job, JobStep::Paused).await.expect("paused");
    let paused = view(&plant, job.id.as_str()).await;
    assert_eq!((paused.status, paused.percentage, paused.timing.eta_seconds), (Status::Queued, 25.0, 0));
}
