//! A control plane without its edges, for tests of services and reconcilers: a store, a local storage, one connected
//! agent with one VM of two disks. And crashes between any two awaits.

use crate::access::Access;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::failover::live::policy::Policy;
use crate::failover::{self, Hands};
use crate::hub::{AgentConnection, Hub};
use crate::linstor::{Client, Cluster, Name, Settings};
use crate::reconcile;
use crate::retention::Retention;
use crate::service::act::{Acted, Ask};
use crate::service::transfer::{Hashed, Mode, OpenRequest, Sent, TransferError, Transfers};
use crate::service::{App, Caller, Error, Role};
use crate::storage::{Floor, LinstorStorage, Storage};
use crate::store::{Arm, Disk, Failure, Job, JobKind, JobStep, Migration, NewJob, Store};
use crate::workflow::{self, Engine, lease::Owner};
use bytes::Bytes;
use jiff::Timestamp;
use migratekit::manifest::leaf_hashes;
use migratekit::piece::Piece;
use shared::cycle::{
    CAPABILITIES, CycleEvent, DesiredVm, Hello, PROTOCOL_VERSIONS, Report, SnapshotDisk, Strategy, Vm, VmDisk,
};
use shared::ids::AgentId;
use shared::migration::Action;
use shared::range::{ByteRange, RangeSet};
use shared::vm::{Configuration, Nic, NicModel};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

mod ground;
mod machines;
pub(crate) mod scripted;

pub(crate) use ground::{Ground, There, open as on_zone, settings as zone_settings};
pub(crate) use machines::{Fault, Machines};

const VM: &str = "web-1";
const SIZE: u64 = 128 << 10;

pub(crate) struct Plant {
    pub(crate) app: App,
    /// What its failovers make.
    pub(crate) machines: Arc<Machines>,
    pub(crate) ground: Ground,
    /// Where it is not a file of the folder.
    database: Option<String>,
    pub(crate) agent: AgentId,
    pub(crate) folder: TempDir,
    connection: Option<AgentConnection>,
}

/// On what is in that folder.
async fn open(folder: &Path, database: Option<&str>, ground: &Ground) -> App {
    let file = || format!("sqlite://{}", folder.join("oma.db").display());
    let url = database.map_or_else(file, str::to_owned);
    let store = Store::connect(&url).await.expect("connect");
    store.migrate().await.expect("migrate");
    store.agent_disconnect_all().await.expect("stored");
    let (storage, compute) = ground.open(folder).await;
    let transfers = Transfers::new(store.clone(), Arc::clone(&storage), folder.join("manifests"));
    let hub = Arc::new(Hub::default());
    store.show(&hub.metrics.common);
    let access = Arc::new(Access::new(store.token_list().await.expect("no tokens")));
    let clock = Clock::from(Timestamp::now());
    let compute = Some(compute);
    let engine = engine(&store, &storage, compute.clone(), clock, &hub, &transfers);
    let (heartbeat, policy, retention) = (Duration::from_secs(5), Policy::default(), Retention::default());
    App { store, storage, compute, engine, hub, transfers, access, clock, retention, heartbeat, policy }
}

/// That drives failovers when it is run.
pub(crate) fn engine(
    store: &Store,
    storage: &Arc<dyn Storage>,
    compute: Option<Arc<dyn Compute>>,
    clock: Clock,
    hub: &Arc<Hub>,
    transfers: &Arc<Transfers>,
) -> Engine {
    let (store, storage, hub, transfers) =
        (store.clone(), Arc::clone(storage), Arc::clone(hub), Arc::clone(transfers));
    let floor = Floor::default();
    let hands = Hands { store, storage, compute, converter: None, floor, clock, hub, transfers };
    failover::engine(hands, workflow::Options::new(Owner::new("plant"), clock))
}

impl Plant {
    pub(crate) async fn new() -> Self {
        Self::on(None).await
    }

    /// On another database than a file of its own.
    pub(crate) async fn on(database: Option<String>) -> Self {
        Self::on_ground(database, tempfile::tempdir().expect("a folder"), Ground::default()).await
    }

    /// With replicas elsewhere than in a folder of its own.
    pub(crate) async fn on_storage(storage: Arc<dyn Storage>) -> Self {
        let ground = Ground { storage: Some(storage), ..Ground::default() };
        Self::on_ground(None, tempfile::tempdir().expect("a folder"), ground).await
    }

    /// With replicas in a LINSTOR of which no controller is there.
    pub(crate) async fn on_absent_linstor() -> anyhow::Result<Self> {
        let settings = Settings {
            controllers: vec!["http://127.0.0.1:1".to_owned()],
            token_file: None,
            deadline: Duration::from_secs(5),
        };
        let client = Client::new(settings, crate::outbound::client(None)?);
        let storage = LinstorStorage::new(Cluster::new(client, "oma"), Name::parse("cloudstack")?);
        Ok(Self::on_storage(Arc::new(storage)).await)
    }

