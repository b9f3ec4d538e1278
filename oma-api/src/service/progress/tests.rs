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
    // The agent's last report is late; what came with the disk's end counts.
    plant.sent(&job, 0, 900).await;
    plant.sent(&job, 1, 0).await;
    plant.step().await;
    let done = plant.app.store.job_fetch(&job.id).await.expect("read");
    assert_eq!((done.status, done.progress.transferred), (JobStatus::Completed, 900));
    let disk = &done.disks[0].progress;
    assert_eq!((disk.data, disk.planned, disk.done, disk.plan_complete), (900, 131_072, 131_072, true));
    assert!(plant.app.hub.pace.waiting().is_empty());
}

/// After a retry an agent counts from zero, and of the disks that are done already it says nothing, or zeros. Red when a
/// finished disk's numbers are taken from a report, when an attempt's replace those of the one before, and when bytes that
/// were sent twice count twice.
#[tokio::test]
async fn what_is_finished_stays_and_what_is_sent_again_counts_once() {
    let (plant, job) = running().await;
    let zeros = |disk: &JobDisk| DiskProgress { disk: Some(disk.disk.clone()), ..DiskProgress::default() };
    let [a, b] = [&job.disks[0], &job.disks[1]];
    plant.say(&job, CycleEvent::Progress(vec![at(a, 4096, 4096), at(b, 60_000, 50_000)])).await;
    plant.sent(&job, 0, 90_000).await;
    let sealed = plant.job().await;
    let shown = |job: &Job| {
        let a = &job.disks[0].progress;
        (a.planned, a.done, a.data, a.plan_complete)
    };
    assert_eq!(shown(&sealed), (131_072, 131_072, 90_000, true));
    assert_eq!(sealed.progress.transferred, 90_000 + sealed.disks[1].progress.data, "one with the seal");
    // The last report of the attempt that ended says what it read and sent, and no more.
    let trailing = DiskProgress { wire: 95_000, read: 96_000, ..at(a, 90_001, 131_072) };
    plant.say(&job, CycleEvent::Progress(vec![trailing])).await;
    let mut least = 0;
    let found = DiskProgress { resumed: 50_000, ..at(b, 20_000, 70_000) };
    for (step, said) in
        [vec![zeros(a), zeros(b)], vec![zeros(b)], vec![zeros(a), found]].into_iter().enumerate()
    {
        plant.say(&job, CycleEvent::Progress(said)).await;
        if step == 1 {
            // The daemon begins anew, too.
            plant.app.progress_flush(&job.id).await;
            plant.app.hub.live_forget(&job.id);
        }
        plant.app.progress_flush(&job.id).await;
        let now = plant.job().await;
        assert_eq!(shown(&now), shown(&sealed), "{step}");
        assert_eq!((now.disks[0].progress.wire, now.disks[0].progress.read), (95_000, 96_000), "{step}");
        let second = &now.disks[1].progress;
        assert!(second.data >= least && second.done >= 50_000 && second.planned == 131_072, "{second:?}");
        least = second.data;
        assert_eq!(now.progress.transferred, 90_000 + least, "the job's is its disks'");
        assert_eq!(now.progress.total, 262_144);
    }
    assert_eq!(least, 70_000, "10 000 were sent twice");
    plant.sent(&job, 1, 81_072).await;
    plant.step().await;
    let done = plant.app.store.job_fetch(&job.id).await.expect("read");
    assert_eq!((done.status, shown(&done)), (JobStatus::Completed, shown(&sealed)));
    assert_eq!((done.disks[1].progress.data, done.progress.transferred), (131_072, 90_000 + 131_072));
}

/// The highest speed that was seen, whatever happened since. Red when it is kept in memory only.
#[tokio::test]
async fn a_peak_stays() {
    let (plant, job) = running().await;
    plant.say(&job, CycleEvent::Progress(vec![at(&job.disks[0], 131_072, 131_072)])).await;
    let first = view(&plant, job.id.as_str()).await.throughput.peak_mbps;
    assert!(first > 0.0);
    let peak = async || view(&plant, job.id.as_str()).await.throughput.peak_mbps;
    plant.app.progress_flush(&job.id).await;
    plant.app.hub.live_forget(&job.id);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(peak().await >= first, "{} {first}", peak().await);
    plant.say(&job, CycleEvent::Progress(vec![at(&job.disks[0], 0, 0)])).await;
    assert!(peak().await >= first, "{} {first}", peak().await);
    plant.sent(&job, 0, 131_072).await;
    plant.sent(&job, 1, 0).await;
    plant.step().await;
    let done = view(&plant, job.id.as_str()).await;
    assert_eq!(done.status, Status::Completed);
    let highest = first.max(done.throughput.average_mbps);
    assert!(done.throughput.peak_mbps >= highest, "{:?} {first}", done.throughput);
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
    assert_eq!(stored(1024, 32_768).await, (65_536, 65_536.0 * 100.0 / whole), "a new attempt");
    // The daemon begins anew, too.
    plant.app.hub.live_forget(&job.id);
    assert_eq!(stored(1024, 98_304).await, (65_536, 98_304.0 * 100.0 / whole));
    assert_eq!(stored(1 << 40, 131_072).await.0, 131_072, "never more than there is");
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
    plant.act(Action::Pause).await;
    plant.app.step(&job, JobStep::Paused).await.expect("paused");
    let paused = view(&plant, job.id.as_str()).await;
    assert_eq!((paused.status, paused.percentage, paused.timing.eta_seconds), (Status::Queued, 25.0, 0));
}
