//! Who has a volume open. With DRBD that is known, and what is in use is neither taken away nor rolled back.
//!
//! Seen by locks: QEMU and its tools lock the disks that they have open. Who opens a file without a lock is not seen; the
//! switchboard can say so. On which node follows from the name by which it was opened, as each node has one of its own.

use super::model::{Definition, Resource, key};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Keys of the nodes where it is in use, by the switchboard's word or by a lock.
pub(super) fn users(definition: &Definition) -> BTreeSet<String> {
    let nodes = definition.resources.values().map(|resource| key(&resource.node));
    nodes.chain(definition.in_use.iter().cloned()).filter(|node| is_used(definition, node)).collect()
}

/// Whether it is in use on the node with this key.
pub(super) fn is_used(definition: &Definition, node: &str) -> bool {
    definition.in_use.contains(node) || definition.resources.get(node).is_some_and(is_open)
}

fn is_open(resource: &Resource) -> bool {
    let mut files = resource.volumes.values().filter_map(|volume| volume.file.as_deref());
    files.any(|file| is_locked(file) && is_opened_as(file))
}

/// All names of a file share its locks. The kernel's list, as `fcntl` has no holder to name where a lock is an open file's.
fn is_locked(file: &Path) -> bool {
    let Ok(inode) = fs::metadata(file).map(|file| file.ino().to_string()) else { return false };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // "1: OFDLCK ADVISORY READ -1 08:01:1234 100 101": device and inode come sixth. File systems give other numbers of
    // devices there; who has it open is looked at by name.
    let of = |line: &str| line.split_whitespace().nth(5)?.rsplit(':').next().map(str::to_owned);
    locks.lines().any(|line| of(line).is_some_and(|own| own == inode))
}

/// Whether a process has it open by this name. Processes end while they are looked at.
fn is_opened_as(file: &Path) -> bool {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut others = processes.filter(|process| {
        let name = process.file_name();
        name != *own && name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    others.any(|process| {
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        open.flat_map(|fd| fs::read_link(fd.path())).any(|name| name == file)
    })
}
