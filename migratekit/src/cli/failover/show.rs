//! Failovers, for people and for scripts: JSON as REST shows it.

use super::super::show::{Output, number, table, when};
use comfy_table::{Cell, Table};
use jiff::Timestamp;
use proto::v1;
use serde_json::{Value, json};
use std::io::Write;

fn or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { json!(text) }
}

/// Whole seconds, as REST prints them.
fn time(at: &str) -> Value {
    match at.parse::<Timestamp>() {
        Ok(at) => json!(format!("{at:.0}")),
        // A newer control plane may say something else.
        Err(_) => or_null(at),
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// An entry of a list.
pub(super) fn row_json(f: &v1::Failover) -> Value {
    json!({
        "job_id": f.job_id,
        "vm_id": f.vm_id,
        "vm_name": f.vm_name,
        "job_type": f.r#type,
        "status": f.status,
        "linstor_snapshot_name": or_null(&f.snapshot_name),
        "destination_vm_id": or_null(&f.destination_vm_id),
        "created_at": time(&f.created_at),
        "completed_at": time(&f.completed_at),
    })
}

/// All of it.
pub(super) fn job_json(f: &v1::Failover) -> Value {
    let mut all = json!({
        "job_id": f.job_id,
        "vm_id": f.vm_id,
        "vm_name": f.vm_name,
        "job_type": f.r#type,
        "status": f.status,
        "source_vm_spec": f.source_vm_spec,
        "destination_vm_id": or_null(&f.destination_vm_id),
        "linstor_snapshot_name": or_null(&f.snapshot_name),
        "network_mappings": f.network_mappings,
        "created_at": time(&f.created_at),
        "started_at": time(&f.started_at),
        "completed_at": time(&f.completed_at),
        "steps": f.steps.iter().map(step_json).collect::<Vec<_>>(),
        "migration_id": f.migration_id,
        "engine_state": f.engine_state,
        "allowed": f.allowed,
        "restore_point": f.restore_point,
        "taken_at": time(&f.taken_at),
        "expires_at": time(&f.expires_at),
        "auto_cleanup": f.auto_cleanup,
        "test_duration": or_null(&f.test_duration),
        "custom_config": serde_json::from_str::<Value>(&f.custom_config).ok(),
        "is_there": f.is_there,
        "machine": or_null(&f.machine),
        "error_code": or_null(&f.error_code),
        "error_message": or_null(&f.error_message),
        "waits_for": or_null(&f.waits_for),
        "warnings": f.warnings,
        "left_out": f.left_out,
        "rto_seconds": Some(f.rto_seconds).filter(|seconds| *seconds > 0.0),
        "cleanup": f.cleanup.as_ref().map(|c| json!({
            "job_id": c.job_id,
            "status": c.status,
            "engine_state": c.engine_state,
            "error_code": or_null(&c.error_code),
            "error_message": or_null(&c.error_message),
            "completed_at": time(&c.completed_at),
        })),
        "correlation_id": f.correlation_id,
        "requested_by": f.requested_by,
    });
    if let (Some(all), Value::Object(live)) = (all.as_object_mut(), live_json(f)) {
        all.extend(live);
    }
    all
}

/// How it moves, and what becomes of it; of a test mostly null.
fn live_json(f: &v1::Failover) -> Value {
    json!({
        "notification_config": serde_json::from_str::<Value>(&f.notification_config).ok(),
        "standing": f.standing,
        "mode": or_null(&f.mode),
        "commit_policy": or_null(&f.commit_policy),
        "decided_at": time(&f.decided_at),
        "committed_at": time(&f.committed_at),
        "final_job_id": or_null(&f.final_job_id),
        "override_reason": or_null(&f.override_reason),
        "rollback": f.rollback.as_ref().map(|r| json!({
            "job_id": r.job_id,
            "status": r.status,
            "engine_state": r.engine_state,
            "error_code": or_null(&r.error_code),
            "error_message": or_null(&r.error_message),
            "completed_at": time(&r.completed_at),
            "steps": r.steps.iter().map(step_json).collect::<Vec<_>>(),
        })),
    })
}

fn step_json(s: &v1::FailoverStep) -> Value {
    json!({
        "step_name": s.name,
        "status": s.status,
        "started_at": time(&s.started_at),
        "completed_at": time(&s.completed_at),
        "error_code": or_null(&s.error_code),
        "error_message": or_null(&s.error_message),
        "skipped": or_null(&s.skipped),
        "taken_back": s.taken_back,
        "parts": s.parts.iter().map(|p| json!({
            "name": p.name,
            "state": p.state,
            "effect": or_null(&p.effect),
            "attempts": p.attempts,
            "started_at": time(&p.started_at),
            "completed_at": time(&p.completed_at),
        })).collect::<Vec<_>>(),
    })
}

/// How long it took; empty where that is not known.
fn took(step: &v1::FailoverStep) -> String {
    let at = |text: &str| text.parse::<Timestamp>().ok();
    match (at(&step.started_at), at(&step.completed_at)) {
        (Some(from), Some(to)) => format!("{:.1}s", to.duration_since(from).as_secs_f64()),
        _ => String::new(),
    }
}

/// `snapshot            completed     2.5s`
pub(super) fn step_line(step: &v1::FailoverStep) -> String {
    let why = match (step.error_code.is_empty(), step.skipped.is_empty()) {
        (_, false) => format!("  left out by {}", step.skipped),
        (false, true) => format!("  {} [{}]", step.error_message, step.error_code),
        (true, true) if step.taken_back => "  taken back".to_owned(),
        (true, true) => String::new(),
    };
    format!("{:<20} {:<10} {:>8}{why}", step.name, step.status, took(step))
}

/// Everything about one, for a terminal.
fn text(f: &v1::Failover) -> String {
    let mut lines = vec![
        format!("job         {}", f.job_id),
        format!("vm          {} ({})", f.vm_name, f.vm_id),
        format!("status      {} ({})", f.status, f.engine_state.replace('_', " ")),
        format!("restore pt  {} of {} ({})", f.restore_point, when(&f.taken_at), f.taken_at),
    ];
    if !f.error_code.is_empty() {
        lines.push(format!("reason      {}: {}", f.error_code, f.error_message));
    }
    if f.r#type == "live" {
        lines.extend(live_text(f));
    }
    if !f.machine.is_empty() {
        lines.push(format!("machine     {} ({})", f.machine, f.destination_vm_id));
    }
    if !f.waits_for.is_empty() {
        lines.push(format!("waits for   {}", f.waits_for));
    }
    if f.rto_seconds > 0.0 {
        // It is known of one that was waited for only where that showed what it was to show.
        let waited = f.steps.iter().flat_map(|step| &step.parts).any(|part| part.name == "ready");
        let what = if waited { "ready in" } else { "runs after" };
        lines.push(format!("{what:<11} {:.1}s", f.rto_seconds));
    }
    lines.extend(f.left_out.iter().map(|what| format!("left out    {what}")));
    lines.extend(f.warnings.iter().map(|warning| format!("warning     {warning}")));
    lines.push(format!("asked by    {}, {}", f.requested_by, when(&f.created_at)));
    if !f.expires_at.is_empty() {
        lines.push(format!("cleaned up  {} ({})", when(&f.expires_at), f.expires_at));
    }
    if let Some(r) = &f.rollback {
        lines.push(format!("rollback    {}{}", r.status, because(&r.error_code, &r.error_message)));
    }
    if let Some(c) = &f.cleanup {
        lines.push(format!("clean-up    {}{}", c.status, because(&c.error_code, &c.error_message)));
    } else if f.r#type == "test" && f.is_there && f.engine_state == "succeeded" && f.expires_at.is_empty() {
        lines.push(format!("clean-up    `migratekit failover cleanup {}`", f.job_id));
    }
    if !f.allowed.is_empty() {
        let asked: Vec<_> = f.allowed.iter().map(|word| word.replace('_', "-")).collect();
        lines.push(format!("possible    {}", asked.join(", ")));
    }
    lines.extend(f.steps.iter().map(|step| format!("step        {}", step_line(step).trim_end())));
    let back = f.rollback.iter().flat_map(|rollback| &rollback.steps);
    lines.extend(back.map(|step| format!("back        {}", step_line(step).trim_end())));
    lines.join("\n")
}