    async fn on_ground(database: Option<String>, folder: TempDir, ground: Ground) -> Self {
        std::fs::create_dir(folder.path().join("manifests")).expect("a folder");
        let app = open(folder.path(), database.as_deref(), &ground).await;
        let (agent, machines) = (AgentId::parse("vma-01").expect("an id"), Arc::clone(&ground.machines));
        let mut plant = Self { app, machines, ground, database, agent, folder, connection: None };
        plant.connect().await;
        plant
    }

    /// With a restore point, and its failovers driven until the guard is dropped.
    pub(crate) async fn driven() -> (Self, DropGuard) {
        let plant = Self::begun().await;
        plant.cycle("1").await;
        let (app, stop) = (plant.app.clone(), CancellationToken::new());
        let until = stop.clone();
        tokio::spawn(async move { app.failovers_run(until).await });
        (plant, stop.drop_guard())
    }

    /// The daemon died, another one is started on what it left, and the agent connects to that.
    pub(crate) async fn reopen(&mut self) {
        self.disconnect();
        self.app.store.close().await;
        self.app = open(self.folder.path(), self.database.as_deref(), &self.ground).await;
        reconcile::start(&self.app).await;
        self.connect().await;
    }

    /// The agent's session ends.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// It begins, or another one does.
    pub(crate) async fn connect(&mut self) {
        let disk = |key: &str| VmDisk { key: key.parse().expect("a key"), size: SIZE };
        let vm = Vm {
            uuid: "00000000-0000-4000-8000-000000000001".parse().expect("a uuid"),
            name: VM.to_owned(),
            disks: vec![disk("root"), disk("data")],
            configuration: Some(Configuration {
                cpus: Some(2),
                memory_bytes: Some(1 << 30),
                nics: vec![Nic {
                    key: "4000".parse().expect("a key"),
                    mac: None,
                    model: NicModel::default(),
                    network: Some("LAN".to_owned()),
                    addresses: vec![],
                }],
                ..Configuration::default()
            }),
        };
        let hello = Hello {
            agent: self.agent.clone(),
            software_version: "test".to_owned(),
            protocol_versions: PROTOCOL_VERSIONS.to_vec(),
            capabilities: CAPABILITIES.iter().map(ToString::to_string).collect(),
            inventory: vec![vm],
        };
        let address = ([127, 0, 0, 1], 1).into();
        let (connection, _) = self.app.agent_connect(&self.agent, address, hello).await.expect("connect");
        self.connection = Some(connection);
    }

    /// Whether the agent is to be told something that it was not told yet; it is, then.
    pub(crate) async fn told(&self) -> bool {
        let connection = self.connection.as_ref().expect("connected");
        tokio::time::timeout(Duration::from_millis(50), connection.changed()).await.is_ok()
    }

    /// With a prepared migration.
    pub(crate) async fn begun() -> Self {
        Self::begun_on(None).await
    }

    /// The same, failing over to a zone of both simulators.
    pub(crate) async fn begun_in_zone(database: Option<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ground = Ground::zone(folder.path()).await;
        let plant = Self::on_ground(database, folder, ground).await;
        plant.act(Action::Begin).await;
        plant.step().await;
        plant
    }

    /// The same on another database.
    pub(crate) async fn begun_on(database: Option<String>) -> Self {
        let plant = Self::on(database).await;
        plant.act(Action::Begin).await;
        plant.step().await;
        plant
    }

    pub(crate) async fn act(&self, action: Action) {
        self.ask(&Ask::new(action)).await.expect("allowed");
    }

    /// As somebody at the plant.
    pub(crate) async fn ask(&self, ask: &Ask) -> Result<Acted, Error> {
        self.app.act(&Caller { name: "tester".to_owned(), role: Role::Operator }, VM, ask).await
    }

    pub(crate) async fn migration(&self) -> Migration {
        self.app.migration_find(VM).await.expect("there")
    }

    /// One pass of the reconciler.
    pub(crate) async fn step(&self) {
        reconcile::one(&self.app, &self.migration().await).await.expect("done");
    }

    pub(crate) async fn job(&self) -> Job {
        self.app.store.job_active(&self.migration().await.id).await.expect("read").expect("a cycle")
    }

    pub(crate) async fn say(&self, job: &Job, event: CycleEvent) {
        let report = Report { job: job.id.clone(), event };
        self.app.agent_report(&self.agent, report).await.expect("taken");
    }

    /// The agent has its snapshot; `change_id` is that of every disk.
    pub(crate) async fn snapshot_taken(&self, job: &Job, change_id: &str) {
        let disk = |d: &crate::store::JobDisk| SnapshotDisk {
            key: d.key.clone(),
            size: SIZE,
            change_id: Some(change_id.to_owned()),
        };
        let taken = CycleEvent::SnapshotTaken {
            snapshot: format!("mk-{}", job.id),
            taken_at: self.app.clock.now(),
            disks: job.disks.iter().map(disk).collect(),
        };
        self.say(job, taken).await;
    }

