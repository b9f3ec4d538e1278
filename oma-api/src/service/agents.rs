//! Agents: their sessions, what they are told, what they say.

use super::accept::with_ways;
use super::{App, Error, Waiting, desired};
use crate::failover;
use crate::hub::AgentConnection;
use crate::store::{self, AgentHello, Failure, Job, JobStep, Migration, Wanted};
use jiff::Timestamp;
use shared::cycle::{
    CAPABILITIES, CycleEvent, DesiredState, Finding, FindingKind, Hello, PROTOCOL_VERSIONS, PowerReport,
    Report, SnapshotDisk, Strategy, Vm, VmDisk, Welcome, compare_disks, negotiate,
};
use shared::ids::{AgentId, MigrationId, VmUuid};
use shared::migration::Phase;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, info_span, warn};

/// Between two writes of when agents were last seen: a thousand heartbeats are no reason for a thousand.
const SEEN_EVERY: Duration = Duration::from_secs(60);

/// Cycles in a row that are begun anew when their snapshot is lost; then it will not be otherwise with the next one.
const MOST_LOST: usize = 2;

impl App {
    /// A session begins. Whatever its agent had running gets new epochs: streams of an older connection that still
    /// live somewhere are refused from now on.
    ///
    /// # Errors
    /// [`Error::WrongAgent`], [`Error::NoCommonVersion`], [`Error::Store`].
    pub async fn agent_connect(
        &self,
        certificate: &AgentId,
        address: SocketAddr,
        hello: Hello,
    ) -> Result<(AgentConnection, Welcome), Error> {
        if hello.agent != *certificate {
            return Err(Error::WrongAgent { certificate: certificate.clone(), said: hello.agent });
        }
        let Some(version) = negotiate(&hello.protocol_versions) else {
            let theirs = hello.protocol_versions;
            return Err(Error::NoCommonVersion { agent: hello.agent, theirs, ours: PROTOCOL_VERSIONS });
        };
        let connection = self.hub.agent_connect(certificate, hello.capabilities.clone());
        self.hub.agent_heard(certificate, self.clock.now());
        let now = self.clock.now();
        let stored = AgentHello {
            id: certificate.clone(),
            software_version: hello.software_version.clone(),
            protocol_version: version,
            address: address.to_string(),
            session_id: connection.session_id().to_owned(),
            inventory: hello.inventory,
        };
        self.store.agent_connected(&stored, now).await?;
        for migration in self.store.migration_list_of_agent(certificate).await? {
            if let Some(job) = self.store.job_active(&migration.id).await? {
                self.store.job_epochs_raise(&job.id, now).await?;
            }
            self.hub.migration_changed(&migration.id);
        }
        info!(agent = %certificate, %address, version = %hello.software_version, "agent connected");
        let welcome = Welcome {
            protocol_version: version,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: CAPABILITIES
                .iter()
                .filter(|ours| hello.capabilities.iter().any(|theirs| theirs == *ours))
                .map(ToString::to_string)
                .collect(),
            session_id: connection.session_id().to_owned(),
            heartbeat: self.heartbeat,
        };
        Ok((connection, welcome))
    }

    /// A session ended.
    pub async fn agent_disconnect(&self, agent: &AgentId, connection: AgentConnection) {
        let session = connection.session_id().to_owned();
        drop(connection);
        info!(%agent, "agent disconnected");
        // The daemon ends: the next start says of all agents that they are away.
        if self.store.is_closed() {
            return;
        }
        if let Err(error) = self.store.agent_disconnected(agent, &session, self.clock.now()).await {
            warn!(%agent, error = %shared::error::chain(&error), "the end of a session could not be stored");
        }
        for migration in self.store.migration_list_of_agent(agent).await.unwrap_or_default() {
            self.hub.migration_changed(&migration.id);
        }
    }

