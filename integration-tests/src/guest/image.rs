//! The guest's two disks as raw images, made without root and without loop devices, in less than a second.
//!
//! ```text
//!  root.img   0       MBR: SYSLINUX's first sector, the partition table
//!             1 MiB   FAT: SYSLINUX, kernel, initramfs
//!             33 MiB  ext4 "guest-root": its log, to the end
//!  data.img   0       ext4 "guest-data": its log
//! ```
//!
//! Blocks of the file systems are as large as a record, so that a record lies in one piece.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::initramfs;
use super::tools::Tools;
use crate::live_vm::daemon::run;

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
const BOOT_START: u64 = MIB;
const ROOT_START: u64 = 33 * MIB;

/// Where Debian's syslinux-common has what goes into the first sector; less than 446 bytes.
const FIRST_SECTOR: &str = "/usr/lib/syslinux/mbr/mbr.bin";

/// `panic`: a damaged file system must not sit there in silence. `mitigations`: emulated, they are only slow.
const SYSLINUX: &str = "DEFAULT guest\nPROMPT 0\nLABEL guest\nKERNEL vmlinuz\nINITRD initrd\n\
                        APPEND console=ttyS0 quiet panic=10 mitigations=off\n";

/// Which drivers the guest has on board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drivers {
    /// VMware's, IDE, and virtio.
    #[default]
    All,
    /// As a guest that was never prepared for a move: it does not find a virtio disk.
    WithoutVirtio,
}

/// Bytes of the disks.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// At least 96 MiB.
    pub root: u64,
    /// At least 56 MiB.
    pub data: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { root: 256 * MIB, data: 96 * MIB }
    }
}

/// Two raw images.
#[derive(Clone, Debug)]
pub struct Image {
    /// Boots.
    pub root: PathBuf,
    /// The second disk.
    pub data: PathBuf,
}

impl Image {
    /// Makes `root.img` and `data.img` in `dir`, anew where they are there.
    ///
    /// # Errors
    /// A tool is missing or fails: `deploy/install-deps.sh test` gets them.
    pub fn make(tools: &Tools, dir: &Path, sizes: Sizes, drivers: Drivers) -> anyhow::Result<Self> {
        ensure!(sizes.root >= 96 * MIB && sizes.data >= 56 * MIB, "{sizes:?} has no room for two logs");
        ensure!(sizes.root.is_multiple_of(MIB) && sizes.data.is_multiple_of(MIB), "{sizes:?}: whole MiB");
        let this = Self { root: dir.join("root.img"), data: dir.join("data.img") };
        let root = File::create(&this.root).with_context(|| format!("make {}", this.root.display()))?;
        root.set_len(sizes.root)?;
        root.write_all_at(&first_sector(sizes.root)?, 0)?;
        boot_partition(tools, &this.root, dir, drivers).context("the boot partition")?;
        ext4(&this.root, "guest-root", ROOT_START, sizes.root)?;
        File::create(&this.data)?.set_len(sizes.data)?;
        ext4(&this.data, "guest-data", 0, sizes.data)?;
        Ok(this)
    }
}

fn boot_partition(tools: &Tools, image: &Path, dir: &Path, drivers: Drivers) -> anyhow::Result<()> {
    let [initrd, configuration] = ["initrd", "syslinux.cfg"].map(|name| dir.join(name));
    std::fs::write(&initrd, initramfs::make(tools, drivers)?)?;
    std::fs::write(&configuration, SYSLINUX)?;
    let image = text(image)?;
    let partition = format!("{image}@@{BOOT_START}");
    let sectors = ((ROOT_START - BOOT_START) / SECTOR).to_string();
    let hidden = (BOOT_START / SECTOR).to_string();
    // As many heads and sectors as a BIOS invents for a disk of any size.
    run("mformat", &["-i", &partition, "-T", &sectors, "-h", "255", "-s", "63", "-H", &hidden, "::"])?;
    for (from, to) in
        [(&tools.kernel(), "::vmlinuz"), (&initrd, "::initrd"), (&configuration, "::syslinux.cfg")]
    {
        run("mcopy", &["-i", &partition, &text(from)?, to])?;
        if from.starts_with(dir) {
            std::fs::remove_file(from)?;
        }
    }
    run("syslinux", &["-t", &BOOT_START.to_string(), "-i", &image])
}

/// All is written now, nothing later in the background: what the guest writes is what it says.
fn ext4(image: &Path, label: &str, start: u64, end: u64) -> anyhow::Result<()> {
    let options = format!("offset={start},lazy_itable_init=0,lazy_journal_init=0");
    let size = format!("{}k", (end - start) / 1024);
    let image = text(image)?;
    let how = ["-b", "4096", "-N", "128", "-J", "size=4", "-m", "0", "-E", &options];
    let mut arguments = vec!["-q", "-F", "-t", "ext4", "-L", label];
    arguments.extend(how);
    arguments.extend([image.as_str(), size.as_str()]);
    run("mke2fs", &arguments)
}

/// Boot code and partition table.
pub(super) fn first_sector(size: u64) -> anyhow::Result<[u8; 512]> {
    const TABLE: usize = 446;
    const FAT16: u8 = 0x0e;
    const LINUX: u8 = 0x83;
    let code = std::fs::read(FIRST_SECTOR).with_context(|| format!("read {FIRST_SECTOR}"))?;
    ensure!(code.len() <= TABLE, "{FIRST_SECTOR} is too large");
    let mut sector = [0; 512];
    sector[..code.len()].copy_from_slice(&code);
    let partitions = [(0x80, FAT16, BOOT_START, ROOT_START), (0, LINUX, ROOT_START, size)];
    for (entry, (active, kind, start, end)) in sector[TABLE..].chunks_exact_mut(16).zip(partitions) {
        // Cylinders, heads and sectors "beyond counting": the numbers of sectors hold.
        entry[..8].copy_from_slice(&[active, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff]);
        entry[8..12].copy_from_slice(&u32::try_from(start / SECTOR)?.to_le_bytes());
        entry[12..16].copy_from_slice(&u32::try_from((end - start) / SECTOR)?.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    Ok(sector)
}

pub(super) fn text(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned())
}
