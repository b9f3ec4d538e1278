//! What QEMU is told: a machine's definition and disks as arguments. Pure.
//!
//! Every device has a fixed place on the PCI bus, so that guests which name cards and disks by it find them under the
//! same names after each start:
//!
//! ```text
//! 03           virtio-scsi controller        10.0 … 17.7  virtio disks, eight to a place
//! 04 … 0d      network cards                 18 … 1b      SATA controllers beyond the first
//! 0e           the guest agent's channel
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::{Bus, Definition, Error, Isolation, MachineName};
use super::monitor::{AGENT, CONSOLE, QMP};

/// As many as VMware gives a VM.
const MOST_NICS: usize = 10;
/// What QEMU 7.2's q35 takes without interrupt remapping.
const MOST_CPUS: u32 = 255;
/// Below this not even the firmware starts.
const LEAST_MEMORY: u64 = 32 << 20;

const MIB: u64 = 1 << 20;

/// SATA ports of one controller.
const PORTS: usize = 6;

/// What carries out the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processor {
    Kvm,
    Tcg,
}

impl Processor {
    /// The guest sees as many of the processor's features as there can be.
    pub(super) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg", "-cpu", "max"],
        }
    }
}

/// How many disks a machine takes.
pub(super) fn most_disks(bus: Bus) -> usize {
    match bus {
        Bus::VirtioBlk | Bus::VirtioScsi => 64,
        Bus::Sata => 5 * PORTS,
        Bus::Ide => 4,
    }
}

/// Refuses what no QEMU would start.
pub(super) fn check(machine: &Definition) -> Result<(), Error> {
    let unusable = |what: String| Err(Error::Unusable { what });
    match machine {
        Definition { cpus, .. } if !(1..=MOST_CPUS).contains(cpus) => {
            unusable(format!("{cpus} processors: 1 to {MOST_CPUS} can be had"))
        }
        Definition { memory_bytes, .. } if *memory_bytes < LEAST_MEMORY => {
            unusable(format!("{memory_bytes} bytes of memory: {LEAST_MEMORY} are the least"))
        }
        Definition { nics, .. } if nics.len() > MOST_NICS => {
            unusable(format!("{} network cards: {MOST_NICS} are the most", nics.len()))
        }
        _ => Ok(()),
    }
}

/// All that one start needs to know.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) name: &'a MachineName,
    pub(super) machine: &'a Definition,
    /// Where the disks are, in order.
    pub(super) disks: &'a [PathBuf],
    pub(super) processor: Processor,
    /// The firmware's code, and the machine's own copy of its variables.
    pub(super) efi: Option<(&'a Path, &'a Path)>,
}

