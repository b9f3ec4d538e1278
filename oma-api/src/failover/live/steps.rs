//! Which steps a live failover has, and its way back, and what does them.

use super::Mode;
use crate::failover::effects::{
    Begin, Drain, DropSnapshot, FinalCycle, Hands, Keep, Of, PowerOff, PowerOn, Remove, SourceState,
    StillOff, Stop, Verify,
};
use crate::failover::status::VALIDATION;
use crate::failover::steps::{attached, common, copies, defined, each_handed_over, way_back};
use crate::failover::{Failover, Plan, Record, Request, names, source};
use crate::workflow::{Effect, Job, NewJob, NewStep, Step, Workflow};
use serde_json::json;
use std::sync::Arc;

const VERSION: u64 = 1;

const LIVE: &str = "live-failover";
const ROLLBACK: &str = "live-rollback";

/// The job of a live failover.
pub fn live_job(plan: &Plan, record: &Record, request: &Request, correlation: &str) -> NewJob {
    let is_planned = plan.live.as_ref().is_some_and(|live| live.mode == Mode::Planned);
    let mut steps = vec![
        NewStep::new(VALIDATION, "validate").required(),
        NewStep::new(VALIDATION, source::STATE).required(),
        NewStep::new("snapshot", "drain").required(),
    ];
    if is_planned {
        steps.push(NewStep::new("snapshot", source::POWER_OFF).required());
        steps.push(NewStep::new("snapshot", source::FINAL_CYCLE).required());
    }
    steps.extend(copies(plan, request));
    steps.extend(defined(plan, "vm-creation"));
    steps.extend(attached(plan, "volume-switch"));
    steps.push(NewStep::new("vm-startup", source::STILL_OFF).required());
    // What the machine writes from here on is nobody else's: it is taken back on somebody's word, and kept then.
    steps.push(NewStep::new("vm-startup", "start").no_return().required());
    if plan.ready.is_some() {
        steps.push(NewStep::new("vm-startup", "ready").no_return());
    }
    NewJob {
        id: record.job.clone(),
        kind: LIVE.to_owned(),
        version: VERSION,
        subject: plan.migration.to_string(),
        params: json!(plan),
        correlation: correlation.to_owned(),
        steps,
    }
}

/// The job that takes a live failover back, wherever it is. It takes nothing back itself: what fails waits for somebody.
pub fn rollback_job(of: &Failover, correlation: &str) -> NewJob {
    let mut steps = vec![
        // From here on it waits for somebody where it fails, instead of ending.
        NewStep::new("vm-stop", "begin").no_return(),
        // Two of one VM must never run: it is off, read back, before the source is on.
        NewStep::new("vm-stop", "stop").no_return().required(),
    ];
    steps.extend(each_handed_over(of, "vm-stop", "detach"));
    steps.push(NewStep::new("snapshot", "keep").no_return().required());
    steps.push(NewStep::new("vm-removal", "remove").no_return().required());
    steps.extend(each_handed_over(of, "vm-removal", "release"));
    steps.extend([
        NewStep::new("snapshot-removal", "drop-snapshot").no_return(),
        NewStep::new("source-startup", source::POWER_ON).no_return(),
        NewStep::new("verification", source::VERIFY).no_return().required(),
    ]);
    let mut params = of.job.params.clone();
    params["source_was"] = json!(source::was(&of.job).as_str());
    NewJob {
        id: names::rollback(&of.record.job, of.rollback.as_ref().map(|job| &job.id)),
        kind: ROLLBACK.to_owned(),
        version: VERSION,
        subject: of.job.subject.clone(),
        params,
        correlation: correlation.to_owned(),
        steps,
    }
}

/// What the steps of a live failover do.
pub struct LiveFailover(pub Arc<Hands>);

impl Workflow for LiveFailover {
    fn kind(&self) -> &'static str {
        LIVE
    }

    fn effect(&self, job: &Job, step: &Step) -> Option<Arc<dyn Effect>> {
        let hands = || Arc::clone(&self.0);
        if job.version != VERSION {
            return None;
        }
        Some(match step.plan.name.as_str() {
            source::STATE => Arc::new(SourceState(hands())),
            "drain" => Arc::new(Drain(hands())),
            source::POWER_OFF => Arc::new(PowerOff(hands())),
            source::FINAL_CYCLE => Arc::new(FinalCycle(hands())),
            source::STILL_OFF => Arc::new(StillOff(hands())),
            name => return common(&self.0, name),
        })
    }
}

/// What the steps of its way back do.
pub struct Rollback(pub Arc<Hands>);

impl Workflow for Rollback {
    fn kind(&self) -> &'static str {
        ROLLBACK
    }

    fn effect(&self, job: &Job, step: &Step) -> Option<Arc<dyn Effect>> {
        let hands = || Arc::clone(&self.0);
        if job.version != VERSION {
            return None;
        }
        Some(match step.plan.name.as_str() {
            "begin" => Arc::new(Begin),
            "stop" => Arc::new(Stop(hands())),
            "keep" => Arc::new(Keep(hands())),
            "remove" => Arc::new(Remove(hands())),
            "drop-snapshot" => Arc::new(DropSnapshot(hands(), Of::Start)),
            source::POWER_ON => Arc::new(PowerOn(hands())),
            source::VERIFY => Arc::new(Verify(hands())),
            name => return way_back(&self.0, name),
        })
    }
}
