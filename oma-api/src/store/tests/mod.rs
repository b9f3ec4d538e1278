//! One suite for every database: the files named in `on_sqlite` and `on_mariadb` are compiled once for each, with a
//! `Fixture` of it. `files` and `server` are about what only one of them has.

mod files;
mod on_mariadb;
mod on_sqlite;
mod reads;
mod server;
mod wire;
mod writes;

use super::*;
use integration_tests::mariadb::Server;
use jiff::Timestamp;
use shared::cycle::{DiskProgress, SnapshotDisk, Strategy};
use shared::ids::{AgentId, DiskId, JobId, MigrationId, RestorePointId, VmUuid};
use shared::migration::{Action, Position, apply};
use shared::range::{ByteRange, RangeSet};
use sqlx::Row as _;
use std::marker::PhantomData;

/// What a database needs for the suite.
pub(super) trait Database {
    /// What has to live as long as the database is used.
    type Kept;
    /// Names of the tables that are ours.
    const TABLES: &'static str;
    /// A URL of an empty database.
    fn fresh() -> (String, Self::Kept);
    /// A trigger `cut` that refuses `write`, as `UPDATE ON disks`.
    fn trigger(write: &str) -> String;
}

pub(super) struct Sqlite;

impl Database for Sqlite {
    /// The folder goes with the last reader of the file.
    type Kept = tempfile::TempDir;
    const TABLES: &'static str =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'";

    fn fresh() -> (String, Self::Kept) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        (format!("sqlite://{}", folder.path().join("oma.db").display()), folder)
    }

    fn trigger(write: &str) -> String {
        format!("CREATE TRIGGER cut BEFORE {write} BEGIN SELECT RAISE(ABORT, 'cut'); END")
    }
}

pub(super) struct MariaDb;

impl Database for MariaDb {
    type Kept = ();
    const TABLES: &'static str =
        "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()";

    fn fresh() -> (String, Self::Kept) {
        (Server::shared().database().expect("a database"), ())
    }

    fn trigger(write: &str) -> String {
        format!(
            "CREATE TRIGGER cut BEFORE {write} FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'cut'"
        )
    }
}

/// A database of its own, at the newest schema.
pub(super) struct FixtureOn<D: Database> {
    pub(super) store: Store,
    pub(super) url: String,
    _kept: D::Kept,
    database: PhantomData<D>,
}

impl<D: Database> FixtureOn<D> {
    pub(super) async fn new() -> Self {
        let (url, kept) = D::fresh();
        let store = Store::connect(&url).await.expect("connect");
        store.migrate().await.expect("migrate");
        Self { store, url, _kept: kept, database: PhantomData }
    }

    /// The program ends and starts again.
    pub(super) async fn restart(&mut self) {
        self.store.close().await;
        self.store = Store::connect(&self.url).await.expect("connect again");
        self.store.migrate().await.expect("migrate again");
    }

    /// As somebody would with the database's own client.
    pub(super) async fn by_hand(&self, statement: &str) {
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        sqlx::raw_sql(statement).execute(&self.store.write).await.expect("by hand");
    }

    /// The tables that are there, our own of the schema's versions excepted.
    pub(super) async fn tables(&self) -> Vec<String> {
        let rows = sqlx::query(D::TABLES).fetch_all(&self.store.read).await.expect("the schema");
        let names = rows.iter().map(|row| row.get::<String, _>(0));
        names.filter(|name| !name.starts_with("_sqlx")).collect()
    }

    pub(super) fn trigger(write: &str) -> String {
        D::trigger(write)
    }
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_265_746 + seconds).expect("in range")
}

pub(super) fn ranges(list: &[(u64, u64)]) -> RangeSet {
    list.iter().map(|&(start, end)| ByteRange::new(start, end)).collect()
}

pub(super) fn vm(n: u8) -> VmUuid {
    format!("00000000-0000-4000-8000-0000000000{n:02x}").parse().expect("a uuid")
}

pub(super) fn new_migration(n: u8, disks: usize) -> NewMigration {
    let disk = |i: usize| NewDisk {
        id: DiskId::generate(),
        key: format!("disk-{i}").parse().expect("a key"),
        size: 1 << 30,
        volume: format!("mk-{n}-{i}"),
    };
    NewMigration {
        preflight: None,
        id: MigrationId::generate(),
        vm: vm(n),
        vm_name: format!("vm-{n}"),
        agent: AgentId::parse("vma-01").expect("an id"),
        disks: (0..disks).map(disk).collect(),
        wishes: Wishes::default(),
        attempt: None,
        configuration: None,
        target_profile: None,
    }
}

