//! What is only true while the process runs: which agents are connected, how far a running cycle is, who watches.
//!
//! Nothing here is needed after a restart; what is, lies in the store. Watchers are told that something changed and
//! read the latest state themselves, so a slow one misses intermediate states and never slows the writer.

use crate::metrics::{Bytes, Metrics};
use crate::pace::Pace;
use crate::service::Waiting;
use crate::service::journal::Journal;
use crate::service::watch::Watches;
use crate::store::{Failure, Job, JobDisk};
use jiff::Timestamp;
use shared::cycle::tally::Tally;
use shared::cycle::{DiskProgress, PowerOrder, PowerReport};
use shared::ids::{AgentId, DiskId, Epoch, JobId, MigrationId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// A connected agent.
#[derive(Clone)]
struct Session {
    id: String,
    /// Raised when its desired state may have changed.
    changed: Arc<Notify>,
    /// Cancelled when another connection of the same agent takes over.
    overtaken: CancellationToken,
    /// As the agent said them.
    capabilities: Vec<String>,
}

/// Counters of a running cycle.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// All of the cycle's, once anything was heard of one.
    disks: HashMap<DiskId, Tally>,
    /// Bytes of data a second, over the last one or two.
    pub speed: u64,
    /// The highest of these, and of the average since the cycle began.
    pub peak: u64,
    last: Option<(Instant, u64)>,
    waiting: Option<Waiting>,
    /// What the counters of the process have of it.
    counted: Option<Bytes>,
}

impl Live {
    /// Why the cycle does not get on, if so.
    pub fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_ref()
    }

    /// Whether anything was heard of its disks.
    pub fn is_counted(&self) -> bool {
        !self.disks.is_empty()
    }

    /// How a disk stands: a finished one as it was sealed, for ever.
    pub fn of<'a>(&'a self, disk: &'a JobDisk) -> &'a DiskProgress {
        match self.disks.get(&disk.disk) {
            Some(tally) if tally.is_sealed() || !disk.finished => tally.shown(),
            Some(_) | None => &disk.progress,
        }
    }

    /// How a disk stood when something was last heard of its cycle.
    pub fn last_of(&self, disk: &DiskId) -> Option<&DiskProgress> {
        self.disks.get(disk).map(Tally::shown)
    }

    /// Takes what is stored of the cycle, where it goes before what is known here, and then what its agent reported.
    fn take(&mut self, job: &Job, said: &[DiskProgress], now: Instant) {
        for disk in &job.disks {
            let tally = self.disks.entry(disk.disk.clone()).or_insert_with(|| Tally::new(&disk.progress));
            if disk.finished {
                tally.seal(&disk.progress);
            }
            for said in said.iter().filter(|said| said.disk.as_ref() == Some(&disk.disk)) {
                // Of an attempt before this process began: what it had come to is stored, how much of it is not known.
                if said.epoch.is_none_or(|epoch| epoch >= disk.epoch || tally.knows(epoch)) {
                    tally.take(said, disk.progress.size);
                }
            }
        }
        self.measure(job, now);
    }

    /// What came since the last time, for the counters of the process: what was stored before the process began is not
    /// its own.
    fn more(&mut self, job: &Job) -> Bytes {
        let stored = || Bytes::of(job.disks.iter().map(|disk| &disk.progress));
        let mut before = self.counted.unwrap_or_else(stored);
        let more = Bytes::of(job.disks.iter().map(|disk| self.of(disk))).since(&mut before);
        self.counted = Some(before);
        more
    }

    /// Bytes of data, of all disks.
    fn moved(&self, job: &Job) -> u64 {
        job.disks.iter().map(|disk| self.of(disk).data).fold(0, u64::saturating_add)
    }

    /// The speeds, at most once a second.
    fn measure(&mut self, job: &Job, now: Instant) {
        let moved = self.moved(job);
        let elapsed = Timestamp::now().duration_since(job.started_at).as_millis();
        let average = match u128::try_from(elapsed) {
            // What the first moments brought is no speed: over a second at least.
            Ok(millis @ 1..) => {
                u64::try_from(u128::from(moved) * 1000 / millis.max(1000)).unwrap_or(u64::MAX)
            }
            // The clock was set back.
            Ok(0) | Err(_) => 0,
        };
        self.peak = self.peak.max(job.progress.peak).max(average);
        match self.last {
            Some((at, had)) if now - at >= Duration::from_millis(900) => {
                let seconds = (now - at).as_secs_f64();
                // Precise enough far beyond any link.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a rate, positive"
                )]
                let speed = (moved.saturating_sub(had) as f64 / seconds) as u64;
                self.speed = speed;
                self.peak = self.peak.max(speed);
                self.last = Some((now, moved));
            }
            Some(_) => {}
            None => self.last = Some((now, moved)),
        }
    }
}

