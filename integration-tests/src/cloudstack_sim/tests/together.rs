//! The two simulators together: a LINSTOR resource becomes a CloudStack volume, step by step and trap by trap, with bytes.

mod attach;
mod boot;
mod killed;
mod others;
mod traps;

use super::client::{Client, Done};
use crate::cloudstack_sim::Rest;
use crate::zone::{GROUP, Ids, OWN_GROUP, Zone};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

const U: &str = "44444444-0000-4000-8000-000000000001";
const GIB: u64 = 1024 * 1024;
const MARKER: &str = "Aux/_cs-template-for-cloudstack";

/// A zone with a client of each half.
pub(super) struct Both {
    pub(super) zone: Zone,
    pub(super) admin: Client,
    pub(super) ids: Ids,
    _dir: tempfile::TempDir,
}

impl Both {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let zone = Zone::start(dir.path()).await.unwrap();
        Self::of(zone, dir)
    }

    pub(super) fn of(zone: Zone, dir: tempfile::TempDir) -> Self {
        let admin = Client::new(zone.cloudstack(), zone.admin_keys());
        Self { admin, ids: zone.ids().unwrap(), zone, _dir: dir }
    }

    /// What LINSTOR says, or why it refuses.
    pub(super) fn try_ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        // Blocks the test's own thread, and none of the runtime's.
        Rest::new(&self.zone.linstor_url()).ask(method, &format!("/v1/{path}"), body.as_ref())
    }

    pub(super) fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.try_ask(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None)
    }

    /// A replica of ours with these words on it, and its snapshot `rp-1`.
    pub(super) fn replica(&self, name: &str, kib: u64, words: &str) {
        let body = json!({"resource_definition_name": name, "volume_sizes": [kib]});
        self.ask("POST", &format!("resource-groups/{OWN_GROUP}/spawn"), Some(body));
        write(&self.device(name, "kvm1").unwrap(), words);
        self.ask("POST", &format!("resource-definitions/{name}/snapshots"), Some(json!({"name": "rp-1"})));
    }

    /// A definition and no more.
    fn define(&self, name: &str, group: &str) {
        let body = json!({"resource_definition": {"name": name, "resource_group_name": group}});
        self.ask("POST", "resource-definitions", Some(body));
    }

    /// The resources of `to` out of the replica's snapshot, whose definition is there.
    fn fill(&self, replica: &str, to: &str) {
        let path = format!("resource-definitions/{replica}/snapshot-restore-resource/rp-1");
        self.ask("POST", &path, Some(json!({"to_resource": to})));
    }

    /// A clone of a replica's snapshot, whole, in that group.
    pub(super) fn clone_of(&self, replica: &str, to: &str, group: &str) {
        self.define(to, group);
        let path = format!("resource-definitions/{replica}/snapshot-restore-volume-definition/rp-1");
        self.ask("POST", &path, Some(json!({"to_resource": to})));
        self.fill(replica, to);
    }

    fn definition(&self, name: &str) -> Value {
        self.get(&format!("resource-definitions/{name}"))
    }

    fn size_kib(&self, name: &str) -> u64 {
        self.get(&format!("resource-definitions/{name}/volume-definitions"))[0]["size_kib"].as_u64().unwrap()
    }

    fn resources(&self, name: &str) -> Vec<Value> {
        self.get(&format!("view/resources?resources={name}")).as_array().cloned().unwrap()
    }

    pub(super) fn device(&self, name: &str, node: &str) -> Option<PathBuf> {
        let all = self.resources(name);
        let own = all.iter().find(|one| one["node_name"] == node)?;
        own["volumes"][0]["device_path"].as_str().map(PathBuf::from)
    }

    /// Names of all definitions, sorted.
    fn names(&self) -> Vec<String> {
        let all = self.get("resource-definitions");
        let mut names: Vec<_> =
            all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// A placeholder that does not run and has no root any more.
    pub(super) async fn placeholder(&self, name: &str) -> String {
        let params = [
            ("zoneid", self.ids.zone.as_str()),
            ("serviceofferingid", &self.ids.service_offering),
            ("templateid", &self.ids.template),
            ("networkids", &self.ids.networks["l2a"]),
            ("name", name),
            ("startvm", "false"),
        ];
        let vm = self.admin.job("deployVirtualMachine", &params).await.done();
        let vm = vm["virtualmachine"]["id"].as_str().unwrap().to_owned();
        let roots = self.admin.ok("listVolumes", &[("virtualmachineid", &vm)]).await;
        let root = roots["volume"][0]["id"].as_str().unwrap();
        self.admin.job("detachVolume", &[("id", root)]).await.done();
        self.admin.ok("deleteVolume", &[("id", root)]).await;
        vm
    }

    /// A volume that is nowhere yet.
    pub(super) async fn volume(&self, id: &str, gib: u64) {
        let gib = gib.to_string();
        let params = [
            ("name", "mig-root"),
            ("zoneid", &self.ids.zone),
            ("diskofferingid", &self.ids.disk_offering),
            ("size", &gib),
            ("customid", id),
        ];
        self.admin.job("createVolume", &params).await.done();
    }

    pub(super) async fn attach(&self, id: &str, vm: &str, device: &str) -> Done {
        let params = [("id", id), ("virtualmachineid", vm), ("deviceid", device)];
        self.admin.job("attachVolume", &params).await
    }

    pub(super) async fn on(&self, command: &str, id: &str) -> Value {
        self.admin.job(command, &[("id", id)]).await.done()
    }

    pub(super) async fn shown(&self, id: &str) -> Value {
        self.admin.ok("listVolumes", &[("id", id)]).await["volume"][0].clone()
    }
}

fn cs(id: &str) -> String {
    format!("cs-{id}")
}

fn write(device: &PathBuf, words: &str) {
    let file = OpenOptions::new().write(true).open(device).unwrap();
    file.write_all_at(format!("{words:\0<16}").as_bytes(), 4096).unwrap();
}

/// What [`write`] wrote.
fn read(device: &PathBuf) -> String {
    let mut text = [0; 16];
    File::open(device).unwrap().read_exact_at(&mut text, 4096).unwrap();
    String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()
}
