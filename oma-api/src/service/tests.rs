use super::Error;
use super::act::Ask;
use super::transfer::{Hashed, Mode, OpenRequest, Sent, TransferError};
use crate::store::{JobDisk, JobKind, JobStep, Migration, NewJob};
use crate::testing::Plant;
use jiff::Timestamp;
use migratekit::manifest::Manifest;
use shared::cycle::{CycleEvent, DiskProgress, Finding, FindingKind, Strategy, Vm};
use shared::migration::{Action, Position};
use shared::range::ByteRange;
use shared::vm::Configuration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// What the agent is told to keep is of the same moment as the cycle it is told to run: told that there is no cycle
/// and to keep the ids of the commit before, it would remove the change tracking that the next cycle starts from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_desired_state_is_of_one_moment() {
    let plant = Arc::new(Plant::begun().await);
    let begun = Arc::new(AtomicU64::new(0));
    let (watched, at_least) = (Arc::clone(&plant), Arc::clone(&begun));
    let watching = tokio::spawn(async move {
        loop {
            let cycle = at_least.load(Ordering::SeqCst);
            if cycle == u64::MAX {
                return;
            }
            let told = watched.desired().await;
            for (key, id) in told.keep.iter().filter(|_| told.cycle.is_none()) {
                let of: u64 = id.parse().expect("a number");
                assert!(of >= cycle, "cycle {cycle} had begun; told of none, and to keep {id} of {key}");
            }
        }
    });
    for number in 1..=40 {
        plant.act(Action::Sync).await;
        plant.step().await;
        let job = plant.job().await;
        begun.store(number, Ordering::SeqCst);
        plant.snapshot_taken(&job, &number.to_string()).await;
        plant.seal(&job).await;
        plant.step().await;
    }
    begun.store(u64::MAX, Ordering::SeqCst);
    watching.await.expect("consistent");
}

#[tokio::test]
async fn a_pause_before_the_cycle_is_made_is_not_lost() {
    let plant = Plant::begun().await;
    plant.act(Action::Sync).await;
    plant.act(Action::Pause).await;
    plant.step().await;
    let migration = plant.migration().await;
    assert_eq!(migration.position, Position::SyncPaused);
    assert_eq!(plant.app.store.job_active(&migration.id).await.expect("read"), None);
    plant.cycle("1").await;
    assert!(plant.migration().await.has_committed);
}

/// A verification that was just being made when a sync was asked for ends, and the sync follows it: neither waits for
/// the other.
#[tokio::test]
async fn a_sync_and_a_verification_do_not_wait_for_each_other() {
    let plant = Plant::begun().await;
    plant.cycle("1").await;
    let before = plant.migration().await;
    let disks = plant.app.store.disk_list(&before.id).await.expect("read");
    let disks = disks.into_iter().map(|d| (d.id, Strategy::HashDiff)).collect();
    let new = NewJob { migration: before.id.clone(), kind: JobKind::VerifySource, disks };
    let job = plant.app.store.job_create(&new, Timestamp::now()).await.expect("made");
    let refused = plant.ask(&Ask::new(Action::Sync)).await.expect_err("in the way");
    assert!(matches!(refused, Error::CycleRunning { .. }), "{refused:?}");
    // As a version before left it.
    let running = Migration { position: Position::SyncRunning, ..before };
    plant.app.store.migration_transition(&running, Timestamp::now()).await.expect("moved");
    plant.seal(&job).await;
    plant.step().await;
    plant.step().await;
    assert_eq!(plant.job().await.kind, JobKind::Incremental);
}

fn lost() -> CycleEvent {
    let message = "its copies could not be kept".to_owned();
    CycleEvent::Findings(vec![Finding { kind: FindingKind::SnapshotLost, disk: None, message }])
}

