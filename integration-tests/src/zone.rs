//! A whole target to fail over to: the LINSTOR simulator and the CloudStack simulator, wired as a zone of theirs would be.
//!
//! ```text
//!  client ── cloudstack_url() ─► CloudStackSim ── plug-in and agents, by REST ─► LinstorSim ─► DIR/linstor/pools/NODE/…
//!  client ── linstor_url() ───────────────────────────────────────────────────────┘             (real bytes)
//!                                hosts kvm1 (boots UEFI), kvm2     nodes kvm1, kvm2 (pool `thin`), oma (diskless)
//! ```
//!
//! Nodes have DRBD here, as those of the recorded hand-over had: a resource has two replicas that never differ, a third node
//! breaks ties, a host or the OMA reaches it without a disk, and it is known who has it open. Without DRBD a resource is
//! one storage volume on each node, and what makes it available on another node makes an *empty* one there; so a zone
//! without it can only be had by wiring the two simulators by hand.
//!
//! Not here: faults (ask [`Zone::linstor`] and [`Zone::cloudstack`] for them), and anything that uses the zone.

use crate::cloudstack_sim::hypervisor::Hypervisor;
use crate::cloudstack_sim::hypervisor::qemu::{self, Qemu};
use crate::cloudstack_sim::{self, CloudStackSim, Order, World};
use crate::linstor_sim::{self, LinstorSim, PoolSpec};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Nodes with a pool; CloudStack's hosts are called alike.
pub const HOSTS: [&str; 2] = ["kvm1", "kvm2"];
/// The node that the OMA runs on: it has no pool of its own.
pub const OMA: &str = "oma";
/// The LINSTOR pool.
pub const POOL: &str = "thin";
/// The resource group that CloudStack's pool spawns from.
pub const GROUP: &str = "cloudstack";
/// A group that selects alike, for resources that are not CloudStack's.
pub const OWN_GROUP: &str = "mk-group";

/// What a zone is started with.
pub struct Options {
    /// Made where missing; what is there goes on.
    pub dir: PathBuf,
    /// Room of the pool on each host.
    pub capacity_kib: u64,
    /// How long a CloudStack job takes.
    pub job_time: Duration,
    pub order: Order,
    /// As a later server, whose `createVolume` takes `storageid`.
    pub placed: bool,
    /// Changes what there is in CloudStack, before its first start: settings, hosts, offerings.
    pub adjust: fn(&mut World),
    /// What machines run on. None: in memory, where nothing boots.
    pub hypervisor: Option<Arc<dyn Hypervisor>>,
}

impl Options {
    /// With 64 GiB on each host, jobs that take no time, and machines in memory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            capacity_kib: 64 << 20,
            job_time: Duration::ZERO,
            order: Order::Any,
            placed: false,
            adjust: |_| {},
            hypervisor: None,
        }
    }

    /// Machines really run, by QEMU, and end with this: what they say is in DIR/cloudstack/consoles. See
    /// [`qemu`](cloudstack_sim::hypervisor::qemu).
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn with_qemu(self) -> anyhow::Result<(Self, Arc<Qemu>)> {
        let qemu = Arc::new(Qemu::new(qemu::Options::for_test(self.dir.join("cloudstack")))?);
        Ok((Self { hypervisor: Some(qemu.clone()), ..self }, qemu))
    }
}

/// CloudStack's ids of what there is.
#[derive(Clone, Debug)]
pub struct Ids {
    pub zone: String,
    /// The LINSTOR pool, of the whole zone.
    pub pool: String,
    /// A disk offering of any size whose tag fits only that pool.
    pub disk_offering: String,
    /// One processor, 512 MiB.
    pub service_offering: String,
    /// Processors and memory as they are asked for.
    pub custom_offering: String,
    /// A template for placeholders.
    pub template: String,
    /// By name: `iso1` (isolated), `l2a`, `l2v` (layer 2), `sh1` (shared).
    pub networks: BTreeMap<String, String>,
    /// By name.
    pub hosts: BTreeMap<String, String>,
}

/// See the module. Dropping it ends both simulators; the folder can be started again.
pub struct Zone {
    linstor: LinstorSim,
    cloudstack: CloudStackSim,
    options: Options,
    hypervisor: Arc<dyn Hypervisor>,
}

impl Zone {
    /// A zone in that folder, on free ports of this machine.
    ///
    /// # Errors
    /// As the two simulators'.
    pub async fn start(dir: impl Into<PathBuf>) -> anyhow::Result<Self> {
        Self::start_with(Options::new(dir)).await
    }

