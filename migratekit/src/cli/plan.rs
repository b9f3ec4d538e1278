//! `migratekit migration plan`: what stands against a protection, and what would be made of the VM.

use super::client::{Channel, said};
use super::show::{self, Output, bytes};
use clap::Args;
use comfy_table::{Cell, Color};
use proto::v1;
use proto::v1::migration_service_client::MigrationServiceClient;
use serde_json::{Value, json};
use shared::ids::ProfileName;
use std::io::{IsTerminal as _, Write};

/// Which VM, and by which profile.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Name or uuid of the VM, or the migration's id.
    #[arg(value_name = "VM")]
    vm: String,
    /// Target profile by which its VM would be made. Default: its migration's, else the default profile, else none.
    #[arg(long, value_name = "NAME")]
    target: Option<ProfileName>,
}

/// Begin would be refused; exit code 2.
#[derive(Debug, thiserror::Error)]
pub(super) enum Blocked {
    #[error("{vm}: {count} of the findings block{} begin; `migratekit migration begin --force REASON` goes on all the same", if *.count == 1 { "s" } else { "" })]
    Forcible { vm: String, count: usize },
    #[error("{vm} is protected already: begin is refused, forced or not")]
    Protected { vm: String },
}

/// Whether words are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colours {
    On,
    Off,
}

impl Colours {
    /// As <https://no-color.org> has it: any value but none switches them off.
    fn of(is_terminal: bool, no_color: Option<&std::ffi::OsStr>) -> Self {
        match is_terminal && no_color.is_none_or(std::ffi::OsStr::is_empty) {
            true => Self::On,
            false => Self::Off,
        }
    }
}

pub(super) async fn run(
    plan: Plan,
    channel: Channel,
    output: Output,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let target_profile = plan.target.map(String::from).unwrap_or_default();
    let request = v1::CheckRequest { vm: plan.vm, target_profile };
    let answer =
        MigrationServiceClient::new(channel).check(request).await.map_err(|s| said(&s))?.into_inner();
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&json_of(&answer))?)?,
        Output::Table | Output::Wide => {
            let no_color = std::env::var_os("NO_COLOR");
            let colours = Colours::of(std::io::stdout().is_terminal(), no_color.as_deref());
            writeln!(out, "{}", text(&answer, colours))?;
        }
    }
    if answer.blocked {
        let blocks = |f: &&v1::PreflightFinding| f.severity() == v1::PreflightSeverity::Block;
        let count = answer.findings.iter().filter(blocks).count();
        let vm = answer.vm_name;
        // That one no force goes over.
        let protected = answer.findings.iter().any(|f| f.code == "MIGRATION_UNFINISHED");
        return Err(
            if protected { Blocked::Protected { vm } } else { Blocked::Forcible { vm, count } }.into()
        );
    }
    Ok(())
}

fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

fn severity(f: &v1::PreflightFinding) -> String {
    word(f.severity().as_str_name(), "PREFLIGHT_SEVERITY_")
}

fn change(row: &v1::PlanRow) -> String {
    word(row.change().as_str_name(), "PLAN_CHANGE_")
}

/// As REST has it.
fn json_of(answer: &v1::CheckResponse) -> Value {
    let or_null = |text: &str| if text.is_empty() { Value::Null } else { json!(text) };
    json!({
        "vm_uuid": answer.vm_uuid,
        "vm_name": answer.vm_name,
        "agent_id": answer.agent_id,
        "target_profile": or_null(&answer.target_profile),
        "blocked": answer.blocked,
        "findings": answer.findings.iter().map(|f| json!({
            "code": f.code,
            "severity": severity(f),
            "subject": f.subject,
            "found": f.found,
            "action": f.action,
            "alternative": or_null(&f.alternative),
        })).collect::<Vec<_>>(),
        "plan": answer.plan.iter().map(|row| json!({
            "field": row.field,
            "source": row.source,
            "target": row.target,
            "change": change(row),
            "reason": row.reason,
        })).collect::<Vec<_>>(),
        "room": answer.room.map(|room| json!({
            "total_bytes": room.total_bytes,
            "free_bytes": room.free_bytes,
            "reserved_bytes": room.reserved_bytes,
            "needed_bytes": room.needed_bytes,
            "left_bytes": room.left_bytes,
        })),
    })
}

fn text(answer: &v1::CheckResponse, colours: Colours) -> String {
    let profile = if answer.target_profile.is_empty() { "-" } else { &answer.target_profile };
    let mut lines = vec![
        format!("vm          {} ({})", answer.vm_name, answer.vm_uuid),
        format!("agent       {}", answer.agent_id),
        format!("target      {profile}"),
    ];
    if let Some(room) = &answer.room {
        lines.push(format!(
            "room        {} of {} free, {} reserved by others, up to {} for this VM: {} left",
            bytes(room.free_bytes),
            bytes(room.total_bytes),
            bytes(room.reserved_bytes),
            bytes(room.needed_bytes),
            bytes(room.left_bytes)
        ));
    }
    lines.push(String::new());
    lines.push(plan(&answer.plan, colours));
    lines.push(String::new());
    if answer.findings.is_empty() {
        lines.push("nothing stands against it".to_owned());
    }
    lines.extend(answer.findings.iter().map(|f| finding(f, colours)));
    lines.join("\n")
}

