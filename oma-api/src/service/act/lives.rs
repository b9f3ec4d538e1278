//! Random lives of a migration on the real use cases, database and storage: what operators ask, what the agent does,
//! passes of the reconciler, and crashes between any two of its awaits. The table says what each step may lead to.

use super::*;
use crate::reconcile;
use crate::store::{Job, RestorePoint};
use crate::testing::{Plant, cut};
use proptest::prelude::*;
use shared::cycle::{CycleEvent, CycleRun};
use shared::migration::{Event, Facts, Position, State, allowed};
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(Action),
    /// The client goes, or the daemon dies, after so many awaits.
    AskCut(Action, u32),
    Reconcile,
    /// The daemon dies after so many awaits, and starts again.
    ReconcileCut(u32),
    Crash,
    /// The agent does what it is told, one thing of it.
    Work,
    /// The agent's source fails.
    Fail,
    /// The agent says again what it said of cycles that have ended.
    Stale,
    Disconnect,
    Connect,
}

fn step() -> impl Strategy<Value = Step> {
    let action = || prop::sample::select(Action::ALL);
    let often =
        prop_oneof![Just(Action::Begin), Just(Action::Sync), Just(Action::Automatic), Just(Action::Pause)];
    prop_oneof![
        3 => action().prop_map(Step::Ask),
        3 => often.prop_map(Step::Ask),
        1 => (action(), 0..40u32).prop_map(|(action, after)| Step::AskCut(action, after)),
        6 => Just(Step::Reconcile),
        2 => (0..60u32).prop_map(Step::ReconcileCut),
        1 => Just(Step::Crash),
        8 => Just(Step::Work),
        1 => Just(Step::Fail),
        1 => Just(Step::Stale),
        1 => Just(Step::Disconnect),
        2 => Just(Step::Connect),
    ]
}

/// What is stored, as far as a refusal must not change it.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    at: Option<Position>,
    facts: Facts,
    generation: Option<u64>,
    jobs: Vec<Job>,
    points: Vec<RestorePoint>,
}

struct Life {
    plant: Plant,
    connected: bool,
    /// Of every migration that ended, and of the one there is.
    ids: BTreeSet<MigrationId>,
    change: u32,
}

impl Life {
    async fn seen(&self) -> Seen {
        let store = &self.plant.app.store;
        let Some(m) = self.plant.app.unfinished("web-1").await.expect("read") else {
            return Seen {
                at: None,
                facts: Facts::default(),
                generation: None,
                jobs: vec![],
                points: vec![],
            };
        };
        let jobs = store.job_list(&m.id).await.expect("read");
        let points = store.restore_point_list(&m.id).await.expect("read");
        let facts = self.plant.app.migration_facts(&m).await.expect("read");
        Seen { at: Some(m.position), facts, generation: Some(m.generation), jobs, points }
    }

    async fn take(&mut self, step: Step) {
        let before = self.seen().await;
        match step {
            Step::Ask(action) => return self.ask(action, &before).await,
            Step::AskCut(action, after) => {
                let _ = cut(self.plant.ask(&Ask::new(action)), after).await;
                self.crash().await;
                let now = self.seen().await;
                if action != Action::Pause {
                    let done = apply(before.at, action, before.facts).map(|next| next.to);
                    assert!(
                        now.at == before.at || now.at == done.ok(),
                        "{step:?}: {:?} → {:?}",
                        before.at,
                        now.at
                    );
                    return;
                }
            }
            Step::Reconcile => self.reconcile().await,
            Step::ReconcileCut(after) => {
                if let Some(m) = self.plant.app.unfinished("web-1").await.expect("read") {
                    let _ = cut(Box::pin(reconcile::one(&self.plant.app, &m)), after).await;
                }
                self.crash().await;
            }
            Step::Crash => self.crash().await,
            Step::Work => self.work().await,
            Step::Fail => {
                if let Some(job) = self.active().await.filter(|_| self.connected) {
                    let (reason, message) = ("READ_FAILED".to_owned(), "a test".to_owned());
                    self.plant.say(&job, CycleEvent::Failed { reason, message }).await;
                }
            }
            Step::Stale => {
                for job in before.jobs.iter().filter(|job| job.status.ended()) {
                    for event in [CycleEvent::Sent, CycleEvent::Paused] {
                        self.plant.say(job, event).await;
                    }
                }
                assert_eq!(self.seen().await, before, "what is over does not move");
            }
            Step::Disconnect => {
                self.plant.disconnect();
                self.connected = false;
            }
            Step::Connect => self.connect().await,
        }
        self.moved_by_events(step, &before).await;
    }

