//! What a check came to → its message.

use crate::preflight::{Change, Finding, Report, Room, Row, Severity};
use crate::service::check::Checked;
use proto::v1;

pub(super) fn checked(checked: Checked) -> v1::CheckResponse {
    let Checked { vm, vm_name, agent, target_profile, report } = checked;
    let blocked = report.blocking().next().is_some();
    let Report { findings, plan, room } = report;
    v1::CheckResponse {
        vm_uuid: vm.into(),
        vm_name,
        agent_id: agent.into(),
        target_profile: target_profile.map(String::from).unwrap_or_default(),
        blocked,
        findings: findings.into_iter().map(finding).collect(),
        plan: plan.into_iter().map(row).collect(),
        room: room.map(self::room),
    }
}

fn finding(finding: Finding) -> v1::PreflightFinding {
    let Finding { code, severity, subject, found, action, alternative } = finding;
    let severity = match severity {
        Severity::Block => v1::PreflightSeverity::Block,
        Severity::Warn => v1::PreflightSeverity::Warn,
        Severity::Info => v1::PreflightSeverity::Info,
    };
    v1::PreflightFinding {
        code: code.to_string(),
        severity: severity.into(),
        subject,
        found,
        action,
        alternative: alternative.unwrap_or_default(),
    }
}

fn row(row: Row) -> v1::PlanRow {
    let Row { field, source, target, change, reason } = row;
    let change = match change {
        Change::Kept => v1::PlanChange::Kept,
        Change::Changed => v1::PlanChange::Changed,
        Change::Added => v1::PlanChange::Added,
        Change::Lost => v1::PlanChange::Lost,
    };
    v1::PlanRow { field, source, target, change: change.into(), reason }
}

fn room(room: Room) -> v1::PreflightRoom {
    let Room { total_bytes, free_bytes, reserved_bytes, needed_bytes, left_bytes } = room;
    v1::PreflightRoom { total_bytes, free_bytes, reserved_bytes, needed_bytes, left_bytes }
}
