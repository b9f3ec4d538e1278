//! Migrations, for people and for scripts.

use super::{Output, bytes, number, position, table, when, word};
use comfy_table::{Cell, Table};
use proto::v1;
use serde_json::{Value, json};

pub(in crate::cli) fn migration_json(m: &v1::Migration) -> Value {
    let or_null = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    let error = match m.error_reason.is_empty() && m.error_message.is_empty() {
        true => Value::Null,
        false => json!({"reason": m.error_reason, "message": m.error_message}),
    };
    json!({
        "migration_id": m.migration_id,
        "vm_uuid": m.vm_uuid,
        "vm_name": m.vm_name,
        "agent_id": m.agent_id,
        "agent_connected": m.agent_connected,
        "phase": word(m.phase().as_str_name(), "PHASE_"),
        "state": word(m.state().as_str_name(), "STATE_"),
        "held": m.held,
        "rate_bytes_per_second": m.rate_bytes_per_second,
        "rpo_seconds": m.rpo_seconds,
        "rpo_target_seconds": Some(m.rpo_target_seconds).filter(|seconds| *seconds > 0),
        "rpo_breached": m.rpo_breached,
        "next_cycle_at": or_null(&m.next_cycle_at),
        "schedule": or_null(&m.schedule),
        "affinity": m.affinity,
        "automatic": m.automatic.as_ref().map(|a| json!({
            "since": a.since,
            "max_downtime_ms": a.max_downtime_ms,
            "max_cycles": a.max_cycles,
        })),
        "scheduled_timestamp": or_null(&m.scheduled_timestamp),
        "forced_reason": or_null(&m.forced_reason),
        "last_action": m.last_action.as_ref().map(|l| json!({
            "action": word(l.action().as_str_name(), "ACTION_"),
            "by": l.by,
            "at": l.at,
        })),
        "created_at": m.created_at,
        "updated_at": m.updated_at,
        "finished_at": or_null(&m.finished_at),
        "error": error,
        "disks": m.disks.iter().map(|d| json!({
            "disk_id": d.disk_id,
            "key": d.key,
            "size_bytes": d.size_bytes,
            "epoch": d.epoch,
            "change_id": or_null(&d.change_id),
            "replica_verified_at": or_null(&d.replica_verified_at),
            "source_verified_at": or_null(&d.source_verified_at),
            "volume": d.volume,
        })).collect::<Vec<_>>(),
        "retired_disks": m.retired_disks.iter().map(|d| json!({
            "disk_id": d.disk_id,
            "key": d.key,
            "size_bytes": d.size_bytes,
            "retired_at": d.retired_at,
            "retired_by": d.retired_by,
            "restore_points": d.restore_points,
        })).collect::<Vec<_>>(),
        "cycle": m.cycle.as_ref().map(cycle_json),
        "restore_points": m.restore_points.iter().map(|p| json!({
            "restore_point_id": p.restore_point_id,
            "job_id": p.job_id,
            "taken_at": p.taken_at,
            "committed_at": p.committed_at,
        })).collect::<Vec<_>>(),
        "retention": or_null(&m.retention),
        "target_profile": or_null(&m.target_profile),
        "configuration": m.configuration.as_ref().map(super::super::configuration::json_of),
        "progress_history": m.progress_history.iter().map(run_json).collect::<Vec<_>>(),
        "findings": m.findings.iter().map(|f| json!({
            "kind": word(f.kind().as_str_name(), "FINDING_KIND_"),
            "disk_key": or_null(&f.disk_key),
            "message": f.message,
        })).collect::<Vec<_>>(),
    })
}

fn run_json(run: &v1::ProgressEntry) -> Value {
    let or_null = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    json!({
        "number": run.number,
        "phase": word(run.phase().as_str_name(), "PHASE_"),
        "state": word(run.state().as_str_name(), "STATE_"),
        "current_progress": run.current_progress,
        "total_progress": run.total_progress,
        "message": run.message,
        "error": or_null(&run.error),
        "started_timestamp": run.started_timestamp,
        "finished_timestamp": or_null(&run.finished_timestamp),
        "duration_ms": run.duration_ms,
        "eta_ms": Some(run.eta_ms).filter(|eta| *eta > 0),
        "transfer_bytes_second": run.transfer_bytes_second,
        "job_id": or_null(&run.job_id),
    })
}

