//! Preflight: the facts that its rules look at, and what begin makes of the findings.

#[cfg(test)]
mod tests;

use super::migrations::OfferedVm;
use super::{App, Error};
use crate::compute;
use crate::failover::plan::sketch;
use crate::preflight::{
    Agent, Code, Facts, Finding, Link, Other, Place, Profile, Report, Reserve, Severity, Space, Target,
    Unfinished, report,
};
use crate::store::{self, Migration, Which};
use serde_json::{Value, json};
use shared::error::chain;
use shared::ids::{AgentId, ProfileName, VmUuid};
use shared::migration::{Phase, Position};
use shared::profile::MacPolicy;
use std::collections::BTreeMap;
use std::time::Duration;
use tracing::warn;

/// Bytes of the findings that an event keeps: some databases end a text at 64 KiB.
const MOST_KEPT: usize = 32 << 10;

/// Of the storage, that it says how much room it has.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a check came to.
#[derive(Clone, Debug)]
pub struct Checked {
    pub vm: VmUuid,
    pub vm_name: String,
    pub agent: AgentId,
    pub target_profile: Option<ProfileName>,
    pub report: Report,
}

impl App {
    /// What stands against the protection of a VM, and what would be made of it. Changes nothing.
    ///
    /// # Errors
    /// [`Error::VmUnknown`], [`Error::VmAmbiguous`], [`Error::ProfileUnknown`], [`Error::Store`].
    pub async fn check(&self, asked: &str, profile: Option<&str>) -> Result<Checked, Error> {
        let migration = self.unfinished(asked).await?;
        let offered = match &migration {
            Some(migration) => self.offered(migration.vm.as_str()).await?,
            None => self.offered(asked).await?,
        };
        let of_migration = migration.and_then(|m| m.target_profile).map(String::from);
        let profile = self.profile_named(profile.or(of_migration.as_deref())).await?;
        let mut facts = self.facts(&offered, profile.as_ref()).await?;
        facts.left = self.left_on_target(&offered.vm.uuid).await;
        let report = report(&facts);
        let OfferedVm { vm, agent, .. } = offered;
        let target_profile = profile.map(|p| p.name);
        Ok(Checked { vm: vm.uuid, vm_name: vm.name, agent, target_profile, report })
    }

    /// What is recorded of it with the migration that begins; nothing, if nothing was found.
    ///
    /// # Errors
    /// [`Error::Preflight`] when something blocks and is not forced; [`Error::Store`].
    pub(super) async fn preflight(
        &self,
        offered: &OfferedVm,
        profile: Option<&store::Profile>,
        force: Option<&str>,
    ) -> Result<Option<Value>, Error> {
        let report = report(&self.facts(offered, profile).await?);
        // Said by whoever stores the migration, where two that begin at once are told apart.
        let blocking: Vec<_> =
            report.blocking().filter(|finding| finding.code != Code::MigrationUnfinished).cloned().collect();
        if !blocking.is_empty() {
            let Some(reason) = force else {
                return Err(Error::Preflight { vm: offered.vm.name.clone(), findings: blocking });
            };
            let codes = blocking.iter().map(|f| f.code.as_str()).collect::<Vec<_>>().join(", ");
            warn!(vm = %offered.vm.name, %codes, reason, "begun although its preflight blocks");
        }
        Ok(record(&report.findings, force))
    }

    async fn facts(&self, offered: &OfferedVm, profile: Option<&store::Profile>) -> Result<Facts, Error> {
        let agents = self.store.agent_list().await?;
        let agent = match agents.iter().find(|agent| agent.id == offered.agent) {
            Some(agent) => Agent {
                id: agent.id.clone(),
                link: match self.hub.agent_capabilities(&agent.id) {
                    Some(capabilities) => Link::Connected { capabilities },
                    None => Link::Away,
                },
                protocol_version: agent.protocol_version,
                software_version: agent.software_version.clone(),
                our_version: env!("CARGO_PKG_VERSION"),
            },
            None => return Err(store::Error::AgentUnknown { agent: offered.agent.clone() }.into()),
        };
        let mut others: Vec<_> = agents
            .into_iter()
            .flat_map(|agent| {
                let id = agent.id;
                agent.inventory.into_iter().map(move |vm| Other {
                    vm: vm.uuid,
                    name: vm.name,
                    place: Place::Source { agent: id.clone() },
                    configuration: vm.configuration,
                })
            })
            .collect();
        let migrations = self.store.migration_list(Which::All).await?;
        others.extend(self.on_target(&migrations).await?);
        let unfinished = migrations.iter().find(|m| m.vm == offered.vm.uuid && !m.position.ended());
        Ok(Facts {
            vm: offered.vm.clone(),
            agent,
            unfinished: unfinished.map(|m| Unfinished { id: m.id.clone(), position: m.position }),
            left: Vec::new(),
            target: self.target_for(offered, profile).await,
            space: self.space_for(migrations.iter().filter(|m| m.vm != offered.vm.uuid)).await?,
            profile: profile.map(|p| Profile { name: p.name.clone(), settings: p.settings.clone() }),
            others,
        })
    }

