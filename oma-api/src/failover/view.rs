//! A failover as it is shown: what is recorded, how its job stands, what may be asked of it.

use super::live::{Live, due};
use super::status::{PublicStep, Status, public_steps};
use super::{Failover, Kind, Plan, Standing, source};
use crate::workflow::{Job, JobState, Step, StepState, policy};
use jiff::Timestamp;
use serde_json::Value;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct FailoverView {
    pub failover: Failover,
    pub status: Status,
    pub steps: Vec<PublicStep>,
    /// What may be asked now: of its newest job; and `rollback` and `commit`.
    pub allowed: Vec<&'static str>,
    pub standing: Standing,
    /// Whether clones, snapshots or a machine of it may be there that are still ours.
    pub is_there: bool,
    /// When a test, or what was kept of a live one, is cleaned up by itself.
    pub expires_at: Option<Timestamp>,
    /// The time that its data is of: the source's snapshot's; of a planned one, once it is there, its last.
    pub taken_at: Option<Timestamp>,
    /// What shows that its machine works, where that was asked for.
    pub waits_for: Option<String>,
    /// What was asked of a live one.
    pub live: Option<Live>,
    /// When its commit policy acts.
    pub decided_at: Option<Timestamp>,
    /// What went on although it was not as wanted.
    pub warnings: Vec<String>,
    /// What was not done because that was asked for.
    pub left_out: Vec<String>,
    /// From the request to the machine being ready (or started, where nothing more was waited for).
    pub rto_seconds: Option<f64>,
}

impl From<Failover> for FailoverView {
    fn from(failover: Failover) -> Self {
        let job = &failover.job;
        let plan: Option<Plan> = serde_json::from_value(job.params.clone()).ok();
        let warning = |step: &Step| step.output.as_ref()?.get("warning")?.as_str().map(str::to_owned);
        // A machine that did not show in its time what was waited for, or that nobody waited for to the end, may never have been ready.
        let shown = |s: &Step| s.output.as_ref().and_then(|said| said.get("ready")?.as_bool()) == Some(true);
        let unready = |s: &Step| s.plan.name == "ready" && !shown(s);
        let completed = Status::of(job) == Status::Completed && !job.steps.iter().any(unready);
        let rto = job.ended_at.filter(|_| completed);
        let noted = plan.iter().flat_map(|plan| plan.notes.clone()).collect::<Vec<_>>();
        let after = failover.rollback.iter().chain(&failover.cleanup).flat_map(|job| &job.steps);
        let all = job.steps.iter().chain(after);
        Self {
            status: Status::of(job),
            steps: public_steps(job),
            allowed: allowed(&failover),
            standing: failover.standing(),
            is_there: failover.is_there(),
            expires_at: failover.expires(),
            taken_at: last_taken_at(job).or_else(|| plan.as_ref().map(|plan| plan.taken_at)),
            waits_for: plan
                .as_ref()
                .and_then(|plan| plan.ready.as_ref())
                .map(|ready| ready.check.to_string()),
            left_out: plan.as_ref().map(|plan| plan.left_out.clone()).unwrap_or_default(),
            live: plan.and_then(|plan| plan.live),
            decided_at: due(job).filter(|_| is_undecided(&failover)).map(|(_, at)| at),
            warnings: noted.into_iter().chain(all.filter_map(warning)).collect(),
            rto_seconds: rto.map(|end| end.duration_since(job.created_at).as_secs_f64()),
            failover,
        }
    }
}

/// Of its newest job; and what becomes of a live one: as its migration, which follows the jobs, takes it.
fn allowed(of: &Failover) -> Vec<&'static str> {
    let mut words = policy::allowed(of.newest_job());
    if of.record.kind == Kind::Live && of.standing() == Standing::There {
        let (rollback, commit) = match (of.job.state, of.rollback.as_ref().map(|job| job.state)) {
            (JobState::Succeeded, None) => (true, true),
            (JobState::NeedsAttention, None) => (true, false),
            // What failed of the way back, again.
            (_, Some(JobState::NeedsAttention | JobState::RolledBack)) => (true, false),
            _ => (false, false),
        };
        words.extend(rollback.then_some("rollback"));
        words.extend(commit.then_some("commit"));
    }
    words
}

/// It has succeeded, and is neither committed nor taken back.
fn is_undecided(of: &Failover) -> bool {
    of.job.state == JobState::Succeeded && of.rollback.is_none() && of.standing() == Standing::There
}

/// Of the restore point that was made after the VM was powered off.
fn last_taken_at(job: &Job) -> Option<Timestamp> {
    job.output(source::FINAL_CYCLE)?.get("taken_at").and_then(Value::as_str)?.parse().ok()
}

fn is_done(job: &Job, step: &str) -> bool {
    job.steps.iter().any(|s| s.plan.name == step && s.state == StepState::Done)
}

impl FailoverView {
    /// The machine's name, from when it is made on until it is removed. A committed one keeps it.
    pub fn machine(&self) -> Option<&str> {
        let failover = &self.failover;
        let is_there = matches!(self.standing, Standing::There | Standing::HandedOver);
        let removed = failover.rollback.as_ref().is_some_and(|job| is_done(job, "remove"));
        (is_there && !removed && self.done("define")).then_some(failover.record.name.as_str())
    }

    /// The snapshot of its clones, once it is there.
    pub fn snapshot(&self) -> Option<&str> {
        self.done("snapshot").then_some(self.failover.record.name.as_str())
    }

    /// Its machine's id on the target, from when it is made on: it stays the answer after the machine is removed.
    pub fn destination(&self) -> Option<uuid::Uuid> {
        self.done("define").then_some(self.failover.record.machine)
    }

    /// How long a test is kept, as it was asked for; in hours where nobody asked. A live one is no test.
    pub fn test_duration(&self) -> Option<String> {
        let record = &self.failover.record;
        match record.kind {
            Kind::Live => None,
            Kind::Test => {
                let usual = || format!("{}h", record.keep.as_secs() / 3600);
                Some(record.test_duration.clone().unwrap_or_else(usual))
            }
        }
    }

    /// Nothing goes on of it, and nothing can be asked of its jobs. A live one may wait for somebody's decision.
    pub fn has_ended(&self) -> bool {
        let failover = &self.failover;
        // One that waits has its rollback in its place.
        let waits = failover.rollback.is_none() && !failover.job.state.ended();
        let ended = |job: &Option<Job>| job.as_ref().is_none_or(|job| job.state.ended());
        !waits && ended(&failover.rollback) && ended(&failover.cleanup)
    }

    /// Grows with each change of the failover.
    pub fn sequence(&self) -> u64 {
        let failover = &self.failover;
        let of = |job: &Option<Job>| job.as_ref().map_or(0, |job| job.generation);
        let committed = u64::from(failover.committed_at.is_some());
        failover.job.generation + of(&failover.rollback) + of(&failover.cleanup) + committed
    }

    fn done(&self, step: &str) -> bool {
        is_done(&self.failover.job, step)
    }
}