    /// A disk is sealed: all of it is there, of which `data` bytes were sent as data at the end.
    pub(crate) async fn sent(&self, job: &Job, disk: usize, data: u64) {
        let d = &job.disks[disk];
        let mode = match d.strategy {
            Strategy::HashDiff => Mode::HashDiff,
            Strategy::Full | Strategy::Changed { .. } => Mode::Data,
        };
        let request =
            OpenRequest { job: job.id.clone(), disk: d.disk.clone(), epoch: d.epoch, size: SIZE, mode };
        let opened = self.app.transfers.open(&self.agent, &request).await.expect("opened");
        let range = ByteRange::new(0, SIZE);
        opened.transfer.intend(RangeSet::from_iter([range])).expect("open").await.expect("announced");
        opened.transfer.write(Piece::Zero(range)).await.expect("taken");
        let sent = Sent { data, zero: SIZE - data };
        opened.transfer.seal(&self.app.hub, sent).await.expect("sealed");
    }

    /// A disk is sealed whose every byte is `byte` now.
    pub(crate) async fn sent_all_of(&self, job: &Job, disk: usize, byte: u8) -> Result<(), TransferError> {
        let d = &job.disks[disk];
        let (job, disk) = (job.id.clone(), d.disk.clone());
        let request = OpenRequest { job, disk, epoch: d.epoch, size: SIZE, mode: Mode::Data };
        let opened = self.app.transfers.open(&self.agent, &request).await?;
        opened.transfer.intend(RangeSet::from_iter([ByteRange::new(0, SIZE)]))?.await?;
        let data = Bytes::from(vec![byte; usize::try_from(SIZE).expect("small")]);
        let hashes = leaf_hashes(&data);
        opened.transfer.write(Piece::Data { offset: 0, data, hashes }).await?;
        opened.transfer.seal(&self.app.hub, Sent { data: SIZE, zero: 0 }).await
    }

    /// The source's disk is all `byte`, as a verification sees it.
    pub(crate) async fn compared_with(&self, job: &Job, disk: usize, byte: u8) -> Result<(), TransferError> {
        let d = &job.disks[disk];
        let (job, disk, mode) = (job.id.clone(), d.disk.clone(), Mode::Verify);
        let request = OpenRequest { job, disk, epoch: d.epoch, size: SIZE, mode };
        let opened = self.app.transfers.open(&self.agent, &request).await?;
        let hashes = leaf_hashes(&vec![byte; usize::try_from(SIZE).expect("small")]);
        opened.transfer.compare(Hashed { range: ByteRange::new(0, SIZE), hashes }).await?;
        Ok(())
    }

    /// Every disk is sealed, as if it had been sent.
    pub(crate) async fn seal(&self, job: &Job) {
        for d in &job.disks {
            let now = Timestamp::now();
            self.app.store.job_disk_finish(&job.id, &d.disk, d.epoch, None, now).await.expect("sealed");
        }
    }

    /// A whole cycle from sync/paused to sync/paused.
    pub(crate) async fn cycle(&self, change_id: &str) {
        self.act(Action::Sync).await;
        self.step().await;
        let job = self.job().await;
        self.snapshot_taken(&job, change_id).await;
        self.seal(&job).await;
        self.step().await;
    }

    /// What the agent is told of the VM.
    pub(crate) async fn desired(&self) -> DesiredVm {
        self.app.agent_desired(&self.agent, 1).await.expect("read").vms.pop().expect("the VM")
    }

    pub(crate) async fn disks(&self) -> Vec<Disk> {
        self.app.store.disk_list(&self.migration().await.id).await.expect("read")
    }

    /// An arm of the verification found every disk equal then.
    pub(crate) async fn compared(&self, arm: Arm, at: Timestamp) {
        for disk in self.disks().await {
            self.app.store.disk_verified_set(&disk.id, arm, at).await.expect("stored");
        }
    }

    /// Full cycles that all begin at that moment, on a prepared migration; all but the last were aborted. Their ids.
    pub(crate) async fn cycles_at(&self, now: Timestamp, count: usize) -> Vec<String> {
        self.act(Action::Sync).await;
        let migration = self.migration().await.id;
        let disks: Vec<_> = self.disks().await.into_iter().map(|d| (d.id, Strategy::Full)).collect();
        let mut ids: Vec<String> = vec![];
        for _ in 0..count {
            if let Some(job) = self.app.store.job_active(&migration).await.expect("read") {
                let failure = Failure { reason: "ABORTED".to_owned(), message: "on request".to_owned() };
                self.app.step(&job, JobStep::Aborted(failure)).await.expect("aborted");
            }
            let new = NewJob { migration: migration.clone(), kind: JobKind::Full, disks: disks.clone() };
            ids.push(self.app.store.job_create(&new, now).await.expect("made").id.into());
        }
        ids
    }
}

/// Polls it so often at the most, and drops it then, as a crash does.
pub(crate) async fn cut<T>(work: impl Future<Output = T>, after: u32) -> Option<T> {
    let (mut work, mut left) = (pin!(work), after);
    std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}