    /// Whether the target could run it, as it was live and as a test.
    async fn target_for(&self, offered: &OfferedVm, profile: Option<&store::Profile>) -> Target {
        let settings = profile.map(|profile| &profile.settings);
        let sketch = sketch(&offered.vm.name, offered.vm.configuration.as_ref(), settings);
        let (Some(compute), Some(machine)) = (&self.compute, sketch) else { return Target::Well };
        match tokio::time::timeout(PATIENCE, compute.check(&machine)).await {
            Ok(Ok(())) => Target::Well,
            Ok(Err(
                error @ (compute::Error::Unfit { .. }
                | compute::Error::Unusable { .. }
                | compute::Error::Missing { .. }),
            )) => Target::Cannot { why: chain(&error) },
            Ok(Err(error)) => Target::Unknown { why: chain(&error) },
            Err(_) => Target::Unknown { why: format!("it did not answer within {} s", PATIENCE.as_secs()) },
        }
    }

    /// Volumes that say they are this VM's, of a migration that is not in this database. For who asks only: all labels
    /// are read.
    async fn left_on_target(&self, vm: &VmUuid) -> Vec<String> {
        let Ok(Ok(volumes)) = tokio::time::timeout(PATIENCE, self.storage.volumes()).await else {
            return Vec::new();
        };
        let mut left = Vec::new();
        for listed in volumes {
            let Some(label) = listed.label.filter(|label| label.vm == *vm) else { continue };
            if matches!(
                self.store.migration_fetch(&label.migration).await,
                Err(store::Error::NotFound { .. })
            ) {
                left.push(listed.volume.to_string());
            }
        }
        left
    }

    /// VMs of other migrations that are, or will be, there: all but those that were given up.
    async fn on_target(&self, migrations: &[Migration]) -> Result<Vec<Other>, Error> {
        let profiles: BTreeMap<_, _> =
            self.store.profile_list().await?.into_iter().map(|p| (p.name, p.settings.live_mac)).collect();
        let mut configurations = self.store.migration_configurations().await?;
        let mut found = Vec::new();
        for m in migrations.iter().filter(|m| m.position.phase() != Phase::Abort) {
            let macs = m.target_profile.as_ref().and_then(|name| profiles.get(name)).copied();
            let place = Place::Target { migration: m.id.clone(), macs: macs.unwrap_or(MacPolicy::default()) };
            let configuration = configurations.remove(&m.id);
            found.push(Other { vm: m.vm.clone(), name: m.vm_name.clone(), place, configuration });
        }
        Ok(found)
    }

    /// Beside what these others have not copied yet.
    async fn space_for(&self, others: impl Iterator<Item = &Migration>) -> Result<Space, Error> {
        let of_storage = async { Ok((self.storage.space().await?, self.storage.point_cost().await?)) };
        let why = match tokio::time::timeout(PATIENCE, of_storage).await {
            Ok(Ok(known)) => Ok(known),
            Ok(Err(error)) => {
                let error: crate::storage::Error = error;
                Err(chain(&error))
            }
            Err(_) => Err(format!("the storage has not answered within {} s", PATIENCE.as_secs())),
        };
        let (space, cost) = match why {
            Ok(known) => known,
            Err(why) => {
                warn!(error = why, "the target's room cannot be told");
                return Ok(Space::Unknown { why });
            }
        };
        let mut reserves = Vec::new();
        for m in others.filter(|m| still_copies(m)) {
            let size = self.store.disk_list(&m.id).await?.iter().map(|d| d.size).fold(0, u64::saturating_add);
            let job = self.store.job_active(&m.id).await?;
            let disks = job.iter().flat_map(|job| &job.disks);
            let done = disks.map(|d| d.progress.done).fold(0, u64::saturating_add);
            reserves.push(Reserve { size, done });
        }
        let points = u64::from(self.retention.count.get());
        Ok(Space::Known { free: space.free, total: space.total, cost, points, reserves })
    }
}

/// Whether it has begun, and has no commit yet.
fn still_copies(migration: &Migration) -> bool {
    let goes_on = matches!(
        migration.position,
        Position::BeginRunning
            | Position::BeginPaused
            | Position::BeginFailed
            | Position::SyncRunning
            | Position::SyncPaused
            | Position::SyncFailed
    );
    goes_on && !migration.has_committed
}

/// What stood against it, as the migration's event keeps it.
fn record(findings: &[Finding], force: Option<&str>) -> Option<Value> {
    let told: Vec<_> = findings.iter().filter(|f| f.severity != Severity::Info).collect();
    if told.is_empty() {
        return None;
    }
    let mut room = MOST_KEPT;
    let kept: Vec<_> = told
        .iter()
        .map(|finding| json!(finding))
        .take_while(|json| {
            let length = json.to_string().len();
            let fits = length <= room;
            room = room.saturating_sub(length);
            fits
        })
        .collect();
    Some(json!({ "forced": force, "left_out": told.len() - kept.len(), "findings": kept }))
}
