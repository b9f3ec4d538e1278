//! The live source against a real storage daemon and a guest that writes all the time.

mod crashes;
mod lookers;
mod power;
mod views;

use std::path::Path;
use std::time::Duration;

use integration_tests::live_vm::{LiveVm, read_all};
use migratekit::nbd::{BASE_ALLOCATION, Buffer, Completed, ConnectOptions, Handle, NbdUri, STATE_ZERO};
use serde_json::json;
use shared::cycle::FindingKind;
use shared::leaf::{LEAF, round_out};
use shared::range::{ByteRange, RangeSet};

use super::*;

const VM: &str = "4205a841-0265-f4bd-39a6-39fd92196f53";
const MIB: u64 = 1 << 20;

fn name(job: &str) -> SnapshotName {
    SnapshotName::parse(&format!("mk-{job}")).unwrap()
}

fn key(disk: &str) -> DiskKey {
    DiskKey::parse(disk).unwrap()
}

/// An agent's view of the VM; each call is an agent that was started again.
fn source(vm: &LiveVm, state: &Path) -> QemuSource {
    let disk = |disk: &integration_tests::live_vm::LiveDisk| DiskConfig {
        key: key(&disk.key),
        nodes: Nodes::new(&disk.node, &disk.top),
    };
    let config = Config {
        qmp: vm.agent_qmp(),
        nbd: NbdServer::Unix(vm.nbd_socket()),
        scratch: None,
        disks: vm.disks().iter().map(disk).collect(),
    };
    QemuSource::new(VmUuid::parse(VM).unwrap(), "web", config, state)
}

/// The whole disk of a snapshot, through a client that is not the engine's.
async fn content(source: &QemuSource, vm: &LiveVm, snapshot: &Snapshot, disk: &str) -> Vec<u8> {
    let open = source.open(snapshot, &key(disk)).await.unwrap();
    read_all(&mut vm.connect(open.uri.export()).unwrap()).unwrap()
}

/// The same as the engine reads it, in requests of `chunk` bytes, and what the export calls zeros.
fn engine_content(uri: &NbdUri, chunk: u64) -> (Vec<u8>, RangeSet) {
    let mut handle = Handle::<()>::connect(uri, &ConnectOptions::default()).unwrap();
    let size = handle.export().size;
    let mut all = Vec::new();
    while (all.len() as u64) < size {
        let length = chunk.min(size - all.len() as u64);
        handle.read(all.len() as u64, Buffer::new(usize::try_from(length).unwrap()), ()).unwrap();
        match finish(&mut handle) {
            Completed::Read { buffer, result, .. } => {
                result.unwrap();
                all.extend_from_slice(buffer.as_slice());
            }
            Completed::Status { .. } | Completed::Changed { .. } => panic!("an answer to nothing"),
        }
    }
    let mut zeros = RangeSet::new();
    let mut at = 0;
    while at < size {
        handle.status(ByteRange::new(at, size), ()).unwrap();
        let Completed::Status { result, .. } = finish(&mut handle) else { panic!("an answer to nothing") };
        for status in result.unwrap().into_iter().filter(|s| s.context == BASE_ALLOCATION) {
            for (extent, flags) in status.extents {
                at = extent.end;
                if flags & STATE_ZERO != 0 {
                    zeros.insert(extent);
                }
            }
        }
    }
    (all, zeros)
}

fn finish(handle: &mut Handle<()>) -> Completed<()> {
    loop {
        match handle.completed() {
            Some(completed) => return completed,
            None => handle.wait(None, Duration::from_secs(20)).unwrap(),
        }
    }
}

/// All pages.
async fn changed(source: &QemuSource, snapshot: &Snapshot, disk: &str, since: &ChangeId) -> RangeSet {
    let size = snapshot.disk(&key(disk)).unwrap().size;
    let (mut all, mut offset) = (RangeSet::new(), 0);
    while offset < size {
        let page = source.changed(snapshot, &key(disk), since, offset).await.unwrap();
        assert!(page.next_offset > offset && page.next_offset <= size);
        page.ranges.iter().for_each(|&range| all.insert(range));
        offset = page.next_offset;
    }
    all
}

/// Leaves that differ.
fn difference(before: &[u8], after: &[u8]) -> RangeSet {
    assert_eq!(before.len(), after.len());
    let leaf = usize::try_from(LEAF).unwrap();
    let pairs = (0u64..).zip(before.chunks(leaf).zip(after.chunks(leaf)));
    let different = pairs
        .filter(|(_, (a, b))| a != b)
        .map(|(index, _)| round_out(ByteRange::new(index * LEAF, index * LEAF + 1), before.len() as u64));
    different.collect()
}

fn id(snapshot: &Snapshot, disk: &str) -> ChangeId {
    snapshot.disk(&key(disk)).unwrap().change_id.clone().unwrap()
}

/// Names of all nodes, exports and jobs; a removed snapshot leaves none behind.
fn inventory(vm: &LiveVm) -> Vec<String> {
    let mut names = Vec::new();
    let lists = [
        ("query-named-block-nodes", json!({ "flat": true }), "node-name"),
        ("query-block-exports", json!({}), "id"),
        ("query-jobs", json!({}), "id"),
    ];
    for (command, arguments, field) in lists {
        let list = vm.execute(command, arguments).unwrap();
        names.extend(list.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().to_owned()));
    }
    names.sort();
    names
}

/// Names of the bitmaps on a disk.
fn bitmaps(vm: &LiveVm, disk: &str) -> Vec<String> {
    let nodes = vm.execute("query-named-block-nodes", json!({ "flat": true })).unwrap();
    let node = nodes.as_array().unwrap().iter().find(|n| n["node-name"] == format!("disk-{disk}")).unwrap();
    let named = |bitmap: &serde_json::Value| Some(bitmap["name"].as_str()?.to_owned());
    node["dirty-bitmaps"].as_array().into_iter().flatten().filter_map(named).collect()
}

fn kind(error: &Error) -> Option<FindingKind> {
    error.finding().map(|finding| finding.kind)
}
