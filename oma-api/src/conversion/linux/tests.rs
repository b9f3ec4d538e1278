use super::*;

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn chosen(modules: &[&str], boot: &[&str], grubenv: &str) -> Option<(String, Option<String>)> {
    kernel(&strings(modules), &strings(boot), grubenv).map(|kernel| (kernel.version, kernel.initramfs))
}

fn some(version: &str, initramfs: &str) -> Option<(String, Option<String>)> {
    Some((version.to_owned(), Some(initramfs.to_owned())))
}

#[test]
fn the_newest_installed_kernel_boots() {
    let modules = ["6.1.0-9-amd64", "6.1.0-56-amd64", "6.1.0-60-amd64"];
    // Of the third, only its modules were left behind.
    let boot = [
        "grub/grub.cfg",
        "initrd.img-6.1.0-56-amd64",
        "initrd.img-6.1.0-9-amd64",
        "vmlinuz-6.1.0-56-amd64",
        "vmlinuz-6.1.0-9-amd64",
    ];
    assert_eq!(chosen(&modules, &boot, ""), some("6.1.0-56-amd64", "/boot/initrd.img-6.1.0-56-amd64"));
}

#[test]
fn unless_grub_remembers_another() {
    let modules = ["5.14.0-70.el9.x86_64", "5.14.0-427.el9.x86_64"];
    let boot = [
        "vmlinuz-5.14.0-70.el9.x86_64",
        "vmlinuz-5.14.0-427.el9.x86_64",
        "initramfs-5.14.0-70.el9.x86_64.img",
        "initramfs-5.14.0-427.el9.x86_64.img",
        "initramfs-5.14.0-427.el9.x86_64kdump.img",
        "vmlinuz-0-rescue-0123",
    ];
    let (old, new) =
        ("/boot/initramfs-5.14.0-70.el9.x86_64.img", "/boot/initramfs-5.14.0-427.el9.x86_64.img");
    assert_eq!(chosen(&modules, &boot, "# GRUB\nboot_success=1\n"), some("5.14.0-427.el9.x86_64", new));
    let saved = "# GRUB\nsaved_entry=0123abc-5.14.0-70.el9.x86_64\n";
    assert_eq!(chosen(&modules, &boot, saved), some("5.14.0-70.el9.x86_64", old));
    assert_eq!(chosen(&modules, &boot, "saved_entry=0\n"), some("5.14.0-427.el9.x86_64", new));
}

#[test]
fn every_distribution_names_its_initramfs() {
    assert_eq!(
        chosen(
            &["6.4.0-150600.21-default"],
            &["vmlinuz-6.4.0-150600.21-default", "initrd-6.4.0-150600.21-default"],
            ""
        ),
        some("6.4.0-150600.21-default", "/boot/initrd-6.4.0-150600.21-default")
    );
    assert_eq!(
        chosen(
            &["6.6.1-arch1-1"],
            &["vmlinuz-linux", "initramfs-linux-fallback.img", "initramfs-linux.img"],
            ""
        ),
        some("6.6.1-arch1-1", "/boot/initramfs-linux.img")
    );
    assert_eq!(
        chosen(&["6.6.1-0-lts"], &["vmlinuz-lts", "initramfs-lts"], ""),
        some("6.6.1-0-lts", "/boot/initramfs-lts")
    );
    assert_eq!(
        chosen(
            &["6.8.5-301.fc40.x86_64"],
            &["0123/6.8.5-301.fc40.x86_64/linux", "0123/6.8.5-301.fc40.x86_64/initrd"],
            ""
        ),
        some("6.8.5-301.fc40.x86_64", "/boot/0123/6.8.5-301.fc40.x86_64/initrd")
    );
    assert_eq!(chosen(&["6.1.0"], &["vmlinuz-6.1.0"], ""), Some(("6.1.0".to_owned(), None)));
    assert_eq!(chosen(&[], &["vmlinuz"], ""), None);
    assert_eq!(chosen(&["extramodules"], &[], ""), None);
}

fn verdict(builtin: &str, initramfs: Result<&[&str], &str>, fstab: &str) -> Virtio {
    let kernel = Kernel { version: "6.1.0".into(), initramfs: Some("/boot/initrd.img-6.1.0".into()) };
    let modules = initramfs.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
    let initramfs = modules.as_ref().map_err(|why| *why);
    virtio(&Facts { kernel: Some(&kernel), builtin, initramfs, fstab, disks: 2 })
}

