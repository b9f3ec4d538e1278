//! A small real Linux guest: a bootable disk that says on its console what it had written, and the machine around it.
//!
//! ```text
//!  Tools (kernel, modules, busybox, agent) ── Initramfs (init.sh) ── Image: root.img (MBR, SYSLINUX, ext4), data.img (ext4)
//!
//!  LiveGuest: qemu-system-x86_64 ── device ── top-KEY (raw) ── disk-KEY (qcow2, holds bitmaps) ── file
//!    agent ── QMP ── agent.qmp      test ── QMP ── test.qmp      NBD ── nbd.sock      console.log, console.sock
//!
//!  boot(): qemu-system-x86_64 ── device ── overlay ── a replica's files, which stay as they are
//! ```
//!
//! The guest numbers its records, makes each durable on disk `data` before disk `root` has it, and checks at every
//! boot that all of them are there, whole, and of one point in time. So a replica that boots and says "intact" was
//! consistent across its disks, without our word for it.
//!
//! Once it is ready, whoever reaches it finds an HTTP server at port 80 (`/health`), nobody at other ports, and the QEMU
//! guest agent behind a virtio-serial port.
//!
//! Emulated (TCG), so that it runs where there is no KVM; five seconds from power to "ready". Not here: UEFI, a
//! distribution, SATA (the kernel for clouds has no driver for it), memory worth measuring.

mod console;
mod image;
mod initramfs;
mod live;
mod machine;
mod power;
mod tools;

pub use console::{Console, Found, Progress};
pub use image::{Drivers, Image, Sizes};
pub use live::{LiveGuest, Options};
pub use machine::{Bus, Machine, boot};
pub use power::Power;
pub use tools::Tools;

#[cfg(test)]
mod tests;
