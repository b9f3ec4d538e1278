//! Why a transfer is refused or ended, and what the agent is told.

use crate::store::{self, JobStatus};
use migratekit::replica;
use shared::ids::{AgentId, DiskId, Epoch, JobId, MigrationId};
use shared::wire::refusal;
use tonic::{Code, Status};

#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("migration {migration} is not protected by agent {agent}")]
    WrongAgent { agent: AgentId, migration: MigrationId },
    #[error("disk {disk} is not part of job {job}")]
    NotInJob { job: JobId, disk: DiskId },
    #[error("epoch {asked} of disk {disk} was overtaken by epoch {current}, given to {}", by.as_ref().map_or("another cycle", JobId::as_str))]
    Overtaken { disk: DiskId, asked: Epoch, current: Epoch, by: Option<JobId> },
    #[error("epoch {asked} of disk {disk} was never given out; the current one is {current}")]
    UnknownEpoch { disk: DiskId, asked: Epoch, current: Epoch },
    #[error("job {job} is {status}: it takes no data now")]
    NotRunning { job: JobId, status: JobStatus },
    #[error("disk {disk} is sealed in job {job}")]
    Finished { job: JobId, disk: DiskId },
    #[error("disk {disk} has {} bytes in this job's snapshot, not {asked}", snapshot.map_or("no known number of".to_owned(), |s| s.to_string()))]
    WrongSize { disk: DiskId, snapshot: Option<u64>, asked: u64 },
    #[error(
        "this is not what job {job} is for: only a verification compares with the manifest, and it writes nothing"
    )]
    WrongMode { job: JobId },
    #[error("disk {disk} cannot be sealed in job {job}: {missing} bytes of it were never sent")]
    NotWhole { job: JobId, disk: DiskId, missing: u64 },
    #[error("disk {disk} has no committed cycle yet: sync it first")]
    NothingCommitted { disk: DiskId },
    #[error("the manifest of disk {disk} as of its last commit is lost: all of the disk is compared instead")]
    ManifestLost {
        disk: DiskId,
        #[source]
        source: migratekit::manifest::Error,
    },
    #[error("the replica")]
    Replica(#[from] replica::Error),
    #[error("the manifest")]
    Manifest(#[from] migratekit::manifest::Error),
    #[error("comparing")]
    Verify(#[from] migratekit::verify::Error),
    #[error("the replica's volume")]
    Storage(#[from] crate::storage::Error),
    #[error("the volume's name")]
    Name(#[from] crate::storage::InvalidName),
    #[error("the database")]
    Store(#[from] store::Error),
    #[error("a task of the transfer ended: this is a defect, see the log")]
    Died,
}

impl TransferError {
    /// As gRPC says it; the whole chain is in the message, for the agent's log.
    pub fn to_status(&self) -> Status {
        let (code, reason) = self.code();
        refusal::status(code, reason, shared::error::chain(self))
    }

    pub(crate) fn code(&self) -> (Code, &'static str) {
        match self {
            Self::WrongAgent { .. } => (Code::PermissionDenied, "WRONG_AGENT"),
            Self::NotInJob { .. } => (Code::NotFound, "NOT_IN_JOB"),
            Self::Overtaken { .. } => (Code::Aborted, "STALE_EPOCH"),
            Self::UnknownEpoch { .. } => (Code::FailedPrecondition, "UNKNOWN_EPOCH"),
            Self::NotRunning { .. } => (Code::FailedPrecondition, "JOB_NOT_RUNNING"),
            Self::Finished { .. } => (Code::FailedPrecondition, "DISK_FINISHED"),
            Self::WrongSize { .. } => (Code::InvalidArgument, "WRONG_SIZE"),
            Self::WrongMode { .. } => (Code::FailedPrecondition, "WRONG_MODE"),
            Self::NotWhole { .. } => (Code::FailedPrecondition, "INCOMPLETE"),
            Self::NothingCommitted { .. } => (Code::FailedPrecondition, "NOTHING_COMMITTED"),
            Self::ManifestLost { .. } => (Code::FailedPrecondition, "MANIFEST_LOST"),
            Self::Replica(error) => of_replica(error),
            Self::Manifest(_) => (Code::Internal, "MANIFEST_FAILED"),
            Self::Verify(_) => (Code::Internal, "COMPARISON_FAILED"),
            Self::Storage(_) | Self::Name(_) => (Code::Unavailable, "STORAGE_UNAVAILABLE"),
            Self::Store(store::Error::StaleEpoch { .. }) => (Code::Aborted, "STALE_EPOCH"),
            Self::Store(store::Error::NotFound { .. }) => (Code::NotFound, "NOT_FOUND"),
            Self::Store(store::Error::JobClosed { .. }) => (Code::FailedPrecondition, "JOB_NOT_RUNNING"),
            Self::Store(store::Error::Sealed { .. }) => (Code::FailedPrecondition, "DISK_FINISHED"),
            Self::Store(_) => (Code::Unavailable, "DATABASE_UNAVAILABLE"),
            Self::Died => (Code::Internal, "INTERNAL"),
        }
    }
}

fn of_replica(error: &replica::Error) -> (Code, &'static str) {
    use migratekit::target;
    use replica::{Cause, Error};
    match error {
        Error::Refused { .. } => (Code::InvalidArgument, "BAD_PIECE"),
        Error::Failed(cause) => match &**cause {
            Cause::Target(error) => match error.reason() {
                target::Error::NoRoom { .. } => (Code::ResourceExhausted, "TARGET_FULL"),
                _ => (Code::Internal, "TARGET_FAILED"),
            },
            Cause::TargetTooSmall { .. } => (Code::FailedPrecondition, "TARGET_TOO_SMALL"),
            Cause::Manifest(_) => (Code::Internal, "MANIFEST_FAILED"),
            // The journal refuses what is over: that is no failure of the database.
            Cause::Intent(why) | Cause::Checkpoint(why) => match why.downcast_ref::<store::Error>() {
                Some(store::Error::StaleEpoch { .. }) => (Code::Aborted, "STALE_EPOCH"),
                Some(store::Error::JobClosed { .. }) => (Code::FailedPrecondition, "JOB_NOT_RUNNING"),
                Some(store::Error::Sealed { .. }) => (Code::FailedPrecondition, "DISK_FINISHED"),
                Some(_) | None => (Code::Unavailable, "JOURNAL_FAILED"),
            },
            Cause::Thread(_) | Cause::Died { .. } => (Code::Internal, "INTERNAL"),
        },
        Error::Fenced { .. } => (Code::Aborted, "STALE_EPOCH"),
        Error::Sealed => (Code::FailedPrecondition, "DISK_FINISHED"),
        Error::Incomplete { .. } => (Code::FailedPrecondition, "INCOMPLETE"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use migratekit::replica::Cause;
    use migratekit::target::{Error, Op};

    use super::*;

    /// A target that writes behind tells of the full disk with the next call.
    #[test]
    fn a_full_target_is_one_however_late_it_was_told() {
        let full = Error::from_io(
            Op::Write,
            Path::new("/d"),
            0,
            std::io::Error::from(std::io::ErrorKind::StorageFull),
        );
        for cause in [full, Error::Lost { path: "/d".into() }].map(|e| Error::Ended(Arc::new(e))) {
            let expected =
                if matches!(cause.reason(), Error::NoRoom { .. }) { "TARGET_FULL" } else { "TARGET_FAILED" };
            let told = TransferError::Replica(replica::Error::Failed(Arc::new(Cause::Target(cause))));
            assert_eq!(told.code().1, expected);
        }
    }
}
