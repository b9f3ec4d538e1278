//! A migration with a restore point, failovers of it, and what is there of them by the backends' own inventories.

use crate::compute::State;
use crate::failover::{self, Failover, Hands, Request, names};
use crate::service::{Caller, Role};
use crate::storage::{Floor, VolumeId};
use crate::testing::{Plant, There};
use crate::workflow::lease::Owner;
use crate::workflow::{
    Effect, Engine, Job, JobState, Kind, Options, Problem, Step, StepState, Turn, Workflow, WorkflowId,
};
use bytes::Bytes;
use integration_tests::mariadb::Server;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with an effect, the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing happens, and that is said.
    Transient,
    Permanent,
    /// It happens, and the answer is lost.
    AnswerLost,
    /// It happens, and a failure is reported.
    SaidFailed,
}

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    Act,
    Undo,
}

type Faults = Mutex<HashMap<(String, At), Vec<Fault>>>;

pub(crate) struct World {
    pub(crate) plant: Plant,
    faults: Arc<Faults>,
    /// Of its storage.
    pub(crate) floor: Floor,
    /// Of what is not a failover's: it stays as it is.
    before: BTreeMap<String, blake3::Hash>,
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        Self::on(None).await
    }

    pub(crate) async fn mariadb() -> Self {
        Self::on(Some(Server::shared().database().expect("a database"))).await
    }

    /// Failing over to CloudStack and LINSTOR, with what is somebody else's beside it.
    pub(crate) async fn zone(database: Option<String>) -> Self {
        Self::made(Plant::begun_in_zone(database).await).await
    }

    pub(super) async fn on(database: Option<String>) -> Self {
        Self::made(Plant::begun_on(database).await).await
    }

    async fn made(plant: Plant) -> Self {
        for (n, disk) in plant.disks().await.into_iter().enumerate() {
            let volume = VolumeId::parse(disk.volume).expect("a name");
            let target = plant.app.storage.open(&volume).await.expect("opened");
            let content = Bytes::from(vec![b'a' + u8::try_from(n).expect("few"); 64 << 10]);
            target.write_at(0, &[content]).expect("written");
            target.flush().expect("flushed");
        }
        plant.cycle("1").await;
        Self::of(plant)
    }

    /// On what is there now, which stays as it is.
    pub(super) fn of(plant: Plant) -> Self {
        let mut world =
            Self { plant, faults: Arc::default(), floor: Floor::default(), before: BTreeMap::new() };
        world.before = world.kept();
        world
    }

    pub(crate) fn fails(&self, step: &str, at: At, faults: &[Fault]) {
        self.faults.lock().expect("whole").insert((step.to_owned(), at), faults.to_vec());
    }

    /// Quick, but for its lease.
    pub(crate) fn engine(&self) -> Engine {
        let app = &self.plant.app;
        let hands = Hands {
            store: app.store.clone(),
            storage: Arc::clone(&app.storage),
            compute: app.compute.clone(),
            converter: None,
            floor: self.floor,
            clock: app.clock,
            hub: Arc::clone(&app.hub),
            transfers: Arc::clone(&app.transfers),
        };
        let hands = Arc::new(hands);
        let faulty = |of: Arc<dyn Workflow>| -> Arc<dyn Workflow> {
            Arc::new(Faulty { of, faults: Arc::clone(&self.faults) })
        };
        let options = Options {
            lease: Duration::from_secs(60),
            period: Duration::from_millis(20),
            pause: (Duration::from_millis(1), Duration::from_millis(2)),
            ..Options::new(Owner::new("oma"), app.clock)
        };
        let workflows = failover::workflows(&hands).into_iter().map(faulty).collect();
        Engine::new(app.store.clone(), workflows, options)
    }

    pub(crate) async fn request(&self) -> Request {
        let migration = self.plant.migration().await;
        let (vm_id, vm_name) = (migration.vm.to_string(), migration.vm_name);
        Request { vm_id, vm_name, skip_virtio_injection: true, ..Request::default() }
    }

    pub(crate) async fn ask(&self, request: &Request) -> Result<WorkflowId, crate::service::Error> {
        Ok(self.plant.app.failover_test(&somebody(), request).await?.failover.record.job)
    }

    /// A test, as it is usually asked for.
    pub(crate) async fn begin(&self) -> WorkflowId {
        self.ask(&self.request().await).await.expect("taken")
    }

    /// Until nothing goes on by itself.
    pub(crate) async fn drive(&self, id: &WorkflowId) -> Job {
        self.engine().drive_now(id).await.expect("driven");
        self.plant.app.store.workflow_fetch(id).await.expect("read")
    }

    /// Its clean-up, made.
    pub(crate) async fn clean(&self, id: &WorkflowId) -> WorkflowId {
        let view = self.plant.app.failover_cleanup(&somebody(), id.as_str()).await.expect("taken");
        view.failover.cleanup.expect("made").id
    }

    pub(crate) async fn failover(&self, id: &WorkflowId) -> Failover {
        self.plant.app.store.failover_fetch(id).await.expect("read")
    }

    /// Replicas and restore points, by their content, and what is somebody else's.
    pub(super) fn kept(&self) -> BTreeMap<String, blake3::Hash> {
        self.plant.ground.kept(self.plant.folder.path())
    }

    pub(crate) fn there(&self) -> There {
        self.plant.ground.there(self.plant.folder.path())
    }

    pub(crate) fn nothing_there(&self) -> bool {
        let there = self.there();
        there == There::default()
    }

    /// Nothing is there that the journal does not know of, all that it says is done is; and replica and restore points are
    /// as they were.
    pub(crate) async fn check(&self, id: &WorkflowId) {
        assert_eq!(self.kept(), self.before, "the replica is the cycles'");
        let failover = self.failover(id).await;
        let there = self.there();
        let record = &failover.record;
        let disks = self.plant.disks().await;
        let removed = |step: &str| {
            let steps = failover.cleanup.iter().flat_map(|job| &job.steps);
            steps.filter(|s| s.plan.name == step).map(|s| s.state).next()
        };
        for (n, disk) in disks.iter().enumerate() {
            let clone = names::clone_of(id, &disk.id).to_string();
            let made = state(&failover.job, &format!("clone-{n}"));
            agree(there.clones.contains(&clone), made, removed(&format!("drop-clone-{n}")), &failover);
            let recorded = there.records.contains(&clone);
            let adopted = state(&failover.job, &format!("adopt-{n}"));
            agree(recorded, adopted, removed(&format!("release-{n}")), &failover);
        }
        let mine = disks.iter().map(|d| names::clone_of(id, &d.id).to_string());
        let mine: BTreeSet<_> = mine.collect();
        // What is half-made is thrown away by the next attempt, and by the next start.
        let whole: BTreeSet<_> = there.clones.iter().filter(|n| !n.ends_with(".tmp")).cloned().collect();
        assert!(whole.is_subset(&mine), "{there:?}");
        let snapshot = there.snapshots.contains(&record.name);
        agree(snapshot, state(&failover.job, "snapshot"), removed("drop-snapshot"), &failover);
        let machine = there.machines.iter().find(|(name, ..)| *name == record.name);
        agree(machine.is_some(), state(&failover.job, "define"), removed("remove"), &failover);
        if let Some((_, _, State::Running)) = machine {
            agree(true, state(&failover.job, "start"), removed("stop"), &failover);
        }
        assert_eq!(there.machines.len(), usize::from(machine.is_some()), "{there:?}");
        match failover.job.state {
            JobState::RolledBack => assert!(self.nothing_there(), "{there:?} is nobody's: {failover:#?}"),
            JobState::Succeeded if failover.cleanup.is_none() => {
                let (_, attached, running) = machine.expect("a machine");
                assert_eq!((attached.len(), *running), (disks.len(), State::Running), "{failover:#?}");
            }
            _ => {}
        }
        if failover.cleanup.as_ref().is_some_and(|job| job.state == JobState::Succeeded) {
            assert!(self.nothing_there(), "{there:?} is left: {failover:#?}");
        }
    }
}