/// What an agent says of a cycle whose disks are all sealed changes nothing, and does not cost it its connection.
#[tokio::test]
async fn a_sealed_cycle_is_committed_whatever_the_agent_says_meanwhile() {
    let plant = Plant::begun().await;
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    plant.snapshot_taken(&job, "1").await;
    plant.act(Action::Pause).await;
    plant.seal(&job).await;
    plant.say(&job, lost()).await;
    let committing = plant.app.store.job_transition(&job.id, &JobStep::Committing, Timestamp::now()).await;
    committing.expect("all sealed");
    plant.say(&job, CycleEvent::Paused).await;
    plant.say(&job, lost()).await;
    plant.step().await;
    assert!(plant.migration().await.has_committed);
}

/// A source that cannot keep a snapshot is not made to take one after the other for ever.
#[tokio::test]
async fn snapshots_lost_in_a_row_wait_for_the_operator() {
    let plant = Plant::begun().await;
    plant.act(Action::Sync).await;
    for _ in 0..3 {
        plant.step().await;
        let job = plant.job().await;
        plant.snapshot_taken(&job, "1").await;
        plant.say(&job, lost()).await;
    }
    let failed = plant.migration().await;
    assert_eq!(failed.position, Position::SyncFailed);
    assert_eq!(failed.error.map(|e| e.reason), Some("SNAPSHOT_LOST".to_owned()));
}

#[tokio::test]
async fn a_cycle_that_only_waited_shows_no_progress() {
    let plant = Plant::begun().await;
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    let (reason, message) = ("SOURCE_UNAVAILABLE".to_owned(), "no route".to_owned());
    plant.say(&job, CycleEvent::Waiting { reason, message }).await;
    plant.act(Action::Pause).await;
    plant.say(&job, CycleEvent::Paused).await;
    assert_eq!(plant.job().await.progress.percent, 0.0);
}

/// A committed manifest that is gone or damaged is made anew from a comparison of the whole disk; it does not refuse
/// every cycle for ever.
#[tokio::test]
async fn a_lost_manifest_is_made_anew_by_a_hash_diff() {
    let plant = Plant::begun().await;
    // Without a transfer there is no manifest: the commit names files that are not there.
    plant.cycle("1").await;
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    plant.snapshot_taken(&job, "2").await;
    for d in &job.disks {
        let size = 128 << 10;
        let mut request =
            OpenRequest { job: job.id.clone(), disk: d.disk.clone(), epoch: d.epoch, size, mode: Mode::Data };
        let lost = plant.app.transfers.open(&plant.agent, &request).await.err().expect("lost");
        assert!(matches!(lost, TransferError::ManifestLost { .. }), "{lost:?}");
        let now = plant.job().await;
        let strategy = now.disks.iter().find(|x| x.disk == d.disk).map(|x| x.strategy.clone());
        assert_eq!(strategy, Some(Strategy::HashDiff), "what the agent is told to do next");
        request.mode = Mode::HashDiff;
        let opened = plant.app.transfers.open(&plant.agent, &request).await.expect("with a new manifest");
        let refused =
            opened.transfer.seal(&plant.app.hub, Sent::default()).await.expect_err("nothing was compared");
        assert!(matches!(refused, TransferError::NotWhole { .. }), "{refused:?}");
        let opened = plant.app.transfers.open(&plant.agent, &request).await.expect("again");
        let zeros = Hashed { range: ByteRange::new(0, size), hashes: vec![] };
        assert!(opened.transfer.compare(zeros).await.expect("compared").is_empty());
        opened.transfer.seal(&plant.app.hub, Sent::default()).await.expect("whole");
    }
    plant.step().await;
    let (events, _heard) = tokio::sync::mpsc::channel(64);
    let verified =
        plant.app.verify_replica("web-1", events, CancellationToken::new()).await.expect("compared");
    assert_eq!((verified.different, verified.compared), (0, 2 * (128 << 10)));
}

