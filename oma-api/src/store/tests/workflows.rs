//! The journal of workflow jobs: comes back as it was, changes only from what was read, belongs to one owner.

use super::*;
use crate::workflow::{Ask, Job, JobState, NewJob, NewStep, StepState, Wish, WorkflowId};
use serde_json::json;

fn id(text: &str) -> WorkflowId {
    WorkflowId::parse(text).expect("an id")
}

async fn made(f: &Fixture, name: &str, subject: &str) -> Job {
    let new = NewJob {
        id: id(name),
        kind: "toy".to_owned(),
        version: 3,
        subject: subject.to_owned(),
        params: json!({ "vm": "web-1", "list": [1, 2], "text": "ü\n" }),
        correlation: "c-1".to_owned(),
        steps: vec![
            NewStep::new("snapshot", "clone disk-0").required(),
            NewStep::new("snapshot", "clone disk-1").gate(),
            NewStep::new("test-vm-startup", "start").no_return(),
        ],
    };
    f.store.workflow_create(&new, at(0)).await.expect("made")
}

fn began(job: &Job) -> Job {
    let mut after =
        Job { state: JobState::Running, wish: Some(Wish::Pause), started_at: Some(at(1)), ..job.clone() };
    after.error = Some(Failure { reason: "R".to_owned(), message: "m".to_owned() });
    let step = &mut after.steps[1];
    (step.state, step.attempts, step.undo_attempts, step.approved) = (StepState::Failed, 2, 1, true);
    step.effect = Some("mk-clone".to_owned());
    step.output = Some(json!({ "path": "/x" }));
    step.error = Some(Failure { reason: "CLONE_FAILED".to_owned(), message: "no room".to_owned() });
    step.skipped = Some("root: so".to_owned());
    (step.started_at, step.ended_at) = (Some(at(1)), Some(at(2)));
    after
}

#[tokio::test]
async fn a_job_comes_back_as_it_was_stored() {
    let mut f = Fixture::new().await;
    let migration = migration_at(&f.store, 1, 1, Position::BeginPaused).await;
    let longest = "enhanced-test-failover-420570c7-f61f-a930-77c5-1e876786cb3c-1756882765";
    let job = made(&f, longest, migration.id.as_str()).await;
    assert_eq!((job.id.as_str().len(), job.state, job.steps.len()), (70, JobState::Queued, 3));
    let saved = f.store.workflow_save(&job, &began(&job), at(2)).await.expect("saved");
    assert_eq!(saved, Job { generation: 2, ..began(&job) });
    f.restart().await;
    assert_eq!(f.store.workflow_fetch(&job.id).await.expect("read"), saved);

    let again = NewJob {
        id: job.id.clone(),
        kind: "toy".to_owned(),
        version: 1,
        subject: String::new(),
        params: json!(null),
        correlation: String::new(),
        steps: vec![],
    };
    let again = f.store.workflow_create(&again, at(3)).await;
    assert!(matches!(&again, Err(Error::WorkflowExists { id }) if *id == job.id), "{again:?}");
    let events = f.store.event_list(0, Some(&migration.id), 100).await.expect("events");
    let of_it: Vec<_> = events.iter().filter(|e| e.kind.starts_with("workflow")).collect();
    assert_eq!(of_it.len(), 2, "watchers of the migration hear of it: {events:#?}");
    assert_eq!(
        of_it[1].body["steps"],
        json!([{ "name": "clone disk-1", "step": "snapshot", "state": "failed" }])
    );
}