/// A line for what was found, below it what to do.
fn finding(f: &v1::PreflightFinding, colours: Colours) -> String {
    let severity = severity(f);
    let shown = match colours {
        Colours::Off => format!("{severity:<5}"),
        Colours::On => {
            let code = match f.severity() {
                v1::PreflightSeverity::Block => "1;31",
                v1::PreflightSeverity::Warn => "33",
                v1::PreflightSeverity::Info | v1::PreflightSeverity::Unspecified => "36",
            };
            format!("\u{1b}[{code}m{severity:<5}\u{1b}[0m")
        }
    };
    let free =
        if f.alternative.is_empty() { String::new() } else { format!("\n      free: {}", f.alternative) };
    format!("{shown} {} ({}): {}\n      {}{free}", f.code, f.subject, f.found, f.action)
}

fn plan(rows: &[v1::PlanRow], colours: Colours) -> String {
    let mut table = show::table(&["FIELD", "SOURCE", "TARGET", "CHANGE", "REASON"]);
    match colours {
        Colours::On => table.enforce_styling(),
        Colours::Off => table.force_no_tty(),
    };
    for row in rows {
        let shown = |side: &Option<String>| side.as_deref().unwrap_or("-").replace('\n', " ");
        let colour = match row.change() {
            v1::PlanChange::Kept | v1::PlanChange::Unspecified => None,
            v1::PlanChange::Changed => Some(Color::Yellow),
            v1::PlanChange::Added => Some(Color::Green),
            v1::PlanChange::Lost => Some(Color::Red),
        };
        let word = Cell::new(change(row));
        table.add_row([
            Cell::new(&row.field),
            Cell::new(shown(&row.source)),
            Cell::new(shown(&row.target)),
            colour.map_or_else(|| word.clone(), |colour| word.clone().fg(colour)),
            Cell::new(&row.reason),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> v1::CheckResponse {
        let row =
            |field: &str, source: Option<&str>, target: Option<&str>, change: v1::PlanChange| v1::PlanRow {
                field: field.to_owned(),
                source: source.map(str::to_owned),
                target: target.map(str::to_owned),
                change: change.into(),
                reason: "because".to_owned(),
            };
        v1::CheckResponse {
            vm_uuid: "00000000-0000-4000-8000-000000000001".to_owned(),
            vm_name: "web-1".to_owned(),
            agent_id: "vma-01".to_owned(),
            target_profile: String::new(),
            blocked: true,
            findings: vec![v1::PreflightFinding {
                code: "NAME_TAKEN".to_owned(),
                severity: v1::PreflightSeverity::Block.into(),
                subject: "vm".to_owned(),
                found: "it is taken".to_owned(),
                action: "rename it".to_owned(),
                alternative: "web-1-2".to_owned(),
            }],
            plan: vec![
                row("name", Some("web-1"), Some("web-1"), v1::PlanChange::Kept),
                row("tpm", Some("on"), None, v1::PlanChange::Lost),
            ],
            room: None,
        }
    }

    #[test]
    fn a_plan_is_a_table_and_findings_below_it() {
        let shown = text(&answer(), Colours::Off);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = [
            "vm web-1 (00000000-0000-4000-8000-000000000001)",
            "agent vma-01",
            "target -",
            "",
            "FIELD SOURCE TARGET CHANGE REASON",
            "name web-1 web-1 kept because",
            "tpm on - lost because",
            "",
            "block NAME_TAKEN (vm): it is taken",
            "rename it",
            "free: web-1-2",
        ];
        assert_eq!(shown.lines().map(words).collect::<Vec<_>>(), expected);
    }

    /// Red when a file or a pipe is given colours, and when a terminal is not.
    #[test]
    fn colours_are_for_terminals_that_want_them() {
        assert!(!text(&answer(), Colours::Off).contains('\u{1b}'));
        let shown = text(&answer(), Colours::On);
        assert!(
            shown.contains("\u{1b}[1;31mblock\u{1b}[0m") && shown.matches('\u{1b}').count() > 2,
            "{shown}"
        );
        let no_color = |text: &str| Some(std::ffi::OsString::from(text));
        assert_eq!(Colours::of(true, None), Colours::On);
        assert_eq!(Colours::of(true, no_color("").as_deref()), Colours::On);
        assert_eq!(Colours::of(true, no_color("1").as_deref()), Colours::Off);
        assert_eq!(Colours::of(false, None), Colours::Off);
    }
}
