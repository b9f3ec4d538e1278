//! A machine as QEMU's arguments. Sockets are named within its folder, where QEMU is started.

use super::super::{Disk, Machine};
use super::Accel;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where a plain pool's volumes are said to be; there is nothing.
const MADE_UP: &str = "/mnt/";

const FIRMWARE: [(&str, &str); 2] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
];

/// With Microsoft's keys: what is not signed does not boot.
const SECURE: [(&str, &str); 1] =
    [("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd")];

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn pair(&mut self, flag: &str, value: impl Into<OsString>) {
        self.0.extend([OsString::from(flag), value.into()]);
    }

    /// In JSON a comma in a path ends nothing.
    fn json(&mut self, flag: &str, value: &Value) {
        self.pair(flag, value.to_string());
    }
}

/// Makes what it needs besides: a plain disk's file, the firmware's variables.
pub(super) fn arguments(
    dir: &Path,
    folder: &Path,
    accel: Accel,
    machine: &Machine,
) -> Result<Vec<OsString>, String> {
    let mut args = Arguments::default();
    // As a host's agent does: the old board with a BIOS, the new one with EFI.
    let is_secure = machine.uefi.as_deref().is_some_and(|mode| mode.eq_ignore_ascii_case("SECURE"));
    let board = match machine.uefi {
        None => "pc",
        Some(_) if is_secure => "q35,smm=on",
        Some(_) => "q35",
    };
    args.0.extend(["-no-user-config", "-nodefaults"].map(OsString::from));
    args.pair("-name", machine.instance_name.clone());
    args.pair("-uuid", machine.id.clone());
    args.pair("-machine", board);
    let processor = match accel {
        Accel::Tcg => ["tcg", "max"],
        Accel::Kvm => ["kvm", "host"],
    };
    args.pair("-accel", processor[0]);
    args.pair("-cpu", processor[1]);
    args.pair("-smp", machine.cpus.max(1).to_string());
    args.pair("-m", format!("{}M", machine.memory_mib));
    args.pair("-pidfile", "pid");
    // Without a card for graphics, SeaBIOS and boot loaders wait for one.
    args.pair("-vga", "std");
    args.pair("-display", "none");
    let log = text(&dir.join("consoles").join(format!("{}.log", machine.id)))?.replace(',', ",,");
    let console =
        format!("socket,id=console,path=console.sock,server=on,wait=off,logfile={log},logappend=on");
    args.pair("-chardev", console);
    args.pair("-serial", "chardev:console");
    args.pair("-chardev", "socket,id=qmp,path=qmp.sock,server=on,wait=off");
    args.pair("-mon", "chardev=qmp,mode=control");
    args.pair("-chardev", "socket,id=agent,path=agent.sock,server=on,wait=off");
    args.json("-device", &json!({"driver": "virtio-serial-pci", "id": "channels"}));
    let agent = json!({"driver": "virtserialport", "bus": "channels.0", "chardev": "agent",
        "name": "org.qemu.guest_agent.0"});
    args.json("-device", &agent);
    if machine.uefi.is_some() {
        firmware(&mut args, folder, is_secure)?;
    }
    disks(&mut args, dir, machine)?;
    for (at, nic) in machine.nics.iter().enumerate() {
        args.pair("-netdev", format!("user,id=net{at},restrict=on"));
        let model = match machine.details.get("nicAdapter").map(|name| name.to_lowercase()).as_deref() {
            Some("e1000") => "e1000",
            Some("rtl8139") => "rtl8139",
            Some("vmxnet3") => "vmxnet3",
            _ => "virtio-net-pci",
        };
        let card = json!({"driver": model, "netdev": format!("net{at}"), "mac": nic.mac, "romfile": ""});
        args.json("-device", &card);
    }
    if machine.nics.is_empty() {
        args.pair("-nic", "none");
    }
    Ok(args.0)
}

fn firmware(args: &mut Arguments, folder: &Path, is_secure: bool) -> Result<(), String> {
    let pairs = if is_secure { &SECURE[..] } else { &FIRMWARE[..] };
    let found = pairs.iter().find(|(code, vars)| Path::new(code).is_file() && Path::new(vars).is_file());
    let (code, template) = found.ok_or("this host has no EFI firmware (Debian: ovmf)")?;
    let vars = folder.join("vars.fd");
    if !vars.exists() {
        std::fs::copy(template, &vars).map_err(|error| format!("{}: {error}", vars.display()))?;
    }
    if is_secure {
        args.pair("-global", "driver=cfi.pflash01,property=secure,value=on");
    }
    args.pair("-drive", format!("if=pflash,format=raw,unit=0,readonly=on,file={code}"));
    args.pair("-drive", "if=pflash,format=raw,unit=1,file=vars.fd");
    Ok(())
}

/// In their order; the first that can be booted from is.
fn disks(args: &mut Arguments, dir: &Path, machine: &Machine) -> Result<(), String> {
    let bus = |at: usize| {
        let key = if at == 0 { "rootDiskController" } else { "dataDiskController" };
        machine.details.get(key).map(|name| name.to_lowercase()).unwrap_or_default()
    };
    if (0..machine.disks.len()).any(|at| bus(at) == "scsi") {
        args.json("-device", &json!({"driver": "virtio-scsi-pci", "id": "scsi0"}));
    }
    for (at, disk) in machine.disks.iter().enumerate() {
        let (path, file, node) = (path(dir, disk)?, format!("file{at}"), format!("disk{at}"));
        let is_device = std::fs::metadata(&path).is_ok_and(|data| {
            use std::os::unix::fs::FileTypeExt as _;
            data.file_type().is_block_device()
        });
        // The lock keeps a second machine away.
        args.json(
            "-blockdev",
            &json!({"driver": if is_device { "host_device" } else { "file" }, "filename": text(&path)?,
                "node-name": file, "locking": "on", "discard": "unmap",
                "cache": {"direct": false, "no-flush": false}}),
        );
        args.json(
            "-blockdev",
            &json!({"driver": "raw", "file": file, "node-name": node, "discard": "unmap"}),
        );
        let device = match bus(at).as_str() {
            "scsi" => json!({"driver": "scsi-hd", "bus": "scsi0.0", "scsi-id": at}),
            "ide" | "sata" => json!({"driver": "ide-hd"}),
            _ => json!({"driver": "virtio-blk-pci"}),
        };
        let mut device = device;
        device["drive"] = json!(node);
        device["bootindex"] = json!(at);
        // As CloudStack tells guests which volume it is.
        let serial: String = disk.volume.chars().filter(|c| *c != '-').take(20).collect();
        device["serial"] = json!(serial);
        args.json("-device", &device);
    }
    Ok(())
}

fn path(dir: &Path, disk: &Disk) -> Result<PathBuf, String> {
    if !disk.path.starts_with(MADE_UP) {
        return Ok(PathBuf::from(&disk.path));
    }
    let file = dir.join("plain").join(format!("{}.img", disk.volume));
    let made = std::fs::File::options().create(true).append(true).open(&file);
    let made = made.and_then(|made| made.set_len(disk.size.max(1 << 20)));
    made.map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))
}