fn because(code: &str, message: &str) -> String {
    if code.is_empty() { String::new() } else { format!(": {code}: {message}") }
}

/// How the VM moves, and what is to become of it.
fn live_text(f: &v1::Failover) -> Vec<String> {
    let mut lines = vec![format!("mode        {}", f.mode)];
    if !f.final_job_id.is_empty() {
        lines.push(format!("final sync  {}", f.final_job_id));
    }
    if !f.override_reason.is_empty() {
        lines.push(format!("override    {}", f.override_reason));
    }
    lines.push(format!("standing    {}", f.standing.replace('_', " ")));
    if !f.committed_at.is_empty() {
        lines.push(format!("committed   {} ({})", when(&f.committed_at), f.committed_at));
    } else if !f.decided_at.is_empty() {
        lines.push(format!("by itself   {} {} ({})", f.commit_policy, when(&f.decided_at), f.decided_at));
    }
    if f.allowed.iter().any(|word| word == "commit") {
        let verbs = "`migratekit failover commit` keeps it, `migratekit failover rollback` takes it back";
        lines.push(format!("undecided   {verbs}"));
    }
    lines
}

pub(super) fn one(f: &v1::Failover, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&job_json(f))?)?,
        Output::Table | Output::Wide => writeln!(out, "{}", text(f))?,
    }
    Ok(())
}

/// A line each.
pub(super) fn list_table(failovers: &[v1::Failover], output: Output) -> Table {
    const NARROW: &[&str] = &["JOB", "VM", "TYPE", "STATUS", "CREATED", "THERE"];
    const MORE: &[&str] = &["MODE", "STANDING", "DATA OF", "READY IN", "EXPIRES", "ASKED BY", "WHY"];
    let wide = output == Output::Wide;
    let header: Vec<_> = NARROW.iter().chain(MORE.iter().filter(|_| wide)).copied().collect();
    let mut table = table(&header);
    for f in failovers {
        let mut row = vec![
            Cell::new(&f.job_id),
            Cell::new(&f.vm_name),
            Cell::new(&f.r#type),
            Cell::new(&f.status),
            Cell::new(when(&f.created_at)),
            Cell::new(if f.is_there { "yes" } else { "no" }),
        ];
        if wide {
            let ready = if f.rto_seconds > 0.0 { format!("{:.1}s", f.rto_seconds) } else { "-".to_owned() };
            row.extend([
                Cell::new(or_dash(&f.mode)),
                Cell::new(or_dash(&f.standing.replace('_', " "))),
                Cell::new(when(&f.taken_at)),
                number(ready),
                Cell::new(when(&f.expires_at)),
                Cell::new(or_dash(&f.requested_by)),
                Cell::new(or_dash(&f.error_code)),
            ]);
        }
        table.add_row(row);
    }
    table
}