    /// Taken when the table lists it, refused with the table's reason when not, and nothing changes then.
    async fn ask(&mut self, action: Action, before: &Seen) {
        let listed = allowed(before.at, before.facts);
        let predicted = apply(before.at, action, before.facts);
        let asked = self.plant.ask(&Ask::new(action)).await;
        let now = self.seen().await;
        assert_eq!(predicted.is_ok(), listed.contains(&action), "{action} {:?}", before.at);
        match (predicted, asked) {
            (Ok(next), Ok(_)) => {
                // A cycle that was not made yet is stopped at once.
                let at_once = next.effect == Effect::StopCycle && now.at == Some(Position::SyncPaused);
                assert!(now.at == Some(next.to) || at_once, "{action}: {:?} → {:?}", before.at, now.at);
                self.ids.insert(self.plant.migration().await.id);
            }
            (Ok(_), Err(error)) => {
                let beyond = match &error {
                    Error::AgentAway { .. } => {
                        !self.connected && (before.at.is_none() || action == Action::Switch)
                    }
                    // Nobody tests or compares here: policy lets no VM move.
                    Error::Failover(_) => action == Action::Switch,
                    _ => false,
                };
                assert!(beyond, "{action} in {:?} is listed, and refused: {error}", before.at);
                assert_eq!(&now, before);
            }
            (Err(denied), Err(error)) => {
                assert_eq!(error.reason(), denied.reason(), "{action} in {:?}", before.at);
                for instead in &denied.instead {
                    assert!(error.to_string().contains(instead.as_str()), "{error}");
                }
                assert_eq!(&now, before, "{action} is refused, and something changed");
            }
            (Err(denied), Ok(_)) => panic!("{action} was taken in {:?}: {denied}", before.at),
        }
    }

    /// Nobody asked: only the system's events can have moved it, and what was committed is still there.
    async fn moved_by_events(&self, step: Step, before: &Seen) {
        let now = self.seen().await;
        let mut can: BTreeSet<Option<Position>> = [before.at].into();
        for &event in Event::ALL {
            can.extend(
                before.at.and_then(|at| apply(Some(at), event, before.facts).ok()).map(|next| Some(next.to)),
            );
        }
        // `automatic` asks for the next cycle by itself.
        if before.at.is_some_and(|at| apply(Some(at), Action::Sync, before.facts).is_ok()) {
            can.insert(Some(Position::SyncRunning));
        }
        let ended = now.at.is_none() && before.at == Some(Position::AbortRunning);
        assert!(can.contains(&now.at) || ended, "{step:?}: {:?} → {:?}", before.at, now.at);
        if before.at.is_some_and(|at| at != Position::AbortRunning) {
            let kept = before.points.iter().all(|point| now.points.contains(point));
            assert!(
                kept && now.facts.has_committed >= before.facts.has_committed,
                "{step:?} lost a restore point"
            );
        }
    }

    async fn active(&self) -> Option<Job> {
        let m = self.plant.app.unfinished("web-1").await.expect("read")?;
        self.plant.app.store.job_active(&m.id).await.expect("read")
    }

    async fn reconcile(&self) {
        if let Some(m) = self.plant.app.unfinished("web-1").await.expect("read") {
            reconcile::one(&self.plant.app, &m).await.expect("nothing is in its way");
        }
    }

    async fn connect(&mut self) {
        if !self.connected {
            self.plant.connect().await;
            self.connected = true;
        }
    }

    async fn crash(&mut self) {
        // With one thread for what blocks: what the dropped work had begun there ends before this does.
        tokio::task::spawn_blocking(|| ()).await.expect("ran");
        self.plant.reopen().await;
        self.connected = true;
    }

