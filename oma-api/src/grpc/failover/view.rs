//! A failover as the wire has it. What is not there is empty.

use crate::failover::FailoverView;
use crate::failover::status::{PublicStep, Status, public_steps};
use crate::workflow::{Job, Step};
use jiff::Timestamp;
use proto::v1;

fn time(at: Option<Timestamp>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// See the module.
pub(super) fn to_wire(view: &FailoverView) -> v1::Failover {
    let (record, job) = (&view.failover.record, &view.failover.job);
    let (error_code, error_message) = error(job);
    v1::Failover {
        job_id: record.job.to_string(),
        r#type: record.kind.to_string(),
        vm_id: record.vm.to_string(),
        vm_name: record.vm_name.clone(),
        migration_id: record.migration.to_string(),
        status: view.status.to_string(),
        engine_state: job.state.to_string(),
        steps: view.steps.iter().map(|public| step(public, job)).collect(),
        restore_point: record.restore_point.to_string(),
        taken_at: time(view.taken_at),
        destination_vm_id: view.destination().map(|id| id.to_string()).unwrap_or_default(),
        machine: view.machine().unwrap_or_default().to_owned(),
        snapshot_name: view.snapshot().unwrap_or_default().to_owned(),
        source_vm_spec: record.source_vm_spec.to_string(),
        network_mappings: record.network_mappings.to_string(),
        custom_config: record.custom_config.as_ref().map(ToString::to_string).unwrap_or_default(),
        auto_cleanup: record.auto_cleanup,
        test_duration: view.test_duration().unwrap_or_default(),
        expires_at: time(view.expires_at),
        correlation_id: job.correlation.clone(),
        requested_by: record.requested_by.clone(),
        error_code,
        error_message,
        created_at: job.created_at.to_string(),
        started_at: time(job.started_at),
        completed_at: time(job.ended_at),
        allowed: view.allowed.iter().map(|&word| word.to_owned()).collect(),
        is_there: view.is_there,
        cleanup: view.failover.cleanup.as_ref().map(cleanup),
        warnings: view.warnings.clone(),
        left_out: view.left_out.clone(),
        rto_seconds: view.rto_seconds.unwrap_or(0.0),
        waits_for: view.waits_for.clone().unwrap_or_default(),
        standing: view.standing.to_string(),
        mode: view.live.as_ref().map(|live| live.mode.to_string()).unwrap_or_default(),
        commit_policy: view.live.as_ref().map(|live| live.commit_policy.to_string()).unwrap_or_default(),
        decided_at: time(view.decided_at),
        committed_at: time(view.failover.committed_at),
        final_job_id: view.failover.final_job.as_ref().map(ToString::to_string).unwrap_or_default(),
        override_reason: view.live.as_ref().and_then(|l| l.override_reason.clone()).unwrap_or_default(),
        rollback: view.failover.rollback.as_ref().map(rollback),
        notification_config: record.notification_config.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn error(job: &Job) -> (String, String) {
    let error = job.error.as_ref().map(|e| (e.reason.clone(), e.message.clone()));
    error.unwrap_or_default()
}

fn cleanup(job: &Job) -> v1::FailoverCleanup {
    let (error_code, error_message) = error(job);
    v1::FailoverCleanup {
        job_id: job.id.to_string(),
        status: Status::of(job).to_string(),
        engine_state: job.state.to_string(),
        error_code,
        error_message,
        completed_at: time(job.ended_at),
    }
}

fn rollback(job: &Job) -> v1::FailoverRollback {
    let (error_code, error_message) = error(job);
    v1::FailoverRollback {
        job_id: job.id.to_string(),
        status: Status::of(job).to_string(),
        engine_state: job.state.to_string(),
        error_code,
        error_message,
        completed_at: time(job.ended_at),
        steps: public_steps(job).iter().map(|public| step(public, job)).collect(),
    }
}

fn step(public: &PublicStep, job: &Job) -> v1::FailoverStep {
    let error = public.error.as_ref().map(|e| (e.reason.clone(), e.message.clone()));
    let (error_code, error_message) = error.unwrap_or_default();
    v1::FailoverStep {
        name: public.name.clone(),
        status: public.status.to_string(),
        started_at: time(public.started_at),
        completed_at: time(public.completed_at),
        error_code,
        error_message,
        skipped: public.skipped.clone().unwrap_or_default(),
        taken_back: public.taken_back,
        parts: job.steps.iter().filter(|step| step.plan.group == public.name).map(part).collect(),
    }
}

fn part(step: &Step) -> v1::FailoverPart {
    v1::FailoverPart {
        name: step.plan.name.clone(),
        state: step.state.to_string(),
        effect: step.effect.clone().unwrap_or_default(),
        attempts: step.attempts,
        started_at: time(step.started_at),
        completed_at: time(step.ended_at),
    }
}
