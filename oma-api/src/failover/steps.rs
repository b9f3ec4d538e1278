//! Which steps each failover has, and what does them. The lists are stored with their jobs: a change of one here is a new
//! version, and the old one stays as long as jobs of it may be there.

use super::effects::{
    Adopt, Attach, Begin, CloneDisk, Convert, Define, Detach, DropClone, DropSnapshot, Hands, NothingThere,
};
use super::effects::{Of, Ready, Release, Remove, Shed, SnapshotClones, Start, Stop, Validate};
use super::status::VALIDATION;
use super::{Failover, Kind, Plan, Record, Request, names};
use crate::compute::Method;
use crate::workflow::{Effect, Job, NewJob, NewStep, Step, Workflow};
use serde_json::json;
use std::sync::Arc;

const VERSION: u64 = 1;

const TEST: &str = "test-failover";
const CLEANUP: &str = "test-cleanup";

/// The job of a test.
pub fn test_job(plan: &Plan, record: &Record, request: &Request, correlation: &str) -> NewJob {
    let mut steps = vec![NewStep::new(VALIDATION, "validate").required()];
    steps.extend(copies(plan, request));
    steps.extend(defined(plan, "test-vm-creation"));
    steps.extend(attached(plan, "volume-attachment"));
    steps.push(NewStep::new("test-vm-startup", "start").required());
    if plan.ready.is_some() {
        steps.push(NewStep::new("test-vm-startup", "ready"));
    }
    NewJob {
        id: record.job.clone(),
        kind: TEST.to_owned(),
        version: VERSION,
        subject: plan.migration.to_string(),
        params: json!(plan),
        correlation: correlation.to_owned(),
        steps,
    }
}

/// The steps of every failover that make what its machine runs on.
pub(super) fn copies(plan: &Plan, request: &Request) -> Vec<NewStep> {
    let clone = |n| NewStep::new("snapshot", format!("clone-{n}")).required();
    let mut steps: Vec<_> = (0..plan.disks.len()).map(clone).collect();
    if !request.skip_snapshot {
        steps.push(NewStep::new("snapshot", "snapshot"));
    }
    if !request.skip_virtio_injection {
        steps.push(NewStep::new("virtio-injection", "convert"));
    }
    steps
}

/// Those that make it, as parts of that public step.
pub(super) fn defined(plan: &Plan, group: &str) -> Vec<NewStep> {
    let names: &[&str] = match plan.hand_over {
        None => &["define"],
        Some(Method::Attach) => &["define", "shed"],
    };
    names.iter().map(|name| NewStep::new(group, *name).required()).collect()
}

/// And those that give its disks to it.
pub(super) fn attached(plan: &Plan, group: &str) -> Vec<NewStep> {
    let parts: &[&str] = match plan.hand_over {
        None => &["attach"],
        Some(Method::Attach) => &["adopt", "attach"],
    };
    let of_disk = |n| parts.iter().map(move |part| NewStep::new(group, format!("{part}-{n}")).required());
    (0..plan.disks.len()).flat_map(of_disk).collect()
}

/// What is done with each disk that was handed over, in a job that takes a failover back, as parts of that public step.
pub(super) fn each_handed_over(of: &Failover, group: &str, part: &str) -> Vec<NewStep> {
    let is_handed_over = of.job.params.get("hand_over").is_some_and(|method| !method.is_null());
    let disks = if is_handed_over { disks(of) } else { 0 };
    (0..disks).map(|n| NewStep::new(group, format!("{part}-{n}")).no_return().required()).collect()
}

fn disks(of: &Failover) -> usize {
    of.job.params.get("disks").and_then(|disks| disks.as_array()).map_or(0, Vec::len)
}

