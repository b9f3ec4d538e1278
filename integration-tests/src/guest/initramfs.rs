//! What the kernel unpacks and starts: busybox, modules, the QEMU guest agent and the guest's own process 1, in a cpio archive.
//!
//! The format is "newc" (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst): a header of
//! hexadecimal text, the name, the content, each padded to four bytes. Written here, because the tool for it is not
//! installed everywhere.

use super::image::Drivers;
use super::tools::Tools;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

/// Commands that `init.sh` calls and its shell does not have built in.
const APPLETS: &[&str] = &[
    "sh", "awk", "cat", "dd", "findfs", "grep", "head", "httpd", "insmod", "ip", "ls", "mkdir", "mount",
    "poweroff", "sync", "umount", "usleep",
];

/// The archive, as the boot loader takes it.
pub(super) fn make(tools: &Tools, drivers: Drivers) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in ["bin", "dev", "disks", "lib", "lib64", "modules", "proc", "run", "sys", "www"] {
        archive.add(dir, DIRECTORY, b"");
    }
    archive.add("init", PROGRAM, include_bytes!("init.sh"));
    archive.add("bin/busybox", PROGRAM, &tools.busybox()?);
    for applet in APPLETS {
        archive.add(&format!("bin/{applet}"), LINK, b"busybox");
    }
    for (name, bytes) in tools.agent()? {
        let folder = match name.as_str() {
            "qemu-ga" => "bin",
            // Where it is said in every program.
            name if name.starts_with("ld-linux") => "lib64",
            _ => "lib",
        };
        archive.add(&format!("{folder}/{name}"), PROGRAM, &bytes);
    }
    let mut order = String::new();
    for module in tools.modules()? {
        if drivers == Drivers::WithoutVirtio && module.name.starts_with("virtio") {
            continue;
        }
        archive.add(&format!("modules/{}.ko", module.name), FILE, &module.bytes);
        order += &format!("{}.ko\n", module.name);
    }
    archive.add("modules/order", FILE, order.as_bytes());
    Ok(archive.finish())
}

#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(super) fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        // Inode, mode, owner, group, links, time, size, four device numbers, length of the name, checksum (none).
        let fields = [self.entries, mode, 0, 0, links, 0, length(content), 0, 0, 0, 0, length(name) + 1, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn length(content: impl AsRef<[u8]>) -> u32 {
    u32::try_from(content.as_ref().len()).expect("files of the guest are a few megabytes")
}