/// A migration with `disks` disks, at `position`.
pub(super) async fn migration_at(store: &Store, n: u8, disks: usize, position: Position) -> Migration {
    let made = store.migration_create(&new_migration(n, disks), at(0)).await.expect("create");
    store.migration_transition(&Migration { position, ..made }, at(0)).await.expect("move")
}

/// An operator's action, as a service takes it.
pub(super) async fn act(store: &Store, id: &MigrationId, action: Action) -> Migration {
    let read = store.migration_fetch(id).await.expect("fetch");
    let next = apply(Some(read.position), action, read.facts()).expect("allowed");
    store.migration_transition(&Migration { position: next.to, ..read }, at(0)).await.expect("transition")
}

pub(super) async fn new_job(store: &Store, migration: &MigrationId, kind: JobKind) -> NewJob {
    let disks = store.disk_list(migration).await.expect("disks");
    let strategy = |d: &Disk| match &d.change_id {
        Some(since) => Strategy::Changed { since: since.clone() },
        None => Strategy::Full,
    };
    NewJob {
        migration: migration.clone(),
        kind,
        disks: disks.iter().map(|d| (d.id.clone(), strategy(d))).collect(),
    }
}

/// A running writing cycle of a migration at sync/running, its snapshot reported.
pub(super) async fn cycle(store: &Store, migration: &MigrationId, now: Timestamp) -> Job {
    let kind = store.job_kind_next(migration).await.expect("kind");
    let job = store.job_create(&new_job(store, migration, kind).await, now).await.expect("create a job");
    let taken: Vec<_> = job
        .disks
        .iter()
        .map(|d| SnapshotDisk {
            key: d.key.clone(),
            size: 1 << 30,
            change_id: Some(format!("{}/{}", d.key, job.id)),
        })
        .collect();
    let snapshot = format!("mk-{}", job.id);
    store.job_snapshot_record(&job.id, &snapshot, now, &taken, now).await.expect("snapshot")
}

pub(super) fn of(job: &Job, disk: usize) -> CheckpointOf {
    let d = &job.disks[disk];
    CheckpointOf { job: job.id.clone(), disk: d.disk.clone(), epoch: d.epoch }
}

/// Announces, writes and flushes `ranges` of every disk, and seals it; the cycle is committing after it.
pub(super) async fn transfer(store: &Store, job: &Job, set: &RangeSet) -> Job {
    for (index, d) in job.disks.iter().enumerate() {
        let of = of(job, index);
        store.checkpoint_append(&of, CheckpointKind::Intent, set, at(1)).await.expect("intent");
        store.checkpoint_append(&of, CheckpointKind::Durable, set, at(1)).await.expect("durable");
        let bytes = set.total();
        let last = DiskProgress { planned: bytes, done: bytes, data: bytes, ..DiskProgress::default() };
        store.job_disk_finish(&job.id, &d.disk, d.epoch, Some(&last), at(1)).await.expect("finish");
    }
    store.job_transition(&job.id, &JobStep::Committing, at(1)).await.expect("committing").0
}

pub(super) fn commit_of(job: &Job) -> CycleCommit {
    let disk = |d: &JobDisk| DiskCommit {
        disk: d.disk.clone(),
        manifest: Manifest { version: 1, file: format!("{}-{}.manifest", d.disk, job.id) },
    };
    CycleCommit {
        job: job.id.clone(),
        restore_point: RestorePointId::generate(),
        snapshot_name: format!("rp-{}", job.id),
        disks: job.disks.iter().map(disk).collect(),
    }
}

/// A whole cycle of a migration at sync/paused or begin/paused.
pub(super) async fn whole_cycle(store: &Store, migration: &MigrationId, now: Timestamp) -> Committed {
    act(store, migration, Action::Sync).await;
    let job = transfer(store, &cycle(store, migration, now).await, &ranges(&[(0, 65536)])).await;
    store.job_commit(&commit_of(&job), now).await.expect("commit")
}

pub(super) fn job_id(text: &str) -> JobId {
    text.parse().expect("a job id")
}
