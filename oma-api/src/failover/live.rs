//! Live failovers: the VM itself moves, and can be taken back until it is committed.
//!
//! ```text
//!  validation ─► snapshot ─────────────────────────────────► virtio-injection ─► vm-creation ─► volume-switch ─► vm-startup
//!   validate      drain power-off final-cycle clone-N snapshot  convert            define         attach-N         source-off
//!   source-state  (planned: the last two points of the source                                                     start, ready
//!                  are its end)
//!  rollback:  vm-stop ─► snapshot (kept) ─► vm-removal ─► source-startup ─► verification
//! ```
//!
//! From the transaction that makes its job on, the failover owns the replica (DESIGN §6 rule 14): nobody writes it, and
//! its VM never runs on it. Its machine's first start is where nothing is taken back by itself any more; its commit is
//! where nothing can be taken back at all. [`policy`] says whether one may begin, and is pure.

mod asked;
pub mod policy;
mod steps;

pub use asked::{Asked, PowerOff};
pub use steps::{LiveFailover, Rollback, live_job, rollback_job};

use super::Plan;
use super::request::Invalid;
use crate::store::Migration;
use crate::workflow::{Job, JobState, StepState};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::words;
use std::time::Duration;

words!(
    /// How a VM leaves its source.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    Mode, "mode of a live failover", {
        /// Powered off there, with what it wrote last.
        Planned = "planned",
        /// Without its source, as of a restore point: what came after that is lost.
        Unplanned = "unplanned",
    }
);

words!(
    /// What becomes of a live failover that nobody decides about.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    CommitPolicy, "commit policy", {
        /// It waits.
        None = "none",
        /// It is committed after a time.
        Commit = "commit",
        /// It is taken back after a time.
        Rollback = "rollback",
    }
);

/// How long a guest may take to power itself off when nobody says, and at most.
const GRACEFUL: Duration = Duration::from_secs(300);
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 3600);

/// How long a decision is waited for when nobody says, and at most.
const DECIDED: Duration = Duration::from_secs(24 * 3600);
const LATEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// Bytes of a reason.
const REASON: usize = 500;

/// What is asked of a live failover beside what is asked of every failover; kept with its plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    pub mode: Mode,
    /// Of a planned one: how long the guest may take to power itself off.
    pub graceful: Duration,
    /// After that its power is cut; without, the failover is taken back.
    pub force: bool,
    pub commit_policy: CommitPolicy,
    /// When that is done, from its success on.
    pub decided_within: Duration,
    /// Of an unplanned one: how much of what the VM wrote last may be lost.
    pub accepted_loss: Option<Duration>,
    /// Why policy is set aside: the passed test, and the source's verification where there is no source.
    pub override_reason: Option<String>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            mode: Mode::Planned,
            graceful: GRACEFUL,
            force: false,
            commit_policy: CommitPolicy::None,
            decided_within: DECIDED,
            accepted_loss: None,
            override_reason: None,
        }
    }
}

/// At most, of a machine that is stopped on its way back.
const STOP: Duration = Duration::from_secs(300);

impl Live {
    /// How long its machine may take to power itself off when it is taken back: as long as its guest had at the source. `None`: it is
    /// stopped at once.
    pub fn stop_patience(&self) -> Option<Duration> {
        Some(self.graceful.min(STOP)).filter(|patience| !patience.is_zero())
    }

    /// Whatever is wrong of itself.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn check(&self, restore_point: Option<&str>) -> Result<(), Invalid> {
        let wrong = |field, why: &str| Err(Invalid { field, why: why.to_owned() });
        if self.graceful > LONGEST_GRACE {
            return wrong("power_off.timeout", "must be at most 24h");
        }
        if !(Duration::from_secs(1)..=LATEST).contains(&self.decided_within) {
            return wrong("commit_timeout", "must be 1s to 744h (31 days)");
        }
        let unusable = |reason: &String| {
            reason.trim().is_empty() || reason.len() > REASON || reason.contains(char::is_control)
        };
        if self.override_reason.as_ref().is_some_and(unusable) {
            return wrong(
                "override_reason",
                "takes 1 to 500 bytes without control characters; it is recorded",
            );
        }
        match (self.mode, self.accepted_loss, restore_point) {
            (Mode::Planned, Some(_), _) => {
                wrong("accept_loss", "has no meaning for a planned failover: nothing of it is lost")
            }
            (Mode::Planned, _, Some(_)) => wrong(
                "restore_point",
                "has no meaning for a planned failover: it begins from its own, made after the VM was powered off",
            ),
            (Mode::Planned, None, None) | (Mode::Unplanned, _, _) => Ok(()),
        }
    }
}

/// A failover as [`Action::Switch`](shared::migration::Action::Switch) asks for one.
pub fn usual(migration: &Migration) -> super::Request {
    super::Request {
        vm_id: migration.vm.to_string(),
        vm_name: migration.vm_name.clone(),
        live: Some(Live::default()),
        ..super::Request::default()
    }
}

/// What the commit policy of a live failover says whose machine has run, and when.
pub fn due(job: &Job) -> Option<(CommitPolicy, Timestamp)> {
    let plan: Plan = serde_json::from_value(job.params.clone()).ok()?;
    let live = plan.live?;
    let started =
        || job.steps.iter().find(|s| s.plan.name == "start" && s.state == StepState::Done)?.ended_at;
    let since = match (job.state, live.commit_policy) {
        (JobState::Succeeded, CommitPolicy::Commit | CommitPolicy::Rollback) => job.ended_at,
        // It never became ready, and nobody decides: its VM is to be back where it was.
        (JobState::NeedsAttention, CommitPolicy::Rollback) => started(),
        _ => None,
    };
    Some((live.commit_policy, since?.checked_add(live.decided_within).ok()?))
}
