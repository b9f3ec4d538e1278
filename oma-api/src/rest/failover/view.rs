//! Failovers → JSON: the document's fields with its names and in its forms, then ours.

use super::super::refusal::suggestions;
use super::help;
use crate::failover::FailoverView;
use crate::failover::status::{PublicStep, Status, public_steps};
use crate::service::failovers::FailoverPage;
use crate::workflow::{self, WorkflowId};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Whole seconds, as the document prints them.
fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// A page of failover jobs.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverJobs)]
pub(in crate::rest) struct Jobs {
    success: bool,
    data: Vec<Row>,
    /// Of all pages together.
    total: u64,
    /// The `before` of the next page, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_before: Option<String>,
}

/// A failover job, in a line.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverRow)]
struct Row {
    job_id: String,
    vm_id: String,
    vm_name: String,
    job_type: &'static str,
    status: &'static str,
    linstor_snapshot_name: Option<String>,
    destination_vm_id: Option<String>,
    created_at: String,
    completed_at: Option<String>,
}

impl From<FailoverPage> for Jobs {
    fn from(page: FailoverPage) -> Self {
        Self {
            success: true,
            data: page.failovers.iter().map(Row::from).collect(),
            total: page.total,
            next_before: page.next_before.as_ref().map(WorkflowId::to_string),
        }
    }
}

impl From<&FailoverView> for Row {
    fn from(view: &FailoverView) -> Self {
        let (record, job) = (&view.failover.record, &view.failover.job);
        Self {
            job_id: record.job.to_string(),
            vm_id: record.vm.to_string(),
            vm_name: record.vm_name.clone(),
            job_type: record.kind.as_str(),
            status: view.status.as_str(),
            linstor_snapshot_name: view.snapshot().map(str::to_owned),
            destination_vm_id: view.destination().map(|id| id.to_string()),
            created_at: time(job.created_at),
            completed_at: job.ended_at.map(time),
        }
    }
}

/// One failover job.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverJobAnswer)]
pub(in crate::rest) struct One {
    success: bool,
    data: Job,
}

impl From<&FailoverView> for One {
    fn from(view: &FailoverView) -> Self {
        Self { success: true, data: view.into() }
    }
}

/// Something was asked of a failover, and taken.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverTaken)]
pub(in crate::rest) struct Taken {
    success: bool,
    #[schema(example = "Clean-up initiated successfully")]
    message: String,
    #[schema(example = "enhanced-test-failover-420570c7-f61f-a930-77c5-1e876786cb3c-1756882765")]
    job_id: String,
    data: Job,
}

impl Taken {
    pub(super) fn new(message: &str, view: &FailoverView) -> Self {
        let job_id = view.failover.record.job.to_string();
        Self { success: true, message: message.to_owned(), job_id, data: view.into() }
    }
}

/// Everything about a failover job.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverJob)]
struct Job {
    job_id: String,
    vm_id: String,
    vm_name: String,
    job_type: &'static str,
    status: &'static str,
    /// JSON, as text.
    source_vm_spec: String,
    destination_vm_id: Option<String>,
    linstor_snapshot_name: Option<String>,
    /// JSON, as text.
    network_mappings: String,
    created_at: String,
    started_at: Option<String>,
    completed_at: Option<String>,
    steps: Vec<Step>,
    migration_id: String,
    /// queued, running, awaiting_approval, paused, unwinding, succeeded, rolled_back or needs_attention.
    engine_state: &'static str,
    /// What may be asked of it now, or of its rollback or clean-up once there is one; and, at addresses of their own, rollback and
    /// commit.
    allowed: Vec<&'static str>,
    restore_point: String,
    /// The time that its data is of.
    taken_at: Option<String>,
    /// When it is cleaned up by itself.
    expires_at: Option<String>,
    auto_cleanup: bool,
    /// Of a test.
    test_duration: Option<String>,
    #[schema(value_type = Option<Object>)]
    custom_config: Option<Value>,
    /// Whether anything of it may be there that is still ours: clones, snapshot, machine.
    is_there: bool,
    /// By this name its console is found, while it is there.
    machine: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
    /// Where it has failed.
    troubleshooting: Option<Troubleshooting>,
    /// What shows that the machine works, where that was asked for.
    #[schema(example = "an open TCP port 22")]
    waits_for: Option<String>,
    /// What went on although it was not as wanted.
    warnings: Vec<String>,
    /// What was not done because that was asked for.
    left_out: Vec<String>,
    /// From the request to the machine being ready.
    rto_seconds: Option<f64>,
    /// The job that removes it, once there is one.
    cleanup: Option<Cleanup>,
    correlation_id: String,
    requested_by: String,
    #[schema(value_type = Option<Object>)]
    notification_config: Option<Value>,
    /// What there is of it: gone, there, kept (rolled back, what its machine wrote is kept for a time), handed_over (committed).
    standing: &'static str,
    /// Of a live one: planned, unplanned.
    mode: Option<&'static str>,
    /// Of a live one: none, commit, rollback.
    commit_policy: Option<&'static str>,
    /// When the commit policy acts, while it waits for that.
    decided_at: Option<String>,
    /// Of a live one: since when there is no way back.
    committed_at: Option<String>,
    /// Of a planned one: the cycle of its final delta.
    final_job_id: Option<String>,
    /// Why policy was set aside.
    override_reason: Option<String>,
    /// Of a live one: the job that takes it back, once there is one.
    rollback: Option<Rollback>,
}