/// QEMU's arguments. It is started in the machine's folder: the names of sockets and logs are relative to it, those of
/// everything that may be opened again later are not, because a daemon goes to `/`.
pub(super) fn arguments(plan: &Plan<'_>) -> Result<Vec<OsString>, Error> {
    let machine = plan.machine;
    let mut args = Arguments::default();
    // Nothing but what is named here, whatever the host's files say. Without a VGA, GRUB hangs (QEMU 7.2).
    args.flags(&["-nodefaults", "-no-user-config", "-daemonize"]);
    args.pair("-display", "none").pair("-vga", "std");
    args.pair("-pidfile", "pid");
    let title = option_text(&machine.title);
    args.pair("-name", format!("guest={title},process=mk-{},debug-threads=on", plan.name));
    args.pair("-uuid", machine.uuid.to_string());
    let board = match machine.bus {
        // The only one with IDE ports.
        Bus::Ide => "pc",
        Bus::VirtioBlk | Bus::VirtioScsi | Bus::Sata => "q35",
    };
    // Without VMware's back door: its tools in the guest would take this for their host.
    let mut board = format!("{board},vmport=off");
    if let Some((code, vars)) = plan.efi {
        args.json(
            "-blockdev",
            json!({ "driver": "file", "filename": text(code)?, "node-name": "code-file", "read-only": true }),
        );
        args.json(
            "-blockdev",
            json!({ "driver": "raw", "file": "code-file", "node-name": "code", "read-only": true }),
        );
        args.json(
            "-blockdev",
            json!({ "driver": "file", "filename": text(vars)?, "node-name": "vars-file", "locking": "on" }),
        );
        args.json("-blockdev", json!({ "driver": "raw", "file": "vars-file", "node-name": "vars" }));
        board.push_str(",pflash0=code,pflash1=vars");
    }
    args.pair("-machine", board);
    args.flags(&plan.processor.arguments());
    args.pair("-smp", machine.cpus.to_string());
    args.pair("-m", format!("{}M", machine.memory_bytes.div_ceil(MIB)));
    // A guest that asks for power off ends its QEMU; one that falls asleep could not be woken; none is booted by network.
    args.pair("-action", "shutdown=poweroff").pair("-boot", "strict=on");
    args.pair("-global", "ICH9-LPC.disable_s3=1").pair("-global", "PIIX4_PM.disable_s3=1");
    args.pair("-qmp", format!("unix:{QMP},server=on,wait=off"));
    let console =
        format!("socket,id=serial0,path={CONSOLE},server=on,wait=off,logfile=console.log,logappend=on");
    args.pair("-chardev", console).pair("-serial", "chardev:serial0");
    // As QEMU's documentation of the agent has it: agents look for a port of that name.
    args.pair("-chardev", format!("socket,id=agent,path={AGENT},server=on,wait=off"));
    args.json("-device", json!({ "driver": "virtio-serial-pci", "id": "agents", "addr": "0e.0" }));
    args.json(
        "-device",
        json!({ "driver": "virtserialport", "bus": "agents.0", "chardev": "agent",
            "name": "org.qemu.guest_agent.0" }),
    );
    controllers(&mut args, machine.bus, plan.disks.len());
    for (position, disk) in plan.disks.iter().enumerate() {
        let file = format!("file{position}");
        let node = format!("disk{position}");
        // The lock keeps a second QEMU away; the guest decides when its writes are flushed.
        args.json(
            "-blockdev",
            json!({ "driver": if is_device(disk) { "host_device" } else { "file" }, "filename": text(disk)?,
                "node-name": file, "locking": "on", "discard": "unmap",
                "cache": { "direct": false, "no-flush": false } }),
        );
        args.json(
            "-blockdev",
            json!({ "driver": "raw", "file": file, "node-name": node, "discard": "unmap" }),
        );
        args.json("-device", device(machine.bus, position, &node));
    }
    for (position, nic) in machine.nics.iter().enumerate() {
        let restrict = match nic.isolation {
            Isolation::Isolated => "on",
            Isolation::Connected => "off",
        };
        args.pair("-netdev", format!("user,id=net{position},restrict={restrict}"));
        args.json(
            "-device",
            json!({ "driver": "virtio-net-pci", "netdev": format!("net{position}"), "mac": nic.mac.to_string(),
                "addr": format!("{:02x}.0", 4 + position), "romfile": "" }),
        );
    }
    if machine.nics.is_empty() {
        // Else QEMU has one of its own.
        args.pair("-nic", "none");
    }
    Ok(args.0)
}

/// What the disks need besides what the board has.
fn controllers(args: &mut Arguments, bus: Bus, disks: usize) {
    match bus {
        Bus::VirtioBlk | Bus::Ide => {}
        Bus::VirtioScsi => {
            args.json("-device", json!({ "driver": "virtio-scsi-pci", "id": "scsi0", "addr": "03.0" }));
        }
        Bus::Sata => {
            for more in 1..disks.div_ceil(PORTS) {
                let addr = format!("{:02x}.0", 0x17 + more);
                args.json(
                    "-device",
                    json!({ "driver": "ich9-ahci", "id": format!("sata{more}"), "addr": addr }),
                );
            }
        }
    }
}

/// All disks may be booted from, in their order: the first one that can be is.
fn device(bus: Bus, position: usize, node: &str) -> Value {
    match bus {
        Bus::VirtioBlk => {
            let (place, function) = (0x10 + position / 8, position % 8);
            json!({ "driver": "virtio-blk-pci", "drive": node, "bootindex": position,
                "addr": format!("{place:02x}.{function}"), "multifunction": function == 0 })
        }
        Bus::VirtioScsi => {
            json!({ "driver": "scsi-hd", "drive": node, "bootindex": position, "bus": "scsi0.0", "scsi-id": position, "lun": 0 })
        }
        Bus::Sata => {
            let bus = match position / PORTS {
                // The board's own.
                0 => format!("ide.{position}"),
                more => format!("sata{more}.{}", position % PORTS),
            };
            json!({ "driver": "ide-hd", "drive": node, "bootindex": position, "bus": bus })
        }
        Bus::Ide => {
            json!({ "driver": "ide-hd", "drive": node, "bootindex": position,
                "bus": format!("ide.{}", position / 2), "unit": position % 2 })
        }
    }
}

#[derive(Debug, Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flags(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(OsString::from));
    }

    fn pair(&mut self, flag: &str, value: impl Into<String>) -> &mut Self {
        self.0.extend([OsString::from(flag), OsString::from(value.into())]);
        self
    }

    /// QEMU takes JSON where a comma in a path would else end the option.
    fn json(&mut self, flag: &str, value: Value) {
        self.pair(flag, value.to_string());
    }
}

fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata().is_ok_and(|file| file.file_type().is_block_device())
}

/// JSON is text.
fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::Unusable {
        what: format!("a path that is not UTF-8 ({}): give the storage another folder", path.display()),
    })
}

/// For people, in a list of options: a comma is doubled there, and no argument of a program may hold a NUL.
fn option_text(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    plain.replace(',', ",,")
}
