//! How a failover went, for who asks later: made of what is recorded, and of its machine while that is there. Pure.
//!
//! `markdown` and `html` render it. What guests, sources and operators wrote is in it as it is: rendering escapes it.

mod html;
mod live;
mod markdown;
#[cfg(test)]
mod tests;
mod text;

use super::Evidence;
use super::status::{Status, public_steps};
use super::{FailoverView, Plan};
use crate::store::Disk;
use crate::workflow::{Job, Step, StepState};
use jiff::Timestamp;
use serde::Serialize;
use shared::words;

words!(
    /// What a report is written in.
    Format, "format of a report", {
        Json = "json",
        Markdown = "markdown",
        Html = "html",
    }
);

pub use live::LiveReport;

/// Of a page as a browser is to treat it: no script, nothing from elsewhere.
pub use html::CSP;

impl Format {
    /// Its media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Markdown => "text/markdown; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

/// What a report is made of, beside the failover.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Of its migration, as they are now.
    pub disks: &'a [Disk],
    /// When the restore point was committed, where that is still known.
    pub committed_at: Option<Timestamp>,
    /// Of the machine, while it is there.
    pub machine: Option<&'a Evidence>,
    pub now: Timestamp,
}

/// See the module. Times are UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub made_at: Timestamp,
    pub job_id: String,
    pub job_type: &'static str,
    pub vm_id: String,
    pub vm_name: String,
    pub status: &'static str,
    pub engine_state: &'static str,
    pub requested_by: String,
    pub requested_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub restore_point: String,
    /// The time that the data is of.
    pub taken_at: Option<Timestamp>,
    /// From that time to the request: what would have been lost, and of an unplanned failover is. Of a planned one 0, once its last
    /// delta is there.
    pub rpo_seconds: Option<f64>,
    /// Why it is that.
    pub rpo_note: Option<&'static str>,
    /// From the request to the machine being ready (or started, where nothing more was waited for).
    pub rto_seconds: Option<f64>,
    pub health: Health,
    pub steps: Vec<ReportStep>,
    /// Of a live failover.
    pub live: Option<LiveReport>,
    /// How it was taken back.
    pub rollback: Option<AfterJob>,
    /// How what was made was removed.
    pub cleanup: Option<AfterJob>,
    pub console: Console,
    /// PNG in base64.
    pub screenshot: Option<String>,
    /// Why there is none.
    pub screenshot_note: Option<String>,
    pub verification: Vec<Verification>,
    pub findings: Vec<Finding>,
}

/// Whether the machine showed what was waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// ready, not_ready, not_asked, or unknown where it did not come to it.
    pub result: &'static str,
    /// What was waited for.
    pub expected: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportStep {
    pub name: String,
    pub status: &'static str,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub seconds: Option<f64>,
}

/// A job that followed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AfterJob {
    pub job_id: String,
    pub status: &'static str,
    pub completed_at: Option<Timestamp>,
    pub steps: Vec<ReportStep>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Console {
    /// machine: of the one that is there; rollback, cleanup: kept before it was stopped; none.
    pub source: &'static str,
    /// The end of it.
    pub text: String,
}

/// When a disk was last compared, and whether that was after the restore point was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    pub disk: String,
    /// Replica, read back, with the manifest.
    pub replica_verified_at: Option<Timestamp>,
    pub replica_since_restore_point: bool,
    /// The source's snapshot with the manifest.
    pub source_verified_at: Option<Timestamp>,
    pub source_since_restore_point: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// error, warning or note.
    pub weight: &'static str,
    /// Upper snake case.
    pub code: String,
    pub message: String,
}

impl Report {
    pub fn make(view: &FailoverView, facts: Facts<'_>) -> Self {
        let (record, job, cleanup) = (&view.failover.record, &view.failover.job, &view.failover.cleanup);
        let plan: Option<Plan> = serde_json::from_value(job.params.clone()).ok();
        let verification = verification(plan.as_ref(), facts);
        let (evidence, source) = evidence(view, facts.machine);
        let live = LiveReport::of(view);
        let rpo = match live.as_ref().and_then(LiveReport::rpo) {
            // Nothing of a planned one is lost, or it has not moved.
            Some(rpo) => rpo,
            None => view.taken_at.map(|at| job.created_at.duration_since(at).as_secs_f64().max(0.0)),
        };
        Self {
            made_at: facts.now,
            job_id: record.job.to_string(),
            job_type: record.kind.as_str(),
            vm_id: record.vm.to_string(),
            vm_name: record.vm_name.clone(),
            status: view.status.as_str(),
            engine_state: job.state.as_str(),
            requested_by: record.requested_by.clone(),
            requested_at: job.created_at,
            ended_at: job.ended_at,
            restore_point: record.restore_point.to_string(),
            taken_at: view.taken_at,
            rpo_seconds: rpo,
            rpo_note: live.as_ref().and_then(LiveReport::rpo_note),
            rto_seconds: view.rto_seconds,
            health: health(plan.as_ref(), job),
            steps: steps(job),
            live,
            rollback: view.failover.rollback.as_ref().map(AfterJob::from),
            cleanup: cleanup.as_ref().map(AfterJob::from),
            console: Console { source, text: evidence.console },
            screenshot: evidence.screenshot,
            screenshot_note: evidence.screenshot_note,
            findings: findings(view, &verification),
            verification,
        }
    }

    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Json => serde_json::to_string_pretty(self).expect("texts and numbers") + "\n",
            Format::Markdown => markdown::render(self),
            Format::Html => html::render(self),
        }
    }
}

