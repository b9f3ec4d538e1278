//! A folder in which each effect makes a file of its name; it can fail in every way in which another system does.

use super::*;
use crate::clock::Clock;
use crate::store::Store;
use crate::workflow::lease::Owner;
use integration_tests::mariadb::Server;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// What goes wrong, the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing happens, and that is said.
    Transient,
    Permanent,
    /// It happens, and the answer is lost.
    AnswerLost,
    /// It happens, and a failure is reported.
    SaidFailed,
    /// Nothing happens, and nothing is known.
    Nothing,
    Panic,
}

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    Act,
    LookUp,
    Undo,
}

#[derive(Debug)]
pub(super) struct World {
    folder: tempfile::TempDir,
    faults: Mutex<HashMap<(String, At), Vec<Fault>>>,
    /// Calls, as they came.
    pub(super) calls: Mutex<Vec<(String, At)>>,
    acted: AtomicUsize,
    /// So many acts may return; the others wait after they have acted.
    pub(super) open: watch::Sender<usize>,
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        let (folder, faults) = (tempfile::tempdir().expect("a folder"), Mutex::default());
        let (calls, acted, open) = (Mutex::default(), AtomicUsize::new(0), watch::Sender::new(usize::MAX));
        Arc::new(Self { folder, faults, calls, acted, open })
    }

    pub(super) fn fails(&self, step: &str, at: At, faults: &[Fault]) {
        self.faults.lock().expect("whole").insert((step.to_owned(), at), faults.to_vec());
    }

    /// Names of the files that are there.
    pub(super) fn inventory(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("the folder");
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        assert!(!name.is_empty(), "the journal knows the name before the effect");
        self.folder.path().join(name)
    }

    async fn called(&self, step: &str, at: At) -> Option<Fault> {
        self.calls.lock().expect("whole").push((step.to_owned(), at));
        // A crash can meet it on the way there.
        tokio::task::yield_now().await;
        let mut faults = self.faults.lock().expect("whole");
        let list = faults.get_mut(&(step.to_owned(), at))?;
        if list.is_empty() { None } else { Some(list.remove(0)) }
    }
}

/// `{"steps": ["a", "b gate", "c no_return"]}`: the kind of job of these tests.
#[derive(Debug)]
pub(super) struct Toy(pub(super) Arc<World>);

struct File {
    world: Arc<World>,
    step: String,
}

impl Workflow for Toy {
    fn kind(&self) -> &'static str {
        "toy"
    }

    fn effect(&self, _: &Job, step: &Step) -> Option<Arc<dyn Effect>> {
        let step = step.plan.name.clone();
        if step == "unknown" {
            return None;
        }
        Some(Arc::new(File { world: Arc::clone(&self.0), step }))
    }
}

fn problem(kind: Kind, what: &str) -> Problem {
    Problem::new(kind, "TOY", format!("the toy says {what}"))
}

#[async_trait::async_trait]
impl Effect for File {
    fn name(&self, job: &Job) -> Option<String> {
        Some(format!("{}.{}", job.id, self.step))
    }

    async fn look_up(&self, turn: Turn<'_>) -> Result<Option<Value>, Problem> {
        match self.world.called(&self.step, At::LookUp).await {
            None => {}
            Some(Fault::Permanent) => return Err(problem(Kind::Permanent, "no")),
            Some(_) => return Err(problem(Kind::Transient, "later")),
        }
        let there = self.world.file(turn.name()).exists();
        Ok(there.then(|| json!(turn.name())))
    }

    async fn act(&self, turn: Turn<'_>) -> Result<Value, Problem> {
        turn.check()?;
        let fault = self.world.called(&self.step, At::Act).await;
        match fault {
            Some(Fault::Transient) => return Err(problem(Kind::Transient, "later")),
            Some(Fault::Permanent) => return Err(problem(Kind::Permanent, "no")),
            Some(Fault::Nothing) => return Err(problem(Kind::Unknown, "nothing")),
            Some(Fault::Panic) => panic!("a defect of a step"),
            Some(Fault::AnswerLost | Fault::SaidFailed) | None => {}
        }
        // Names are unique there, as they are elsewhere.
        let made = std::fs::File::create_new(self.world.file(turn.name()));
        // And on the way back.
        tokio::task::yield_now().await;
        let number = self.world.acted.fetch_add(1, Ordering::SeqCst) + 1;
        let mut open = self.world.open.subscribe();
        open.wait_for(|open| *open >= number).await.expect("the world stays");
        match (made, fault) {
            (Ok(_), Some(Fault::AnswerLost)) => Err(problem(Kind::Unknown, "nothing")),
            (Ok(_), Some(Fault::SaidFailed)) => Err(problem(Kind::Permanent, "no")),
            (Ok(_), _) => Ok(json!(turn.name())),
            (Err(_), _) => Err(problem(Kind::Unknown, "it exists")),
        }
    }