fn cycle_json(c: &v1::Cycle) -> Value {
    let or_null = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    json!({
        "job_id": c.job_id,
        "status": c.status,
        "kind": word(c.kind().as_str_name(), "CYCLE_KIND_NAME_"),
        "started_at": c.started_at,
        "finished_at": or_null(&c.finished_at),
        "snapshot_taken_at": or_null(&c.snapshot_taken_at),
        "progress_percent": c.progress_percent,
        "bytes_transferred": c.bytes_transferred,
        "total_bytes": c.total_bytes,
        "transfer_speed_bps": c.transfer_speed_bps,
        "error_message": or_null(&c.error_message),
        "disks": c.disks.iter().map(|d| json!({
            "disk_id": d.disk_id,
            "key": d.key,
            "strategy": word(d.strategy().as_str_name(), "SYNC_STRATEGY_"),
            "size_bytes": d.size_bytes,
            "planned_bytes": d.planned_bytes,
            "done_bytes": d.done_bytes,
            "data_bytes": d.data_bytes,
            "read_bytes": d.read_bytes,
            "wire_bytes": d.wire_bytes,
            "resumed_bytes": d.resumed_bytes,
            "plan_complete": d.plan_complete,
        })).collect::<Vec<_>>(),
    })
}

/// Age of the last restore point, and what it may be.
fn rpo(age: u64, m: &v1::Migration) -> String {
    let span = |seconds| shared::config::Period(std::time::Duration::from_secs(seconds));
    match (m.rpo_target_seconds, m.rpo_breached) {
        (0, _) => span(age).to_string(),
        (target, false) => format!("{} of {}", span(age), span(target)),
        (target, true) => format!("{} of {}: BREACHED", span(age), span(target)),
    }
}

/// Everything about one migration, for a terminal.
pub(in crate::cli) fn migration_text(m: &v1::Migration) -> String {
    let mut lines = vec![
        format!("vm          {} ({})", m.vm_name, m.vm_uuid),
        format!("migration   {}", m.migration_id),
        format!("state       {}{}", position(m), if m.held { " (held)" } else { "" }),
        format!("agent       {}{}", m.agent_id, if m.agent_connected { "" } else { " (not connected)" }),
    ];
    if !m.target_profile.is_empty() {
        lines.push(format!("target      {}", m.target_profile));
    }
    if m.rate_bytes_per_second > 0 {
        lines.push(format!("limit       {}/s", bytes(m.rate_bytes_per_second)));
    }
    if !m.schedule.is_empty() {
        lines.push(format!("schedule    {}", m.schedule));
        lines.push(format!("next cycle  {}", when(&m.next_cycle_at)));
    }
    if let Some(a) = &m.automatic {
        let downtime = a.max_downtime_ms / 1000;
        lines.push(format!("automatic   until a switch takes {downtime}s, at most {} cycles", a.max_cycles));
    }
    if !m.scheduled_timestamp.is_empty() {
        lines.push(format!("switch      {} ({})", when(&m.scheduled_timestamp), m.scheduled_timestamp));
    }
    if !m.affinity.is_empty() {
        lines.push(format!("affinity    {}", m.affinity.join(", ")));
    }
    if !m.forced_reason.is_empty() {
        lines.push(format!("forced      {}", m.forced_reason));
    }
    if let Some(l) = &m.last_action {
        let action = word(l.action().as_str_name(), "ACTION_");
        lines.push(format!("last asked  {action} by {}, {}", l.by, when(&l.at)));
    }
    if let Some(age) = m.rpo_seconds {
        lines.push(format!("rpo         {}", rpo(age, m)));
    } else if m.rpo_breached {
        lines.push("rpo         no restore point yet: BREACHED".to_owned());
    }
    if !m.error_message.is_empty() {
        lines.push(format!("reason      {}: {}", m.error_reason, m.error_message));
    }
    for finding in &m.findings {
        lines.push(format!("finding     {}", finding.message));
    }
    for d in &m.disks {
        let verified = |at: &str| if at.is_empty() { "never".to_owned() } else { when(at) };
        lines.push(format!(
            "disk        {} {} (replica verified: {}, source verified: {})",
            d.key,
            bytes(d.size_bytes),
            verified(&d.replica_verified_at),
            verified(&d.source_verified_at)
        ));
    }
    for d in &m.retired_disks {
        lines.push(format!(
            "retired     {} {} (since {}; goes with the last of {} restore points)",
            d.key,
            bytes(d.size_bytes),
            when(&d.retired_at),
            d.restore_points
        ));
    }
    if let Some(c) = &m.cycle {
        let kind = word(c.kind().as_str_name(), "CYCLE_KIND_NAME_");
        lines.push(format!("last cycle  {} {kind} {} {:.1} %", c.job_id, c.status, c.progress_percent));
        if !c.error_message.is_empty() {
            lines.push(format!("            {}", c.error_message));
        }
    }
    for p in &m.restore_points {
        lines.push(format!("restore pt  {} of {} ({})", p.restore_point_id, when(&p.taken_at), p.taken_at));
    }
    if !m.restore_points.is_empty() && !m.retention.is_empty() {
        lines.push(format!("kept are    {}, and those that failovers need", m.retention));
    }
    for run in &m.progress_history {
        let (phase, state) =
            (word(run.phase().as_str_name(), "PHASE_"), word(run.state().as_str_name(), "STATE_"));
        let took = std::time::Duration::from_millis(run.duration_ms);
        let error = if run.error.is_empty() { String::new() } else { format!(": {}", run.error) };
        lines.push(format!(
            "history     {:>4} {phase} {state}, {}, took {:.1}s{error}",
            run.number,
            when(&run.started_timestamp),
            took.as_secs_f64()
        ));
    }
    lines.join("\n")
}