/// When something was last heard of an agent.
#[derive(Clone, Copy, Debug)]
struct Heard {
    since: tokio::time::Instant,
    at: Timestamp,
    /// It is in the database.
    stored: bool,
}

/// See the module.
pub struct Hub {
    agents: Mutex<HashMap<AgentId, Session>>,
    live: Mutex<HashMap<JobId, Live>>,
    watchers: Mutex<HashMap<MigrationId, watch::Sender<u64>>>,
    /// What was last said of a VM's power.
    power: Mutex<HashMap<MigrationId, PowerReport>>,
    /// What somebody who waits wants to know of it.
    looks: Mutex<HashMap<MigrationId, PowerOrder>>,
    /// When something was last heard of an agent.
    heard: Mutex<HashMap<AgentId, Heard>>,
    /// Why no cycle may run, for want of space on the target.
    space_low: Mutex<Option<Failure>>,
    /// Wakes the reconcilers.
    work: Notify,
    /// Numbers of states: they grow, also over a restart, because they begin at the microseconds since 1970.
    sequence: Mutex<u64>,
    /// When counters are stored.
    pub pace: Pace,
    /// The turn to store counters.
    pub storing: Semaphore,
    /// The turn to begin a migration: two at once would take the same room and the same name.
    pub beginning: Semaphore,
    /// Who watches.
    pub watches: Watches,
    /// The newest events.
    pub journal: Journal,
    /// What is counted while the process runs.
    pub metrics: Metrics,
    /// The traces of actions whose work has not begun yet.
    traces: Mutex<HashMap<MigrationId, String>>,
}

/// An agent looks while this is there: who gave up waiting leaves no order behind.
pub struct Looking<'a> {
    hub: &'a Hub,
    migration: MigrationId,
    agent: AgentId,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        lock(&self.hub.looks).remove(&self.migration);
        self.hub.agent_changed(&self.agent);
    }
}

