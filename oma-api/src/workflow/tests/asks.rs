//! What may be asked of a job, where: policy alone, and with a driver at work.

use super::world::{At, Database, Fault, World, check, engine, new_job, until};
use super::*;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_gate_waits_for_its_approval() {
    let (database, world) = (Database::sqlite().await, World::new());
    let engine = engine(&database.store, &world, "oma");
    let id = engine.create(&new_job("job-1", &["a", "b gate", "c gate"])).await.expect("made").id;
    for (done, gate) in [(1, "b"), (2, "c")] {
        engine.drive_now(&id).await.expect("driven");
        let job = database.store.workflow_fetch(&id).await.expect("read");
        assert_eq!((job.state, world.inventory().len()), (JobState::AwaitingApproval, done), "before {gate}");
        engine.drive_now(&id).await.expect("driven");
        assert_eq!(world.inventory().len(), done, "it waits for as long as it takes");
        engine.ask(&id, &Ask::Approve, "root").await.expect("taken");
        let again = engine.ask(&id, &Ask::Approve, "root").await;
        assert!(
            matches!(&again, Err(Error::Denied(d)) if d.why == Refusal::NoApprovalNeeded),
            "one approval a gate"
        );
    }
    engine.drive_now(&id).await.expect("driven");
    let job = database.store.workflow_fetch(&id).await.expect("read");
    assert_eq!(job.state, JobState::Succeeded);
    let asked = database.store.workflow_ask_list(&id).await.expect("read");
    let asked: Vec<_> = asked.iter().map(|a| (a.what.as_str(), a.by.as_str())).collect();
    assert_eq!(asked, [("approve", "root"); 2], "each that was taken, and none that was refused");
}

/// Asked while a step is under way, which is carried to its end first; at every step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_and_cancel_come_between_two_steps() {
    let (database, shutdown) = (Database::sqlite().await, CancellationToken::new());
    for (asked, end) in [(Ask::Pause, JobState::Paused), (Ask::Cancel, JobState::RolledBack)] {
        for step in 1..=3 {
            let world = World::new();
            let engine = engine(&database.store, &world, "oma");
            let name = format!("{}-{step}", asked.as_str());
            // Stands still in that step.
            world.open.send_replace(step - 1);
            let running = tokio::spawn({
                let (engine, shutdown) = (engine.clone(), shutdown.clone());
                async move { engine.run(shutdown).await }
            });
            let id = engine.create(&new_job(&name, &["a", "b", "c"])).await.expect("made").id;
            until(|| world.inventory().len() == step).await;
            engine.ask(&id, &asked, "root").await.expect("taken");
            assert_eq!(world.inventory().len(), step, "nothing is taken back under a step");
            world.open.send_replace(usize::MAX);
            // After the last step there is nothing left to pause before.
            let end = if asked == Ask::Pause && step == 3 { JobState::Succeeded } else { end };
            let job = database.reaches(&id, |job| job.state == end).await;
            check(&job, &world);
            if end == JobState::Paused {
                assert_eq!(world.inventory().len(), step);
                engine.ask(&id, &Ask::Resume, "root").await.expect("taken");
                check(&database.reaches(&id, |job| job.state == JobState::Succeeded).await, &world);
            } else if end == JobState::RolledBack {
                assert_eq!(job.error.map(|e| e.message).as_deref(), Some("cancelled by root"));
            }
            running.abort();
        }
    }
    drop(shutdown);
}

/// Every state, every question: what is taken, and what a refusal says.
#[tokio::test]
async fn every_state_takes_what_fits_and_says_what_does() {
    let (database, world) = (Database::sqlite().await, World::new());
    let engine = engine(&database.store, &world, "oma");
    let made = |id: &str, steps: &[&str]| {
        let (engine, new) = (engine.clone(), new_job(id, steps));
        async move { engine.create(&new).await.expect("made") }
    };
    let mut jobs = BTreeMap::new();
    let queued = made("queued", &["a"]).await;
    jobs.insert("running", Job { state: JobState::Running, ..queued.clone() });
    jobs.insert("queued", queued);
    jobs.insert("awaiting", made("awaiting", &["a", "b gate"]).await);
    jobs.insert("succeeded", made("succeeded", &["a"]).await);
    world.fails("f", At::Act, &[Fault::Permanent; 4]);
    world.fails("u", At::Undo, &[Fault::Permanent; 4]);
    jobs.insert("rolled back", made("rolled-back", &["a", "f"]).await);
    jobs.insert("needs attention", made("attention", &["a no_return", "f"]).await);
    jobs.insert("undo failed", made("undo", &["u", "f"]).await);
    jobs.insert("paused", made("paused", &["a"]).await);
    engine.ask(&jobs["paused"].id, &Ask::Pause, "root").await.expect("taken");
    for (name, job) in &mut jobs {
        if !matches!(*name, "queued" | "running") {
            engine.drive_now(&job.id).await.expect("driven");
            *job = database.store.workflow_fetch(&job.id).await.expect("read");
        }
    }
    let mut pausing = jobs["running"].clone();
    pausing.wish = Some(Wish::Pause);
    jobs.insert("pausing", pausing);
    let mut cancelling = jobs["running"].clone();
    cancelling.wish = Some(Wish::Cancel);
    jobs.insert("cancelling", cancelling);
    jobs.insert("unwinding", Job { state: JobState::Unwinding, ..jobs["running"].clone() });

    let allowed: BTreeMap<_, _> =
        jobs.iter().map(|(name, job)| (*name, policy::allowed(job).join(" "))).collect();
    let expected = [
        ("awaiting", "pause cancel approve"),
        ("cancelling", ""),
        ("needs attention", "retry skip"),
        ("paused", "resume cancel"),
        ("pausing", "resume cancel"),
        ("queued", "pause cancel"),
        ("rolled back", ""),
        ("running", "pause cancel"),
        ("succeeded", ""),
        ("undo failed", "retry skip roll_forward"),
        ("unwinding", ""),
    ];
    assert_eq!(allowed, expected.map(|(name, words)| (name, words.to_owned())).into());

    let asks = [
        Ask::Pause,
        Ask::Resume,
        Ask::Cancel,
        Ask::Approve,
        Ask::Retry,
        Ask::Skip { why: "x".to_owned() },
        Ask::RollForward,
    ];
    for (name, job) in &jobs {
        for asked in &asks {
            match policy::ask(job, asked, "root") {
                Ok(after) => {
                    assert!(allowed[name].contains(asked.as_str()), "{name} {asked:?}");
                    assert!(
                        policy::next(&after) != policy::Next::Rest || after.state == JobState::Paused,
                        "{after:#?}"
                    );
                }
                Err(denied) => {
                    assert_eq!(denied.instead.join(" "), allowed[name], "{name} {asked:?}");
                    let text = denied.to_string();
                    assert!(text.starts_with(asked.as_str()) && text.contains(job.state.as_str()), "{text}");
                }
            }
        }
    }
}
