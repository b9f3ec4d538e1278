//! The simulator judged: a life, the recorded traps, a restart, faults, the recorded exchanges, a client nobody here wrote.

mod client;
mod faults;
mod handover;
mod handover_replay;
mod life;
mod limits;
mod plugin;
mod python;
mod replay;
mod replay_compare;
mod together;

use super::hypervisor::InMemory as Hosts;
use super::linstor::InMemory as Controller;
use super::{CloudStackSim, Options, World};
use client::Client;
use std::sync::Arc;

/// A simulator over a KVM world with a LINSTOR controller in memory.
struct Rig {
    sim: CloudStackSim,
    linstor: Arc<Controller>,
    hosts: Arc<Hosts>,
    admin: Client,
    user: Client,
    dir: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(adjust: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (linstor, hosts) = (Arc::new(Controller::default()), Arc::new(Hosts::default()));
        let mut options = Options::new(dir.path()).unwrap();
        options.world = World::kvm("http://127.0.0.1:1", "cloudstack").unwrap();
        options.linstor = Some(linstor.clone());
        options.hypervisor = hosts.clone();
        adjust(&mut options);
        let sim = CloudStackSim::start(options).await.unwrap();
        let admin = Client::new(&sim, sim.admin_keys());
        let user = Client::new(&sim, sim.user_keys());
        Self { sim, linstor, hosts, admin, user, dir }
    }

    /// Another process with the same folder.
    async fn restart(mut self) -> Self {
        let mut options = Options::new(self.dir.path()).unwrap();
        options.linstor = Some(self.linstor.clone());
        options.hypervisor = self.hosts.clone();
        self.sim = CloudStackSim::start(options).await.unwrap();
        self.admin = Client::new(&self.sim, self.sim.admin_keys());
        self
    }

    fn id(&self, kind: &str, name: &str) -> String {
        self.sim.world().id_of(kind, name).unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    fn zone(&self) -> String {
        self.id("zone", "Sandbox-simulator")
    }

    /// What a placeholder is deployed with.
    fn placeholder(&self, name: &str) -> Vec<(String, String)> {
        let template =
            self.sim.world().all("template").iter().find(|one| one["templatetype"] != "SYSTEM").unwrap();
        [
            ("zoneid", self.zone()),
            ("serviceofferingid", self.id("serviceoffering", "Small Instance")),
            ("templateid", template["id"].as_str().unwrap().to_owned()),
            ("networkids", self.id("network", "l2a")),
            ("name", name.to_owned()),
            ("startvm", "false".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    async fn deploy(&self, name: &str) -> String {
        let done = self.admin.job("deployVirtualMachine", &self.placeholder(name)).await;
        done.result["virtualmachine"]["id"].as_str().unwrap_or_else(|| panic!("{done:?}")).to_owned()
    }

    /// A volume of the LINSTOR offering, of so many GiB, with this id.
    async fn volume(&self, id: &str, gib: u64) -> String {
        let offering = self.id("diskoffering", "linstor-custom");
        let zone = self.zone();
        let params = [
            ("name", format!("v-{}", &id[..4])),
            ("zoneid", zone),
            ("diskofferingid", offering),
            ("size", gib.to_string()),
            ("customid", id.to_owned()),
        ];
        self.admin.job("createVolume", &params).await.done();
        id.to_owned()
    }

    async fn shown(&self, kind: &str, id: &str) -> serde_json::Value {
        let (command, key) = match kind {
            "vm" => ("listVirtualMachines", "virtualmachine"),
            _ => ("listVolumes", "volume"),
        };
        self.admin.ok(command, &[("id", id)]).await[key][0].clone()
    }
}