impl Default for Hub {
    fn default() -> Self {
        let start = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(1);
        Self {
            agents: Mutex::default(),
            live: Mutex::default(),
            power: Mutex::default(),
            looks: Mutex::default(),
            heard: Mutex::default(),
            space_low: Mutex::default(),
            watchers: Mutex::default(),
            work: Notify::new(),
            sequence: Mutex::new(start),
            pace: Pace::default(),
            storing: Semaphore::new(1),
            beginning: Semaphore::new(1),
            watches: Watches::default(),
            journal: Journal::default(),
            metrics: Metrics::default(),
            traces: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection of an agent, registered until it is dropped.
pub struct AgentConnection {
    hub: Arc<Hub>,
    agent: AgentId,
    session: Session,
}

impl AgentConnection {
    pub fn session_id(&self) -> &str {
        &self.session.id
    }

    /// Returns when the agent's desired state may have changed.
    pub async fn changed(&self) {
        self.session.changed.notified().await;
    }

    /// Returns when another connection of the same agent took over.
    pub async fn overtaken(&self) {
        self.session.overtaken.cancelled().await;
    }
}

impl Drop for AgentConnection {
    fn drop(&mut self) {
        let mut agents = lock(&self.hub.agents);
        if agents.get(&self.agent).is_some_and(|s| s.id == self.session.id) {
            agents.remove(&self.agent);
        }
    }
}

impl Hub {
    /// Registers a connection; an older one of the same agent is told that it is overtaken.
    pub fn agent_connect(self: &Arc<Self>, agent: &AgentId, capabilities: Vec<String>) -> AgentConnection {
        let session = Session {
            id: uuid::Uuid::now_v7().to_string(),
            changed: Arc::new(Notify::new()),
            overtaken: CancellationToken::new(),
            capabilities,
        };
        let old = lock(&self.agents).insert(agent.clone(), session.clone());
        if let Some(old) = old {
            old.overtaken.cancel();
        }
        AgentConnection { hub: Arc::clone(self), agent: agent.clone(), session }
    }

    pub fn agent_is_connected(&self, agent: &AgentId) -> bool {
        lock(&self.agents).contains_key(agent)
    }

    /// What a connected agent can do beyond the protocol's version; `None`: it is not connected.
    pub fn agent_capabilities(&self, agent: &AgentId) -> Option<Vec<String>> {
        lock(&self.agents).get(agent).map(|session| session.capabilities.clone())
    }

    /// The desired state of this agent may have changed.
    pub fn agent_changed(&self, agent: &AgentId) {
        if let Some(session) = lock(&self.agents).get(agent) {
            session.changed.notify_one();
        }
    }

    /// An agent has carried an order about a VM's power out, or says why not.
    pub fn power_said(&self, report: PowerReport) {
        lock(&self.power).insert(report.migration.clone(), report);
    }

    /// How that order came out, if it has.
    pub fn power(&self, migration: &MigrationId, order: &str) -> Option<PowerReport> {
        lock(&self.power).get(migration).filter(|report| report.order == order).cloned()
    }

    /// Has the agent look how the VM's power is now, and say so under the order that is given back (this one, or one that
    /// somebody waits for already), until what is given back is dropped.
    pub fn look(
        &self,
        migration: &MigrationId,
        agent: &AgentId,
        order: PowerOrder,
    ) -> (PowerOrder, Looking<'_>) {
        let order = lock(&self.looks).entry(migration.clone()).or_insert(order).clone();
        self.agent_changed(agent);
        (order, Looking { hub: self, migration: migration.clone(), agent: agent.clone() })
    }

    /// What its agent is to look at for somebody who waits.
    pub fn looks(&self, migration: &MigrationId) -> Option<PowerOrder> {
        lock(&self.looks).get(migration).cloned()
    }

    /// Something was heard of this agent.
    pub fn agent_heard(&self, agent: &AgentId, at: Timestamp) {
        let heard = Heard { since: tokio::time::Instant::now(), at, stored: false };
        lock(&self.heard).insert(agent.clone(), heard);
    }

    /// When something was last heard of it; `None`: nothing yet.
    pub fn agent_heard_at(&self, agent: &AgentId) -> Option<Timestamp> {
        lock(&self.heard).get(agent).map(|heard| heard.at)
    }

    /// The agents of which something was heard since they were last stored; they count as stored from here on.
    pub fn agents_to_store(&self) -> Vec<(AgentId, Timestamp)> {
        let mut heard = lock(&self.heard);
        let open = heard.iter_mut().filter(|(_, heard)| !heard.stored);
        open.map(|(agent, heard)| {
            heard.stored = true;
            (agent.clone(), heard.at)
        })
        .collect()
    }

    /// Since something was last heard of it; `None`: nothing yet.
    pub fn agent_silent_for(&self, agent: &AgentId) -> Option<Duration> {
        lock(&self.heard).get(agent).map(|heard| heard.since.elapsed())
    }

    /// Why no cycle may run, for want of space on the target.
    pub fn space_low(&self) -> Option<Failure> {
        lock(&self.space_low).clone()
    }

    pub fn set_space_low(&self, why: Option<Failure>) {
        *lock(&self.space_low) = why;
    }

    /// There may be something for the reconcilers.
    pub fn wake(&self) {
        self.work.notify_one();
    }

    /// Waits for [`wake`](Self::wake), at most for `period`.
    pub async fn work(&self, period: Duration) {
        let _ = tokio::time::timeout(period, self.work.notified()).await;
    }

    /// A new number for a state of this migration; its watchers wake.
    pub fn migration_changed(&self, migration: &MigrationId) {
        let number = self.next_number();
        if let Some(sender) = lock(&self.watchers).get(migration) {
            sender.send_replace(number);
        }
    }

    /// Numbers of this migration's states, the latest at once.
    pub fn watch(&self, migration: &MigrationId) -> watch::Receiver<u64> {
        let number = self.next_number();
        let mut watchers = lock(&self.watchers);
        watchers.retain(|_, sender| sender.receiver_count() > 0);
        watchers.entry(migration.clone()).or_insert_with(|| watch::Sender::new(number)).subscribe()
    }

    fn next_number(&self) -> u64 {
        let mut sequence = lock(&self.sequence);
        *sequence += 1;
        *sequence
    }

    /// Counters of a cycle, as it is stored now, and as its agent reported them. They are stored when it is time
    /// ([`Pace`]).
    pub fn progress(&self, job: &Job, said: &[DiskProgress]) {
        // First: what is said now is more than what is stored.
        self.counted(job);
        lock(&self.live).entry(job.id.clone()).or_default().take(job, said, Instant::now());
        self.counted(job);
        self.pace.changed(&job.id);
    }

    /// The cycle as it is stored now, for the counters of the process: what is added to it from here on is theirs.
    pub fn counted(&self, job: &Job) {
        let more = lock(&self.live).entry(job.id.clone()).or_default().more(job);
        self.metrics.moved(more);
    }

    /// What is known of a disk of a cycle in its attempt under `epoch`; `disk` as it is stored.
    pub fn tally(&self, job: &JobId, disk: &JobDisk, epoch: Epoch) -> Tally {
        if disk.finished {
            return Tally::new(&disk.progress);
        }
        let mut live = lock(&self.live);
        let disks = &mut live.entry(job.clone()).or_default().disks;
        let tally = disks.entry(disk.disk.clone()).or_insert_with(|| Tally::new(&disk.progress));
        tally.begun(epoch);
        tally.clone()
    }

    /// Why the cycle does not get on, in the agent's words.
    pub fn set_waiting(&self, job: &JobId, waiting: Waiting) {
        lock(&self.live).entry(job.clone()).or_default().waiting = Some(waiting);
    }

    /// It gets on again.
    pub fn not_waiting(&self, job: &JobId) {
        if let Some(live) = lock(&self.live).get_mut(job) {
            live.waiting = None;
        }
    }

    /// Why the cycle does not get on, if so.
    pub fn waiting(&self, job: &JobId) -> Option<Waiting> {
        lock(&self.live).get(job).and_then(|live| live.waiting.clone())
    }

    /// Counters of a running cycle.
    pub fn live(&self, job: &JobId) -> Option<Live> {
        lock(&self.live).get(job).cloned()
    }

    /// How many agents are connected.
    pub fn agents_connected(&self) -> usize {
        lock(&self.agents).len()
    }

    /// How many look on, at all migrations together.
    pub fn watching(&self) -> usize {
        lock(&self.watchers).values().map(watch::Sender::receiver_count).sum()
    }

    /// Whoever works on what was just asked of this migration goes on with the trace of this moment. A restart loses it,
    /// and the work begins a trace of its own.
    pub fn trace_leave(&self, migration: &MigrationId) {
        if let Some(trace) = shared::telemetry::traceparent() {
            lock(&self.traces).insert(migration.clone(), trace);
        }
    }

    /// The trace that was left for who works on this migration; once.
    pub fn trace_take(&self, migration: &MigrationId) -> Option<String> {
        lock(&self.traces).remove(migration)
    }

    /// The cycle ended.
    pub fn live_forget(&self, job: &JobId) {
        lock(&self.live).remove(job);
        self.pace.forget(job);
    }
}
