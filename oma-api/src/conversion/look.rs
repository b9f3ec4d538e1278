//! Looks at a guest's disks through guestfish and says what it is, what it boots from and what it has for virtio.
//!
//! Nothing is written: guestfish opens the disks read-only, behind overlays of its own. One appliance for all
//! questions: without KVM its start is most of the time a look takes (16 s where it was measured).

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::boot_disk::{self, Table};
use super::fish::{Error, Fish};
use super::guest::{Guest, System, Virtio};
use super::xml::{self, Firmware};
use super::{initramfs, linux, windows};

/// A guest, and what virt-v2v has to be told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Looked {
    pub guest: Guest,
    /// The file system it is in, by the appliance's name, which is virt-v2v's as well.
    pub root: Option<String>,
    pub firmware: Firmware,
}

/// A file system and where the guest mounts it.
struct Mount {
    at: String,
    device: String,
}

/// Asks. `run` is a folder for what is fetched meanwhile.
pub(super) fn look(
    fish: &mut Fish,
    tables: &[Table],
    run: &Path,
    stop: &CancellationToken,
) -> Result<Looked, Error> {
    fish.ask("run", &[])?;
    let roots = fish.lines("inspect-os", &[])?;
    let mut systems = Vec::new();
    for root in roots {
        let mounts = mounts(fish, &root)?;
        systems.push((root, mounts));
    }
    let firmware = |disk: Option<usize>| match disk.and_then(|disk| tables.get(disk)) {
        Some(Table { esp: true, .. }) => Firmware::Uefi,
        Some(_) | None => Firmware::Bios,
    };
    let Some((root, mounts)) = of_boot_disk(tables, systems) else {
        let boot_disk = boot_disk::choose(tables, &[], false);
        let virtio = Virtio::Unknown { why: unrecognised(fish) };
        let guest = Guest { system: System::Unrecognised, name: String::new(), boot_disk, virtio };
        return Ok(Looked { guest, root: None, firmware: firmware(boot_disk) });
    };
    let system = match fish.text("inspect-get-type", &[&root])?.as_str() {
        "linux" => System::Linux,
        "windows" => System::Windows,
        other => System::Other(other.to_owned()),
    };
    let boot_disk = boot_disk::choose(tables, &disks(&mounts), system == System::Windows);
    let mounted = mount(fish, &mounts);
    let mut name = fish.text("inspect-get-product-name", &[&root]).unwrap_or_default();
    let virtio = match (&system, mounted) {
        (_, Err(why)) => Virtio::Unknown { why },
        (System::Linux, Ok(())) => {
            name = of_linux(fish, &root, name);
            linux_virtio(fish, tables.len(), run, stop)?
        }
        (System::Windows, Ok(())) => windows_virtio(fish, &root)?,
        (System::Other(_) | System::Unrecognised, Ok(())) => {
            Virtio::Unknown { why: format!("nobody here knows the drivers of {name}") }
        }
    };
    let guest = Guest { system, name, boot_disk, virtio };
    Ok(Looked { guest, root: Some(root), firmware: firmware(boot_disk) })
}

/// Of several systems the one on the disk that boots: another's old disk may be attached for its files.
fn of_boot_disk(tables: &[Table], systems: Vec<(String, Vec<Mount>)>) -> Option<(String, Vec<Mount>)> {
    let all: Vec<_> = systems.iter().flat_map(|(_, mounts)| disks(mounts)).collect();
    let boot = boot_disk::choose(tables, &all, true);
    let on_it = |(_, mounts): &(String, Vec<Mount>)| disks(mounts).into_iter().any(|disk| Some(disk) == boot);
    let chosen = systems.iter().position(on_it).unwrap_or_default();
    systems.into_iter().nth(chosen)
}

fn mounts(fish: &mut Fish, root: &str) -> Result<Vec<Mount>, Error> {
    let lines = fish.lines("inspect-get-mountpoints", &[root])?;
    let mounts = lines.iter().filter_map(|line| line.rsplit_once(": "));
    let mut mounts: Vec<_> =
        mounts.map(|(at, device)| Mount { at: at.to_owned(), device: device.to_owned() }).collect();
    // What is mounted in another comes after it.
    mounts.sort_by_key(|mount| mount.at.len());
    Ok(mounts)
}