    async fn undo(&self, turn: Turn<'_>) -> Result<(), Problem> {
        turn.check()?;
        match self.world.called(&self.step, At::Undo).await {
            None | Some(Fault::AnswerLost | Fault::SaidFailed) => {}
            Some(Fault::Transient | Fault::Nothing) => return Err(problem(Kind::Transient, "later")),
            Some(Fault::Permanent) => return Err(problem(Kind::Permanent, "no")),
            Some(Fault::Panic) => panic!("a defect of an undo"),
        }
        match std::fs::remove_file(self.world.file(turn.name())) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// A database, and what it needs to live.
pub(super) struct Database {
    pub(super) store: Store,
    _folder: Option<tempfile::TempDir>,
}

impl Database {
    pub(super) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("oma.db").display());
        Self { store: open(&url).await, _folder: Some(folder) }
    }

    pub(super) async fn mariadb() -> Self {
        Self { store: open(&Server::shared().database().expect("a database")).await, _folder: None }
    }

    /// The job, as soon as that is true of it.
    pub(super) async fn reaches(&self, id: &WorkflowId, wanted: impl Fn(&Job) -> bool) -> Job {
        let end = tokio::time::Instant::now() + SOON;
        loop {
            let job = self.store.workflow_fetch(id).await.expect("read");
            if wanted(&job) {
                return job;
            }
            assert!(tokio::time::Instant::now() < end, "not in time: {job:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn ends(&self, id: &WorkflowId) -> Job {
        self.reaches(id, |job| job.state.ended()).await
    }
}

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(30);

pub(super) async fn until(true_now: impl Fn() -> bool) {
    let found = async {
        while !true_now() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, found).await.expect("in time");
}

async fn open(url: &str) -> Store {
    let store = Store::connect(url).await.expect("connect");
    store.migrate().await.expect("migrate");
    store
}

/// An engine of a control plane of that name: quick, but for its lease.
pub(super) fn engine(store: &Store, world: &Arc<World>, instance: &str) -> Engine {
    let options = Options {
        lease: Duration::from_secs(60),
        period: Duration::from_millis(20),
        attempts: 5,
        pause: (Duration::from_millis(1), Duration::from_millis(2)),
        ..Options::new(Owner::new(instance), Clock::wall())
    };
    Engine::new(store.clone(), vec![Arc::new(Toy(Arc::clone(world)))], options)
}

pub(super) fn new_job(id: &str, steps: &[&str]) -> NewJob {
    let step = |text: &&str| {
        let mut words = text.split(' ');
        let step = NewStep::new("all", words.next().expect("a name"));
        words.fold(step, |step, word| match word {
            "gate" => step.gate(),
            "no_return" => step.no_return(),
            "required" => step.required(),
            other => panic!("{other:?} is no property of a step"),
        })
    };
    NewJob {
        id: WorkflowId::parse(id).expect("an id"),
        kind: "toy".to_owned(),
        version: 1,
        subject: String::new(),
        params: json!({ "made": "for a test" }),
        correlation: "c-1".to_owned(),
        steps: steps.iter().map(step).collect(),
    }
}

/// The files that the journal says there are: (those that must be, those that may be too).
pub(super) fn said(job: &Job) -> (BTreeSet<String>, BTreeSet<String>) {
    let name = |s: &Step| format!("{}.{}", job.id, s.plan.name);
    let must = job.steps.iter().filter(|s| s.state == StepState::Done).map(name).collect();
    let sure_not = |s: &&Step| !matches!(s.state, StepState::Pending | StepState::Undone);
    (must, job.steps.iter().filter(sure_not).map(name).collect())
}

/// Nothing is there that the journal does not know of, and all that it says is done.
pub(super) fn check(job: &Job, world: &World) {
    let (must, may) = said(job);
    let there = world.inventory();
    assert!(must.is_subset(&there) && there.is_subset(&may), "{there:?} by {job:#?}");
    match job.state {
        JobState::Succeeded => {
            let taken = job.steps.iter().filter(|s| s.state != StepState::Skipped).count();
            assert_eq!(there.len(), taken, "{job:#?}");
        }
        JobState::RolledBack => assert!(there.is_empty(), "{there:?} is nobody's: {job:#?}"),
        _ => {}
    }
}