fn state(job: &Job, step: &str) -> StepState {
    job.steps.iter().find(|s| s.plan.name == step).map_or(StepState::Pending, |s| s.state)
}

/// Whether something is there, and what the journal says of its making and its removal.
fn agree(there: bool, made: StepState, removed: Option<StepState>, of: &Failover) {
    let sure = |state: Option<StepState>| state.is_none_or(|s| s == StepState::Pending);
    match (made, removed) {
        (_, Some(StepState::Done)) => assert!(!there, "it is removed: {of:#?}"),
        (StepState::Done, removed) if sure(removed) => assert!(there, "it is made: {of:#?}"),
        (StepState::Pending | StepState::Undone, _) => assert!(!there, "nobody made it: {of:#?}"),
        _ => {}
    }
}

pub(crate) fn somebody() -> Caller {
    Caller { name: "tester".to_owned(), role: Role::Operator }
}

/// Every effect of a workflow, and what goes wrong with it.
struct Faulty {
    of: Arc<dyn Workflow>,
    faults: Arc<Faults>,
}

struct FaultyEffect {
    of: Arc<dyn Effect>,
    step: String,
    faults: Arc<Faults>,
}

impl Workflow for Faulty {
    fn kind(&self) -> &'static str {
        self.of.kind()
    }

    fn effect(&self, job: &Job, step: &Step) -> Option<Arc<dyn Effect>> {
        let (step_name, faults) = (step.plan.name.clone(), Arc::clone(&self.faults));
        Some(Arc::new(FaultyEffect { of: self.of.effect(job, step)?, step: step_name, faults }))
    }
}

impl FaultyEffect {
    fn next(&self, at: At) -> Option<Fault> {
        let mut faults = self.faults.lock().expect("whole");
        let list = faults.get_mut(&(self.step.clone(), at))?;
        if list.is_empty() { None } else { Some(list.remove(0)) }
    }
}

fn problem(kind: Kind) -> Problem {
    Problem::new(kind, "FAULT", "the test says so")
}

#[async_trait::async_trait]
impl Effect for FaultyEffect {
    fn name(&self, job: &Job) -> Option<String> {
        self.of.name(job)
    }

    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        self.of.look_up(turn).await
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        match self.next(At::Act) {
            Some(Fault::Transient) => Err(problem(Kind::Transient)),
            Some(Fault::Permanent) => Err(problem(Kind::Permanent)),
            Some(Fault::AnswerLost) => self.of.act(turn).await.and(Err(problem(Kind::Unknown))),
            Some(Fault::SaidFailed) => self.of.act(turn).await.and(Err(problem(Kind::Permanent))),
            None => self.of.act(turn).await,
        }
    }

    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem> {
        match self.next(At::Undo) {
            Some(Fault::Transient) => Err(problem(Kind::Transient)),
            Some(Fault::Permanent) => Err(problem(Kind::Permanent)),
            Some(Fault::AnswerLost) => self.of.undo(turn).await.and(Err(problem(Kind::Unknown))),
            Some(Fault::SaidFailed) => self.of.undo(turn).await.and(Err(problem(Kind::Permanent))),
            None => self.of.undo(turn).await,
        }
    }
}
