//! A failover as it is shown: what is recorded, how its job stands, what may be asked of it.

use super::status::{PublicStep, Status, public_steps};
use super::{Failover, Plan};
use crate::workflow::policy;
use jiff::Timestamp;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct FailoverView {
    pub failover: Failover,
    pub status: Status,
    pub steps: Vec<PublicStep>,
    /// What may be asked now: of its job, or of its clean-up once there is one.
    pub allowed: Vec<&'static str>,
    /// Whether clones, snapshots or a machine of it may be there.
    pub is_there: bool,
    /// When a test is cleaned up by itself.
    pub expires_at: Option<Timestamp>,
    /// The time that its data is of; the source's snapshot's.
    pub taken_at: Option<Timestamp>,
    /// What shows that its machine works, where that was asked for.
    pub waits_for: Option<String>,
    /// What went on although it was not as wanted.
    pub warnings: Vec<String>,
    /// From the request to the machine being ready (or started, where nothing more was waited for).
    pub rto_seconds: Option<f64>,
}

impl From<Failover> for FailoverView {
    fn from(failover: Failover) -> Self {
        let job = &failover.job;
        let plan: Option<Plan> = serde_json::from_value(job.params.clone()).ok();
        let warning =
            |step: &crate::workflow::Step| step.output.as_ref()?.get("warning")?.as_str().map(str::to_owned);
        let rto = job.ended_at.filter(|_| Status::of(job) == Status::Completed);
        Self {
            status: Status::of(job),
            steps: public_steps(job),
            allowed: policy::allowed(failover.cleanup.as_ref().unwrap_or(job)),
            is_there: failover.is_there(),
            expires_at: failover.expires(),
            taken_at: plan.as_ref().map(|plan| plan.taken_at),
            waits_for: plan.and_then(|plan| plan.ready).map(|ready| ready.check.to_string()),
            warnings: job.steps.iter().filter_map(warning).collect(),
            rto_seconds: rto.map(|end| end.duration_since(job.created_at).as_secs_f64()),
            failover,
        }
    }
}

impl FailoverView {
    /// The machine's name, from when it is made on until it is removed.
    pub fn machine(&self) -> Option<&str> {
        (self.is_there && self.done("define")).then_some(self.failover.record.name.as_str())
    }

    /// The snapshot of its clones, once it is there.
    pub fn snapshot(&self) -> Option<&str> {
        self.done("snapshot").then_some(self.failover.record.name.as_str())
    }

    /// Its machine's id on the target, from when it is made on: it stays the answer after the machine is removed.
    pub fn destination(&self) -> Option<uuid::Uuid> {
        self.done("define").then_some(self.failover.record.machine)
    }

    /// How long the test is kept, as it was asked for; in hours where nobody asked.
    pub fn test_duration(&self) -> String {
        let record = &self.failover.record;
        record.test_duration.clone().unwrap_or_else(|| format!("{}h", record.keep.as_secs() / 3600))
    }

    /// Nothing goes on of it, and nothing can be asked.
    pub fn has_ended(&self) -> bool {
        let cleaned = self.failover.cleanup.as_ref().is_none_or(|job| job.state.ended());
        self.failover.job.state.ended() && cleaned
    }

    /// Grows with each change of the failover.
    pub fn sequence(&self) -> u64 {
        self.failover.job.generation + self.failover.cleanup.as_ref().map_or(0, |job| job.generation)
    }

    fn done(&self, step: &str) -> bool {
        let of = |s: &&crate::workflow::Step| s.plan.name == step;
        let step = self.failover.job.steps.iter().find(of);
        step.is_some_and(|s| s.state == crate::workflow::StepState::Done)
    }
}
