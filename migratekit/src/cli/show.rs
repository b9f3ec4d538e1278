//! Tables and JSON of what the control plane answers.

use comfy_table::{Cell, CellAlignment, Table, presets};
use proto::v1;
use serde_json::{Value, json};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    #[default]
    Table,
    Json,
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().map(Cell::new));
    table
}

/// A right-aligned cell.
pub(super) fn number(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// `1.5 GiB`.
pub(super) fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

/// `sync/paused`, as the database spells it.
pub(super) fn position(m: &v1::Migration) -> String {
    let short = |name: &str, prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_lowercase();
    format!("{}/{}", short(m.phase().as_str_name(), "PHASE_"), short(m.state().as_str_name(), "STATE_"))
}

/// Lower-case word of an enum's wire name.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

pub(super) fn migration_json(m: &v1::Migration) -> Value {
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
        })).collect::<Vec<_>>(),
        "cycle": m.cycle.as_ref().map(cycle_json),
        "restore_points": m.restore_points.iter().map(|p| json!({
            "restore_point_id": p.restore_point_id,
            "job_id": p.job_id,
            "taken_at": p.taken_at,
            "committed_at": p.committed_at,
        })).collect::<Vec<_>>(),
        "target_profile": or_null(&m.target_profile),
        "configuration": m.configuration.as_ref().map(super::configuration::json_of),
        "findings": m.findings.iter().map(|f| json!({
            "kind": word(f.kind().as_str_name(), "FINDING_KIND_"),
            "disk_key": or_null(&f.disk_key),
            "message": f.message,
        })).collect::<Vec<_>>(),
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
pub(super) fn migration_text(m: &v1::Migration) -> String {
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
        let next = if m.next_cycle_at.is_empty() { "-" } else { &m.next_cycle_at };
        lines.push(format!("schedule    {}", m.schedule));
        lines.push(format!("next cycle  {next}"));
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
        let verified = |at: &str| if at.is_empty() { "never".to_owned() } else { at.to_owned() };
        lines.push(format!(
            "disk        {} {} (replica verified: {}, source verified: {})",
            d.key,
            bytes(d.size_bytes),
            verified(&d.replica_verified_at),
            verified(&d.source_verified_at)
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
        lines.push(format!("restore pt  {} of {}", p.restore_point_id, p.taken_at));
    }
    lines.join("\n")
}

/// Several migrations, a line each.
pub(super) fn migrations_table(migrations: &[v1::Migration]) -> Table {
    let mut table = table(&["VM", "STATE", "AGENT", "DISKS", "SIZE", "CYCLE", "LAST RESTORE POINT"]);
    for m in migrations {
        let size = m.disks.iter().map(|d| d.size_bytes).sum();
        let cycle = m.cycle.as_ref().map(|c| format!("{} {:.0} %", c.status, c.progress_percent));
        table.add_row([
            Cell::new(&m.vm_name),
            Cell::new(position(m)),
            Cell::new(&m.agent_id),
            number(m.disks.len()),
            number(bytes(size)),
            Cell::new(cycle.unwrap_or_default()),
            Cell::new(m.restore_points.last().map_or("-", |p| &p.taken_at)),
        ]);
    }
    table
}
