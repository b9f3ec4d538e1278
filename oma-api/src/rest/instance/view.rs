//! A migration in the document's fields, and what else its clients do not mind.

use crate::service::MigrationView;
use crate::service::history::Run;
use crate::store::Failure;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::migration::State;
use std::time::Duration;
use utoipa::ToSchema;

/// Times are RFC 3339 in UTC; what is not there yet is null.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Migration {
    /// The VM's uuid.
    #[schema(example = "4211a3c8-0f43-4a0e-9d0c-8f1d3a5b6c7e")]
    machine: String,
    migration_id: String,
    #[schema(example = "web-01")]
    name: String,
    agent: String,
    automatic: bool,
    held: bool,
    affinity: Vec<String>,
    created_timestamp: String,
    /// A switch is to be made then.
    scheduled_timestamp: Option<String>,
    finished_timestamp: Option<String>,
    duration_ms: u64,
    #[schema(example = "sync")]
    phase: &'static str,
    #[schema(example = "paused")]
    state: &'static str,
    /// Oldest first.
    progress_history: Vec<Progress>,
    error: Option<String>,
    /// Why it failed or waits: upper snake case.
    error_reason: Option<String>,
}

/// A run of a phase.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Progress {
    /// progress
    r#type: &'static str,
    phase: &'static str,
    state: &'static str,
    /// Bytes of a sync; percent of another phase.
    current_progress: u64,
    total_progress: u64,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    started_timestamp: String,
    finished_timestamp: Option<String>,
    duration_ms: u64,
    /// null: nobody can tell.
    eta_ms: Option<u64>,
    transfer_bytes_second: u64,
}

fn time(at: Timestamp) -> String {
    format!("{at:.6}")
}

fn millis(time: SignedDuration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(0)
}

/// What it failed of, else what it waits for.
fn trouble(view: &MigrationView) -> Option<Failure> {
    let waiting = || {
        let waiting = view.waiting.as_ref()?;
        Some(Failure { reason: waiting.reason.clone(), message: waiting.message.clone() })
    };
    view.migration.error.clone().or_else(waiting)
}

impl From<MigrationView> for Migration {
    fn from(view: MigrationView) -> Self {
        let error = trouble(&view);
        let m = view.migration;
        let until = m.finished_at.unwrap_or_else(Timestamp::now);
        Self {
            machine: m.vm.into(),
            migration_id: m.id.into(),
            name: m.vm_name,
            agent: m.agent.into(),
            automatic: m.wishes.automatic.is_some(),
            held: m.held,
            affinity: m.wishes.affinity,
            created_timestamp: time(m.created_at),
            scheduled_timestamp: m.wishes.scheduled_at.map(time),
            finished_timestamp: m.finished_at.map(time),
            duration_ms: millis(until.duration_since(m.created_at)),
            phase: m.position.phase().as_str(),
            state: m.position.state().as_str(),
            progress_history: view.history.iter().map(Progress::from).collect(),
            error_reason: error.as_ref().map(|error| error.reason.clone()),
            error: error.map(|error| error.message),
        }
    }
}

impl From<&Run> for Progress {
    fn from(run: &Run) -> Self {
        Self {
            r#type: "progress",
            phase: run.phase.as_str(),
            state: run.state.as_str(),
            current_progress: run.current,
            total_progress: run.total,
            message: run.message,
            error: run.error.clone(),
            started_timestamp: time(run.started_at),
            finished_timestamp: run.finished_at.map(time),
            duration_ms: millis(run.duration),
            eta_ms: run.eta.map(millis),
            transfer_bytes_second: run.speed,
        }
    }
}

/// What a cycle and a switch would take.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Estimate {
    /// Bytes of all disks.
    #[schema(example = 42_949_672_960u64)]
    size: u64,
    /// Of the next cycle.
    eta_ms: Option<u64>,
    transfer_bytes_second: u64,
    /// Were the VM powered off now: the final cycle, without what the target takes to start it; null: not measured.
    predicted_downtime_ms: Option<u64>,
    /// What the VM writes; null: not measured.
    dirty_bytes_second: Option<u64>,
    /// Bytes that the next cycle will bring.
    next_bytes: Option<u64>,
    /// converging, non_converging or unknown.
    trend: &'static str,
    /// measured, agent_history or default.
    basis: &'static str,
}

impl From<&crate::estimate::Estimate> for Estimate {
    fn from(e: &crate::estimate::Estimate) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            size: e.size,
            eta_ms: e.eta.map(millis),
            transfer_bytes_second: e.copy_rate,
            predicted_downtime_ms: e.downtime.map(millis),
            dirty_bytes_second: e.dirty_rate,
            next_bytes: e.next,
            trend: e.trend.as_str(),
            basis: e.basis.as_str(),
        }
    }
}

/// A line of a watch.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Event {
    Progress {
        sequence: u64,
        #[serde(flatten)]
        progress: Progress,
    },
    End {
        r#type: &'static str,
        sequence: u64,
        phase: &'static str,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
}

impl Event {
    /// How the last run stands.
    pub(super) fn progress(sequence: u64, view: &MigrationView) -> Option<Self> {
        view.history.last().map(|run| Self::Progress { sequence, progress: run.into() })
    }

    /// Nothing runs any more.
    pub(super) fn end(sequence: u64, view: &MigrationView) -> Option<Self> {
        let at = view.migration.position;
        (at.state() != State::Running).then(|| Self::End {
            r#type: "end",
            sequence,
            phase: at.phase().as_str(),
            state: at.state().as_str(),
            message: view.migration.error.as_ref().map(|error| error.message.clone()),
        })
    }

    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::End { .. })
    }

    /// One line, without its end.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
