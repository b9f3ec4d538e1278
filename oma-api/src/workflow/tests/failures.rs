//! Failures of effects and of their undo: who decides what then, and what is left.

use super::world::{At, Database, Fault, World, check, engine, new_job};
use super::*;
use std::sync::Arc;

struct Plant {
    database: Database,
    world: Arc<World>,
    engine: Engine,
}

impl Plant {
    async fn new() -> Self {
        let (database, world) = (Database::sqlite().await, World::new());
        let engine = engine(&database.store, &world, "oma");
        Self { database, world, engine }
    }

    /// A job, until nothing goes on by itself.
    async fn run(&self, steps: &[&str]) -> Job {
        let id = self.engine.create(&new_job("job-1", steps)).await.expect("made").id;
        self.go_on(&id).await
    }

    async fn go_on(&self, id: &WorkflowId) -> Job {
        self.engine.drive_now(id).await.expect("driven");
        let job = self.database.store.workflow_fetch(id).await.expect("read");
        check(&job, &self.world);
        job
    }

    async fn ask(&self, job: &Job, asked: Ask) -> Job {
        self.engine.ask(&job.id, &asked, "root").await.expect("taken");
        self.go_on(&job.id).await
    }
}

fn states(job: &Job) -> Vec<&'static str> {
    job.steps.iter().map(|s| s.state.as_str()).collect()
}

#[tokio::test]
async fn a_failed_step_takes_back_all_before_it_and_itself() {
    for step in ["a", "b", "c"] {
        let plant = Plant::new().await;
        plant.world.fails(step, At::Act, &[Fault::SaidFailed]);
        let job = plant.run(&["a", "b", "c"]).await;
        assert_eq!(job.state, JobState::RolledBack);
        assert_eq!(job.error.as_ref().map(|e| e.reason.as_str()), Some("TOY"), "why is kept");
        let calls = plant.world.calls.lock().expect("whole").clone();
        let undone: String =
            calls.iter().filter(|(_, at)| *at == At::Undo).map(|(s, _)| s.as_str()).collect();
        assert_eq!(undone, "cba"[2 - "abc".find(step).expect("a step")..], "backwards");
    }
}

#[tokio::test]
async fn what_fails_for_a_while_is_tried_again_and_not_for_ever() {
    let plant = Plant::new().await;
    plant.world.fails("b", At::Act, &[Fault::Transient, Fault::Nothing]);
    assert_eq!(plant.run(&["a", "b"]).await.state, JobState::Succeeded);

    for fault in [Fault::Transient, Fault::Nothing] {
        let plant = Plant::new().await;
        plant.world.fails("b", At::Act, &[fault; 10]);
        let job = plant.run(&["a", "b"]).await;
        assert_eq!((job.state, job.steps[1].attempts), (JobState::RolledBack, 5), "{fault:?}");
    }
    // Nor is a look-up.
    let plant = Plant::new().await;
    plant.world.fails("b", At::Act, &[Fault::AnswerLost]);
    plant.world.fails("b", At::LookUp, &[Fault::Transient; 10]);
    assert_eq!(plant.run(&["a", "b"]).await.state, JobState::RolledBack);
}

#[tokio::test]
async fn an_undo_that_gives_up_waits_for_a_decision() {
    for step in ["a", "b", "c"] {
        let failing = || async {
            let plant = Plant::new().await;
            plant.world.fails("c", At::Act, &[Fault::SaidFailed]);
            plant.world.fails(step, At::Undo, &[Fault::Permanent]);
            let job = plant.run(&["a", "b", "c"]).await;
            assert_eq!(job.state, JobState::NeedsAttention, "{step}");
            assert!(job.error.as_ref().is_some_and(|e| e.message.contains("no")));
            (plant, job)
        };
        let (plant, job) = failing().await;
        let job = plant.ask(&job, Ask::Retry).await;
        assert_eq!(job.state, JobState::RolledBack, "{step}");

        let (plant, job) = failing().await;
        let refused = plant.engine.ask(&job.id, &Ask::Skip { why: " ".to_owned() }, "root").await;
        assert!(matches!(&refused, Err(Error::Denied(d)) if d.why == Refusal::ReasonNeeded), "{refused:?}");
        plant
            .engine
            .ask(&job.id, &Ask::Skip { why: "removed by hand".to_owned() }, "root")
            .await
            .expect("taken");
        plant.engine.drive_now(&job.id).await.expect("driven");
        let job = plant.database.store.workflow_fetch(&job.id).await.expect("read");
        assert_eq!(job.state, JobState::RolledBack, "{step}");
        let skipped = job.steps.iter().find(|s| s.plan.name == step).expect("it");
        assert_eq!(skipped.skipped.as_deref(), Some("root: removed by hand"));
        // It is left there, and recorded: what is left out is named, never forgotten.
        assert_eq!(plant.world.inventory().into_iter().collect::<Vec<_>>(), [format!("job-1.{step}")]);

        let (plant, job) = failing().await;
        let job = plant.ask(&job, Ask::RollForward).await;
        assert_eq!(job.state, JobState::Succeeded, "{step}: {:?}", states(&job));
    }
}