const BOTH: &str = "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/block/virtio-blk.ko\n";

#[test]
fn built_in_or_in_the_initramfs_is_ready() {
    let ready = |why: &str| Virtio::Ready { why: why.into() };
    assert_eq!(
        verdict(BOTH, Err("it has none"), ""),
        ready("the kernel 6.1.0 has virtio_pci and virtio_blk built in")
    );
    assert_eq!(
        verdict("", Ok(&["virtio_blk", "ext4", "virtio_pci"]), ""),
        ready("/boot/initrd.img-6.1.0 has virtio_pci and virtio_blk")
    );
    assert_eq!(
        verdict("kernel/drivers/virtio/virtio_pci.ko\n", Ok(&["virtio_blk"]), ""),
        ready("/boot/initrd.img-6.1.0 has virtio_blk")
    );
}

#[test]
fn what_is_not_there_is_named() {
    let missing = |why: &str| Virtio::Missing { why: why.into() };
    assert_eq!(
        verdict("", Ok(&["ext4", "virtio_net"]), ""),
        missing("/boot/initrd.img-6.1.0 has no virtio_pci and no virtio_blk")
    );
    // On virtio-blk this one does not boot.
    assert_eq!(
        verdict("", Ok(&["virtio_pci", "virtio_scsi"]), ""),
        missing("/boot/initrd.img-6.1.0 has no virtio_blk")
    );
}

#[test]
fn what_cannot_be_read_is_neither() {
    let unknown = |why: &str| Virtio::Unknown { why: why.into() };
    assert_eq!(
        verdict("", Err("lz4 is not here"), ""),
        unknown("/boot/initrd.img-6.1.0 cannot be read: lz4 is not here")
    );
    let facts = Facts { kernel: None, builtin: BOTH, initramfs: Err("none"), fstab: "", disks: 1 };
    assert_eq!(virtio(&facts), unknown("no kernel is found in /lib/modules"));
    let kernel = Kernel { version: "6.1.0".into(), initramfs: None };
    let facts = Facts { kernel: Some(&kernel), builtin: "", ..facts };
    assert_eq!(virtio(&facts), unknown("no initramfs of the kernel 6.1.0 is found in /boot"));
}

#[test]
fn a_table_that_names_disks_by_their_controller_needs_a_conversion() {
    let by_uuid =
        "# /dev/sda1\nUUID=1 / ext4 defaults 0 1\n/dev/vda2 none swap sw 0 0\n/dev/mapper/vg-x /x ext4\n";
    assert!(matches!(verdict(BOTH, Ok(&[]), by_uuid), Virtio::Ready { .. }));
    let by_name = "UUID=1 / ext4 defaults 0 1\n  /dev/sdb1 /data ext4 defaults 0 2\n";
    assert_eq!(
        verdict(BOTH, Ok(&[]), by_name),
        Virtio::Missing { why: "/etc/fstab names /dev/sdb1, which is called differently on virtio".into() }
    );
    // A third disk is none of the VM's.
    assert!(matches!(verdict(BOTH, Ok(&[]), "/dev/sdc1 /media/stick vfat noauto\n"), Virtio::Ready { .. }));
}

#[test]
fn a_system_says_its_name() {
    let file = "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
    assert_eq!(pretty_name(file).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
    assert_eq!(pretty_name("PRETTY_NAME=\"\"\n"), None);
    assert_eq!(pretty_name(""), None);
}

#[test]
fn the_image_that_virt_v2v_replaced_is_not_taken_for_the_new_one() {
    let boot = ["vmlinuz-6.1.0", "initrd.img-6.1.0.pre-v2v", "initrd.img-6.1.0"];
    assert_eq!(chosen(&["6.1.0"], &boot, ""), some("6.1.0", "/boot/initrd.img-6.1.0"));
    let boot = ["0123/6.1.0/initrd.pre-v2v", "0123/6.1.0/linux", "0123/6.1.0/initrd"];
    assert_eq!(chosen(&["6.1.0"], &boot, ""), some("6.1.0", "/boot/0123/6.1.0/initrd"));
}
