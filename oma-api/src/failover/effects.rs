//! What the steps of failovers do to storage and compute: one effect each, which may be looked up, repeated and undone.

mod conversion;
mod final_cycle;
mod hand_over;
mod machine;
mod ready;
mod removal;
mod source;
mod validate;
mod volumes;
mod way_back;

pub(super) use conversion::Convert;
pub(super) use final_cycle::{Drain, FinalCycle};
pub(super) use hand_over::{Adopt, Detach, Release, Shed};
pub(super) use machine::{Attach, Define, Start};
pub(super) use ready::{Ready, tail};
pub(super) use removal::{Begin, DropClone, DropSnapshot, NothingThere, Of, Remove, Stop};
pub(super) use source::{PowerOff, PowerOn, SourceState, StillOff};
pub(super) use validate::Validate;
pub(super) use volumes::{CloneDisk, SnapshotClones};
pub(super) use way_back::{Keep, Verify};

use super::{Plan, names};
use crate::clock::Clock;
use crate::compute::{self, Compute, MachineName};
use crate::conversion::Converter;
use crate::hub::Hub;
use crate::outbound::Again;
use crate::service::transfer::Transfers;
use crate::storage::{self, Floor, SnapshotName, Storage, VolumeId};
use crate::store::{self, Store};
use crate::workflow::{Job, Kind, Problem};
use shared::error::chain;
use std::path::PathBuf;
use std::sync::Arc;

/// What effects work with.
pub struct Hands {
    pub store: Store,
    pub storage: Arc<dyn Storage>,
    /// `None`: nothing makes machines here.
    pub compute: Option<Arc<dyn Compute>>,
    /// `None`: no guest is converted here.
    pub converter: Option<Conversions>,
    /// Of the storage, that failovers leave free too.
    pub floor: Floor,
    pub clock: Clock,
    /// By which agents are told of a live failover, and their answers come.
    pub hub: Arc<Hub>,
    /// Whose writes have ended before its clones are made.
    pub transfers: Arc<Transfers>,
}

/// What makes guests run on virtio, and where its logs are kept.
pub struct Conversions {
    pub converter: Converter,
    pub logs: PathBuf,
}

impl Hands {
    fn converter(&self) -> Result<&Conversions, Problem> {
        let none = || {
            let why = "no guest is converted here: ask for the failover without virtio injection";
            Problem::new(Kind::Permanent, "VIRTIO_PREREQUISITE", why)
        };
        self.converter.as_ref().ok_or_else(none)
    }

    fn compute(&self) -> Result<&dyn Compute, Problem> {
        let none = || {
            let why = "nothing makes machines here: give oma-api a [compute] section, and start it again";
            Problem::new(Kind::Permanent, "NO_COMPUTE", why)
        };
        self.compute.as_deref().ok_or_else(none)
    }
}

/// The plan of a job.
fn plan(job: &Job) -> Result<Plan, Problem> {
    serde_json::from_value(job.params.clone()).map_err(|error| {
        let why = format!("the plan of this job cannot be read by this version of oma-api: {error}");
        Problem::new(Kind::Permanent, "PLAN_UNREADABLE", why)
    })
}

/// The clone of its n-th disk, and the disk.
fn disk(plan: &Plan, n: usize) -> Result<(&super::plan::PlannedDisk, VolumeId), Problem> {
    let missing = || Problem::new(Kind::Permanent, "PLAN_UNREADABLE", format!("the plan has no disk {n}"));
    let disk = plan.disks.get(n).ok_or_else(missing)?;
    Ok((disk, volume(&disk.clone)?))
}

fn volume(name: &str) -> Result<VolumeId, Problem> {
    VolumeId::parse(name).map_err(|error| Problem::new(Kind::Permanent, "PLAN_UNREADABLE", error.to_string()))
}

/// The storage's snapshot that the clones are made of: of its final cycle where there is one, else of its plan.
fn point(job: &Job, plan: &Plan) -> Result<SnapshotName, Problem> {
    let last = job.output("final-cycle").and_then(|output| output.get("snapshot")?.as_str());
    SnapshotName::parse(last.unwrap_or(&plan.point_snapshot))
        .map_err(|error| Problem::new(Kind::Permanent, "PLAN_UNREADABLE", error.to_string()))
}

fn clones(plan: &Plan) -> Result<Vec<VolumeId>, Problem> {
    plan.disks.iter().map(|d| volume(&d.clone)).collect()
}

fn machine_name(plan: &Plan) -> MachineName {
    names::machine_name(&plan.name)
}

fn of_store(error: &store::Error) -> Problem {
    Problem::new(Kind::Transient, "DATABASE_UNAVAILABLE", chain(error))
}

/// `code` is that of the public step.
fn of_storage(code: &'static str) -> impl Fn(storage::Error) -> Problem {
    move |error| {
        use storage::Error as E;
        let kind = match &error {
            E::Io { .. } | E::Target(_) | E::InUse { .. } => Kind::Transient,
            E::Died | E::VolumeExists { .. } => Kind::Unknown,
            E::Linstor(fault) => kind_of(fault.again()),
            E::LinstorName(_)
            | E::NoVolume { .. }
            | E::NoSnapshot { .. }
            | E::OtherSize { .. }
            | E::OtherVolumes { .. }
            | E::NoRoom { .. } => Kind::Permanent,
        };
        Problem::new(kind, code, chain(&error))
    }
}

fn kind_of(again: Again) -> Kind {
    match again {
        Again::Later => Kind::Transient,
        Again::Never => Kind::Permanent,
        Again::Looked => Kind::Unknown,
    }
}

/// The same of the compute backend.
fn of_compute(code: &'static str) -> impl Fn(compute::Error) -> Problem {
    move |error| {
        use compute::Error as E;
        let kind = match error {
            E::Storage(error) => return of_storage(code)(error),
            E::CloudStack(ref error) => kind_of(error.again()),
            E::Linstor(ref fault) => kind_of(fault.again()),
            E::VolumeHeld { .. } => Kind::Transient,
            E::Running { .. } | E::StillRuns { .. } | E::VolumeInUse { .. } | E::Io { .. } => Kind::Transient,
            E::Monitor { .. } | E::Died => Kind::Unknown,
            E::NoMachine { .. }
            | E::OtherMachine { .. }
            | E::OtherDisk { .. }
            | E::AttachedAlready { .. }
            | E::OutOfOrder { .. }
            | E::TooManyDisks { .. }
            | E::NotRunning { .. }
            | E::Unusable { .. }
            | E::Unfit { .. }
            | E::NotAsMeant { .. }
            | E::VolumeStuck { .. }
            | E::Unsupported { .. }
            | E::Missing { .. }
            | E::Start { .. }
            | E::Stuck { .. }
            | E::NotTaken { .. }
            | E::Unreadable { .. } => Kind::Permanent,
        };
        Problem::new(kind, code, chain(&error))
    }
}
