//! `AgentService`: messages ↔ [`crate::cycle`].

use super::Invalid;
use crate::cycle::*;
use crate::ids::{AgentId, DiskId, DiskKey, Epoch, JobId, MigrationId, VmUuid};
use crate::vm::Configuration;
use proto::v1;
use std::time::Duration;

macro_rules! id {
    ($type:ident, $field:literal, $value:expr) => {
        $type::parse($value).map_err(|e| Invalid::new($field, e))
    };
}

impl From<Vm> for v1::Vm {
    fn from(vm: Vm) -> Self {
        let disks =
            vm.disks.into_iter().map(|d| v1::VmDisk { key: d.key.into(), size_bytes: d.size }).collect();
        let configuration = vm.configuration.map(Into::into);
        Self { uuid: vm.uuid.into(), name: vm.name, disks, configuration }
    }
}

impl TryFrom<v1::Vm> for Vm {
    type Error = Invalid;
    fn try_from(vm: v1::Vm) -> Result<Self, Invalid> {
        let disk =
            |d: v1::VmDisk| Ok(VmDisk { key: id!(DiskKey, "vm.disks.key", d.key)?, size: d.size_bytes });
        Ok(Self {
            uuid: id!(VmUuid, "vm.uuid", vm.uuid)?,
            name: vm.name,
            disks: vm.disks.into_iter().map(disk).collect::<Result<_, Invalid>>()?,
            configuration: vm.configuration.map(Configuration::try_from).transpose()?,
        })
    }
}

/// A whole inventory.
pub fn inventory_from_wire(vms: Vec<v1::Vm>) -> Result<Vec<Vm>, Invalid> {
    vms.into_iter().map(Vm::try_from).collect()
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            agent_id: hello.agent.into(),
            software_version: hello.software_version,
            protocol_versions: hello.protocol_versions,
            capabilities: hello.capabilities,
            inventory: hello.inventory.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = Invalid;
    fn try_from(hello: v1::Hello) -> Result<Self, Invalid> {
        Ok(Self {
            agent: id!(AgentId, "hello.agent_id", hello.agent_id)?,
            software_version: hello.software_version,
            protocol_versions: hello.protocol_versions,
            capabilities: hello.capabilities,
            inventory: inventory_from_wire(hello.inventory)?,
        })
    }
}

impl From<Welcome> for v1::Welcome {
    fn from(welcome: Welcome) -> Self {
        Self {
            protocol_version: welcome.protocol_version,
            software_version: welcome.software_version,
            capabilities: welcome.capabilities,
            session_id: welcome.session_id,
            heartbeat_seconds: u32::try_from(welcome.heartbeat.as_secs()).unwrap_or(u32::MAX).max(1),
        }
    }
}

impl From<v1::Welcome> for Welcome {
    fn from(welcome: v1::Welcome) -> Self {
        Self {
            protocol_version: welcome.protocol_version,
            software_version: welcome.software_version,
            capabilities: welcome.capabilities,
            session_id: welcome.session_id,
            heartbeat: Duration::from_secs(u64::from(welcome.heartbeat_seconds.max(1))),
        }
    }
}

impl From<DesiredState> for v1::DesiredState {
    fn from(desired: DesiredState) -> Self {
        Self { revision: desired.revision, vms: desired.vms.into_iter().map(Into::into).collect() }
    }
}

impl TryFrom<v1::DesiredState> for DesiredState {
    type Error = Invalid;
    fn try_from(desired: v1::DesiredState) -> Result<Self, Invalid> {
        let vms = desired.vms.into_iter().map(DesiredVm::try_from).collect::<Result<_, _>>()?;
        Ok(Self { revision: desired.revision, vms })
    }
}

impl From<DesiredVm> for v1::DesiredVm {
    fn from(vm: DesiredVm) -> Self {
        let keep = |(key, change_id): (DiskKey, String)| v1::KeptChangeId { disk_key: key.into(), change_id };
        Self {
            vm_uuid: vm.vm.into(),
            migration_id: vm.migration.into(),
            release: vm.release,
            keep: vm.keep.into_iter().map(keep).collect(),
            rate_bytes_per_second: vm.rate,
            cycle: vm.cycle.map(Into::into),
            power: vm.power.map(Into::into),
        }
    }
}

