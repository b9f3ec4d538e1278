//! Why a disk's transfer ended early.

use super::push::PushError;
use crate::source;
use shared::cycle::Finding;

#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("push")]
    Push(#[from] PushError),
    #[error("source")]
    Source(#[from] source::Error),
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
            Self::Push(PushError::Refused { reason, .. } | PushError::Interrupted { reason, .. }) => reason,
            Self::Source(_) => "SOURCE_UNAVAILABLE",
            Self::Read(_) => "SOURCE_READ_FAILED",
            Self::Plan(_) => "SOURCE_PLAN_FAILED",
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
            Self::Push(_) | Self::Read(_) => None,
        }
    }
}