    /// # Errors
    /// As the two simulators'.
    pub async fn start_with(options: Options) -> anyhow::Result<Self> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let hypervisor: Arc<dyn Hypervisor> = match &options.hypervisor {
            Some(given) => Arc::clone(given),
            None => Arc::new(cloudstack_sim::hypervisor::InMemory::default()),
        };
        let linstor = LinstorSim::start(linstor_options(&options, any)).await.context("linstor-sim")?;
        let server = cloudstack_options(&options, &linstor.url(), &hypervisor, any)?;
        let cloudstack = CloudStackSim::start(server).await.context("cloudstack-sim")?;
        Ok(Self { linstor, cloudstack, options, hypervisor })
    }

    /// The controller, for its switchboard.
    pub fn linstor(&self) -> &LinstorSim {
        &self.linstor
    }

    /// The management server, for its switchboard.
    pub fn cloudstack(&self) -> &CloudStackSim {
        &self.cloudstack
    }

    /// `http://127.0.0.1:PORT`.
    pub fn linstor_url(&self) -> String {
        self.linstor.url()
    }

    /// `http://127.0.0.1:PORT/client/api`.
    pub fn cloudstack_url(&self) -> String {
        self.cloudstack.url()
    }

    /// Files with the API key and the secret key of the root admin.
    pub fn admin_keys(&self) -> (PathBuf, PathBuf) {
        self.cloudstack.admin_keys()
    }

    /// The same of a plain user.
    pub fn user_keys(&self) -> (PathBuf, PathBuf) {
        self.cloudstack.user_keys()
    }

    /// # Errors
    /// Somebody edited DIR/cloudstack/world.json, and something is missing there.
    pub fn ids(&self) -> anyhow::Result<Ids> {
        let world = self.cloudstack.world();
        let id =
            |kind: &str, name: &str| world.id_of(kind, name).with_context(|| format!("no {kind} {name}"));
        let named = |kind: &str| {
            let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
            let pairs = world.all(kind).iter().rev();
            pairs.filter_map(|one| Some((text(&one["name"])?, text(&one["id"])?))).collect()
        };
        let template = world.all("template").iter().find(|one| one["templatetype"] != "SYSTEM");
        Ok(Ids {
            zone: world.all("zone")[0]["id"].as_str().context("no zone")?.to_owned(),
            pool: id("storagepool", "linstor")?,
            disk_offering: id("diskoffering", "linstor-custom")?,
            service_offering: id("serviceoffering", "Small Instance")?,
            custom_offering: id("serviceoffering", "Custom Instance")?,
            template: template.and_then(|one| one["id"].as_str()).context("no template")?.to_owned(),
            networks: named("network"),
            hosts: named("host"),
        })
    }

    /// Another controller at the same address, with what the last one left, however it ended.
    ///
    /// # Errors
    /// As the simulator's.
    pub async fn restart_linstor(&mut self) -> anyhow::Result<()> {
        let options = linstor_options(&self.options, self.linstor.address());
        let away = linstor_options(&self.options, SocketAddr::from(([127, 0, 0, 1], 0)));
        // The port has to be given back before it can be taken: the old one is dropped for a folder of nobody's first.
        let nobody = tempfile::tempdir()?;
        self.linstor = LinstorSim::start(linstor_sim::Options { dir: nobody.path().into(), ..away }).await?;
        self.linstor = again(async || LinstorSim::start(options.clone()).await).await?;
        Ok(())
    }

    /// Another management server at the same address, with what the last one left. Jobs that were pending have failed;
    /// machines run on.
    ///
    /// # Errors
    /// As the simulator's.
    pub async fn restart_cloudstack(&mut self) -> anyhow::Result<()> {
        let (at, url) = (self.cloudstack.address(), self.linstor.url());
        let nobody = tempfile::tempdir()?;
        self.cloudstack = CloudStackSim::start(cloudstack_sim::Options::new(nobody.path())?).await?;
        let (options, hypervisor) = (&self.options, &self.hypervisor);
        let start = async || {
            let options = cloudstack_options(options, &url, hypervisor, at)?;
            CloudStackSim::start(options).await
        };
        self.cloudstack = again(start).await?;
        Ok(())
    }
}

/// Until the port is free, five seconds at most.
async fn again<T>(start: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    for _ in 0..100 {
        if let Ok(started) = start().await {
            return Ok(started);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    start().await
}

fn linstor_options(options: &Options, listen: SocketAddr) -> linstor_sim::Options {
    let nodes = HOSTS.iter().copied().chain([OMA]);
    linstor_sim::Options {
        listen,
        nodes: nodes.map(str::to_owned).collect(),
        diskless: vec![OMA.to_owned()],
        pools: vec![PoolSpec { name: POOL.to_owned(), thin: true, capacity_kib: options.capacity_kib }],
        groups: [GROUP, OWN_GROUP].map(|group| (group.to_owned(), POOL.to_owned())).to_vec(),
        drbd: true,
        ..linstor_sim::Options::new(options.dir.join("linstor"))
    }
}

fn cloudstack_options(
    options: &Options,
    linstor: &str,
    hypervisor: &Arc<dyn Hypervisor>,
    listen: SocketAddr,
) -> anyhow::Result<cloudstack_sim::Options> {
    let mut world = World::kvm(linstor, GROUP)?;
    // Only hosts with a satellite: on any other a machine's disks cannot be reached.
    world.retain("host", |host| HOSTS.iter().any(|name| host["name"] == *name));
    (options.adjust)(&mut world);
    Ok(cloudstack_sim::Options {
        listen,
        world,
        placed: options.placed,
        job_time: options.job_time,
        order: options.order,
        // Not what world.json says: the controller's port is another one after each start.
        linstor: Some(Arc::new(cloudstack_sim::Rest::new(linstor))),
        hypervisor: Arc::clone(hypervisor),
        ..cloudstack_sim::Options::new(options.dir.join("cloudstack"))?
    })
}