impl From<&Job> for AfterJob {
    fn from(job: &Job) -> Self {
        Self {
            job_id: job.id.to_string(),
            status: Status::of(job).as_str(),
            completed_at: job.ended_at,
            steps: steps(job),
        }
    }
}

fn steps(job: &Job) -> Vec<ReportStep> {
    let shown = public_steps(job).into_iter().map(|step| {
        let took = step.started_at.zip(step.completed_at);
        ReportStep {
            seconds: took.map(|(from, to)| to.duration_since(from).as_secs_f64()),
            name: step.name,
            status: match (step.skipped.is_some(), step.taken_back, step.status) {
                (true, ..) => "skipped",
                (false, true, Status::Completed) => "taken_back",
                (false, _, status) => status.as_str(),
            },
            started_at: step.started_at,
            completed_at: step.completed_at,
        }
    });
    shown.collect()
}

/// What is left of the machine, and where it is from.
fn evidence(view: &FailoverView, machine: Option<&Evidence>) -> (Evidence, &'static str) {
    if let Some(machine) = machine {
        return (machine.clone(), "machine");
    }
    // A clean-up after a rollback finds no machine any more.
    let jobs = [(&view.failover.rollback, "rollback"), (&view.failover.cleanup, "cleanup")];
    let kept = jobs.into_iter().find_map(|(job, source)| {
        let output = job.as_ref()?.output("stop")?;
        Some((serde_json::from_value(output.clone()).ok()?, source))
    });
    kept.unwrap_or((Evidence::default(), "none"))
}

fn health(plan: Option<&Plan>, job: &Job) -> Health {
    let ready = job.steps.iter().find(|s| s.plan.name == "ready");
    let expected = plan
        .and_then(|plan| plan.ready.as_ref())
        .map(|wanted| format!("{} within {} s of its start", wanted.check, wanted.within.as_secs()));
    let said = ready.and_then(|s| s.output.as_ref()?.get("ready")?.as_bool());
    let failed = ready.and_then(|s| s.error.as_ref()).is_some_and(|e| e.reason == "VM_NOT_READY");
    let result = match (ready, said) {
        (None, _) => "not_asked",
        (Some(_), Some(true)) => "ready",
        (Some(_), Some(false)) => "not_ready",
        (Some(_), None) if failed => "not_ready",
        (Some(_), None) => "unknown",
    };
    Health { result, expected }
}

fn verification(plan: Option<&Plan>, facts: Facts<'_>) -> Vec<Verification> {
    let Some(plan) = plan else { return Vec::new() };
    // What was compared before the commit was another content.
    let since = facts.committed_at.unwrap_or(plan.taken_at);
    let of = |planned: &super::plan::PlannedDisk| {
        let disk = facts.disks.iter().find(|disk| disk.volume == planned.volume);
        let (replica, source) = disk.map_or((None, None), |d| (d.replica_verified_at, d.source_verified_at));
        Verification {
            disk: planned.key.clone(),
            replica_verified_at: replica,
            replica_since_restore_point: replica.is_some_and(|at| at >= since),
            source_verified_at: source,
            source_since_restore_point: source.is_some_and(|at| at >= since),
        }
    };
    plan.disks.iter().map(of).collect()
}

fn findings(view: &FailoverView, verification: &[Verification]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut say = |weight, code: &str, message: String| {
        let finding = Finding { weight, code: code.to_owned(), message };
        if !found.contains(&finding) {
            found.push(finding);
        }
    };
    let failover = &view.failover;
    let jobs = std::iter::once(&failover.job).chain(&failover.rollback).chain(&failover.cleanup);
    for job in jobs.clone() {
        if let Some(error) = &job.error {
            say("error", &error.reason, error.message.clone());
        }
    }
    for step in jobs.clone().flat_map(|job| &job.steps) {
        of_step(step, &mut say);
    }
    for what in &view.left_out {
        say("note", "LEFT_OUT", format!("as asked: {what}"));
    }
    let said =
        |warning: &String| !jobs.clone().flat_map(|job| &job.steps).any(|s| warning_of(s) == Some(warning));
    for warning in view.warnings.iter().filter(|warning| said(warning)) {
        let coded = warning.split_once(": ").filter(|(code, _)| is_code(code));
        let (code, message) = coded.unwrap_or(("WARNING", warning));
        say("warning", code, message.to_owned());
    }
    for disk in verification {
        if !(disk.replica_since_restore_point && disk.source_since_restore_point) {
            let what = match (disk.replica_since_restore_point, disk.source_since_restore_point) {
                (false, false) => "neither replica nor source was",
                (false, true) => "the replica was not",
                (true, _) => "the source was not",
            };
            let message = format!("disk {}: {what} compared since the restore point", disk.disk);
            say("note", "NOT_VERIFIED_SINCE", message);
        }
    }
    found
}

fn warning_of(step: &Step) -> Option<&str> {
    step.output.as_ref()?.get("warning")?.as_str()
}

fn is_code(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

fn of_step(step: &Step, say: &mut impl FnMut(&'static str, &str, String)) {
    let name = &step.plan.name;
    if let Some(warning) = warning_of(step) {
        say("warning", "WARNING", format!("{name}: {warning}"));
    }
    // One that was done in the end had an error on its way.
    let ended_well = matches!(step.state, StepState::Done);
    if let Some(error) = &step.error {
        say(if ended_well { "note" } else { "error" }, &error.reason, error.message.clone());
    }
    if step.attempts > 1 || step.undo_attempts > 1 {
        let most = step.attempts.max(step.undo_attempts);
        say("note", "RETRIED", format!("{name} was begun {most} times"));
    }
    if let Some(why) = &step.skipped {
        say("warning", "SKIPPED", format!("{name} was left out by {why}"));
    }
}
