//! Why a disk's transfer ended early.

use super::push::PushError;
use crate::source;
use migratekit::read;
use shared::cycle::Finding;
use std::time::Duration;

/// For the answer that explains a closed stream.
const REASON_DEADLINE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("push")]
    Push(#[from] PushError),
    #[error("source")]
    Source(#[from] source::Error),
    #[error("opening the source")]
    Open(#[source] migratekit::read::Error),
    #[error("reading the source")]
    Read(#[from] migratekit::read::Error),
    #[error("planning")]
    Plan(#[source] migratekit::plan::Error),
}

impl From<migratekit::plan::Error> for TransferError {
    fn from(error: migratekit::plan::Error) -> Self {
        Self::Plan(error)
    }
}

impl TransferError {
    /// Upper snake case.
    pub fn reason(&self) -> &str {
        match self {
            Self::Push(PushError::Overtaken { .. }) => "OVERTAKEN",
            Self::Push(PushError::Finished) => "DISK_FINISHED",
            Self::Push(PushError::Refused { reason, .. } | PushError::Interrupted { reason, .. }) => reason,
            Self::Source(_) | Self::Open(_) => "SOURCE_UNAVAILABLE",
            Self::Read(_) => "SOURCE_READ_FAILED",
            Self::Plan(_) => "SOURCE_PLAN_FAILED",
        }
    }

    /// A refusal closes both directions: sending may notice it before its reason has been read; and a reader that ended
    /// may be noticed by who asks it before its reason was taken. Gives the reason if `answers`, or `pieces`, come to
    /// one soon.
    pub(super) async fn explained_by(
        self,
        answers: impl Future<Output = Result<(), Self>>,
        pieces: impl Future<Output = Result<(), Self>>,
    ) -> Self {
        let explained = match self {
            Self::Push(PushError::Interrupted { .. }) => tokio::time::timeout(REASON_DEADLINE, answers).await,
            Self::Read(read::Error::Closed { .. }) => tokio::time::timeout(REASON_DEADLINE, pieces).await,
            other => return other,
        };
        match explained {
            Ok(Err(reason)) => reason,
            Ok(Ok(())) | Err(_) => self,
        }
    }

    /// What the control plane has to decide about, if it is that.
    pub fn finding(&self) -> Option<Finding> {
        match self {
            Self::Source(error) => error.finding(),
            // The planner hands on what the source said about its changes.
            Self::Plan(error) => std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source())
                .find_map(|e| e.downcast_ref::<source::Error>())
                .and_then(source::Error::finding),
            Self::Push(_) | Self::Open(_) | Self::Read(_) => None,
        }
    }
}
