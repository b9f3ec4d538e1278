//! What a use case refuses, and how gRPC says it.

use super::adopt::Unfit;
use super::failovers::Refused;
use super::transfer::TransferError;
use crate::compute;
use crate::failover::live::policy::Barred;
use crate::failover::plan::Unplannable;
use crate::preflight::Finding;
use crate::schedule;
use crate::storage;
use crate::store;
use crate::workflow;
use shared::config::Period;
use shared::ids::{AgentId, DiskKey, InvalidId, JobId, VmUuid};
use shared::migration::{Denied, Position};
use shared::profile;
use shared::wire::refusal;
use tonic::{Code, Status};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no connected or known agent offers a VM {asked:?}; `migratekit vm list` shows them")]
    VmUnknown { asked: String },
    #[error("{} VMs are called {asked:?}; name it by its uuid: {}", vms.len(), some(vms))]
    VmAmbiguous { asked: String, vms: Vec<VmUuid> },
    #[error(
        "no VM {asked:?} is protected; `migratekit vm list` shows the VMs, `migratekit migration begin` protects one"
    )]
    NotProtected { asked: String },
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("{denied}{}", last.as_ref().map(|l| format!("; last asked for: {} by {} at {}", l.action, l.by, l.at)).unwrap_or_default())]
    NotNow { denied: Denied, last: Option<store::LastAction> },
    #[error("{what}: {why}")]
    Argument { what: &'static str, why: String },
    #[error(
        "the idempotency key was used before, for something else: use a new key for a new request, and send the \
         same request with the same key"
    )]
    KeyReused,
    #[error("no switch of {vm} is scheduled")]
    NothingScheduled { vm: String },
    #[error("agent {agent} is not connected; start vma-agent there and look at its log")]
    AgentAway { agent: AgentId },
    #[error(
        "begin of {vm} is stopped by what its preflight found: {}; begin it with a reason to force it all the same",
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Preflight { vm: String, findings: Vec<Finding> },
    #[error("{asked} bytes a second cannot be kept: at least 65536 (64 KiB), or 0 for no limit")]
    Rate { asked: u64 },
    #[error(
        "nothing was committed yet, so there is nothing to compare with: `migratekit migration sync` first"
    )]
    NothingCommitted,
    #[error(
        "the migration of {vm} was finalized, and its replica handed over: nothing is left here to compare"
    )]
    HandedOver { vm: String },
    #[error(
        "the migration of {vm} was aborted, and its replica removed: nothing is left to compare; `migratekit migration begin` protects the VM anew"
    )]
    Removed { vm: String },
    #[error(
        "{vm} is {position}: changed disks are accepted between cycles, so wait for the end of this one, or look at why it is there with `migratekit migration get {vm}`"
    )]
    NotBetweenCycles { vm: String, position: Position },
    #[error(
        "neither {vm} nor its protection has a disk {key}; `migratekit vm list` shows its disks as its agent last saw them"
    )]
    DiskUnknown { vm: String, key: DiskKey },
    #[error(
        "the disks of {vm}, as agent {agent} sees them, are those that are protected, and {finding} is over or not seen yet: take a \
         removed disk out of the agent's configuration, and accept again; or sync, if the disk is as it was"
    )]
    NothingToAccept { vm: String, finding: &'static str, agent: AgentId },
    #[error(
        "{vm} has no disk left that could be protected: give it one, or abort the migration, which removes its restore points"
    )]
    NoDiskLeft { vm: String },
    #[error(
        "disk {key} was accepted with a change, adopted or restored, or its changes were lost, and it has not been committed since, so there is nothing to compare it with: `migratekit migration sync` first"
    )]
    NotSynced { key: DiskKey },
    #[error("cycle {job} is running: pause it or wait for its end")]
    CycleRunning { job: JobId },
    #[error("a cycle began meanwhile: run the verification again when it has ended")]
    Disturbed,
    #[error("the verification ended early: {message}")]
    VerifyFailed { reason: String, message: String },
    #[error(
        "agent {agent} speaks the protocol versions {theirs:?}, this OMA {ours:?}: update the older of them"
    )]
    NoCommonVersion { agent: AgentId, theirs: Vec<u32>, ours: &'static [u32] },
    #[error(
        "certificate and message disagree: the certificate is agent {certificate}'s, the message says {said}"
    )]
    WrongAgent { certificate: AgentId, said: AgentId },
    #[error(
        "job {asked} not found: a job is a cycle (job-YYYYMMDD-HHMMSS) or a disk of one (migration-vol-UUID)"
    )]
    JobUnknown { asked: String },
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(transparent)]
    Schedule(#[from] schedule::Error),
    #[error("{vm} has no schedule; `migratekit migration schedule set` gives it one")]
    NoSchedule { vm: String },
    #[error("{}", .0.message)]
    SpaceLow(store::Failure),
    #[error("{what} {why}")]
    Filter { what: &'static str, why: String },
    #[error(
        "progress of {job} is not taken here: the OMA's jobs are its agents' cycles; an outside engine reports to an agent"
    )]
    JobsAreTheAgents { job: String },
    #[error("{asked:?} cannot name a token: 1 to 64 letters, digits, dots, dashes and underscores")]
    TokenName { asked: String },
    #[error("a token cannot live for {asked}: at least 1s, at most 366d")]
    TokenLifetime { asked: Period },
    #[error("no token {asked:?} is there to be revoked; `migratekit token list` shows them")]
    TokenUnknown { asked: String },
    #[error(transparent)]
    NoRandom(#[from] shared::token::NoRandom),
    #[error("it was cut short inside: look at the log of oma-api, and at what became of it before repeating")]
    Interrupted,
    #[error(transparent)]
    Profile(#[from] profile::Refused),
    #[error("there is no target profile {asked:?}; `migratekit target list` shows them")]
    ProfileUnknown {
        asked: String,
        #[source]
        why: InvalidId,
    },
    #[error(transparent)]
    Failover(#[from] Refused),
    #[error(transparent)]
    Workflow(workflow::Denied),
    #[error("the compute backend")]
    Compute(#[from] compute::Error),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error("comparing")]
    Compare(#[from] migratekit::verify::Error),
    #[error("the storage")]
    Storage(#[from] storage::Error),
    #[error("a name cannot be used")]
    Name(#[from] storage::InvalidName),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The first of them, for a message.
fn some(vms: &[VmUuid]) -> String {
    const MOST: usize = 8;
    let shown: Vec<_> = vms.iter().take(MOST).map(VmUuid::as_str).collect();
    format!("{}{}", shown.join(", "), if vms.len() > MOST { ", …" } else { "" })
}

impl Error {
    /// With the whole chain in the message.
    pub fn to_status(&self) -> Status {
        let (code, reason) = self.code();
        refusal::status(code, reason, shared::error::chain(self))
    }

    /// Upper snake case.
    pub fn reason(&self) -> &'static str {
        self.code().1
    }

    /// As gRPC says it.
    pub(crate) fn code(&self) -> (Code, &'static str) {
        match self {
            Self::VmUnknown { .. } => (Code::NotFound, "VM_UNKNOWN"),
            Self::VmAmbiguous { .. } => (Code::InvalidArgument, "VM_AMBIGUOUS"),
            Self::NotProtected { .. } => (Code::NotFound, "NOT_PROTECTED"),
            Self::Denied(denied) | Self::Store(store::Error::Denied(denied)) => {
                (Code::FailedPrecondition, denied.reason())
            }
            Self::NotNow { denied, .. } => (Code::FailedPrecondition, denied.reason()),
            Self::Argument { .. } => (Code::InvalidArgument, "INVALID_ARGUMENT"),
            Self::KeyReused => (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED"),
            Self::NothingScheduled { .. } => (Code::FailedPrecondition, "NOTHING_SCHEDULED"),
            Self::Profile(refused) | Self::Store(store::Error::Profile(refused)) => {
                let code =
                    if refused.is_of_itself() { Code::InvalidArgument } else { Code::FailedPrecondition };
                (code, refused.reason())
            }
            Self::AgentAway { .. } => (Code::Unavailable, "AGENT_NOT_CONNECTED"),
            Self::Preflight { .. } => (Code::FailedPrecondition, "PREFLIGHT_BLOCKED"),
            Self::Rate { .. } => (Code::InvalidArgument, "RATE_TOO_LOW"),
            Self::HandedOver { .. } | Self::Removed { .. } => (Code::FailedPrecondition, "MIGRATION_ENDED"),
            Self::NothingCommitted => (Code::FailedPrecondition, "NOTHING_COMMITTED"),
            Self::NotBetweenCycles { .. } => (Code::FailedPrecondition, "NOT_BETWEEN_CYCLES"),
            Self::DiskUnknown { .. } => (Code::NotFound, "DISK_UNKNOWN"),
            Self::NothingToAccept { .. } => (Code::FailedPrecondition, "NOTHING_TO_ACCEPT"),
            Self::NoDiskLeft { .. } => (Code::FailedPrecondition, "NO_DISK_LEFT"),
            Self::NotSynced { .. } => (Code::FailedPrecondition, "DISK_NOT_SYNCED"),
            Self::Store(store::Error::VolumePending { .. }) => (Code::FailedPrecondition, "VOLUME_PENDING"),
            Self::CycleRunning { .. } | Self::Store(store::Error::JobActive { .. }) => {
                (Code::FailedPrecondition, "CYCLE_RUNNING")
            }
            Self::Unfit(_) => (Code::FailedPrecondition, "REPLICA_UNFIT"),
            Self::Store(store::Error::VolumeTaken { .. }) => (Code::FailedPrecondition, "VOLUME_TAKEN"),
            Self::Disturbed => (Code::Aborted, "CYCLE_BEGAN"),
            Self::VerifyFailed { .. } => (Code::Aborted, "VERIFY_FAILED"),
            Self::NoCommonVersion { .. } => (Code::FailedPrecondition, "NO_COMMON_VERSION"),
            Self::WrongAgent { .. } => (Code::PermissionDenied, "WRONG_AGENT"),
            Self::Compare(_) => (Code::Internal, "COMPARISON_FAILED"),
            Self::Storage(storage::Error::NoRoom { .. }) => (Code::ResourceExhausted, "TARGET_FULL"),
            Self::Storage(error) if error.is_away() => (Code::Unavailable, "STORAGE_UNAVAILABLE"),
            Self::Storage(_) | Self::Name(_) => (Code::Internal, "STORAGE_FAILED"),
            Self::TokenName { .. } | Self::TokenLifetime { .. } => {
                (Code::InvalidArgument, "INVALID_ARGUMENT")
            }
            Self::TokenUnknown { .. } => (Code::NotFound, "TOKEN_NOT_FOUND"),
            Self::NoRandom(_) | Self::Interrupted => (Code::Internal, "INTERNAL"),
            Self::Store(store::Error::TokenExists { .. }) => (Code::AlreadyExists, "TOKEN_EXISTS"),
            Self::Store(store::Error::AlreadyProtected { .. }) => (Code::AlreadyExists, "ALREADY_PROTECTED"),
            Self::Store(
                store::Error::Conflict { .. }
                | store::Error::JobClosed { .. }
                | store::Error::JobStatus { .. }
                | store::Error::WorkflowMoved { .. },
            ) => (Code::Aborted, "CHANGED_MEANWHILE"),
            Self::Store(store::Error::NotFound { .. }) => (Code::NotFound, "NOT_FOUND"),
            Self::Store(store::Error::ProfileExists { .. }) => (Code::AlreadyExists, "PROFILE_EXISTS"),
            Self::Store(store::Error::ProfileUnknown { .. }) => (Code::NotFound, "PROFILE_UNKNOWN"),
            Self::Store(store::Error::ProfileChanged { .. }) => (Code::Aborted, "CHANGED_MEANWHILE"),
            Self::Store(store::Error::ProfileInUse { .. }) => (Code::FailedPrecondition, "PROFILE_IN_USE"),
            Self::Store(store::Error::MigrationEnded { .. }) => (Code::FailedPrecondition, "MIGRATION_ENDED"),
            Self::Store(store::Error::NotCommitted { .. }) => (Code::FailedPrecondition, "NOTHING_COMMITTED"),
            Self::Store(store::Error::FailoverThere { .. } | store::Error::LiveFailoverThere { .. }) => {
                (Code::FailedPrecondition, "ACTION_IN_PROGRESS")
            }
            Self::Store(store::Error::Workflow(denied)) => (Code::FailedPrecondition, denied.why.reason()),
            Self::Store(store::Error::TooManyTests { .. }) => (Code::ResourceExhausted, "TOO_MANY_FAILOVERS"),
            Self::Store(store::Error::NotReady { .. }) => (Code::FailedPrecondition, "NOT_READY"),
            Self::Store(_) => (Code::Unavailable, "DATABASE_UNAVAILABLE"),
            Self::JobUnknown { .. } => (Code::NotFound, "JOB_NOT_FOUND"),
            Self::Schedule(error) => (Code::InvalidArgument, error.reason()),
            Self::NoSchedule { .. } => (Code::NotFound, "NO_SCHEDULE"),
            Self::SpaceLow(_) => (Code::ResourceExhausted, "TARGET_SPACE_LOW"),
            Self::Filter { .. } => (Code::InvalidArgument, "INVALID_ARGUMENT"),
            Self::JobsAreTheAgents { .. } => (Code::FailedPrecondition, "JOBS_ARE_THE_AGENTS"),
            Self::ProfileUnknown { .. } => (Code::NotFound, "PROFILE_UNKNOWN"),
            Self::Failover(refused) => of_failover(refused),
            Self::Workflow(denied) => (Code::FailedPrecondition, denied.why.reason()),
            Self::Compute(_) => (Code::Unavailable, "COMPUTE_FAILED"),
            Self::Transfer(error) => error.code(),
        }
    }
}

fn of_failover(refused: &Refused) -> (Code, &'static str) {
    match refused {
        Refused::Invalid(_)
        | Refused::OtherName { .. }
        | Refused::Unplannable(
            Unplannable::Custom { .. } | Unplannable::NoSize { .. } | Unplannable::Unseen { .. },
        ) => (Code::InvalidArgument, "INVALID_REQUEST"),
        Refused::VmNotFound { .. } => (Code::NotFound, "VM_NOT_FOUND"),
        Refused::NoRestorePoint { asked: Some(_), .. } => (Code::NotFound, "RESTORE_POINT_NOT_FOUND"),
        Refused::NoRestorePoint { asked: None, .. } => (Code::FailedPrecondition, "NOTHING_COMMITTED"),
        Refused::Unplannable(Unplannable::NoDisk { .. }) => (Code::FailedPrecondition, "VALIDATION_FAILED"),
        Refused::NoCompute => (Code::FailedPrecondition, "NO_COMPUTE"),
        Refused::JobNotFound { .. } => (Code::NotFound, "JOB_NOT_FOUND"),
        Refused::NotEnded { .. } => (Code::FailedPrecondition, "ACTION_IN_PROGRESS"),
        Refused::NoMachine { .. } => (Code::FailedPrecondition, "NO_MACHINE"),
        Refused::Barred(Barred::NoTest { .. }) => (Code::FailedPrecondition, "CHAIN_POLICY"),
        Refused::Barred(Barred::Unverified { .. }) => (Code::FailedPrecondition, "VERIFICATION_DUE"),
        Refused::Barred(Barred::Loss { .. }) => (Code::FailedPrecondition, "DATA_LOSS_NOT_ACCEPTED"),
        Refused::AgentTooOld { .. } => (Code::FailedPrecondition, "AGENT_TOO_OLD"),
        Refused::NotLive { .. } => (Code::InvalidArgument, "INVALID_REQUEST"),
        Refused::InProgress { .. } | Refused::Undecided { .. } => {
            (Code::FailedPrecondition, "ACTION_IN_PROGRESS")
        }
        Refused::RunsTwice { .. } => (Code::FailedPrecondition, "SOURCE_RUNNING"),
        Refused::NothingToCommit { .. } => (Code::FailedPrecondition, "NOTHING_TO_COMMIT"),
    }
}
