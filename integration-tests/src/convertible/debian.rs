//! A lean Debian 12 whose initramfs has a driver for an IDE disk and none for virtio, as that of a
//! guest has that was installed elsewhere.
//!
//! A minute to make, as root (debootstrap). It has a boot loader; tests boot it with its own kernel and initramfs, taken
//! from its disk: what a conversion changes is in there.

use super::{command, run};
use anyhow::{Context as _, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

const UUID: &str = "11111111-2222-3333-4444-555555555555";

/// From a release's name to a raw disk, in the folder `$1`.
const MAKE: &str = r#"
set -eu
cd "$1"
debootstrap --variant=minbase \
    --include=linux-image-cloud-amd64,systemd-sysv,grub-pc-bin,grub2-common,initramfs-tools,zstd bookworm root >&2
echo MODULES=list >root/etc/initramfs-tools/conf.d/few
printf 'ata_piix\nsd_mod\next4\n' >root/etc/initramfs-tools/modules
echo "UUID=$2 / ext4 defaults 0 1" >root/etc/fstab
echo guest >root/etc/hostname
version=$(ls root/lib/modules)
chroot root update-initramfs -u -k "$version" >&2
mkdir -p root/boot/grub
cat >root/boot/grub/grub.cfg <<CFG
set timeout=0
menuentry 'Debian GNU/Linux' {
	search --no-floppy --fs-uuid --set=root $2
	linux /boot/vmlinuz-$version root=UUID=$2 ro console=ttyS0
	initrd /boot/initrd.img-$version
}
CFG
printf 'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX="console=ttyS0"\n' >root/etc/default/grub
rm -rf root/var/cache/apt/archives/*.deb root/var/lib/apt/lists/*
truncate -s 1500M disk
printf 'label: dos\n2048,,83,*\n' | sfdisk -q disk
mke2fs -q -F -t ext4 -U "$2" -d root -E offset=1048576 disk 1530000k
# Before the first partition, as grub-install puts it there, which wants a real disk.
chroot root grub-mkimage -O i386-pc -o /core.img -p '(hd0,msdos1)/boot/grub' \
    biosdisk part_msdos ext2 normal linux search search_fs_uuid configfile
dd if=root/usr/lib/grub/i386-pc/boot.img of=disk bs=440 count=1 conv=notrunc status=none
dd if=root/core.img of=disk bs=512 seek=1 conv=notrunc status=none
rm -rf root
"#;

/// Makes the disk at `path`.
///
/// # Errors
/// Not root, no network, or a program is not there or fails.
pub fn make(path: &Path, scratch: &Path) -> anyhow::Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "debootstrap needs root");
    let folder = tempfile::tempdir_in(scratch)?;
    let at = folder.path();
    run(command("sh", scratch).args(["-c", MAKE, "sh"]).arg(at).arg(UUID))?;
    fs::rename(at.join("disk"), path).context("the disk and the scratch folder are on one file system")
}

/// Boots the guest with its disk on virtio until it asks who logs in, or gives up on its disk; what it said on its
/// console. The disk is not written.
///
/// # Errors
/// A program is not there or fails, or neither came within four minutes.
pub fn boot(disk: &Path, scratch: &Path) -> anyhow::Result<Booted> {
    let folder = tempfile::tempdir_in(scratch)?;
    let at = folder.path();
    let fetch =
        "run\nmount-ro /dev/sda1 /\nglob copy-out /boot/vmlinuz-* .\nglob copy-out /boot/initrd.img-* .\n";
    fs::write(at.join("script"), fetch)?;
    let mut guestfish = command("guestfish", scratch);
    guestfish.current_dir(at).args(["--ro", "--format=raw", "-a"]).arg(disk).args(["-f", "script"]);
    run(&mut guestfish)?;
    let entries = fs::read_dir(at)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let version = entries.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned)).next();
    let version = version.context("the guest has a kernel")?;
    // By its whole name: virt-v2v leaves the image as it was beside it, as initrd.img-VERSION.pre-v2v.
    let (kernel, initramfs) = (format!("vmlinuz-{version}"), format!("initrd.img-{version}"));
    let console = at.join("console");
    let drive = format!("file={},format=raw,if=virtio,snapshot=on", disk.display());
    let mut qemu = Command::new("timeout");
    qemu.args(["--kill-after=5", "240", "qemu-system-x86_64", "-accel", "tcg", "-m", "1024", "-smp", "2"]);
    qemu.args(["-display", "none", "-monitor", "none", "-no-reboot", "-nic", "none", "-drive", &drive]);
    qemu.arg("-serial").arg(format!("file:{}", console.display()));
    qemu.arg("-kernel").arg(at.join(kernel)).arg("-initrd").arg(at.join(initramfs));
    qemu.args(["-append", &format!("root=UUID={UUID} ro console=ttyS0")]);
    let mut qemu = qemu.spawn().context("timeout and QEMU: deploy/install-deps.sh slow installs it")?;
    let (ended, said) = loop {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let said = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
        if said.contains("guest login:") {
            break (Some(Booted::Up), said);
        }
        if said.contains("Gave up waiting for root") || said.contains("(initramfs)") {
            break (Some(Booted::NoDisk), said);
        }
        if qemu.try_wait()?.is_some() {
            break (None, said);
        }
    };
    // timeout hands it on to QEMU.
    let pid = i32::try_from(qemu.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid.filter(|_| ended.is_some()) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    qemu.wait()?;
    ended.with_context(|| format!("the guest neither came up nor gave up: {said}"))
}

/// How far a guest came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booted {
    /// It asks who logs in.
    Up,
    /// It found no disk.
    NoDisk,
}
