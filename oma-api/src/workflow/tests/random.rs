//! Policy and transitions alone, under everything that can happen: no database, no world but a set of names.

use super::world::new_job;
use super::*;
use crate::store::Failure;
use crate::workflow::policy::{Next, ask, next};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

#[derive(Clone, Copy, Debug)]
enum Turned {
    Well,
    Later,
    Lost,
    LostAndNothing,
    Fails,
}

fn turned() -> impl Strategy<Value = Turned> {
    prop_oneof![
        6 => Just(Turned::Well),
        1 => Just(Turned::Later),
        1 => Just(Turned::Lost),
        1 => Just(Turned::LostAndNothing),
        1 => Just(Turned::Fails),
    ]
}

fn asked() -> impl Strategy<Value = Ask> {
    prop_oneof![
        Just(Ask::Pause),
        Just(Ask::Resume),
        Just(Ask::Cancel),
        Just(Ask::Approve),
        Just(Ask::Retry),
        Just(Ask::Skip { why: "so".to_owned() }),
        Just(Ask::RollForward),
    ]
}

fn queued(new: NewJob, now: Timestamp) -> Job {
    let step = |plan| Step {
        plan,
        state: StepState::Pending,
        attempts: 0,
        undo_attempts: 0,
        approved: false,
        effect: None,
        output: None,
        error: None,
        skipped: None,
        started_at: None,
        ended_at: None,
    };
    Job {
        id: new.id,
        kind: new.kind,
        version: new.version,
        subject: new.subject,
        params: new.params,
        correlation: new.correlation,
        state: JobState::Queued,
        wish: None,
        error: None,
        superseded: None,
        generation: 1,
        held: Held::default(),
        created_at: now,
        started_at: None,
        ended_at: None,
        steps: new.steps.into_iter().map(step).collect(),
    }
}

fn failure() -> Failure {
    Failure { reason: "TOY".to_owned(), message: "the toy says no".to_owned() }
}

/// One turn of a driver; `there`: the effects that are.
fn turn(job: &Job, there: &mut [bool], how: Turned, now: Timestamp) -> Job {
    match next(job) {
        Next::Rest => job.clone(),
        Next::Become(state) => job.moved(state, now),
        Next::LookUp(at) => match there[at] {
            true => job.done(at, json!(1), now),
            false if job.steps[at].attempts > 3 => job.failed(at, failure(), now),
            false => job.put_back(at, failure()),
        },
        Next::Act(at) => {
            let begun = job.begun(at, Some("name".to_owned()), now);
            assert!(
                there[..at].iter().zip(&job.steps).all(|(there, s)| *there || s.state == StepState::Skipped),
                "in their order: {job:#?}"
            );
            match how {
                Turned::Well => {
                    there[at] = true;
                    begun.done(at, json!(1), now)
                }
                Turned::Later => begun.put_back(at, failure()),
                Turned::Lost => {
                    there[at] = true;
                    begun.in_doubt(at, failure())
                }
                Turned::LostAndNothing => begun.in_doubt(at, failure()),
                Turned::Fails => begun.failed(at, failure(), now),
            }
        }
        Next::Undo(at) => {
            let begun = job.undo_begun(at);
            assert!(!job.steps.iter().any(|s| s.plan.no_return && s.state == StepState::Done), "{job:#?}");
            match how {
                Turned::Well | Turned::Lost => {
                    there[at] = false;
                    begun.undone(at, now)
                }
                Turned::Later | Turned::LostAndNothing if begun.steps[at].undo_attempts < 4 => begun,
                Turned::Later | Turned::LostAndNothing | Turned::Fails => {
                    begun.undo_failed(at, failure(), now)
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever happens and is asked: no effect is there that the journal does not know of, one that it says is done is
    /// there, and a job that ended is whole or gone, but for what an operator said to leave out.
    #[test]
    fn the_journal_never_lies(
        steps in prop::collection::vec(prop::sample::select(&["", " gate", " required"][..]), 1..5),
        no_return in prop::option::of(0..5usize),
        turns in prop::collection::vec((turned(), prop::option::weighted(0.15, asked())), 0..80),
    ) {
        let now = Timestamp::UNIX_EPOCH;
        let name = |(at, how): (usize, &&str)| {
            format!("s{at}{how}{}", if no_return == Some(at) { " no_return" } else { "" })
        };
        let names: Vec<_> = steps.iter().enumerate().map(name).collect();
        let mut job = queued(new_job("job", &names.iter().map(String::as_str).collect::<Vec<_>>()), now);
        let mut there = vec![false; job.steps.len()];
        let well = (Turned::Well, None);
        let answer = |job: &Job| match job.state {
            JobState::Paused => Some(Ask::Resume),
            JobState::AwaitingApproval => Some(Ask::Approve),
            JobState::NeedsAttention => Some(Ask::Retry),
            _ => None,
        };
        let mut after = 0;
        for (how, asking) in turns.into_iter().chain(std::iter::repeat(well)) {
            if let Some(asking) = asking && let Ok(asked) = ask(&job, &asking, "root") {
                job = asked;
            }
            // At the end somebody sees to what waits for it.
            after += 1;
            if after > 80 && next(&job) == Next::Rest && let Some(asking) = answer(&job) {
                job = ask(&job, &asking, "root").expect("what its state waits for");
            }
            job = turn(&job, &mut there, how, now);
            for (step, there) in job.steps.iter().zip(&there) {
                match step.state {
                    StepState::Done => prop_assert!(*there, "{job:#?}"),
                    StepState::Pending | StepState::Undone => prop_assert!(!there, "{job:#?}"),
                    StepState::Started | StepState::Failed | StepState::UndoStarted | StepState::UndoFailed
                    | StepState::Skipped => {}
                }
            }
            if job.state.ended() {
                break;
            }
            prop_assert!(after < 300, "it does not end: {job:#?}");
        }
        let left: Vec<_> = job.steps.iter().zip(&there).filter(|(s, _)| s.state != StepState::Skipped).map(|(_, t)| *t).collect();
        match job.state {
            JobState::Succeeded => prop_assert!(left.iter().all(|there| *there), "{job:#?}"),
            _ => prop_assert!(left.iter().all(|there| !there), "{job:#?}"),
        }
    }
}