#[tokio::test]
async fn past_the_point_of_no_return_nothing_is_taken_back_by_itself() {
    let steps = ["a", "b no_return", "c"];
    let plant = Plant::new().await;
    plant.world.fails("c", At::Act, &[Fault::Permanent]);
    let job = plant.run(&steps).await;
    assert_eq!((job.state, states(&job)), (JobState::NeedsAttention, vec!["done", "done", "failed"]));
    let refused = plant.engine.ask(&job.id, &Ask::Cancel, "root").await;
    assert!(matches!(&refused, Err(Error::Denied(d)) if d.why == Refusal::PointOfNoReturn), "{refused:?}");
    assert_eq!(plant.ask(&job, Ask::Retry).await.state, JobState::Succeeded);

    // The step itself: a failure that was none.
    let plant = Plant::new().await;
    plant.world.fails("b", At::Act, &[Fault::SaidFailed]);
    assert_eq!(plant.run(&steps).await.state, JobState::Succeeded);
    // One that is sure to be one: nothing has happened yet that could not be taken back.
    let plant = Plant::new().await;
    plant.world.fails("b", At::Act, &[Fault::Permanent]);
    assert_eq!(plant.run(&steps).await.state, JobState::RolledBack);
    // One that nobody can tell.
    for act in [Fault::SaidFailed, Fault::AnswerLost] {
        let plant = Plant::new().await;
        plant.world.fails("b", At::Act, &[act]);
        plant.world.fails("b", At::LookUp, &[Fault::Transient; 5]);
        let job = plant.run(&steps).await;
        assert_eq!((job.state, states(&job)), (JobState::NeedsAttention, vec!["done", "started", "pending"]));
        assert!(!plant.world.calls.lock().expect("whole").iter().any(|(_, at)| *at == At::Undo));
        assert_eq!(plant.ask(&job, Ask::Retry).await.state, JobState::Succeeded);
    }
}

#[tokio::test]
async fn a_step_is_left_out_by_an_operators_word_only_and_never_one_that_protects_data() {
    let plant = Plant::new().await;
    plant.world.fails("c", At::Act, &[Fault::Permanent; 3]);
    let job = plant.run(&["a", "b no_return", "c", "d"]).await;
    let job = plant.ask(&job, Ask::Skip { why: "the drill needs none".to_owned() }).await;
    assert_eq!(states(&job), ["done", "done", "skipped", "done"]);
    assert_eq!(job.state, JobState::Succeeded);

    let plant = Plant::new().await;
    plant.world.fails("c", At::Act, &[Fault::Permanent; 3]);
    let job = plant.run(&["a", "b no_return", "c required", "d"]).await;
    let refused = plant.engine.ask(&job.id, &Ask::Skip { why: "quick".to_owned() }, "root").await;
    let Err(Error::Denied(denied)) = refused else { panic!("{refused:?}") };
    assert_eq!((denied.why, denied.instead.as_slice()), (Refusal::StepRequired, ["retry"].as_slice()));
}

#[tokio::test]
async fn a_job_of_another_version_waits_for_it() {
    let plant = Plant::new().await;
    let job = plant.run(&["a", "unknown"]).await;
    assert_eq!(job.state, JobState::NeedsAttention);
    let error = job.error.clone().expect("why");
    assert_eq!(error.reason, "UNKNOWN_STEP");
    assert!(error.message.contains("toy version 1"), "{}", error.message);
    assert_eq!(plant.ask(&job, Ask::Retry).await.state, JobState::NeedsAttention, "still");
    assert_eq!(plant.ask(&job, Ask::Cancel).await.state, JobState::RolledBack, "it was never begun");
}
