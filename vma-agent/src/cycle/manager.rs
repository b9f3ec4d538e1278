//! Hands the desired state to the tasks of the VMs.

use super::Outgoing;
use super::vm::{Orders, Sealed, Task, Wanted};
use crate::source::Source;
use crate::transfer::Settings;
use migratekit::rate::Limit;
use shared::cycle::{DesiredState, Vm};
use shared::error::chain;
use shared::ids::{JobId, VmUuid};
use shared::progress::Register;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tracing::warn;

/// A cheap handle to the tasks.
#[derive(Clone)]
pub struct Manager(Arc<Inner>);

struct Inner {
    vms: BTreeMap<VmUuid, Handle>,
    channel: watch::Sender<Option<Channel>>,
    /// So many connections were made.
    connections: AtomicU64,
    looked: Arc<Notify>,
    stop: CancellationToken,
    tasks: TaskTracker,
    outgoing: mpsc::Sender<Outgoing>,
}

struct Handle {
    source: Arc<dyn Source>,
    /// As its source last described it.
    known: Arc<Mutex<Option<Vm>>>,
    wanted: watch::Sender<Option<Wanted>>,
    limit: Arc<Limit>,
    running: watch::Receiver<Option<JobId>>,
}

impl Manager {
    /// One task per VM of the inventory. What the tasks say comes out of the receiver.
    pub fn start(
        sources: Vec<(VmUuid, Arc<dyn Source>)>,
        settings: &Settings,
        register: &Arc<Register>,
    ) -> (Self, mpsc::Receiver<Outgoing>) {
        let (outgoing, receiver) = mpsc::channel(64);
        let channel = watch::Sender::new(None);
        let stop = CancellationToken::new();
        let looked = Arc::<Notify>::default();
        let tasks = TaskTracker::new();
        let mut vms = BTreeMap::new();
        for (uuid, source) in sources {
            let wanted = watch::Sender::new(None);
            let running = watch::Sender::new(None);
            let known = Arc::<Mutex<Option<Vm>>>::default();
            let limit = Arc::new(Limit::new(0));
            let handle = Handle {
                limit: Arc::clone(&limit),
                source: Arc::clone(&source),
                known: Arc::clone(&known),
                wanted: wanted.clone(),
                running: running.subscribe(),
            };
            let task = Task {
                vm: uuid.clone(),
                source,
                settings: settings.clone(),
                limit,
                channel: channel.subscribe(),
                outgoing: outgoing.clone(),
                running,
                looked: Arc::clone(&looked),
                known,
                register: Arc::clone(register),
                shown: Mutex::default(),
                sealed: Sealed::default(),
                orders: Orders::default(),
            };
            tasks.spawn(task.run(wanted.subscribe(), stop.clone()));
            vms.insert(uuid, handle);
        }
        (
            Self(Arc::new(Inner {
                vms,
                channel,
                connections: AtomicU64::new(0),
                looked,
                stop,
                tasks,
                outgoing,
            })),
            receiver,
        )
    }

    /// The VMs as their sources describe them now. One that cannot be asked is as it last was, left out if it never
    /// could be or does not answer within `patience`, and logged. All are asked at once.
    pub async fn inventory(&self, patience: Duration) -> Vec<Vm> {
        let asked = self.0.vms.iter().map(async |(uuid, handle)| {
            let now = tokio::time::timeout(patience, handle.source.describe()).await;
            let mut known = handle.known.lock().unwrap_or_else(PoisonError::into_inner);
            match now {
                Ok(Ok(vm)) => *known = Some(vm),
                Ok(Err(error)) => {
                    warn!(vm = %uuid, error = %chain(&error), "the source cannot be asked for its VM")
                }
                Err(_) => warn!(vm = %uuid, "the source did not describe its VM within {patience:?}"),
            }
            known.clone()
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Transfers go through this connection from now on.
    pub fn connected(&self, channel: Channel) {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        self.0.channel.send_replace(Some(channel));
    }

    /// Returns when a source was looked at closely: its VM may not be what was last told of it.
    pub async fn may_have_changed(&self) {
        self.0.looked.notified().await;
    }

    /// No transfer begins until the next connection. A channel dials again by itself: a cycle would then go on under
    /// an epoch of before, with nobody to report its progress to.
    pub fn disconnected(&self) {
        self.0.channel.send_replace(None);
    }

    /// Every VM that the state names; the others are left alone.
    pub fn desire(&self, desired: DesiredState) {
        let connection = self.0.connections.load(Ordering::Relaxed);
        let mut named = BTreeMap::new();
        for vm in desired.vms {
            named.insert(vm.vm.clone(), vm);
        }
        for (uuid, handle) in &self.0.vms {
            let new = named.remove(uuid).map(|vm| Wanted { vm, connection });
            // At once, for what is running too.
            handle.limit.set(new.as_ref().map_or(0, |wanted| wanted.vm.rate));
            // The same again is no reason to try anything again: the task keeps its own pauses.
            handle.wanted.send_if_modified(|wanted| {
                let differs = *wanted != new;
                *wanted = new;
                differs
            });
        }
        for (uuid, vm) in named {
            warn!(vm = %uuid, migration = %vm.migration, "the OMA wants a VM that is not in this agent's inventory");
            if let Some(order) = &vm.power {
                let report = super::vm::power_of_unknown(&vm, order);
                let _ = self.0.outgoing.try_send(Outgoing::Power(report));
            }
            if let Some(cycle) = vm.cycle {
                let finding = super::vm::vm_unknown(&uuid, cycle.job);
                // Full: the OMA sends the state again.
                let _ = self.0.outgoing.try_send(Outgoing::Report(finding));
            }
        }
    }

    /// Whether there is a connection to the OMA.
    pub fn is_connected(&self) -> bool {
        self.0.channel.borrow().is_some()
    }

    /// How many VMs there are.
    pub fn vms(&self) -> usize {
        self.0.vms.len()
    }

    /// Jobs that are being worked on.
    pub fn running(&self) -> Vec<JobId> {
        self.0.vms.values().filter_map(|handle| handle.running.borrow().clone()).collect()
    }

    /// Ends the tasks; cycles are interrupted where they are and go on later.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}