/// The numbers of the disks, that of the boot loader's files first.
fn disks(mounts: &[Mount]) -> Vec<usize> {
    let device = |at: &str| mounts.iter().find(|mount| mount.at == at).map(|mount| mount.device.as_str());
    ["/boot/efi", "/efi", "/boot", "/"].into_iter().filter_map(device).filter_map(disk).collect()
}

/// The number of the disk with a file system; of a subvolume (`btrfsvol:/dev/sda2/@`), that with its file system.
fn disk(device: &str) -> Option<usize> {
    match device.strip_prefix("btrfsvol:/dev/") {
        Some(volume) => xml::index(&format!("/dev/{}", volume.split('/').next().unwrap_or_default())),
        None => xml::index(device),
    }
}

/// Read-only. What fails besides the root is missed later, by name.
fn mount(fish: &mut Fish, mounts: &[Mount]) -> Result<(), String> {
    for mount in mounts {
        let mounted = fish.ask("mount-ro", &[&mount.device, &mount.at]);
        if let (Err(error), "/") = (mounted, mount.at.as_str()) {
            return Err(format!("its file system cannot be mounted: {error}"));
        }
    }
    Ok(())
}

fn unrecognised(fish: &mut Fish) -> String {
    let systems = fish.lines("list-filesystems", &[]).unwrap_or_default();
    let encrypted = |line: &String| line.ends_with(": crypto_LUKS") || line.ends_with(": BitLocker");
    match systems.iter().find(|line| encrypted(line)) {
        Some(line) => format!("no operating system is found; there is an encrypted file system, {line}"),
        None => "no operating system is found on the disks".to_owned(),
    }
}

/// A name that people know. libguestfs takes a Debian's from its bare version, "12.15".
fn of_linux(fish: &mut Fish, root: &str, product: String) -> String {
    let os_release = fish.text("cat", &["/etc/os-release"]).unwrap_or_default();
    linux::pretty_name(&os_release).unwrap_or_else(|| {
        let distribution = fish.text("inspect-get-distro", &[root]).unwrap_or_default();
        if product.starts_with(|c: char| c.is_ascii_digit()) {
            format!("{distribution} {product}")
        } else {
            product
        }
    })
}

fn linux_virtio(
    fish: &mut Fish,
    disks: usize,
    run: &Path,
    stop: &CancellationToken,
) -> Result<Virtio, Error> {
    let modules = optional(fish.lines("ls", &["/lib/modules"]))?;
    let boot = optional(fish.lines("find", &["/boot"]))?;
    let boot: Vec<_> = boot.iter().map(|path| path.trim_start_matches('/').to_owned()).collect();
    let mut grubenv = String::new();
    for path in ["/boot/grub2/grubenv", "/boot/grub/grubenv"] {
        grubenv.push_str(&optional(fish.text("cat", &[path]))?);
    }
    let kernel = linux::kernel(&modules, &boot, &grubenv);
    let builtin = match &kernel {
        Some(kernel) => {
            optional(fish.text("cat", &[&format!("/lib/modules/{}/modules.builtin", kernel.version)]))?
        }
        None => String::new(),
    };
    let in_initramfs = match kernel.as_ref().and_then(|kernel| kernel.initramfs.as_deref()) {
        Some(image) => fetch(fish, image, run, stop)?,
        None => Err("there is none".to_owned()),
    };
    let fstab = optional(fish.text("cat", &["/etc/fstab"]))?;
    let facts = linux::Facts {
        kernel: kernel.as_ref(),
        builtin: &builtin,
        initramfs: in_initramfs.as_ref().map_err(String::as_str),
        fstab: &fstab,
        disks,
    };
    Ok(linux::virtio(&facts))
}

/// The modules of an initramfs of the guest, or why they cannot be read.
fn fetch(
    fish: &mut Fish,
    image: &str,
    run: &Path,
    stop: &CancellationToken,
) -> Result<Result<BTreeSet<String>, String>, Error> {
    let local = run.join("initramfs");
    let read = || -> io::Result<_> { initramfs::modules(File::open(&local)?, stop) };
    let fetched = match fish.ask("download", &[image, &local.to_string_lossy()]) {
        Ok(_) => read().map_err(|error| error.to_string()),
        Err(refused @ Error::Refused { .. }) => Err(refused.to_string()),
        Err(over @ (Error::Gone { .. } | Error::TooLong { .. })) => return Err(over),
    };
    // With the folder at the latest.
    let _ = std::fs::remove_file(&local);
    Ok(fetched)
}

