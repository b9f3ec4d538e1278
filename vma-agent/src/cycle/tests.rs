mod power;

use self::power::Machine;
use super::{Manager, Outgoing};
use crate::source::{ChangeId, ChangedPage, Error, OpenDisk, PowerState, Snapshot, SnapshotName, Source};
use crate::transfer::{Budget, Settings};
use async_trait::async_trait;
use migratekit::compress::Mode;
use shared::cycle::{CycleEvent, CycleKind, CycleRun, DesiredCycle, DesiredState, DesiredVm, Vm};
use shared::ids::{DiskKey, JobId, MigrationId, VmUuid};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(1);

const HERE: u8 = 0;
const AWAY: u8 = 1;
const SILENT: u8 = 2;

/// A source that can be away or silent; it can do nothing but describe its VM, switch its power, and forget.
struct Away(Vm, Arc<AtomicU8>, Arc<Machine>);

#[async_trait]
impl Source for Away {
    async fn describe(&self) -> Result<Vm, Error> {
        match self.1.load(Ordering::SeqCst) {
            HERE => Ok(self.0.clone()),
            SILENT => std::future::pending().await,
            _ => Err(Error::ShuttingDown),
        }
    }
    async fn snapshot(&self, _: &SnapshotName) -> Result<Snapshot, Error> {
        Err(Error::ShuttingDown)
    }
    async fn find(&self, _: &SnapshotName) -> Result<Option<Snapshot>, Error> {
        Err(Error::ShuttingDown)
    }
    async fn snapshots(&self) -> Result<Vec<SnapshotName>, Error> {
        self.2.looked_for_snapshots()
    }
    async fn changed(&self, _: &Snapshot, _: &DiskKey, _: &ChangeId, _: u64) -> Result<ChangedPage, Error> {
        Err(Error::ShuttingDown)
    }
    async fn open(&self, _: &Snapshot, _: &DiskKey) -> Result<OpenDisk, Error> {
        Err(Error::ShuttingDown)
    }
    async fn confirm(&self, _: &Snapshot, _: &DiskKey) -> Result<(), Error> {
        Err(Error::ShuttingDown)
    }
    async fn delete(&self, _: &SnapshotName) -> Result<(), Error> {
        Err(Error::ShuttingDown)
    }
    async fn forget_change_ids(&self, _: &[(DiskKey, ChangeId)]) -> Result<(), Error> {
        Ok(())
    }
    async fn power(&self) -> Result<PowerState, Error> {
        self.2.power()
    }
    async fn shut_down(&self) -> Result<(), Error> {
        self.2.shut_down()
    }
    async fn power_off(&self) -> Result<(), Error> {
        self.2.power_off()
    }
    async fn power_on(&self) -> Result<(), Error> {
        self.2.power_on()
    }
}

fn start() -> (Manager, tokio::sync::mpsc::Receiver<Outgoing>, Vm, Arc<AtomicU8>) {
    start_with(Arc::default())
}

fn start_with(machine: Arc<Machine>) -> (Manager, tokio::sync::mpsc::Receiver<Outgoing>, Vm, Arc<AtomicU8>) {
    let uuid: VmUuid = "00000000-0000-4000-8000-000000000001".parse().expect("a uuid");
    let vm = Vm { uuid: uuid.clone(), name: "web-1".to_owned(), disks: vec![], configuration: None };
    let away = Arc::new(AtomicU8::new(AWAY));
    let source: Arc<dyn Source> = Arc::new(Away(vm.clone(), Arc::clone(&away), machine));
    let (manager, outgoing) = start_of(uuid, source);
    (manager, outgoing, vm, away)
}

/// An agent with one VM.
pub(crate) fn start_of(
    uuid: VmUuid,
    source: Arc<dyn Source>,
) -> (Manager, tokio::sync::mpsc::Receiver<Outgoing>) {
    let settings = Settings {
        counted: Default::default(),
        connections: 1,
        request: 1 << 20,
        memory: 1 << 20,
        window: 1 << 20,
        budget: Budget::new(1),
        limit: Arc::default(),
        compression: Mode::Off,
        read_deadline: Duration::from_secs(1),
    };
    Manager::start(vec![(uuid, source)], &settings, &Arc::default())
}

/// A VM that was away when the agent started is offered once it is there, and stays when it goes away again.
#[tokio::test]
async fn the_inventory_follows_the_sources() {
    let (manager, _outgoing, vm, away) = start();
    assert_eq!(manager.inventory(PATIENCE).await, []);
    away.store(HERE, Ordering::SeqCst);
    assert_eq!(manager.inventory(PATIENCE).await, std::slice::from_ref(&vm));
    away.store(AWAY, Ordering::SeqCst);
    assert_eq!(manager.inventory(PATIENCE).await, std::slice::from_ref(&vm));
    away.store(SILENT, Ordering::SeqCst);
    assert_eq!(manager.inventory(PATIENCE).await, [vm], "nobody waits for one that does not answer");
    manager.stop().await;
}

/// A pause ends although the source cannot be asked for anything.
#[tokio::test]
async fn a_cycle_is_paused_without_its_source() {
    let (manager, mut outgoing, vm, _) = start();
    let job: JobId = "job-20261121-120000".parse().expect("an id");
    let cycle = DesiredCycle {
        traceparent: None,
        job: job.clone(),
        kind: CycleKind::Sync,
        run: CycleRun::Pause,
        disks: vec![],
        snapshot: None,
    };
    let wanted = DesiredVm {
        vm: vm.uuid,
        migration: MigrationId::generate(),
        release: false,
        keep: vec![],
        rate: 0,
        cycle: Some(cycle),
        power: None,
    };
    manager.desire(DesiredState { revision: 1, vms: vec![wanted] });
    match outgoing.recv().await {
        Some(Outgoing::Report(report)) => assert_eq!((report.job, report.event), (job, CycleEvent::Paused)),
        other => panic!("{other:?}"),
    }
    manager.stop().await;
}