    /// Everything the agent should be doing, whole.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn agent_desired(&self, agent: &AgentId, revision: u64) -> Result<DesiredState, Error> {
        let mut vms = Vec::new();
        for of in self.store.protection_list_of_agent(agent).await? {
            let rate = self.rate_now(&of.migration).await?;
            let mut vm = desired::of_migration(&of.migration, &of.disks, of.active.as_ref(), rate);
            // Elsewhere nothing orders anything about a VM's power.
            if matches!(of.migration.position.phase(), Phase::Switch | Phase::Rollback | Phase::Abort) {
                let live = self.store.failover_live(&of.migration.id).await?;
                let order = live.as_ref().and_then(failover::source::order);
                vm.power = order.or_else(|| self.hub.looks(&of.migration.id));
            }
            vms.push(vm);
        }
        // An ended migration whose VM is protected anew must not take away what the new one needs.
        let going: Vec<VmUuid> = vms.iter().filter(|v| !v.release).map(|v| v.vm.clone()).collect();
        vms.retain(|v| !v.release || !going.contains(&v.vm));
        Ok(DesiredState { revision, vms })
    }

    /// Every agent that ever connected, and whether it is connected now.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn agent_list(&self) -> Result<Vec<store::Agent>, Error> {
        let mut agents = self.store.agent_list().await?;
        for agent in &mut agents {
            agent.connected = self.hub.agent_is_connected(&agent.id);
            agent.last_seen_at = self
                .hub
                .agent_heard_at(&agent.id)
                .map_or(agent.last_seen_at, |at| at.max(agent.last_seen_at));
        }
        Ok(agents)
    }

    /// A sign of life: kept in memory, and stored with those of all others once a minute.
    pub fn agent_seen(&self, agent: &AgentId) {
        self.hub.agent_heard(agent, self.clock.now());
    }

    /// Stores when agents were last heard of, until `shutdown`, and then once more.
    pub async fn agents_run(&self, shutdown: CancellationToken) {
        let mut turns = interval(SEEN_EVERY);
        loop {
            tokio::select! {
                _ = turns.tick() => self.agents_store().await,
                () = shutdown.cancelled() => break,
            }
        }
        self.agents_store().await;
    }

    async fn agents_store(&self) {
        // A time that could not be stored is not told from one that was: the agent's next sign of life is stored.
        if let Err(error) = self.store.agents_seen(&self.hub.agents_to_store()).await {
            warn!(error = %shared::error::chain(&error), "when agents were last seen could not be stored");
        }
    }

    /// A new inventory.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn agent_inventory(&self, agent: &AgentId, vms: &[Vm]) -> Result<(), Error> {
        Ok(self.store.agent_inventory_set(agent, vms, self.clock.now()).await?)
    }

    /// The agent removed everything of an ended migration from the source.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn agent_released(&self, agent: &AgentId, id: &MigrationId) -> Result<(), Error> {
        loop {
            let mut migration = self.store.migration_fetch(id).await?;
            if migration.agent != *agent || !migration.release_pending || !migration.position.ended() {
                return Ok(());
            }
            migration.release_pending = false;
            match self.store.migration_transition(&migration, self.clock.now()).await {
                Err(store::Error::Conflict { .. }) => {}
                result => {
                    result?;
                    info!(migration_id = %id, "the source is released");
                    self.touched(id).await;
                    return Ok(());
                }
            }
        }
    }

    /// How an order about a VM's power came out; another agent's word is none.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn agent_power(&self, agent: &AgentId, report: PowerReport) -> Result<(), Error> {
        let migration = self.store.migration_fetch(&report.migration).await?;
        if migration.agent != *agent || migration.vm != report.vm {
            warn!(%agent, owner = %migration.agent, vm = %report.vm, "another agent's word on a VM's power is ignored");
            return Ok(());
        }
        info!(migration_id = %migration.id, order = report.order, state = %report.state, "power at the source");
        let id = report.migration.clone();
        self.hub.power_said(report);
        self.hub.migration_changed(&id);
        Ok(())
    }

    /// What happened to a cycle. Repeated, late or foreign reports change nothing.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn agent_report(&self, agent: &AgentId, report: Report) -> Result<(), Error> {
        self.hub.agent_heard(agent, self.clock.now());
        let job = match self.store.job_fetch(&report.job).await {
            Ok(job) => job,
            Err(store::Error::NotFound { .. }) => {
                debug!(%agent, job_id = %report.job, "report on an unknown cycle ignored");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let migration = self.store.migration_fetch(&job.migration).await?;
        if migration.agent != *agent {
            warn!(%agent, owner = %migration.agent, job_id = %job.id, "report on another agent's cycle refused");
            return Ok(());
        }
        if job.status.ended() {
            return Ok(());
        }
        let progress = matches!(report.event, CycleEvent::Progress(_));
        // The agent tries again by itself: sent the same state at once, it would do so without any pause.
        let quiet = progress || matches!(report.event, CycleEvent::Waiting { .. });
        // All that a sealed cycle lacks is its commit, and that needs nothing of the source any more.
        let sealed = job.kind.writes() && job.disks.iter().all(|d| d.finished);
        if progress || !sealed || report.event == CycleEvent::Sent {
            let span = info_span!(target: "work", "report", migration_id = %migration.id, job_id = %job.id);
            match self.agent_event(&migration, &job, report.event).instrument(span).await {
                // It ended, or went on, since it was read above: the report came late.
                Err(Error::Store(
                    late @ (store::Error::JobClosed { .. }
                    | store::Error::JobStatus { .. }
                    | store::Error::Sealed { .. }),
                )) => debug!(%agent, job_id = %job.id, %late, "late report ignored"),
                result => result?,
            }
        }
        match quiet {
            true => self.hub.migration_changed(&migration.id),
            false => self.touched(&migration.id).await,
        }
        Ok(())
    }

    async fn agent_event(&self, migration: &Migration, job: &Job, event: CycleEvent) -> Result<(), Error> {
        match event {
            CycleEvent::SnapshotTaken { snapshot, taken_at, disks } => {
                self.snapshot_taken(migration, job, &snapshot, taken_at, &disks).await
            }
            CycleEvent::Progress(disks) => {
                self.hub.not_waiting(&job.id);
                self.hub.progress(job, &disks);
                Ok(())
            }
            CycleEvent::Sent => {
                self.progress_flush(&job.id).await;
                Ok(())
            }
            CycleEvent::Paused if job.wanted == Wanted::Pause => self.step(job, JobStep::Paused).await,
            CycleEvent::Paused => Ok(()),
            CycleEvent::Failed { reason, message } => {
                self.step(job, JobStep::Failed(Failure { reason, message })).await
            }
            CycleEvent::Waiting { reason, message } => {
                warn!(job_id = %job.id, %reason, why = %message, "the cycle waits");
                self.hub.set_waiting(&job.id, Waiting { reason, message });
                self.hub.pace.changed(&job.id);
                Ok(())
            }
            CycleEvent::Findings(findings) => self.findings(migration, job, findings).await,
        }
    }

    async fn snapshot_taken(
        &self,
        migration: &Migration,
        job: &Job,
        snapshot: &str,
        taken_at: Timestamp,
        disks: &[SnapshotDisk],
    ) -> Result<(), Error> {
        let ours = self.store.disk_list(&migration.id).await?;
        let expected: Vec<_> = ours.into_iter().map(|d| VmDisk { key: d.key, size: d.size }).collect();
        let found: Vec<_> = disks.iter().map(|d| VmDisk { key: d.key.clone(), size: d.size }).collect();
        let findings = compare_disks(&expected, &found);
        if !findings.is_empty() {
            return self.findings(migration, job, findings).await;
        }
        let now = self.clock.now();
        match self.store.job_snapshot_record(&job.id, snapshot, taken_at, disks, now).await {
            Ok(_) => Ok(()),
            Err(error @ store::Error::SnapshotDiffers { .. }) => {
                warn!(job_id = %job.id, error = %error, "a second snapshot for one cycle is ignored");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A finding is healed by a hash-diff, or stops the cycle with its reason.
    async fn findings(&self, migration: &Migration, job: &Job, findings: Vec<Finding>) -> Result<(), Error> {
        let now = self.clock.now();
        let findings: Vec<_> = findings.into_iter().map(|f| with_ways(f, migration)).collect();
        for finding in &findings {
            warn!(migration_id = %migration.id, job_id = %job.id, finding = finding.kind.as_str(),
                  disk = finding.disk.as_ref().map_or("-", |d| d.as_str()), why = %finding.message, "finding");
            self.store.finding_record(&job.id, finding, now).await?;
        }
        let healed = findings.iter().all(|f| f.kind.heals_by_hash_diff() && f.disk.is_some());
        if healed && job.kind.writes() {
            for disk in &job.disks {
                if findings.iter().any(|f| f.disk.as_ref() == Some(&disk.key)) && !disk.finished {
                    self.store.disk_hash_diff_require(&disk.disk).await?;
                    self.store.job_strategy_set(&job.id, &disk.disk, &Strategy::HashDiff, now).await?;
                }
            }
            return Ok(());
        }
        let message = findings.iter().map(|f| f.message.as_str()).collect::<Vec<_>>().join("; ");
        let reason = findings.first().map_or("UNKNOWN", |f| f.kind.as_str()).to_owned();
        let failure = Failure { reason, message };
        if findings.iter().all(|f| f.kind == FindingKind::SnapshotLost) && job.kind.writes() {
            if self.lost_before(job).await? < MOST_LOST {
                // This cycle cannot go on; the next one, from a new snapshot, sends all that it may have written.
                return self.step(job, JobStep::Aborted(failure)).await;
            }
            warn!(job_id = %job.id, "one snapshot after the other was lost: waiting for the operator");
        }
        // First: whoever sees that the sync failed sees the findings too.
        self.findings_store(&migration.id, findings).await?;
        self.step(job, JobStep::Failed(failure)).await
    }

    /// Cycles right before this one that ended as it does.
    async fn lost_before(&self, job: &Job) -> Result<usize, Error> {
        let lost =
            |j: &&Job| j.error.as_ref().is_some_and(|e| e.reason == FindingKind::SnapshotLost.as_str());
        let jobs = self.store.job_list(&job.migration).await?;
        Ok(jobs.iter().rev().filter(|j| j.id != job.id && j.kind.writes()).take_while(lost).count())
    }

    async fn findings_store(&self, id: &MigrationId, findings: Vec<Finding>) -> Result<(), Error> {
        loop {
            let mut migration = self.store.migration_fetch(id).await?;
            migration.findings.clone_from(&findings);
            match self.store.migration_transition(&migration, self.clock.now()).await {
                Err(store::Error::Conflict { .. }) => {}
                result => return result.map(|_| ()).map_err(Error::from),
            }
        }
    }

    /// A step of the job, and the end of its sessions if it ends one.
    pub(crate) async fn step(&self, job: &Job, step: JobStep) -> Result<(), Error> {
        let disks: Vec<_> = job.disks.iter().map(|d| d.disk.clone()).collect();
        self.progress_flush(&job.id).await;
        let (now, _) = self.store.job_transition(&job.id, &step, self.clock.now()).await?;
        if !job.status.ended() {
            self.ended(&now);
        }
        self.transfers.close(&disks, "the cycle was stopped").await;
        self.hub.live_forget(&job.id);
        Ok(())
    }

    /// Counts a cycle that has just come to its end; one that goes on is not.
    pub(crate) fn ended(&self, job: &Job) {
        if job.status.ended() {
            let now = job.finished_at.unwrap_or(job.updated_at);
            self.hub.metrics.cycle_ended(job.kind, job.status, job.started_at, now);
        }
    }
}
