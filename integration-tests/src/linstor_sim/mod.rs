//! A LINSTOR controller that is none: speaks its REST interface, really keeps bytes, and fails when told to.
//!
//! ```text
//!  client ── http ─► http ─► routes ─► nodes groups spawn definitions resources snapshots restore rollback views
//!                      │                  └ state (model), a lock of one call's step
//!                      │                  └ satellite: brings the files (bytes) into line with the state
//!                      └ /sim/… the switchboard (faults): rules, what happens at once, a log of calls
//!
//!  DIR/state.json      all that is known; written whole after every change and before every answer
//!  DIR/pools/NODE/POOL one file a volume (`device_path`), one a snapshot's
//! ```
//!
//! Right is what a real one was recorded to answer: `replay` sends it the requests of LINSTOR 1.33.3 and compares. All that
//! can lose data there can lose it here; `tests` shows each with real bytes.
//!
//! The switchboard:
//!
//! ```text
//!  GET POST DELETE /sim/rules   rules to come; add one or a list; forget all
//!  POST /sim/now                {"node": {"name": "oma", "online": false}}
//!                               {"pool": {"node": "oma", "pool": "thin", "capacity_kib": 1024}}
//!                               {"in_use": {"resource": "cs-1", "node": "oma", "in_use": true}}
//!  GET /sim/calls               what was asked: method, path, status, ms;  POST /sim/reset-calls
//!
//!  a rule: {"method": "POST", "path": "/v1/*/snapshot-rollback/*", "nth": 1, "times": 1, "at": "deleted",
//!           "what": "die" | "drop_answer" | {"delay_ms": 500} | {"fail": {"code": 996}}
//!                 | {"tool_fails": "create" | "snapshot" | "restore" | "attach" | "any"} | any that /sim/now takes}
//! ```
//!
//! With DRBD it is known who has a volume open: by the locks that QEMU takes (`open`), or by the switchboard's word.
//!
//! Not here: DRBD itself (replicas of a node with DRBD share one file, so that they never differ and never resync), other
//! storage than files, encryption, tokens, https, remotes, events, and the paging of most lists. The wording of causes is
//! recorded, error reports are short.

mod available;
mod bytes;
mod call;
mod definitions;
mod entries;
mod faults;
mod groups;
mod http;
mod misc;
mod model;
mod names;
mod nodes;
mod open;
mod place;
mod recover;
#[cfg(test)]
mod replay;
mod requests;
mod resources;
mod restore;
mod rollback;
mod routes;
mod satellite;
mod setup;
mod snapshots;
mod spawn;
mod store;
#[cfg(test)]
mod tests;
mod views;
mod volumes;

#[cfg(test)]
pub(crate) use replay::difference;
#[cfg(test)]
pub(crate) use tests::ask;

pub use faults::{Logged, Rule, Tool, What};
pub use setup::{Options, PoolSpec};

use anyhow::Context as _;
use call::Died;
use faults::Board;
use model::World;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// See the module. Dropping it closes the port and all connections; the folder can be given to another one.
pub struct LinstorSim {
    sim: Arc<Sim>,
    address: SocketAddr,
    ended: CancellationToken,
}

/// The controller without its port.
pub(crate) struct Sim {
    world: Mutex<World>,
    board: Mutex<Board>,
    options: Options,
    /// It is gone: nothing is answered or written any more.
    dead: AtomicBool,
}

impl LinstorSim {
    /// Opens the folder, finishes what another one left undone, and listens.
    ///
    /// # Errors
    /// The folder cannot be used, its state cannot be read, or the port is taken.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("listen on {}", options.listen))?;
        let address = listener.local_addr()?;
        let sim = Arc::new(Sim::open(options)?);
        let ended = CancellationToken::new();
        tokio::spawn(http::accept(listener, Arc::clone(&sim), ended.clone()));
        let (late, until) = (Arc::clone(&sim), ended.clone());
        tokio::spawn(until.run_until_cancelled_owned(async move {
            tokio::time::sleep(late.options.reconnect).await;
            let connecting = tokio::task::spawn_blocking(move || late.connected());
            let _ = connecting.await;
        }));
        Ok(Self { sim, address, ended })
    }

    /// Where clients find it: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds rules behind those that are there.
    pub fn arm(&self, rules: impl IntoIterator<Item = Rule>) {
        self.sim.board().arm(rules);
    }

    /// Takes all rules back.
    pub fn disarm(&self) {
        self.sim.board().disarm();
    }

    /// Something happens at once: to a node, a pool, or who has a device open.
    pub fn now(&self, what: &What) {
        self.sim.happen(what);
    }

    /// What was asked so far.
    pub fn calls(&self) -> Vec<Logged> {
        self.sim.board().calls().to_vec()
    }
}

impl Drop for LinstorSim {
    fn drop(&mut self) {
        self.ended.cancel();
        self.sim.dead.store(true, Ordering::SeqCst);
    }
}

impl Sim {
    fn open(options: Options) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&options.dir).with_context(|| format!("make {}", options.dir.display()))?;
        let options = Options { dir: options.dir.canonicalize()?, ..options };
        let mut world = match store::load(&options.dir)? {
            Some(world) => world,
            None => setup::fresh(&options),
        };
        recover::after_restart(&mut world, &options);
        store::save(&options.dir, &world)?;
        Ok(Self { world: Mutex::new(world), board: Mutex::default(), options, dead: AtomicBool::new(false) })
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self) -> &Path {
        &self.options.dir
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Writes all down.
    fn save(&self, world: &World) {
        if self.is_dead() {
            return;
        }
        if let Err(error) = store::save(&self.options.dir, world) {
            tracing::error!(error = format!("{error:#}"), "the state could not be written");
        }
    }

    /// Ends as by `kill -9`: as a program really; in a test, all that is under way unwinds and nothing is written any more.
    fn die(&self) {
        if self.options.abort_when_told_to_die {
            std::process::abort();
        }
        self.dead.store(true, Ordering::SeqCst);
        std::panic::resume_unwind(Box::new(Died));
    }

    /// Nodes that were looked for are found.
    fn connected(&self) {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let found: Vec<_> =
            world.nodes.values().filter(|node| node.connecting).map(|node| node.name.clone()).collect();
        for node in &found {
            recover::node_turns(&mut world, self.dir(), node, true);
        }
        if !found.is_empty() {
            self.save(&world);
        }
    }

    /// What needs no call to happen.
    fn happen(&self, what: &What) {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            What::Pool { node, pool, capacity_kib } => {
                let pool =
                    world.nodes.get_mut(&model::key(node)).and_then(|n| n.pools.get_mut(&model::key(pool)));
                if let Some(pool) = pool {
                    pool.capacity_kib = *capacity_kib;
                }
            }
            What::Node { name, online } => recover::node_turns(&mut world, self.dir(), name, *online),
            What::InUse { resource, node, in_use } => {
                if let Some(definition) = world.definitions.get_mut(&model::key(resource)) {
                    match in_use {
                        true => definition.in_use.insert(model::key(node)),
                        false => definition.in_use.remove(&model::key(node)),
                    };
                }
            }
            What::Fail { .. } | What::DelayMs(_) | What::DropAnswer | What::ToolFails(_) | What::Die => {}
        }
        self.save(&world);
    }
}

/// Where a pool's files are.
fn pool_folder(dir: &Path, node: &str, pool: &str) -> PathBuf {
    dir.join("pools").join(model::key(node).to_lowercase()).join(model::key(pool).to_lowercase())
}
