//! A CloudStack 4.22 management server that behaves, without machines: for tests, and for an operator who rehearses.
//!
//! ```text
//!  client ══ HTTP ══► request: signature → role → contract → switchboard → command ─► state.json, after every change
//!                                                                  └ job, one at a time per machine
//!                                                                      ├ Hypervisor (in memory, or QEMU)
//!                                                                      └ Linstor (a controller's REST API, or in memory)
//! ```
//!
//! It judges signatures and parameters by code and data of its own (the recorded `listApis`), keeps a state that survives
//! a kill, has asynchronous jobs that are asynchronous, and the traps that were recorded of the real server and its LINSTOR
//! plug-in. Not here: VM snapshots, VPCs, projects, routers, system VMs, sessions (login), anything that makes zones,
//! networks, offerings or pools: the world is given (`world.json` in its folder). `recordings/cloudstack-differences.txt`
//! says where it answers otherwise than the recorded server.
//!
//! # The switchboard
//!
//! Under `/sim/`, unsigned, JSON in and out:
//!
//! | request | what |
//! |---|---|
//! | `POST /sim/faults` | a rule or a list of them: `{"command": "attach*", "nth": 2, "what": "failed-though-done"}` |
//! | `GET /sim/faults` | what has not fired yet, and how many have |
//! | `DELETE /sim/faults` | takes back what has not fired |
//! | `GET /sim/calls` | what was asked: when (milliseconds since 1970), command, status, milliseconds, its job |
//! | `GET /sim/unknown-parameters` | parameters that no command of that name takes: `command.parameter` |
//! | `POST /sim/settings` | `{"job_ms": 2000, "order": "any" or "submission", "throttle": {"limit": 5, "window_ms": 10000}}` |
//! | `GET /sim/state` | the whole state |
//!
//! `what` is one of `fail` (`code`, `text`, `exception`), `failed-though-done`, `no-result`, `job-fail` (`code`, `text`),
//! `capacity`, `quota`, `drop-answer`, `delay` (`ms`), `stuck`, `burnt`, `left-between`, `die-before`, `die-after`; `nth`
//! counts calls of matching commands from now on (1 where it is not said; 0: all of them).

mod account;
mod answer;
mod call;
mod commands;
mod contract;
mod control;
mod fault;
mod http;
pub mod hypervisor;
mod jobs;
pub mod linstor;
mod linstor_rest;
mod list;
mod nic;
mod params;
mod plugin;
mod power_report;
mod refusal;
mod request;
mod sign;
mod snapshot;
mod state;
mod storage;
mod store;
mod tag;
#[cfg(test)]
mod tests;
mod vm_change;
mod vm_deploy;
mod vm_end;
mod vm_power;
mod vm_view;
mod volume_attach;
mod volume_change;
mod volume_create;
mod volume_end;
mod volume_view;
mod world;

pub use fault::{Rule, What};
pub use linstor_rest::Rest;
pub use world::World;

use account::Account;
use anyhow::Context as _;
use contract::Contract;
use fault::Switchboard;
use hypervisor::Hypervisor;
use linstor::Linstor;
use serde::{Deserialize, Serialize};
use state::State;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What a simulator is started with.
pub struct Options {
    pub listen: SocketAddr,
    /// For its state, its world and its accounts' keys; made where missing.
    pub dir: PathBuf,
    /// What there is at its first start; afterwards `world.json` is read.
    pub world: World,
    /// As a later server, whose `createVolume` takes `storageid`.
    pub placed: bool,
    /// How long a job takes.
    pub job_time: Duration,
    pub order: Order,
    /// Instead of the controllers at the pools' addresses.
    pub linstor: Option<Arc<dyn Linstor>>,
    pub hypervisor: Arc<dyn Hypervisor>,
}

impl Options {
    /// On a free port of this machine, with the recorded world and jobs that take no time.
    ///
    /// # Errors
    /// The recorded world is damaged.
    pub fn new(dir: impl Into<PathBuf>) -> anyhow::Result<Self> {
        Ok(Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            dir: dir.into(),
            world: World::recorded()?,
            placed: false,
            job_time: Duration::ZERO,
            order: Order::Any,
            linstor: None,
            hypervisor: Arc::new(hypervisor::InMemory::default()),
        })
    }
}

/// In which order the jobs on one machine run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As with the real one: in no given order.
    #[default]
    Any,
    Submission,
}