/// What the steps do that every failover has.
pub(super) fn common(hands: &Arc<Hands>, name: &str) -> Option<Arc<dyn Effect>> {
    let hands = || Arc::clone(hands);
    Some(match name {
        "validate" => Arc::new(Validate(hands())),
        "snapshot" => Arc::new(SnapshotClones(hands())),
        "convert" => Arc::new(Convert(hands())),
        "define" => Arc::new(Define(hands())),
        "shed" => Arc::new(Shed(hands())),
        "start" => Arc::new(Start(hands())),
        "ready" => Arc::new(Ready(hands())),
        name => match numbered(name)? {
            ("clone", n) => Arc::new(CloneDisk(hands(), n)),
            ("adopt", n) => Arc::new(Adopt(hands(), n)),
            ("attach", n) => Arc::new(Attach(hands(), n)),
            _ => return None,
        },
    })
}

/// What the steps do that take what was handed over back.
pub(super) fn way_back(hands: &Arc<Hands>, name: &str) -> Option<Arc<dyn Effect>> {
    Some(match numbered(name)? {
        ("detach", n) => Arc::new(Detach(Arc::clone(hands), n)),
        ("release", n) => Arc::new(Release(Arc::clone(hands), n)),
        _ => return None,
    })
}

/// The job that removes all that a failover made. It never takes anything back: what cannot be removed waits for somebody.
pub fn cleanup_job(of: &Failover, correlation: &str) -> NewJob {
    let mut steps = vec![
        // From here on it waits for somebody where it fails, instead of ending.
        NewStep::new("vm-stop", "begin").no_return(),
        NewStep::new("vm-stop", "stop").no_return().required(),
    ];
    steps.extend(each_handed_over(of, "vm-removal", "detach"));
    steps.push(NewStep::new("vm-removal", "remove").no_return().required());
    steps.extend(each_handed_over(of, "vm-removal", "release"));
    steps.push(NewStep::new("snapshot-removal", "drop-snapshot").no_return());
    if of.record.kind == Kind::Live {
        steps.push(NewStep::new("snapshot-removal", "drop-kept").no_return());
    }
    steps.extend(
        (0..disks(of)).map(|n| NewStep::new("volume-removal", format!("drop-clone-{n}")).no_return()),
    );
    steps.push(NewStep::new("check", "nothing-there").no_return());
    NewJob {
        id: names::cleanup(&of.record.job, of.cleanup.as_ref().map(|job| &job.id)),
        kind: CLEANUP.to_owned(),
        version: VERSION,
        subject: of.job.subject.clone(),
        params: of.job.params.clone(),
        correlation: correlation.to_owned(),
        steps,
    }
}

/// What the steps of a test do.
pub struct TestFailover(pub Arc<Hands>);

impl Workflow for TestFailover {
    fn kind(&self) -> &'static str {
        TEST
    }

    fn effect(&self, job: &Job, step: &Step) -> Option<Arc<dyn Effect>> {
        if job.version == VERSION { common(&self.0, &step.plan.name) } else { None }
    }
}

/// What the steps of a clean-up do.
pub struct Cleanup(pub Arc<Hands>);

impl Workflow for Cleanup {
    fn kind(&self) -> &'static str {
        CLEANUP
    }

    fn effect(&self, job: &Job, step: &Step) -> Option<Arc<dyn Effect>> {
        let hands = || Arc::clone(&self.0);
        if job.version != VERSION {
            return None;
        }
        Some(match step.plan.name.as_str() {
            "begin" => Arc::new(Begin),
            "stop" => Arc::new(Stop(hands())),
            "remove" => Arc::new(Remove(hands())),
            "drop-snapshot" => Arc::new(DropSnapshot(hands(), Of::Start)),
            "drop-kept" => Arc::new(DropSnapshot(hands(), Of::End)),
            "nothing-there" => Arc::new(NothingThere(hands())),
            name => match numbered(name)? {
                ("drop-clone", n) => Arc::new(DropClone(hands(), n)),
                _ => return way_back(&self.0, name),
            },
        })
    }
}

fn numbered(name: &str) -> Option<(&str, usize)> {
    let (name, number) = name.rsplit_once('-')?;
    Some((name, number.parse().ok()?))
}
