//! What a report says of a live failover beside what it says of all.

use crate::failover::live::Mode;
use crate::failover::{FailoverView, source};
use crate::workflow::Job;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use shared::cycle::How;

/// See the module. Times are UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LiveReport {
    /// planned or unplanned.
    pub mode: &'static str,
    /// gone, there, kept or handed_over.
    pub standing: &'static str,
    /// How the VM was powered off at its source: already, graceful or forced; `None`: it was not (yet).
    pub powered_off: Option<String>,
    /// How it was before.
    pub source_was: Option<String>,
    /// Of a planned one of a VM that ran: from when its source was told to power it off to its machine being ready (or started,
    /// where nothing more was waited for). `None` too: it has not moved.
    pub downtime_seconds: Option<f64>,
    /// The cycle of the final delta.
    pub final_job_id: Option<String>,
    /// Of an unplanned one: what the VM wrote in this time before the request is lost.
    pub data_loss_seconds: Option<f64>,
    /// As much was accepted.
    pub accepted_loss_seconds: Option<u64>,
    /// none, commit or rollback.
    pub commit_policy: &'static str,
    pub decided_at: Option<Timestamp>,
    pub committed_at: Option<Timestamp>,
    /// Why policy was set aside.
    pub override_reason: Option<String>,
}

fn said(job: &Job, step: &str, what: &str) -> Option<String> {
    job.output(step)?.get(what).and_then(Value::as_str).map(str::to_owned)
}

/// See [`LiveReport::downtime_seconds`].
fn downtime(view: &FailoverView) -> Option<f64> {
    let job = &view.failover.job;
    let ran = said(job, source::POWER_OFF, "how").is_some_and(|how| how != How::Already.as_str());
    let off = job.steps.iter().find(|step| step.plan.name == source::POWER_OFF)?.started_at?;
    // As of the RTO: nobody knows when a machine was ready that nobody waited for to the end.
    let took = view.rto_seconds.filter(|_| ran)? - off.duration_since(job.created_at).as_secs_f64();
    Some(took.max(0.0))
}

impl LiveReport {
    /// `None`: it is a test.
    pub(super) fn of(view: &FailoverView) -> Option<Self> {
        let (failover, live) = (&view.failover, view.live.as_ref()?);
        let job = &failover.job;
        let is_planned = live.mode == Mode::Planned;
        let loss = view.taken_at.map(|at| job.created_at.duration_since(at).as_secs_f64().max(0.0));
        // Its last delta is in what the machine was made of.
        let last = job.output(source::FINAL_CYCLE).and(failover.final_job.as_ref());
        Some(Self {
            mode: live.mode.as_str(),
            standing: view.standing.as_str(),
            powered_off: said(job, source::POWER_OFF, "how"),
            source_was: said(job, source::STATE, "state"),
            downtime_seconds: downtime(view),
            final_job_id: last.map(ToString::to_string),
            data_loss_seconds: loss.filter(|_| !is_planned),
            accepted_loss_seconds: live.accepted_loss.map(|loss| loss.as_secs()),
            commit_policy: live.commit_policy.as_str(),
            decided_at: view.decided_at,
            committed_at: failover.committed_at,
            override_reason: live.override_reason.clone(),
        })
    }

    fn is_planned(&self) -> bool {
        self.mode == Mode::Planned.as_str()
    }

    /// Of a planned one; `None`: by the age of its data, as of any.
    pub(super) fn rpo(&self) -> Option<Option<f64>> {
        self.is_planned().then(|| self.final_job_id.as_ref().map(|_| 0.0))
    }

    pub(super) fn rpo_note(&self) -> Option<&'static str> {
        match (self.is_planned(), &self.final_job_id) {
            (true, Some(_)) => {
                Some("the VM was powered off, and then what it wrote last was copied: nothing of it is lost")
            }
            (true, None) => Some("what the VM wrote last was not copied yet: it has not moved"),
            (false, _) => {
                Some("without its source: what the VM wrote in this time before the request is lost")
            }
        }
    }
}
