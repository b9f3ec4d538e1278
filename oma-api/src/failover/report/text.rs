//! What both renderings share.

use super::{AfterJob, LiveReport, Report, ReportStep};
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
    let rpo = match report.rpo_note {
        Some(note) => format!("{} ({note})", seconds(report.rpo_seconds)),
        None => seconds(report.rpo_seconds),
    };
    let mut facts = vec![
        ("VM", format!("{} ({})", report.vm_name, report.vm_id)),
        ("Job", report.job_id.clone()),
        ("Result", format!("{} ({})", report.status, report.engine_state.replace('_', " "))),
        ("Asked for by", report.requested_by.clone()),
        ("Asked for at", time(Some(report.requested_at))),
        ("Ended at", time(report.ended_at)),
        ("Restore point", report.restore_point.clone()),
        ("Data of", time(report.taken_at)),
        ("RPO: age of the data when it was asked for", rpo),
        ("RTO: from the request to the machine", seconds(report.rto_seconds)),
        ("Health", health),
    ];
    if let Some(live) = &report.live {
        facts.extend(live_facts(live));
    }
    facts
}

/// How the VM moved, and what became of it.
fn live_facts(live: &LiveReport) -> Vec<(&'static str, String)> {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut facts = vec![("Mode", live.mode.to_owned()), ("Standing", live.standing.replace('_', " "))];
    match live.data_loss_seconds {
        Some(_) => {
            let accepted = live.accepted_loss_seconds.map_or_else(|| "-".to_owned(), |s| format!("{s} s"));
            facts.push(("Lost of what the VM wrote last", seconds(live.data_loss_seconds)));
            facts.push(("Accepted loss", accepted));
        }
        None => {
            facts.push(("Powered off at its source", or_dash(&live.powered_off)));
            facts.push(("Downtime: from its power-off to the machine", seconds(live.downtime_seconds)));
            facts.push(("Final delta", or_dash(&live.final_job_id)));
        }
    }
    let policy = match live.decided_at {
        Some(at) => format!("{} at {}", live.commit_policy, time(Some(at))),
        None => live.commit_policy.to_owned(),
    };
    facts.push(("Commit policy", policy));
    facts.push(("Committed at", time(live.committed_at)));
    facts.push(("Policy set aside", or_dash(&live.override_reason)));
    facts
}

/// What followed, each with its heading.
pub(super) fn after(report: &Report) -> impl Iterator<Item = (&'static str, &AfterJob)> {
    let all = [("Rollback", &report.rollback), ("Clean-up", &report.cleanup)];
    all.into_iter().filter_map(|(heading, job)| Some((heading, job.as_ref()?)))
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
    let kind = if report.job_type == "test" { "Test failover" } else { "Live failover" };
    format!("{kind} of {}", report.vm_name)
}

/// Where the console is from.
pub(super) fn console_source(report: &Report) -> &'static str {
    match report.console.source {
        "machine" => "of the machine, as it is there now",
        "rollback" => "kept when the machine was stopped for the rollback",
        "cleanup" => "kept when the machine was removed",
        _ => "not kept: the machine has gone",
    }
}
