//! Whether a Linux guest can find its disks on virtio: which kernel it will boot, what that has, what its fstab names.
//!
//! Pure: files' names and contents in, a verdict out.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::guest::Virtio;
use super::{initramfs, xml};

/// Without these a kernel does not see a disk on virtio. A guest that has only `virtio_scsi` is not ready: which bus
/// its disks get is decided elsewhere, and virtio-blk is what all get unless told otherwise.
const NEEDED: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// A kernel and what it boots with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// As below `/lib/modules`.
    pub version: String,
    /// Full path, if one is found. A kernel with all built in may have none.
    pub initramfs: Option<String>,
}

/// The kernel that boots next. `modules` are the folders of `/lib/modules`, `boot` all paths below `/boot` (without
/// it), `grubenv` what GRUB remembers, if it does.
pub(super) fn kernel(modules: &[String], boot: &[String], grubenv: &str) -> Option<Kernel> {
    let installed = |version: &&String| boot.iter().any(|path| is_kernel(path, version));
    let mut versions: Vec<&String> = modules.iter().filter(installed).collect();
    if versions.is_empty() {
        // Names without a version (Arch, Alpine), or a kernel beside its modules (Fedora).
        versions = modules.iter().filter(|name| name.starts_with(|c: char| c.is_ascii_digit())).collect();
    }
    versions.sort_by(|a, b| newer(a, b));
    // An entry of the boot loader specification is called after machine and version.
    let saved = grubenv.lines().find_map(|line| line.strip_prefix("saved_entry=")).unwrap_or_default();
    let chosen = versions.iter().rev().find(|version| saved.ends_with(&format!("-{version}")));
    let version = (*chosen.or_else(|| versions.last())?).clone();
    let initramfs = initramfs(&version, boot).map(|path| format!("/boot/{path}"));
    Some(Kernel { version, initramfs })
}

fn is_kernel(path: &str, version: &str) -> bool {
    let Some((folder, name)) = path.rsplit_once('/') else {
        return ["vmlinuz-", "vmlinux-", "Image-", "image-", "kernel-"]
            .iter()
            .any(|start| path.strip_prefix(start) == Some(version));
    };
    // systemd-boot: MACHINE/VERSION/linux
    name == "linux" && folder.rsplit('/').next() == Some(version)
}

fn initramfs(version: &str, boot: &[String]) -> Option<String> {
    let names = [
        format!("initrd.img-{version}"),
        format!("initramfs-{version}.img"),
        format!("initrd-{version}"),
        format!("initrd-{version}.img"),
        format!("initramfs-{version}"),
    ];
    let named = names.iter().find(|name| boot.contains(name)).cloned();
    let beside = || {
        let is = |path: &&String| {
            let mut parts = path.rsplit('/');
            let name = parts.next().unwrap_or_default();
            parts.next() == Some(version)
                && (name.starts_with("initrd") || name.starts_with("initramfs"))
                // What virt-v2v leaves of the one that it replaced.
                && !name.ends_with(".pre-v2v")
        };
        boot.iter().find(is).cloned()
    };
    // Arch: 6.6.1-arch1-1 is linux, 6.1.60-1-lts linux-lts; Alpine: 6.6.1-0-lts is lts.
    let by_flavour = || {
        let flavour = version.rsplit('-').next().filter(|part| part.chars().all(|c| c.is_ascii_alphabetic()));
        let names = match flavour {
            Some(flavour) => [format!("initramfs-linux-{flavour}.img"), format!("initramfs-{flavour}")],
            None => ["initramfs-linux.img".to_owned(), "initrd.img".to_owned()],
        };
        names.into_iter().find(|name| boot.contains(name))
    };
    named.or_else(beside).or_else(by_flavour)
}

/// Numbers by value, the rest by letter: 6.1.0-9 is before 6.1.0-56.
fn newer(a: &str, b: &str) -> Ordering {
    parts(a).cmp(&parts(b))
}

fn parts(version: &str) -> Vec<(u128, &str)> {
    let mut parts = Vec::new();
    let mut rest = version;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let words = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (word, after) = after.split_at(words);
        parts.push((number.parse().unwrap_or_default(), word));
        rest = after;
    }
    parts
}

/// What is known of the kernel that boots next.
pub(super) struct Facts<'a> {
    pub kernel: Option<&'a Kernel>,
    /// Its `modules.builtin`.
    pub builtin: &'a str,
    /// The modules of its initramfs; an error says why they cannot be read.
    pub initramfs: Result<&'a BTreeSet<String>, &'a str>,
    pub fstab: &'a str,
    /// Of the guest.
    pub disks: usize,
}

/// The verdict.
pub(super) fn virtio(facts: &Facts<'_>) -> Virtio {
    let Some(kernel) = facts.kernel else {
        return Virtio::Unknown { why: "no kernel is found in /lib/modules".into() };
    };
    let version = &kernel.version;
    let builtin: BTreeSet<_> = facts.builtin.lines().filter_map(initramfs::module).collect();
    let not_built_in: Vec<_> = NEEDED.into_iter().filter(|module| !builtin.contains(*module)).collect();
    let ready = if not_built_in.is_empty() {
        format!("the kernel {version} has {} built in", NEEDED.join(" and "))
    } else {
        let Some(image) = &kernel.initramfs else {
            return Virtio::Unknown {
                why: format!("no initramfs of the kernel {version} is found in /boot"),
            };
        };
        let modules = match facts.initramfs {
            Ok(modules) => modules,
            Err(why) => return Virtio::Unknown { why: format!("{image} cannot be read: {why}") },
        };
        let missing: Vec<_> =
            not_built_in.iter().copied().filter(|module| !modules.contains(*module)).collect();
        if !missing.is_empty() {
            return Virtio::Missing { why: format!("{image} has no {}", missing.join(" and no ")) };
        }
        format!("{image} has {}", not_built_in.join(" and "))
    };
    match by_name(facts.fstab, facts.disks) {
        Some(device) => Virtio::Missing {
            why: format!("/etc/fstab names {device}, which is called differently on virtio"),
        },
        None => Virtio::Ready { why: ready },
    }
}

/// The first of the guest's own disks that fstab names by what VMware's controller calls it. Others (a stick, a CD)
/// may be named: nothing makes them right.
fn by_name(fstab: &str, disks: usize) -> Option<&str> {
    let devices = fstab.lines().filter_map(|line| line.split_whitespace().next());
    devices
        .filter(|device| device.starts_with("/dev/sd") || device.starts_with("/dev/hd"))
        .find(|device| xml::index(device).is_some_and(|index| index < disks))
}

/// The name that a system gives itself, from its os-release.
pub(super) fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let value = value.trim().trim_matches(['"', '\'']).trim();
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests;
