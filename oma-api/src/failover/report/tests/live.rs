//! What a report says of a live failover.

use crate::failover::Request;
use crate::failover::live::{CommitPolicy, Live, Mode};
use crate::failover::report::{Format, Report};
use crate::failover::tests::site::Site;
use crate::workflow::WorkflowId;
use std::time::Duration;

impl Site {
    async fn report(&self, job: &WorkflowId) -> Report {
        self.world.plant.app.failover_report(job.as_str()).await.expect("made")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_one_loses_nothing_and_says_how_it_was_done_and_taken_back() {
    let site = Site::sqlite().await;
    let mut request = site.request().await;
    if let Some(live) = &mut request.live {
        live.commit_policy = CommitPolicy::Rollback;
        live.override_reason = Some("the <b>rack</b> is on fire".to_owned());
    }
    let id = site.ask(&request).await.expect("taken").failover.record.job;
    let before = site.report(&id).await;
    assert_eq!(before.rpo_seconds, None, "it has not moved");
    assert_eq!(before.live.as_ref().and_then(|live| live.downtime_seconds), None, "nor is it down");
    assert!(before.rpo_note.is_some_and(|note| note.contains("not copied yet")));
    site.drive(&id).await;
    let moved = site.report(&id).await;
    let live = moved.live.clone().expect("it is live");
    assert_eq!((moved.rpo_seconds, live.mode, live.standing), (Some(0.0), "planned", "there"));
    assert_eq!((live.powered_off.as_deref(), live.source_was.as_deref()), (Some("graceful"), Some("on")));
    let (downtime, rto) = (live.downtime_seconds.expect("it ran"), moved.rto_seconds.expect("it is there"));
    assert!(downtime > 0.0 && downtime < rto, "a part of it: {downtime}, {rto}");
    assert!(live.final_job_id.as_ref().is_some_and(|job| job.starts_with("job-")), "{live:?}");
    assert_eq!(
        (live.commit_policy, live.decided_at.is_some(), live.data_loss_seconds),
        ("rollback", true, None)
    );
    let markdown = moved.render(Format::Markdown);
    assert!(markdown.starts_with("# Live failover of web"), "{markdown}");
    for says in ["powered off, and then what it wrote last", "| Final delta | job", "&lt;b&gt;rack"] {
        assert!(markdown.contains(says), "{says} in {markdown}");
    }

    let back = site.roll_back(&id).await;
    site.drive(&back).await;
    let gone = site.report(&id).await;
    assert_eq!(gone.rollback.as_ref().map(|job| job.status), Some("completed"));
    assert_eq!((gone.console.source, gone.live.as_ref().map(|l| l.standing)), ("rollback", Some("kept")));
    assert!(gone.console.text.contains("the guest boots"), "{:?}", gone.console);
    let html = gone.render(Format::Html);
    assert!(html.contains("<h2>Rollback</h2>") && html.contains("source-startup"), "{html}");
    assert!(!html.contains("<b>rack</b>"), "text");
    let json: serde_json::Value = serde_json::from_str(&gone.render(Format::Json)).expect("JSON");
    assert_eq!(json["live"]["override_reason"], "the <b>rack</b> is on fire");
    assert!(json["rollback"]["steps"].as_array().is_some_and(|steps| steps.len() > 4), "{json}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unplanned_one_says_what_it_cost() {
    let mut site = Site::sqlite().await;
    let request = site.request().await;
    site.world.plant.disconnect();
    let live = Live {
        mode: Mode::Unplanned,
        accepted_loss: Some(Duration::from_secs(3600)),
        override_reason: Some("the site burns".to_owned()),
        ..Live::default()
    };
    let asked = Request { live: Some(live), ..request };
    let id = site.ask(&asked).await.expect("taken").failover.record.job;
    site.drive(&id).await;
    let report = site.report(&id).await;
    let live = report.live.clone().expect("it is live");
    assert_eq!((live.mode, live.powered_off, live.final_job_id), ("unplanned", None, None));
    assert_eq!(live.downtime_seconds, None, "nobody knows since when it is down");
    assert_eq!(live.accepted_loss_seconds, Some(3600));
    assert!(live.data_loss_seconds.is_some() && live.data_loss_seconds == report.rpo_seconds);
    let markdown = report.render(Format::Markdown);
    assert!(markdown.contains("| Lost of what the VM wrote last |"), "{markdown}");
}