fn windows_virtio(fish: &mut Fish, root: &str) -> Result<Virtio, Error> {
    let service = service(fish, root);
    match service {
        Ok(service) => Ok(windows::virtio(service.as_ref())),
        Err(refused @ Error::Refused { .. }) => {
            Ok(Virtio::Unknown { why: format!("its registry cannot be read: {refused}") })
        }
        Err(over @ (Error::Gone { .. } | Error::TooLong { .. })) => Err(over),
    }
}

/// What the registry says of the driver, with the control set that will be used.
fn service(fish: &mut Fish, root: &str) -> Result<Option<windows::Service>, Error> {
    let folder = fish.text("inspect-get-windows-systemroot", &[root])?;
    let hive = fish.text("inspect-get-windows-system-hive", &[root])?;
    let control_set = fish.text("inspect-get-windows-current-control-set", &[root])?;
    fish.ask("hivex-open", &[&hive])?;
    let mut node = fish.text("hivex-root", &[])?;
    for key in [control_set.as_str(), "Services", windows::SERVICE] {
        node = fish.text("hivex-node-get-child", &[&node, key])?;
        if node == "0" {
            return Ok(None);
        }
    }
    let start = value(fish, &node, "Start")?.as_deref().and_then(windows::number);
    let image = value(fish, &node, "ImagePath")?.as_deref().map(windows::text);
    let wanted = windows::driver_path(&folder, image.as_deref());
    // Refused when a folder on the way is not there.
    let path = fish.text("case-sensitive-path", &[&wanted]).unwrap_or(wanted);
    let there = fish.text("is-file", &[&path]).is_ok_and(|answer| answer == "true");
    Ok(Some(windows::Service { start, driver: (path, there) }))
}

fn value(fish: &mut Fish, node: &str, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let value = fish.text("hivex-node-get-value", &[node, name])?;
    if value == "0" { Ok(None) } else { fish.ask("hivex-value-value", &[&value]).map(Some) }
}

/// An answer that may be missing, of a file that need not be there.
fn optional<T: Default>(answer: Result<T, Error>) -> Result<T, Error> {
    match answer {
        Err(Error::Refused { .. }) => Ok(T::default()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: Table = Table { esp: false, code: true, active: true };

    fn system(root: &str, mounts: &[(&str, &str)]) -> (String, Vec<Mount>) {
        let mount =
            |(at, device): &(&str, &str)| Mount { at: (*at).to_owned(), device: (*device).to_owned() };
        (root.to_owned(), mounts.iter().map(mount).collect())
    }

    #[test]
    fn the_disks_of_a_guest_come_in_the_order_in_which_it_boots() {
        let (_, mounts) = system(
            "/dev/vg/root",
            &[
                ("/", "/dev/vg/root"),
                ("/boot", "/dev/sdb2"),
                ("/boot/efi", "/dev/sda1"),
                ("/home", "/dev/sdc1"),
            ],
        );
        assert_eq!(disks(&mounts), [0, 1]);
        let (_, mounts) = system("x", &[("/", "btrfsvol:/dev/sdb2/@/.snapshots/1/snapshot")]);
        assert_eq!(disks(&mounts), [1]);
    }

    #[test]
    fn of_several_systems_that_on_the_disk_that_boots_is_meant() {
        let systems =
            || vec![system("/dev/sda1", &[("/", "/dev/sda1")]), system("/dev/sdb1", &[("/", "/dev/sdb1")])];
        let chosen = |tables: &[Table]| of_boot_disk(tables, systems()).map(|(root, _)| root);
        assert_eq!(chosen(&[CODE, CODE]).as_deref(), Some("/dev/sda1"));
        assert_eq!(chosen(&[Table::default(), CODE]).as_deref(), Some("/dev/sdb1"));
        assert_eq!(chosen(&[Table::default(); 2]).as_deref(), Some("/dev/sda1"));
        assert!(of_boot_disk(&[CODE], Vec::new()).is_none());
        // LVM on all: no disk says anything, the first is taken.
        let lvm = vec![system("/dev/vg/root", &[("/", "/dev/vg/root")])];
        assert_eq!(of_boot_disk(&[CODE], lvm).map(|(root, _)| root).as_deref(), Some("/dev/vg/root"));
    }
}