impl TryFrom<v1::DesiredVm> for DesiredVm {
    type Error = Invalid;
    fn try_from(vm: v1::DesiredVm) -> Result<Self, Invalid> {
        let keep = |k: v1::KeptChangeId| Ok((id!(DiskKey, "keep.disk_key", k.disk_key)?, k.change_id));
        Ok(Self {
            vm: id!(VmUuid, "desired.vm_uuid", vm.vm_uuid)?,
            migration: id!(MigrationId, "desired.migration_id", vm.migration_id)?,
            release: vm.release,
            keep: vm.keep.into_iter().map(keep).collect::<Result<_, Invalid>>()?,
            rate: vm.rate_bytes_per_second,
            cycle: vm.cycle.map(DesiredCycle::try_from).transpose()?,
            power: vm.power.map(PowerOrder::try_from).transpose()?,
        })
    }
}

impl From<DesiredCycle> for v1::DesiredCycle {
    fn from(cycle: DesiredCycle) -> Self {
        Self {
            job_id: cycle.job.into(),
            kind: match cycle.kind {
                CycleKind::Sync => v1::CycleKind::Sync,
                CycleKind::VerifySource => v1::CycleKind::VerifySource,
            }
            .into(),
            run: match cycle.run {
                CycleRun::Run => v1::CycleRun::Run,
                CycleRun::Pause => v1::CycleRun::Pause,
                CycleRun::Committing => v1::CycleRun::Committing,
            }
            .into(),
            disks: cycle.disks.into_iter().map(Into::into).collect(),
            snapshot_id: cycle.snapshot.unwrap_or_default(),
            traceparent: cycle.traceparent.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::DesiredCycle> for DesiredCycle {
    type Error = Invalid;
    fn try_from(cycle: v1::DesiredCycle) -> Result<Self, Invalid> {
        Ok(Self {
            kind: match cycle.kind() {
                v1::CycleKind::Sync => CycleKind::Sync,
                v1::CycleKind::VerifySource => CycleKind::VerifySource,
                v1::CycleKind::Unspecified => {
                    return Err(Invalid::new("cycle.kind", "is not one this agent knows"));
                }
            },
            run: match cycle.run() {
                v1::CycleRun::Run => CycleRun::Run,
                v1::CycleRun::Pause => CycleRun::Pause,
                v1::CycleRun::Committing => CycleRun::Committing,
                v1::CycleRun::Unspecified => {
                    return Err(Invalid::new("cycle.run", "is not one this agent knows"));
                }
            },
            job: id!(JobId, "cycle.job_id", cycle.job_id)?,
            disks: cycle.disks.into_iter().map(DesiredDisk::try_from).collect::<Result<_, _>>()?,
            snapshot: Some(cycle.snapshot_id).filter(|s| !s.is_empty()),
            traceparent: Some(cycle.traceparent).filter(|s| !s.is_empty()),
        })
    }
}

/// Strategy and base change id of a message.
pub fn strategy_to_wire(strategy: &Strategy) -> (v1::SyncStrategy, String) {
    match strategy {
        Strategy::Full => (v1::SyncStrategy::Full, String::new()),
        Strategy::Changed { since } => (v1::SyncStrategy::Changed, since.clone()),
        Strategy::HashDiff => (v1::SyncStrategy::HashDiff, String::new()),
    }
}

impl From<DesiredDisk> for v1::DesiredDisk {
    fn from(disk: DesiredDisk) -> Self {
        let (strategy, base_change_id) = strategy_to_wire(&disk.strategy);
        Self {
            disk_id: disk.disk.into(),
            key: disk.key.into(),
            epoch: disk.epoch.0,
            size_bytes: disk.size.unwrap_or(0),
            strategy: strategy.into(),
            base_change_id,
            finished: disk.finished,
        }
    }
}

impl TryFrom<v1::DesiredDisk> for DesiredDisk {
    type Error = Invalid;
    fn try_from(disk: v1::DesiredDisk) -> Result<Self, Invalid> {
        let strategy = match disk.strategy() {
            v1::SyncStrategy::Full => Strategy::Full,
            v1::SyncStrategy::HashDiff => Strategy::HashDiff,
            v1::SyncStrategy::Changed if disk.base_change_id.is_empty() => {
                return Err(Invalid::missing("disk.base_change_id"));
            }
            v1::SyncStrategy::Changed => Strategy::Changed { since: disk.base_change_id },
            v1::SyncStrategy::Unspecified => {
                return Err(Invalid::new("disk.strategy", "is not one this agent knows"));
            }
        };
        Ok(Self {
            disk: id!(DiskId, "disk.disk_id", disk.disk_id)?,
            key: id!(DiskKey, "disk.key", disk.key)?,
            epoch: Epoch(disk.epoch),
            // 0 was never committed: a disk of no bytes has no change ids either.
            size: Some(disk.size_bytes).filter(|s| *s > 0),
            strategy,
            finished: disk.finished,
        })
    }
}

impl From<Report> for v1::CycleReport {
    fn from(report: Report) -> Self {
        use v1::cycle_report::Event;
        let event = match report.event {
            CycleEvent::SnapshotTaken { snapshot, taken_at, disks } => {
                Event::SnapshotTaken(v1::SnapshotTaken {
                    snapshot_id: snapshot,
                    taken_at: taken_at.to_string(),
                    disks: disks.into_iter().map(Into::into).collect(),
                })
            }
            CycleEvent::Progress(disks) => {
                Event::Progress(v1::CycleProgress { disks: disks.into_iter().map(Into::into).collect() })
            }
            CycleEvent::Sent => Event::Sent(v1::CycleSent {}),
            CycleEvent::Paused => Event::Paused(v1::CyclePaused {}),
            CycleEvent::Failed { reason, message } => Event::Failed(v1::CycleFailed { reason, message }),
            CycleEvent::Waiting { reason, message } => Event::Waiting(v1::CycleWaiting { reason, message }),
            CycleEvent::Findings(findings) => {
                Event::Finding(v1::FindingReport { findings: findings.into_iter().map(Into::into).collect() })
            }
        };
        Self { job_id: report.job.into(), event: Some(event) }
    }
}

impl TryFrom<v1::CycleReport> for Report {
    type Error = Invalid;
    fn try_from(report: v1::CycleReport) -> Result<Self, Invalid> {
        use v1::cycle_report::Event;
        let event = match report.event.ok_or(Invalid::missing("report.event"))? {
            Event::SnapshotTaken(taken) => CycleEvent::SnapshotTaken {
                snapshot: taken.snapshot_id,
                taken_at: taken.taken_at.parse().map_err(|e| Invalid::new("snapshot_taken.taken_at", e))?,
                disks: taken.disks.into_iter().map(SnapshotDisk::try_from).collect::<Result<_, _>>()?,
            },
            Event::Progress(progress) => CycleEvent::Progress(
                progress.disks.into_iter().map(DiskProgress::try_from).collect::<Result<_, _>>()?,
            ),
            Event::Sent(v1::CycleSent {}) => CycleEvent::Sent,
            Event::Paused(v1::CyclePaused {}) => CycleEvent::Paused,
            Event::Failed(failed) => CycleEvent::Failed { reason: failed.reason, message: failed.message },
            Event::Waiting(w) => CycleEvent::Waiting { reason: w.reason, message: w.message },
            Event::Finding(found) => CycleEvent::Findings(
                found.findings.into_iter().map(Finding::try_from).collect::<Result<_, _>>()?,
            ),
        };
        Ok(Self { job: id!(JobId, "report.job_id", report.job_id)?, event })
    }
}

impl From<SnapshotDisk> for v1::SnapshotDisk {
    fn from(disk: SnapshotDisk) -> Self {
        Self { key: disk.key.into(), size_bytes: disk.size, change_id: disk.change_id.unwrap_or_default() }
    }
}

impl TryFrom<v1::SnapshotDisk> for SnapshotDisk {
    type Error = Invalid;
    fn try_from(disk: v1::SnapshotDisk) -> Result<Self, Invalid> {
        Ok(Self {
            key: id!(DiskKey, "snapshot_taken.disks.key", disk.key)?,
            size: disk.size_bytes,
            change_id: Some(disk.change_id).filter(|c| !c.is_empty()),
        })
    }
}

impl From<DiskProgress> for v1::DiskProgress {
    fn from(p: DiskProgress) -> Self {
        Self {
            disk_id: p.disk.map(String::from).unwrap_or_default(),
            size_bytes: p.size,
            planned_bytes: p.planned,
            done_bytes: p.done,
            read_bytes: p.read,
            wire_bytes: p.wire,
            data_bytes: p.data,
            plan_complete: p.plan_complete,
            resumed_bytes: p.resumed,
            epoch: p.epoch.map_or(0, |epoch| epoch.0),
        }
    }
}

impl TryFrom<v1::DiskProgress> for DiskProgress {
    type Error = Invalid;
    fn try_from(p: v1::DiskProgress) -> Result<Self, Invalid> {
        Ok(Self {
            disk: Some(id!(DiskId, "progress.disk_id", p.disk_id)?),
            size: p.size_bytes,
            planned: p.planned_bytes,
            done: p.done_bytes,
            read: p.read_bytes,
            wire: p.wire_bytes,
            data: p.data_bytes,
            resumed: p.resumed_bytes,
            plan_complete: p.plan_complete,
            epoch: (p.epoch != 0).then_some(Epoch(p.epoch)),
        })
    }
}

impl From<Finding> for v1::Finding {
    fn from(finding: Finding) -> Self {
        let kind = match finding.kind {
            FindingKind::DiskAdded => v1::FindingKind::DiskAdded,
            FindingKind::DiskRemoved => v1::FindingKind::DiskRemoved,
            FindingKind::DiskResized => v1::FindingKind::DiskResized,
            FindingKind::ChangeIdUnknown => v1::FindingKind::ChangeIdUnknown,
            FindingKind::ChangeQueryRefused => v1::FindingKind::ChangeQueryRefused,
            FindingKind::NoChangeTracking => v1::FindingKind::NoChangeTracking,
            FindingKind::VmUnknown => v1::FindingKind::VmUnknown,
            FindingKind::SnapshotLost => v1::FindingKind::SnapshotLost,
            FindingKind::Unknown => v1::FindingKind::Unspecified,
        };
        let disk_key = finding.disk.map(String::from).unwrap_or_default();
        Self { kind: kind.into(), disk_key, message: finding.message }
    }
}

impl TryFrom<v1::Finding> for Finding {
    type Error = Invalid;
    fn try_from(finding: v1::Finding) -> Result<Self, Invalid> {
        let kind = match finding.kind() {
            v1::FindingKind::DiskAdded => FindingKind::DiskAdded,
            v1::FindingKind::DiskRemoved => FindingKind::DiskRemoved,
            v1::FindingKind::DiskResized => FindingKind::DiskResized,
            v1::FindingKind::ChangeIdUnknown => FindingKind::ChangeIdUnknown,
            v1::FindingKind::ChangeQueryRefused => FindingKind::ChangeQueryRefused,
            v1::FindingKind::NoChangeTracking => FindingKind::NoChangeTracking,
            v1::FindingKind::VmUnknown => FindingKind::VmUnknown,
            v1::FindingKind::SnapshotLost => FindingKind::SnapshotLost,
            v1::FindingKind::Unspecified => FindingKind::Unknown,
        };
        let disk = match finding.disk_key.as_str() {
            "" => None,
            key => Some(id!(DiskKey, "finding.disk_key", key)?),
        };
        Ok(Self { kind, disk, message: finding.message })
    }
}