#[tokio::test]
async fn a_job_changes_only_from_what_was_read_and_under_its_owner() {
    let f = Fixture::new().await;
    let job = made(&f, "job-1", "").await;
    let taken = f.store.workflow_take(&job.id, &job.held, "oma-1/a").await.expect("taken");
    assert_eq!((taken.held.epoch, taken.held.owner.as_deref()), (1, Some("oma-1/a")));
    // What was read before it had an owner is of nobody any more.
    for (before, what) in
        [(&job, "an epoch that is over"), (&Job { generation: 7, ..taken.clone() }, "a generation")]
    {
        let moved = f.store.workflow_save(before, &began(before), at(1)).await;
        assert!(matches!(moved, Err(Error::WorkflowMoved { .. })), "{what}: {moved:?}");
    }
    assert_eq!(f.store.workflow_fetch(&job.id).await.expect("read"), taken, "nothing was written");

    // A beat of the owner's is one, of another's not; and it is none of a change.
    f.store.workflow_beat("oma-1/a").await.expect("beat");
    f.store.workflow_beat("oma-2/b").await.expect("beat");
    let seen = f.store.workflow_fetch(&job.id).await.expect("read");
    assert_eq!(seen.held.beat, taken.held.beat + 1);
    let saved = f.store.workflow_save(&taken, &began(&taken), at(1)).await.expect("a beat is no change");
    // Who looked before the beat does not get it.
    let late = f.store.workflow_take(&job.id, &taken.held, "oma-2/b").await;
    assert!(matches!(late, Err(Error::WorkflowMoved { .. })), "{late:?}");
    let over = f.store.workflow_take(&job.id, &saved.held, "oma-2/b").await.expect("taken over");
    assert_eq!(over.held.epoch, 2);
    f.store.workflow_release("oma-1/a").await.expect("nothing of its own");
    assert_eq!(f.store.workflow_fetch(&job.id).await.expect("read").held, over.held);
    f.store.workflow_release("oma-2/b").await.expect("given up");
    assert_eq!(f.store.workflow_fetch(&job.id).await.expect("read").held.owner, None);
}

#[tokio::test]
async fn those_at_work_are_listed_the_oldest_first() {
    let f = Fixture::new().await;
    for (name, state) in [("c", JobState::Running), ("a", JobState::Unwinding), ("b", JobState::Queued)] {
        let job = made(&f, name, "").await;
        f.store.workflow_save(&job, &Job { state, ..job.clone() }, at(1)).await.expect("saved");
    }
    for state in JobState::ALL.iter().filter(|s| !s.at_work()) {
        let job = made(&f, &format!("rests-{}", state.as_str().replace('_', "-")), "").await;
        f.store.workflow_save(&job, &Job { state: *state, ..job.clone() }, at(1)).await.expect("saved");
    }
    let list = f.store.workflow_list_at_work().await.expect("list");
    assert_eq!(list.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let none = f.store.workflow_fetch(&id("nobody")).await;
    assert!(matches!(none, Err(Error::NotFound { what: "workflow job", .. })), "{none:?}");
}

/// What was asked is known as long as the job is, and only when it was taken.
#[tokio::test]
async fn what_is_asked_of_a_job_is_recorded_with_what_it_changed() {
    let f = Fixture::new().await;
    let job = made(&f, "job-1", "").await;
    let paused = Job { state: JobState::Paused, ..job.clone() };
    let paused = f.store.workflow_ask(&job, &paused, &Ask::Pause, "ann", at(1)).await.expect("taken");
    let late = f.store.workflow_ask(&job, &paused, &Ask::Cancel, "bob", at(2)).await;
    assert!(matches!(late, Err(Error::WorkflowMoved { .. })), "{late:?}");
    let skip = Ask::Skip { why: "known: ticket 7".to_owned() };
    let came_with = shared::correlation::CorrelationId::parse("c-2").expect("an id");
    let skipped = came_with.scope(f.store.workflow_ask(&paused, &paused, &skip, "ann", at(3)));
    skipped.await.expect("taken");
    let cancelled = f.store.write(|mut w| async move {
        w.workflow_cancel(&id("job-1"), "abort by root", at(4)).await?;
        w.workflow_cancel(&id("job-1"), "once more", at(5)).await?;
        w.commit().await
    });
    cancelled.await.expect("once");
    let asked = f.store.workflow_ask_list(&job.id).await.expect("read");
    let said: Vec<_> =
        asked.iter().map(|a| (a.what.as_str(), a.by.as_str(), a.why.as_deref(), a.at)).collect();
    assert_eq!(
        said,
        [
            ("pause", "ann", None, at(1)),
            ("skip", "ann", Some("known: ticket 7"), at(3)),
            ("cancel", "abort by root", None, at(4))
        ]
    );
    let rows = sqlx::query(
        "SELECT operation, status, correlation_id, asked_by FROM job_tracking WHERE job_id = ? AND asked_by IS NOT NULL \
         ORDER BY created_at",
    )
    .bind("job-1")
    .fetch_all(&f.store.read)
    .await
    .expect("the view");
    let text = |row: &sqlx::any::AnyRow, n: usize| row.get::<String, _>(n);
    let shown: Vec<_> = rows.iter().map(|row| [0, 1, 2, 3].map(|n| text(row, n))).collect();
    assert_eq!(shown[0], ["pause", "completed", "c-1", "ann"], "the job's own where it came with none");
    assert_eq!(shown[1], ["skip", "completed", "c-2", "ann"]);
    assert_eq!(shown.len(), 3, "{shown:?}");
}