/// So many calls of a plain user in a window.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Throttle {
    limit: u32,
    window_ms: i64,
}

/// What is asked and set from outside, and not kept.
#[derive(Default)]
struct Switches {
    board: Switchboard,
    throttle: Option<Throttle>,
    /// Since when, and how many.
    windows: BTreeMap<String, (i64, u32)>,
    unknown: BTreeSet<String>,
    calls: VecDeque<serde_json::Value>,
    job_time: Duration,
    order: Order,
    /// Jobs that run now, by their queue.
    running: HashSet<String>,
}

/// All that requests and jobs share.
struct Sim {
    world: World,
    accounts: Vec<Account>,
    contract: Contract,
    store: Mutex<Store>,
    switches: Mutex<Switches>,
    linstor: Option<Arc<dyn Linstor>>,
    hypervisor: Arc<dyn Hypervisor>,
    wake: Notify,
}

impl Sim {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn switches(&self) -> MutexGuard<'_, Switches> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock().state)
    }

    /// Changes the state and writes it, whatever came of it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut store = self.lock();
        let changed = change(&mut store.state);
        if let Err(error) = store.save() {
            tracing::error!(error = format!("{error:#}"), "the state was not written");
        }
        changed
    }
}

/// A simulator that runs. Dropping it ends it; its state stays in its folder.
pub struct CloudStackSim {
    sim: Arc<Sim>,
    address: SocketAddr,
    dir: PathBuf,
    ended: CancellationToken,
}

impl CloudStackSim {
    /// Starts one; it answers when this returns.
    ///
    /// # Errors
    /// The folder cannot be written, what lies in it cannot be read, or the address is not to be had.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let dir = options.dir;
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let mut world = world_of(&dir, &options.world)?;
        let accounts = account::accounts(&dir, &mut world)?;
        let switches = Switches { job_time: options.job_time, order: options.order, ..Switches::default() };
        let sim = Arc::new(Sim {
            world,
            accounts,
            contract: Contract::load(options.placed)?,
            store: Mutex::new(Store::open(&dir, &call::now())?),
            switches: Mutex::new(switches),
            linstor: options.linstor,
            hypervisor: options.hypervisor,
            wake: Notify::new(),
        });
        let listener = tokio::net::TcpListener::bind(options.listen).await;
        let listener = listener.with_context(|| format!("listen on {}", options.listen))?;
        let (address, ended) = (listener.local_addr()?, CancellationToken::new());
        tokio::spawn(http::serve(listener, Arc::clone(&sim), ended.clone()));
        tokio::spawn(jobs::run(Arc::clone(&sim), ended.clone()));
        tokio::spawn(power_report::run(Arc::clone(&sim), ended.clone()));
        Ok(Self { sim, address, dir, ended })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients find the API.
    pub fn url(&self) -> String {
        format!("http://{}/client/api", self.address)
    }

    /// Files with the API key and the secret key of the root admin.
    pub fn admin_keys(&self) -> (PathBuf, PathBuf) {
        account::key_files(&self.dir, "admin")
    }

    /// The same of a plain user.
    pub fn user_keys(&self) -> (PathBuf, PathBuf) {
        account::key_files(&self.dir, "user")
    }

    /// What there is.
    pub fn world(&self) -> &World {
        &self.sim.world
    }

    /// Lets things go wrong.
    pub fn arm(&self, rules: impl IntoIterator<Item = Rule>) {
        self.sim.switches().board.arm(rules);
    }

    /// What was asked so far, as `GET /sim/calls` shows it.
    pub fn calls(&self) -> Vec<serde_json::Value> {
        self.sim.switches().calls.iter().cloned().collect()
    }

    /// `command.parameter` of what no such command takes.
    pub fn unknown_parameters(&self) -> Vec<String> {
        self.sim.switches().unknown.iter().cloned().collect()
    }
}

impl Drop for CloudStackSim {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// What an earlier start wrote, or the operator after it; else what was given.
fn world_of(dir: &Path, given: &World) -> anyhow::Result<World> {
    let file = dir.join("world.json");
    if file.exists() {
        let text = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        return serde_json::from_slice(&text).with_context(|| format!("{} is no world", file.display()));
    }
    store::write_whole(&file, &serde_json::to_vec_pretty(given)?)?;
    Ok(given.clone())
}
