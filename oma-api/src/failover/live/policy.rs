//! Whether a live failover may begin. Pure.

use super::{Live, Mode};
use crate::failover::Failover;
use crate::store::{Arm, Disk};
use crate::workflow::{Job, Step};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use shared::config::Period;
use std::time::Duration;

const DAY: u32 = 24 * 3600;

/// What is asked of every live failover.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// A test of the VM passed within it; 0s: none is needed.
    pub test_max_age: Period,
    /// Both arms of the verification found every disk equal within it.
    pub verified_max_age: Period,
    /// How long what a VM wrote on the target is kept after it was rolled back.
    pub keep: Period,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            test_max_age: Period::seconds(30 * DAY),
            verified_max_age: Period::seconds(30 * DAY),
            keep: Period::seconds(7 * DAY),
        }
    }
}

/// What it is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub policy: Policy,
    pub vm: &'a str,
    /// Tests whose jobs succeeded, the newest first.
    pub tests: &'a [Failover],
    /// In the VM's order.
    pub disks: &'a [Disk],
    /// When the last full copy was committed.
    pub copied_at: Option<Timestamp>,
    /// Of the restore point that it would start from.
    pub taken_at: Timestamp,
    pub agent_connected: bool,
    pub now: Timestamp,
}

/// Why it may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    #[error(
        "no test failover of {vm} has passed within the last {within}{}: run one with `migratekit failover test {vm}`, or give a \
         reason to do without (override_reason)", last_of(.last)
    )]
    NoTest { vm: String, within: Period, last: Option<Timestamp> },
    #[error(
        "disk {disk} of {vm} was not compared with the manifest (arm {}) since its last full copy and within the last {within}: \
         `migratekit verify {vm}{}`", word(.arm), option(.arm)
    )]
    Unverified { vm: String, disk: String, arm: Arm, within: Period },
    #[error(
        "an unplanned failover of {vm} loses what it wrote after {taken_at}, {} ago: accept that much (accept_loss: {:?}), or plan \
         it while its source can be reached", shown(*window), go(*window)
    )]
    Loss { vm: String, taken_at: Timestamp, window: Duration },
}

fn last_of(last: &Option<Timestamp>) -> String {
    last.map_or_else(String::new, |at| format!(" (the last was at {at})"))
}

const fn word(arm: &Arm) -> &'static str {
    match arm {
        Arm::Replica => "replica",
        Arm::Source => "source",
    }
}

/// Of the command that compares by it.
const fn option(arm: &Arm) -> &'static str {
    match arm {
        Arm::Replica => "",
        Arm::Source => " --source",
    }
}

fn shown(time: Duration) -> String {
    Period(Duration::from_secs(time.as_secs())).to_string()
}

/// As the API takes it: a little more, for the time that the answer takes.
fn go(time: Duration) -> String {
    format!("{}m", time.as_secs() / 60 + 2)
}

/// # Errors
/// [`Barred`].
pub fn judge(facts: &Facts<'_>, live: &Live) -> Result<(), Barred> {
    let since = |period: Period| {
        let back = SignedDuration::try_from(period.0).unwrap_or(SignedDuration::MAX);
        facts.now.checked_sub(back).unwrap_or(Timestamp::MIN)
    };
    if facts.policy.test_max_age.0 > Duration::ZERO && live.override_reason.is_none() {
        let last = facts.tests.iter().filter(|test| passed(&test.job)).filter_map(|t| t.job.ended_at).max();
        if last.is_none_or(|at| at < since(facts.policy.test_max_age)) {
            return Err(Barred::NoTest { vm: facts.vm.to_owned(), within: facts.policy.test_max_age, last });
        }
    }
    let least = since(facts.policy.verified_max_age);
    for disk in facts.disks {
        for (arm, at) in [(Arm::Replica, disk.replica_verified_at), (Arm::Source, disk.source_verified_at)] {
            // Nobody can compare with a source that is not there.
            let waived = arm == Arm::Source
                && live.mode == Mode::Unplanned
                && !facts.agent_connected
                && live.override_reason.is_some();
            let is_new = |at: Timestamp| at >= least && facts.copied_at.is_none_or(|copied| at > copied);
            if !waived && !at.is_some_and(is_new) {
                let (vm, disk) = (facts.vm.to_owned(), disk.key.to_string());
                return Err(Barred::Unverified { vm, disk, arm, within: facts.policy.verified_max_age });
            }
        }
    }
    if live.mode == Mode::Unplanned {
        let window = facts.now.duration_since(facts.taken_at).max(SignedDuration::ZERO).unsigned_abs();
        if live.accepted_loss.is_none_or(|accepted| accepted < window) {
            return Err(Barred::Loss { vm: facts.vm.to_owned(), taken_at: facts.taken_at, window });
        }
    }
    Ok(())
}

/// A test passed when its machine did, as far as somebody waited for that.
fn passed(job: &Job) -> bool {
    let unready = |step: &Step| {
        step.plan.name == "ready"
            && step.output.as_ref().and_then(|o| o.get("ready")).and_then(Value::as_bool) != Some(true)
    };
    !job.steps.iter().any(unready)
}
