//! What the store can refuse or find.

use super::words::{JobKind, JobStatus};
use crate::workflow::WorkflowId;
use shared::ids::{AgentId, DiskId, Epoch, JobId, MigrationId, ProfileName, RestorePointId, VmUuid};
use shared::migration::{Denied, Position};
use shared::profile::Refused;
use std::path::PathBuf;

/// A store method that did not do what it was asked. Nothing was written, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configured URL cannot be used.
    #[error("database_url {url}: {why}")]
    Url { url: String, why: String },
    /// The folder of the database file does not exist.
    #[error("the database file {} cannot be made: its folder does not exist; create it with mkdir -p {}", file.display(), folder.display())]
    NoFolder { folder: PathBuf, file: PathBuf },
    /// The database could not be opened.
    #[error(
        "the database {url} could not be opened; check that its file and folder may be written by this user, or that \
         its server runs and knows user, password and database"
    )]
    Connect {
        url: String,
        #[source]
        source: sqlx::Error,
    },
    /// The server is none that the store may rely on.
    #[error("the server of the database {url} cannot be used: {why}")]
    Server { url: String, why: String },
    /// Nothing to take a backup of.
    #[error(
        "there is no database of oma-api in {url}: see database_url; oma-api makes it at its first start"
    )]
    NoDatabase { url: String },
    /// A restore began and did not end.
    #[error(
        "a restore of the database {url} was cut short: run `oma-api restore` with --replace again, before anything else"
    )]
    HalfRestored { url: String },
    /// A backup says what no version of this program writes.
    #[error("the backup has a row of the table {table:?} that cannot be restored: take another backup")]
    BadRecord { table: String },
    /// Another control plane has the database.
    #[error(
        "the database {url} is used by another oma-api that still runs{}: stop that one, or give this one a database of its own",
        connection.map(|c| format!(" (connection {c} of the server)")).unwrap_or_default()
    )]
    Taken { url: String, connection: Option<i64> },
    /// Another control plane took the database while this one ran. Nothing was written, and nothing will be.
    #[error(
        "another oma-api has taken the database {url} from this one, which ends; let only one of them use it"
    )]
    Overtaken { url: String },
    /// The schema could not be brought to the version of this program.
    #[error(
        "the database schema could not be changed; a database that a newer version has opened needs that version"
    )]
    Schema(#[source] sqlx::migrate::MigrateError),
    /// The database refused a statement.
    #[error("the database failed while {doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// There is no connection to be had, or it was lost.
    #[error("the database does not answer (while {doing}): see that its server runs and is not overloaded")]
    Unreachable {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// The answer to a COMMIT was lost, and the database has not come back since: it may have been done. Look before
    /// repeating.
    #[error(
        "whether the database has committed is not known: its answer was lost, and it does not come back"
    )]
    InDoubt {
        #[source]
        source: Box<Error>,
    },
    /// A row holds what no version of this program writes.
    #[error(
        "the database row {table} {id} is damaged in column {column}: {why}; restore the database from a backup"
    )]
    Corrupt { table: &'static str, id: String, column: &'static str, why: String },
    /// A number that the database's integers cannot hold.
    #[error("{what} is {value}, which is more than the database can hold")]
    TooLarge { what: &'static str, value: u64 },

    /// No such row.
    #[error("there is no {what} {id}")]
    NotFound { what: &'static str, id: String },
    /// Compare-and-swap lost: read again, decide again.
    #[error(
        "the migration {migration} was changed by somebody else since it was read (generation {generation})"
    )]
    Conflict { migration: MigrationId, generation: u64 },
    /// The migration is history.
    #[error("the migration {migration} has ended: nothing of it changes any more")]
    MigrationEnded { migration: MigrationId },

    /// A volume has one owner.
    #[error("volume {volume} is the replica of the unfinished migration {migration}: name another one")]
    VolumeTaken { volume: String, migration: MigrationId },

    /// Names are unique.
    #[error("there is a target profile {name} already: change that one, or take another name")]
    ProfileExists { name: ProfileName },
    /// No such profile.
    #[error("there is no target profile \"{name}\"; `migratekit target list` shows them")]
    ProfileUnknown { name: ProfileName },
    /// Compare-and-swap lost: read again, decide again.
    #[error(
        "the target profile {name} was changed by somebody else since it was read (it has generation {generation} now): get it again, and repeat the change"
    )]
    ProfileChanged { name: ProfileName, generation: u64 },
    /// Migrations that go on refer to it.
    #[error(
        "the target profile {name} is used by unfinished migrations ({count} of them), such as {migration} of VM {vm:?}: give them another one, or end them first"
    )]
    ProfileInUse { name: ProfileName, vm: String, migration: MigrationId, count: usize },
    /// It says what none may say, beside the others there are.
    #[error(transparent)]
    Profile(#[from] Refused),

    /// One unfinished migration a VM.
    #[error("the VM {vm} is protected already, by migration {migration}")]
    AlreadyProtected { vm: VmUuid, migration: MigrationId },
    /// The idempotency key was used meanwhile: look again.
    #[error("the idempotency key is in use")]
    Attempted,
    /// The state machine refuses it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Its accepted disks come first.
    #[error(
        "the volume of disk {disk} of migration {migration} is not made yet: the reconciler does it, look at its log"
    )]
    VolumePending { migration: MigrationId, disk: DiskId },
    /// A restore point is made of it.
    #[error("the volume of disk {disk} is needed by a restore point, and goes with the last of them")]
    VolumeNeeded { disk: DiskId },
    /// A disk of that name is there.
    #[error("the migration {migration} has a disk {key} already")]
    DiskExists { migration: MigrationId, key: String },
    /// The agent is unknown: it has never connected.
    #[error("the agent {agent} has never connected")]
    AgentUnknown { agent: AgentId },

    /// Compare-and-swap lost, or another control plane drives it: read again, decide again.
    #[error("the workflow job {id} was changed by somebody else since it was read")]
    WorkflowMoved { id: WorkflowId },
    /// Ids are unique.
    #[error("there is a workflow job {id} already")]
    WorkflowExists { id: WorkflowId },

    /// It cannot be asked of the job.
    #[error(transparent)]
    Workflow(#[from] crate::workflow::Denied),

    /// Nothing to start from.
    #[error("nothing of the migration {migration} was committed yet: `migratekit migration sync` first")]
    NotCommitted { migration: MigrationId },
    /// Something of a failover is, or may be, there.
    #[error(
        "the failover {job} is there: wait for its end, or clean it up with `migratekit failover cleanup {job}`"
    )]
    FailoverThere { migration: MigrationId, job: WorkflowId },
    /// As that, of a live one: there is nothing to clean up before it is decided.
    #[error(
        "the live failover {job} is there: once it has ended, take it back with `migratekit failover rollback {job}`, or keep it with `migratekit failover commit {job}`"
    )]
    LiveFailoverThere { migration: MigrationId, job: WorkflowId },
    /// One VM, so many tests.
    #[error(
        "{most} test failovers of {vm} are there already, and more are not made at a time: clean one up first"
    )]
    TooManyTests { vm: String, most: usize },
    /// A failover needs it.
    #[error("restore point {id} is needed by the failover {job}, and goes after it")]
    RestorePointInUse { id: RestorePointId, job: WorkflowId },

    /// One living token a name.
    #[error("there is a token {name} already; revoke it first, or give the new one another name")]
    TokenExists { name: String },

    /// One cycle a migration at a time.
    #[error("the migration {migration} has the unfinished cycle {job}")]
    JobActive { migration: MigrationId, job: JobId },
    /// The migration is not where this kind of cycle may start.
    #[error("a {kind} cycle cannot start while the migration {migration} is {at}")]
    NotReady { migration: MigrationId, kind: JobKind, at: Position },
    /// The cycle is not where this step may be taken.
    #[error("the cycle {job} is {status} and cannot become {asked}")]
    JobStatus { job: JobId, status: JobStatus, asked: &'static str },
    /// The cycle does not take data any more.
    #[error("the cycle {job} is {status}: nothing more may be recorded for it")]
    JobClosed { job: JobId, status: JobStatus },
    /// One cycle copies from one snapshot.
    #[error("the cycle {job} copies from snapshot {have}; {got} cannot take its place")]
    SnapshotDiffers { job: JobId, have: String, got: String },
    /// A disk is not sealed.
    #[error("disk {disk} of cycle {job} is not finished")]
    Unfinished { job: JobId, disk: DiskId },
    /// The cycle does not cover a disk of its migration, or covers one that is not its migration's.
    #[error("the cycle {job} and its migration differ in disk {disk}")]
    DisksDiffer { job: JobId, disk: DiskId },
    /// Ranges whose content is unknown (a write was announced) and that no later write made known.
    #[error(
        "disk {disk} has {bytes} bytes whose content is unknown: written by a cycle that did not end, and not sent again by {job}"
    )]
    Unsettled { job: JobId, disk: DiskId, bytes: u64 },
    /// The cycle has not reported its snapshot.
    #[error("the cycle {job} has reported no snapshot of disk {disk}")]
    NoSnapshot { job: JobId, disk: DiskId },

    /// The writer was overtaken: it must stop.
    #[error("epoch {asked} of disk {disk} is over: the current one is {current}, of {}", by.as_ref().map_or("nobody", JobId::as_str))]
    StaleEpoch { disk: DiskId, asked: Epoch, current: Epoch, by: Option<JobId> },
    /// The disk is sealed in this cycle.
    #[error("disk {disk} is sealed in cycle {job}: nothing more may be recorded for it")]
    Sealed { job: JobId, disk: DiskId },
    /// The last restore point of a migration that goes on.
    #[error(
        "restore point {id} is the newest of a migration that goes on; it goes only with abort or finalize"
    )]
    RestorePointNeeded { id: RestorePointId },
}

/// Says what was being done when the database failed.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|source| match source {
            sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => Error::Unreachable { doing, source },
            source => Error::Database { doing, source },
        })
    }
}