/// A verification that its agent began anew counts no byte twice: what was left out still shows.
#[tokio::test]
async fn a_verification_that_began_anew_counts_each_byte_once() {
    let plant = Plant::begun().await;
    plant.cycle("1").await;
    let migration = plant.migration().await.id;
    let disks = plant.app.store.disk_list(&migration).await.expect("read");
    let size = 128 << 10;
    let file = disks[0].manifest.clone().expect("committed").file;
    Manifest::create(&plant.app.transfers.manifest_path(&file), size).expect("made");
    let of_disks = disks.iter().map(|d| (d.id.clone(), Strategy::HashDiff)).collect();
    let new = NewJob { migration, kind: JobKind::VerifySource, disks: of_disks };
    plant.app.store.job_create(&new, Timestamp::now()).await.expect("made");
    plant.snapshot_taken(&plant.job().await, "2").await;
    let job = plant.job().await;
    let d = &job.disks[0];
    let request =
        OpenRequest { job: job.id.clone(), disk: d.disk.clone(), epoch: d.epoch, size, mode: Mode::Verify };
    for _ in 0..2 {
        let opened = plant.app.transfers.open(&plant.agent, &request).await.expect("open");
        let first = Hashed { range: ByteRange::new(0, 65536), hashes: vec![] };
        assert!(opened.transfer.compare(first).await.expect("compared").is_empty());
    }
    assert_eq!(plant.app.transfers.findings_take(&job.id, &d.disk).compared.total(), 65536);
}

/// Counters that no disk can have reach neither a panic nor the end of the connection.
#[tokio::test]
async fn progress_may_be_nonsense() {
    let plant = Plant::begun().await;
    plant.act(Action::Sync).await;
    plant.step().await;
    let job = plant.job().await;
    let nonsense = |d: &JobDisk| DiskProgress {
        disk: Some(d.disk.clone()),
        size: u64::MAX,
        planned: u64::MAX,
        done: u64::MAX,
        ..DiskProgress::default()
    };
    plant.say(&job, CycleEvent::Progress(job.disks.iter().map(nonsense).collect())).await;
    plant.app.progress_flush(&job.id).await;
    let stored = plant.job().await.progress;
    assert!(stored.percent <= 100.0 && stored.operation == "Transfer", "{stored:?}");
}

/// The source may change, or be gone, when the VM is made anew.
#[tokio::test]
async fn begin_records_the_configuration_and_later_changes_are_shown_beside_it() {
    let plant = Plant::begun().await;
    let [offered] = &plant.app.vm_list().await.expect("read")[..] else { panic!("one VM") };
    let begun = offered.vm.configuration.clone().expect("told");
    let recorded = |cpus| Some(Configuration { cpus: Some(cpus), ..begun.clone() });
    assert_eq!((&offered.vm.configuration, &offered.changes[..]), (&recorded(2), &[][..]));
    let mut vm = offered.vm.clone();
    vm.configuration = recorded(8);
    plant.app.agent_inventory(&plant.agent, &[vm]).await.expect("taken");
    let view = plant.app.migration_view(&plant.migration().await.id).await.expect("read");
    assert_eq!(view.configuration, recorded(2));
    let now = plant.app.vm_find("web-1").await.expect("found").remove(0);
    assert_eq!(now.vm.configuration, recorded(8));
    let [change] = &now.changes[..] else { panic!("{:?}", now.changes) };
    assert_eq!(
        (change.field.as_str(), change.recorded.as_str(), change.present.as_str()),
        ("cpus", "2", "8")
    );
    assert!(matches!(plant.app.vm_find("web-2").await, Err(Error::VmUnknown { .. })));
}

/// Who named a VM by a name that several have is told what to say instead.
#[tokio::test]
async fn of_several_vms_of_one_name_the_uuids_are_named() {
    let plant = Plant::new().await;
    let offered = plant.app.vm_list().await.expect("read").remove(0).vm;
    let other =
        Vm { uuid: "00000000-0000-4000-8000-0000000000ff".parse().expect("a uuid"), ..offered.clone() };
    plant.app.agent_inventory(&plant.agent, &[offered.clone(), other.clone()]).await.expect("taken");
    let refused = plant.ask(&Ask::new(Action::Begin)).await.expect_err("which of the two?");
    assert_eq!(refused.reason(), "VM_AMBIGUOUS");
    let message = refused.to_string();
    assert!([&offered, &other].iter().all(|vm| message.contains(vm.uuid.as_str())), "{message}");
}
