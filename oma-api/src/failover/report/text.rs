//! What both renderings share.

use super::{Report, ReportStep};
use jiff::Timestamp;

/// Without what would change how the text around it is shown: controls, and those that turn its direction.
pub(super) fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
    text.chars().filter(|c| (*c == '\n' || !c.is_control()) && !turns(*c)).collect()
}

/// `2026-11-22T16:02:29Z`; `-` of none.
pub(super) fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"))
}

/// `12.3 s`; `-` where it is not known.
pub(super) fn seconds(took: Option<f64>) -> String {
    took.map_or_else(|| "-".to_owned(), |took| format!("{took:.1} s"))
}

/// What a report begins with: a name and a value each.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let health = match &report.health.expected {
        Some(expected) => format!("{} ({expected})", report.health.result.replace('_', " ")),
        None => report.health.result.replace('_', " "),
    };
    vec![
        ("VM", format!("{} ({})", report.vm_name, report.vm_id)),
        ("Job", report.job_id.clone()),
        ("Result", format!("{} ({})", report.status, report.engine_state.replace('_', " "))),
        ("Asked for by", report.requested_by.clone()),
        ("Asked for at", time(Some(report.requested_at))),
        ("Ended at", time(report.ended_at)),
        ("Restore point", report.restore_point.clone()),
        ("Data of", time(report.taken_at)),
        ("RPO: age of the data when it was asked for", seconds(report.rpo_seconds)),
        ("RTO: from the request to the machine", seconds(report.rto_seconds)),
        ("Health", health),
    ]
}

/// Over [`step_rows`].
pub(super) const STEP_HEADER: [&str; 5] = ["Step", "Status", "Began", "Ended", "Took"];

/// A row a public step.
pub(super) fn step_rows(of: &[ReportStep]) -> impl Iterator<Item = Vec<String>> {
    of.iter().map(|s| {
        let (began, ended) = (time(s.started_at), time(s.completed_at));
        vec![s.name.clone(), s.status.to_owned(), began, ended, seconds(s.seconds)]
    })
}

pub(super) fn title(report: &Report) -> String {
    let kind = if report.job_type == "test" { "Test failover" } else { "Failover" };
    format!("{kind} of {}", report.vm_name)
}

/// Where the console is from.
pub(super) fn console_source(report: &Report) -> &'static str {
    match report.console.source {
        "machine" => "of the machine, as it is there now",
        "cleanup" => "kept when the machine was removed",
        _ => "not kept: the machine has gone",
    }
}