/// A public step: all of its parts together.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverStep)]
struct Step {
    step_name: String,
    status: &'static str,
    started_at: Option<String>,
    completed_at: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
    /// Who left it out, and why.
    skipped: Option<String>,
    /// What it had done is taken back, or being so.
    taken_back: bool,
    parts: Vec<Part>,
}

/// What the journal has of a part.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverPart)]
struct Part {
    name: String,
    state: &'static str,
    /// The name under which its effect is found.
    effect: Option<String>,
    attempts: u64,
    started_at: Option<String>,
    completed_at: Option<String>,
}

/// The job that removes what a failover made.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverCleanup)]
struct Cleanup {
    job_id: String,
    status: &'static str,
    engine_state: &'static str,
    error_code: Option<String>,
    error_message: Option<String>,
    completed_at: Option<String>,
}

/// The job that takes a live failover back.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverRollback)]
struct Rollback {
    job_id: String,
    status: &'static str,
    engine_state: &'static str,
    error_code: Option<String>,
    error_message: Option<String>,
    completed_at: Option<String>,
    steps: Vec<Step>,
}

/// What helps.
#[derive(Serialize, ToSchema)]
#[schema(as = FailoverTroubleshooting)]
struct Troubleshooting {
    suggestions: Vec<&'static str>,
    documentation: &'static str,
}

fn error(job: &workflow::Job) -> (Option<String>, Option<String>) {
    job.error.as_ref().map(|e| (e.reason.clone(), e.message.clone())).unzip()
}

impl From<&FailoverView> for Job {
    fn from(view: &FailoverView) -> Self {
        let (record, job) = (&view.failover.record, &view.failover.job);
        let (error_code, error_message) = error(job);
        let troubleshooting = error_code.as_deref().map(|code| Troubleshooting {
            suggestions: suggestions(code).to_vec(),
            documentation: help::PATH,
        });
        Self {
            job_id: record.job.to_string(),
            vm_id: record.vm.to_string(),
            vm_name: record.vm_name.clone(),
            job_type: record.kind.as_str(),
            status: view.status.as_str(),
            source_vm_spec: record.source_vm_spec.to_string(),
            destination_vm_id: view.destination().map(|id| id.to_string()),
            linstor_snapshot_name: view.snapshot().map(str::to_owned),
            network_mappings: record.network_mappings.to_string(),
            created_at: time(job.created_at),
            started_at: job.started_at.map(time),
            completed_at: job.ended_at.map(time),
            steps: view.steps.iter().map(|public| step(public, job)).collect(),
            migration_id: record.migration.to_string(),
            engine_state: job.state.as_str(),
            allowed: view.allowed.clone(),
            restore_point: record.restore_point.to_string(),
            taken_at: view.taken_at.map(time),
            expires_at: view.expires_at.map(time),
            auto_cleanup: record.auto_cleanup,
            test_duration: view.test_duration(),
            custom_config: record.custom_config.clone(),
            is_there: view.is_there,
            machine: view.machine().map(str::to_owned),
            error_code,
            error_message,
            troubleshooting,
            waits_for: view.waits_for.clone(),
            warnings: view.warnings.clone(),
            left_out: view.left_out.clone(),
            rto_seconds: view.rto_seconds,
            cleanup: view.failover.cleanup.as_ref().map(cleanup),
            correlation_id: job.correlation.clone(),
            requested_by: record.requested_by.clone(),
            notification_config: record.notification_config.clone(),
            standing: view.standing.as_str(),
            mode: view.live.as_ref().map(|live| live.mode.as_str()),
            commit_policy: view.live.as_ref().map(|live| live.commit_policy.as_str()),
            decided_at: view.decided_at.map(time),
            committed_at: view.failover.committed_at.map(time),
            final_job_id: view.failover.final_job.as_ref().map(ToString::to_string),
            override_reason: view.live.as_ref().and_then(|live| live.override_reason.clone()),
            rollback: view.failover.rollback.as_ref().map(rollback),
        }
    }
}

fn step(public: &PublicStep, job: &workflow::Job) -> Step {
    let (error_code, error_message) =
        public.error.as_ref().map(|e| (e.reason.clone(), e.message.clone())).unzip();
    Step {
        step_name: public.name.clone(),
        status: public.status.as_str(),
        started_at: public.started_at.map(time),
        completed_at: public.completed_at.map(time),
        error_code,
        error_message,
        skipped: public.skipped.clone(),
        taken_back: public.taken_back,
        parts: job.steps.iter().filter(|step| step.plan.group == public.name).map(part).collect(),
    }
}

fn part(step: &workflow::Step) -> Part {
    Part {
        name: step.plan.name.clone(),
        state: step.state.as_str(),
        effect: step.effect.clone(),
        attempts: step.attempts,
        started_at: step.started_at.map(time),
        completed_at: step.ended_at.map(time),
    }
}

fn rollback(job: &workflow::Job) -> Rollback {
    let (error_code, error_message) = error(job);
    Rollback {
        job_id: job.id.to_string(),
        status: Status::of(job).as_str(),
        engine_state: job.state.as_str(),
        error_code,
        error_message,
        completed_at: job.ended_at.map(time),
        steps: public_steps(job).iter().map(|public| step(public, job)).collect(),
    }
}

fn cleanup(job: &workflow::Job) -> Cleanup {
    let (error_code, error_message) = error(job);
    Cleanup {
        job_id: job.id.to_string(),
        status: Status::of(job).as_str(),
        engine_state: job.state.as_str(),
        error_code,
        error_message,
        completed_at: job.ended_at.map(time),
    }
}
