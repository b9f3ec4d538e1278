//! Stands between an agent and its control plane and knows what they say: faults at a chosen message.
//!
//! ```text
//!  agent ══ mTLS ══► Middle (the OMA's certificate │ the agent's) ══ mTLS ══► OMA
//!                      └ each gRPC message of each two-way stream: its kind, then the plan
//! ```
//!
//! It can cut or reset the connection just before or just after a message of a kind, send one twice or too late, stop
//! forwarding while TCP stays open, and rewrite messages as another version would have said them. One connection of
//! the agent is one connection to the OMA: what breaks on one side breaks on the other. All that is not part of the
//! plan goes through as it is, bytes and statuses. Not here: bandwidth and delay.

mod catalog;
mod plan;
mod relay;
mod wire;

pub use catalog::{Kind, message, unknown_field, unknown_message};
pub use plan::{Fault, Moment, Rule};
pub use wire::How;

use crate::harness::{World, eventually};
use anyhow::Context as _;
use bytes::Bytes;
use catalog::Catalog;
use migratekit::dev_ca::Folder;
use plan::Plan;
use shared::tls::Role;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wire::Link;

/// Another version's words: what goes out instead of a message of this kind (`None`: unknown to this schema).
pub type Rewrite = Arc<dyn Fn(Option<&Kind>, Bytes) -> Vec<Bytes> + Send + Sync>;

/// See the module. Dropping it closes all connections through it.
pub struct Middle {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    catalog: Catalog,
    tls: relay::Certificates,
    oma: String,
    state: Mutex<State>,
    fired: Notify,
    ended: CancellationToken,
}

#[derive(Default)]
struct State {
    plan: Plan,
    rewrite: Option<Rewrite>,
    links: Vec<Arc<Link>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Middle {
    /// Listens for agents of the OMA at `oma` (`localhost:PORT`), with the keys of both sides.
    ///
    /// # Errors
    /// The certificates cannot be used, or no port is to be had.
    pub async fn start(ca: &Folder, oma: &str) -> anyhow::Result<Self> {
        let tls = relay::Certificates {
            server: ca.files(Role::Oma, "main").server()?,
            client: ca.files(Role::Agent, "vma-01").client()?,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            catalog: Catalog::of_schema()?,
            tls,
            oma: oma.to_owned(),
            state: Mutex::default(),
            fired: Notify::new(),
            ended: CancellationToken::new(),
        });
        tokio::spawn(relay::accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, port })
    }

    /// Puts one between the world's agent and its OMA.
    ///
    /// # Errors
    /// As [`start`](Self::start), or the agent does not come back.
    pub async fn between(world: &mut World) -> anyhow::Result<Self> {
        let middle = Self::start(&world.ca, &world.address).await?;
        let config = world.dir.join("vma.toml");
        let text = std::fs::read_to_string(&config)?;
        let (was, now) = (format!("oma = \"{}\"", world.address), format!("oma = \"{}\"", middle.address()));
        anyhow::ensure!(text.contains(&was), "the agent's configuration names no OMA");
        std::fs::write(config, text.replace(&was, &now))?;
        world.agent_restart()?;
        Ok(middle)
    }

    /// Where agents find it.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Adds rules behind those that have not fired yet. One is in force at a time, and counts from then on.
    pub fn arm(&self, rules: impl IntoIterator<Item = Rule>) {
        self.shared.lock().plan.arm(rules);
    }

    /// Takes back what has not fired, and gives it.
    pub fn disarm(&self) -> Vec<Rule> {
        self.shared.lock().plan.disarm()
    }

    /// Rules that have not fired yet.
    pub fn armed(&self) -> usize {
        self.shared.lock().plan.armed()
    }

    /// Rules that have fired so far.
    pub fn fired(&self) -> u64 {
        self.shared.lock().plan.fired()
    }

    /// Waits until all rules have fired.
    ///
    /// # Errors
    /// When they have not within `deadline`; names the one in force.
    pub async fn all_fired(&self, deadline: Duration) -> anyhow::Result<()> {
        let waiting = async {
            while self.armed() > 0 {
                self.shared.fired.notified().await;
            }
        };
        let fired = tokio::time::timeout(deadline, waiting).await;
        fired.with_context(|| format!("not within {deadline:?}: {:?}", self.shared.lock().plan.in_force()))
    }

    /// Waits until an agent was welcomed after the last rule that fired: over a connection that this one did not end.
    ///
    /// # Errors
    /// None was within `deadline`.
    pub async fn welcomed(&self, deadline: Duration) -> anyhow::Result<()> {
        eventually("a welcome after the last fault", deadline, || async {
            Ok((self.shared.lock().plan.seen_since("ConnectResponse.welcome") > 0).then_some(()))
        })
        .await
    }

    /// Messages of this kind that came so far, from either side.
    pub fn seen(&self, kind: &str) -> u64 {
        self.shared.lock().plan.seen(kind)
    }

    /// What is said from now on goes through this.
    pub fn rewrite(&self, rewrite: Rewrite) {
        self.shared.lock().rewrite = Some(rewrite);
    }

    /// Cuts all connections there are.
    pub fn cut(&self, how: How) {
        let links = std::mem::take(&mut self.shared.lock().links);
        links.iter().for_each(|link| link.cut(how));
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        let mut state = self.shared.lock();
        state.links.retain(|link| !link.is_cut());
        state.links.len()
    }
}

/// All kinds of messages of all two-way streams in the schema, in order.
///
/// # Errors
/// The schema cannot be read.
pub fn kinds() -> anyhow::Result<Vec<Kind>> {
    Ok(Catalog::of_schema()?.kinds())
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.shared.ended.cancel();
        self.cut(How::Close);
    }
}