    /// As the agent: one thing of what the desired state asks for.
    async fn work(&mut self) {
        if !self.connected {
            return;
        }
        let plant = &self.plant;
        let vms = plant.app.agent_desired(&plant.agent, 1).await.expect("read").vms;
        for vm in vms {
            if vm.release {
                plant.app.agent_released(&plant.agent, &vm.migration).await.expect("taken");
            }
            let Some(cycle) = vm.cycle else { continue };
            let job = self.active().await.expect("what is desired is active");
            match cycle.run {
                CycleRun::Committing => {}
                CycleRun::Pause => plant.say(&job, CycleEvent::Paused).await,
                CycleRun::Run if cycle.snapshot.is_none() => {
                    self.change += 1;
                    plant.snapshot_taken(&job, &self.change.to_string()).await;
                }
                CycleRun::Run => match job.disks.iter().position(|d| !d.finished) {
                    Some(disk) => plant.sent(&job, disk, 4096).await,
                    None => plant.say(&job, CycleEvent::Sent).await,
                },
            }
        }
    }

    /// What must be true between any two steps.
    async fn check(&self) {
        let app = &self.plant.app;
        let snapshots: BTreeSet<_> =
            app.storage.snapshots().await.expect("listed").into_iter().map(|s| s.name).collect();
        let seen = self.seen().await;
        assert!(seen.jobs.iter().filter(|job| !job.status.ended()).count() <= 1, "two cycles at once");
        for point in &seen.points {
            let there = snapshots.iter().any(|name| name.as_str() == point.snapshot_name);
            assert!(there || seen.at == Some(Position::AbortRunning), "{} has no snapshot", point.id);
        }
        for id in &self.ids {
            let m = app.store.migration_fetch(id).await.expect("kept as history");
            if m.position.ended() {
                let left = app.storage.volumes().await.expect("listed");
                assert!(
                    left.iter().all(|v| v.label.as_ref().is_none_or(|l| l.migration != *id)),
                    "{id} left {left:?}"
                );
                assert_eq!(app.store.job_active(id).await.expect("read"), None, "history at work");
                assert_eq!(app.store.restore_point_list(id).await.expect("read"), vec![]);
                for disk in app.store.disk_list(id).await.expect("read") {
                    assert!(
                        app.store.unknown_load(&disk.id).await.expect("read").is_empty(),
                        "{id} left checkpoints"
                    );
                }
            }
        }
    }

    /// From wherever it is, to a committed cycle, and to nothing.
    async fn can_still_be_driven_home(&mut self) {
        self.crash().await;
        self.settle().await;
        match self.seen().await.at {
            None | Some(Position::BeginFailed) => self.plant.act(Action::Begin).await,
            Some(_) => {}
        }
        self.settle().await;
        let points = self.seen().await.points.len();
        self.plant.act(Action::Sync).await;
        self.settle().await;
        let seen = self.seen().await;
        assert_eq!(seen.at, Some(Position::SyncPaused), "{:?}", self.plant.migration().await.error);
        assert!(seen.facts.has_committed && seen.points.len() >= points.max(1));
        self.plant.act(Action::Abort).await;
        self.settle().await;
        assert_eq!(self.seen().await.at, None);
        let storage = &self.plant.app.storage;
        assert_eq!(storage.volumes().await.expect("listed").len(), 0);
        assert_eq!(storage.snapshots().await.expect("listed").len(), 0);
        let manifests = std::fs::read_dir(self.plant.folder.path().join("manifests")).expect("there");
        assert_eq!(manifests.count(), 0);
        let desired = self.plant.app.agent_desired(&self.plant.agent, 1).await.expect("read");
        assert_eq!(desired.vms, vec![], "the source is released");
    }

    /// Agent and reconciler have nothing to do any more.
    async fn settle(&mut self) {
        for _ in 0..100 {
            let before = self.seen().await;
            self.reconcile().await;
            self.work().await;
            let quiet =
                before.at.is_none_or(|at| at.state() != State::Running) && self.seen().await == before;
            if quiet {
                // A release leaves no trace in what is looked at above.
                return self.work().await;
            }
        }
        panic!("never at rest: {:?}", self.seen().await);
    }
}

fn live(steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.expect("a runtime").block_on(async {
        let plant = Plant::new().await;
        let mut life = Life { plant, connected: true, ids: BTreeSet::new(), change: 0 };
        for &step in steps {
            life.take(step).await;
            life.check().await;
        }
        life.can_still_be_driven_home().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    /// Red when an action is taken that a refusal does not list, or the reverse; when a refusal changes something; when
    /// a crash at any await loses a restore point, doubles a cycle or leaves something behind that nobody owns.
    #[test]
    fn whatever_happens_the_table_holds_and_it_can_be_driven_home(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        live(&steps);
    }
}
