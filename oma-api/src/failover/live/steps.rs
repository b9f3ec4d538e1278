//! Which steps a live failover has, and its way back, and what does them.

use super::Mode;
use crate::failover::effects::{
    Attach, Begin, CloneDisk, Convert, Define, Drain, DropSnapshot, FinalCycle, Hands, Keep, Of, PowerOff,
    PowerOn, Ready, Remove, SnapshotClones, SourceState, Start, StillOff, Stop, Validate, Verify,
};
use crate::failover::status::VALIDATION;
use crate::failover::steps::numbered;
use crate::failover::{Failover, Plan, Record, Request, names, source};
use crate::workflow::{Effect, Job, NewJob, NewStep, Step, Workflow};
use serde_json::json;
use std::sync::Arc;

const VERSION: u64 = 1;

const LIVE: &str = "live-failover";
const ROLLBACK: &str = "live-rollback";

/// The job of a live failover.
pub fn live_job(plan: &Plan, record: &Record, request: &Request, correlation: &str) -> NewJob {
    let disks = || plan.disks.iter().enumerate();
    let is_planned = plan.live.as_ref().is_some_and(|live| live.mode == Mode::Planned);
    let mut steps = vec![
        NewStep::new(VALIDATION, "validate").required(),
        NewStep::new(VALIDATION, source::STATE).required(),
        NewStep::new("snapshot", "drain").required(),
    ];
    if is_planned {
        steps.push(NewStep::new("snapshot", source::POWER_OFF).required());
        steps.push(NewStep::new("snapshot", "final-cycle").required());
    }
    steps.extend(disks().map(|(n, _)| NewStep::new("snapshot", format!("clone-{n}")).required()));
    if !request.skip_snapshot {
        steps.push(NewStep::new("snapshot", "snapshot"));
    }
    if !request.skip_virtio_injection {
        steps.push(NewStep::new("virtio-injection", "convert"));
    }
    steps.push(NewStep::new("vm-creation", "define").required());
    steps.extend(disks().map(|(n, _)| NewStep::new("volume-switch", format!("attach-{n}")).required()));
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
    let steps = vec![
        // From here on it waits for somebody where it fails, instead of ending.
        NewStep::new("vm-stop", "begin").no_return(),
        // Two of one VM must never run: it is off, read back, before the source is on.
        NewStep::new("vm-stop", "stop").no_return().required(),
        NewStep::new("snapshot", "keep").no_return().required(),
        NewStep::new("vm-removal", "remove").no_return().required(),
        NewStep::new("snapshot-removal", "drop-snapshot").no_return(),
        NewStep::new("source-startup", source::POWER_ON).no_return(),
        NewStep::new("verification", "verify").no_return().required(),
    ];
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
            "validate" => Arc::new(Validate(hands())),
            source::STATE => Arc::new(SourceState(hands())),
            "drain" => Arc::new(Drain(hands())),
            source::POWER_OFF => Arc::new(PowerOff(hands())),
            "final-cycle" => Arc::new(FinalCycle(hands())),
            "snapshot" => Arc::new(SnapshotClones(hands())),
            "convert" => Arc::new(Convert(hands())),
            "define" => Arc::new(Define(hands())),
            source::STILL_OFF => Arc::new(StillOff(hands())),
            "start" => Arc::new(Start(hands())),
            "ready" => Arc::new(Ready(hands())),
            name => match numbered(name, "clone-") {
                Some(n) => Arc::new(CloneDisk(hands(), n)),
                None => Arc::new(Attach(hands(), numbered(name, "attach-")?)),
            },
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
            "verify" => Arc::new(Verify(hands())),
            _ => return None,
        })
    }
}
