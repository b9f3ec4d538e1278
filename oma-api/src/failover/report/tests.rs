mod live;

use super::{Finding, Format, Report};
use crate::failover::request::{Check, Ready, Weight};
use crate::failover::tests::world::{At, Fault, World};
use crate::store::Arm;
use crate::workflow::{Ask, JobState, WorkflowId};
use std::time::Duration;

impl World {
    async fn report(&self, job: &WorkflowId) -> Report {
        self.plant.app.failover_report(job.as_str()).await.expect("made")
    }

    /// A test that waits for that text on its console.
    async fn waits_for(&self, text: &str) -> WorkflowId {
        let mut request = self.request().await;
        let check = Check::Console { text: text.to_owned() };
        request.ready = Some(Ready { check, within: Duration::from_secs(1), weight: Weight::Advisory });
        self.ask(&request).await.expect("taken")
    }
}

/// It says the same after the clean-up as before, but for where the console is from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_outlives_its_machine() {
    let world = World::sqlite().await;
    world.plant.machines.show(b"\x89PNG\r\n\x1a\nnot much of a picture");
    let id = world.waits_for("guest boots").await;
    let asked = world.report(&id).await;
    assert_eq!((asked.status, asked.health.result, asked.console.source), ("pending", "unknown", "none"));
    assert_eq!(world.drive(&id).await.state, JobState::Succeeded);
    let there = world.report(&id).await;
    assert_eq!((there.status, there.health.result), ("completed", "ready"));
    assert_eq!((there.console.source, there.console.text.as_str()), ("machine", "the guest boots"));
    assert!(there.rto_seconds.is_some() && there.rpo_seconds.is_some_and(|rpo| rpo >= 0.0), "{there:?}");
    assert!(there.screenshot.is_some());
    assert!(there.steps.iter().all(|s| s.status == "completed" && s.seconds.is_some()), "{there:?}");
    let cleanup = world.clean(&id).await;
    assert_eq!(world.drive(&cleanup).await.state, JobState::Succeeded);
    assert!(world.nothing_there());
    let gone = world.report(&id).await;
    assert_eq!(gone.cleanup.as_ref().map(|c| c.status), Some("completed"));
    assert_eq!(gone.console.source, "cleanup");
    let mut same = there.clone();
    (same.made_at, same.cleanup, same.console.source) = (gone.made_at, gone.cleanup.clone(), "cleanup");
    assert_eq!(gone, same);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_are_what_did_not_go_as_it_should() {
    let world = World::sqlite().await;
    world.fails("start", At::Act, &[Fault::Transient]);
    let id = world.waits_for("login:").await;
    world.drive(&id).await;
    let report = world.report(&id).await;
    assert_eq!(report.health.result, "not_ready");
    let codes: Vec<_> = report.findings.iter().map(|f| (f.weight, f.code.as_str())).collect();
    for code in [("warning", "WARNING"), ("note", "RETRIED"), ("note", "NOT_VERIFIED_SINCE")] {
        assert!(codes.contains(&code), "{code:?} in {codes:?}");
    }
    // Both arms, since the restore point.
    for disk in world.plant.disks().await {
        for arm in [Arm::Replica, Arm::Source] {
            world
                .plant
                .app
                .store
                .disk_verified_set(&disk.id, arm, world.plant.app.clock.now())
                .await
                .expect("stored");
        }
    }
    let verified = world.report(&id).await;
    assert!(verified.findings.iter().all(|f| f.code != "NOT_VERIFIED_SINCE"), "{:?}", verified.findings);
    assert!(verified.verification.len() == 2, "{verified:?}");
    // One that fails for good, and is taken back with a step left out.
    world.fails("start", At::Act, &[Fault::Permanent]);
    world.fails("define", At::Undo, &[Fault::Permanent]);
    let id = world.begin().await;
    assert_eq!(world.drive(&id).await.state, JobState::NeedsAttention);
    world.engine().ask(&id, &Ask::Skip { why: "by hand".to_owned() }, "tester").await.expect("taken");
    assert_eq!(world.drive(&id).await.state, JobState::RolledBack);
    let failed = world.report(&id).await;
    let has = |weight, code: &str| failed.findings.iter().any(|f| f.weight == weight && f.code == code);
    assert!(has("error", "FAULT") && has("warning", "SKIPPED"), "{:?}", failed.findings);
    assert_eq!((failed.status, failed.rto_seconds), ("failed", None));
    let unknown = world.plant.app.failover_report("enhanced-test-failover-x").await.expect_err("none");
    assert_eq!(unknown.reason(), "JOB_NOT_FOUND");
}

/// Whatever a guest, a source or an operator writes, it is text.
#[tokio::test]
async fn what_others_wrote_is_no_markup() {
    const EVIL: &str = "<script>alert(1)</script> \"><img src=x onerror='x'> [a](javascript:x) ![b](http://x) | `c` \u{202e}*d* <!-- -->";
    let world = World::sqlite().await;
    let id = world.begin().await;
    let mut report = world.report(&id).await;
    report.vm_name = EVIL.to_owned();
    report.requested_by = format!("{EVIL}\n# heading");
    report.health.expected = Some(EVIL.to_owned());
    report.console.text = format!("{EVIL}\n```\n# out\n`````\n</pre><script>x</script>");
    report.screenshot = Some(format!("AAAA\"> {EVIL}"));
    report.verification[0].disk = EVIL.to_owned();
    report.findings =
        vec![Finding { weight: "error", code: EVIL.to_owned(), message: format!("{EVIL}\n\n- x") }];
    let html = report.render(Format::Html);
    for forbidden in ["<script", "<img src", "onerror='", "</pre><", "\u{202e}", "\"><", "<!-- "] {
        let allowed = usize::from(forbidden == "\"><");
        assert!(html.matches(forbidden).count() <= allowed, "{forbidden} in {html}");
    }
    // One picture, ours; every quote within it is escaped.
    assert_eq!(html.matches("<img ").count(), 1);
    assert_eq!(html.matches("http://").count(), html.matches("](http://").count(), "as text only");
    let markdown = report.render(Format::Markdown);
    let (before, rest) = markdown.split_once("\n``````text\n").expect("a fence longer than any within");
    let (console, after) = rest.split_once("\n``````\n").expect("it ends");
    assert!(console.contains("\n`````\n"), "as it is: {console}");
    for outside in [before, after] {
        for forbidden in
            ["<", "](", "![", "javascript:", "http:", " `c`", " *d*", "\u{202e}", "\n# heading", "\n- x"]
        {
            assert!(!outside.contains(forbidden), "{forbidden} in {outside}");
        }
    }
    let at = super::text::time(Some(report.requested_at));
    assert!(before.contains(&format!("| Asked for at | {at} |")), "{at} as it is: {before}");
    let rows = before.lines().filter(|line| line.starts_with("| VM"));
    let cells = rows.map(|line| line.replace("\\|", "").matches('|').count()).collect::<Vec<_>>();
    assert_eq!(cells, [3], "a cell stays one");
    let json: serde_json::Value = serde_json::from_str(&report.render(Format::Json)).expect("JSON");
    assert_eq!(json["vm_name"], EVIL);
}