/// Several migrations, a line each.
pub(in crate::cli) fn migrations_table(migrations: &[v1::Migration], output: Output) -> Table {
    const NARROW: &[&str] = &["VM", "STATE", "AGENT", "DISKS", "SIZE", "CYCLE", "LAST RESTORE POINT"];
    const MORE: &[&str] = &["RPO", "NEXT CYCLE", "SPEED", "TARGET", "LAST ASKED", "WHY", "MIGRATION"];
    let wide = output == Output::Wide;
    let header: Vec<_> = NARROW.iter().chain(MORE.iter().filter(|_| wide)).copied().collect();
    let mut table = table(&header);
    for m in migrations {
        let size = m.disks.iter().map(|d| d.size_bytes).sum();
        let cycle = m.cycle.as_ref().map(|c| format!("{} {:.0} %", c.status, c.progress_percent));
        let held = if m.held { " (held)" } else { "" };
        let mut row = vec![
            Cell::new(&m.vm_name),
            Cell::new(format!("{}{held}", position(m))),
            Cell::new(&m.agent_id),
            number(m.disks.len()),
            number(bytes(size)),
            Cell::new(cycle.unwrap_or_default()),
            Cell::new(m.restore_points.last().map_or("-".to_owned(), |p| when(&p.taken_at))),
        ];
        if wide {
            row.extend(more(m));
        }
        table.add_row(row);
    }
    table
}

fn more(m: &v1::Migration) -> [Cell; 7] {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let speed = m.cycle.as_ref().filter(|c| c.status == "running").map(|c| c.transfer_speed_bps);
    let asked = m
        .last_action
        .as_ref()
        .map(|l| format!("{} by {}, {}", word(l.action().as_str_name(), "ACTION_"), l.by, when(&l.at)));
    [
        Cell::new(m.rpo_seconds.map_or("-".to_owned(), |age| rpo(age, m))),
        Cell::new(when(&m.next_cycle_at)),
        number(speed.map_or("-".to_owned(), |speed| format!("{}/s", bytes(speed)))),
        Cell::new(or_dash(&m.target_profile)),
        Cell::new(asked.unwrap_or_else(|| "-".to_owned())),
        Cell::new(or_dash(&m.error_reason)),
        Cell::new(&m.migration_id),
    ]
}
