//! The disks of a guest as virt-v2v reads them: a libvirt domain with nothing in it but disks.
//!
//! virt-v2v looks at the guest's disks to find out what it is; what else a domain says (memory, cards) it only hands
//! on to a new domain, which in-place conversion does not make.

use std::fmt::Write as _;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// How the guest is booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Firmware {
    Bios,
    Uefi,
}

/// A disk that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub path: String,
    pub device: bool,
}

impl Source {
    /// Of a raw image or block device. The path is made absolute: virt-v2v runs elsewhere.
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        let kind = std::fs::metadata(path)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(std::io::Error::other("neither a file nor a block device"));
        }
        let path = std::path::absolute(path).map(PathBuf::into_os_string)?;
        let path = path.into_string().map_err(|_| std::io::Error::other("its path is not UTF-8"))?;
        // XML has no way to write them.
        if path.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')) {
            return Err(std::io::Error::other("its path has control characters"));
        }
        Ok(Self { path, device: kind.is_block_device() })
    }
}

/// The domain.
pub(super) fn domain(disks: &[Source], firmware: Firmware) -> String {
    let os = match firmware {
        Firmware::Bios => "<os>",
        Firmware::Uefi => "<os firmware='efi'>",
    };
    let mut xml = format!(
        "<domain type='kvm'>\n  <name>guest</name>\n  <memory unit='MiB'>1024</memory>\n  <vcpu>1</vcpu>\n  \
         {os}<type arch='x86_64'>hvm</type><boot dev='hd'/></os>\n  <features><acpi/></features>\n  <devices>\n"
    );
    for (index, disk) in disks.iter().enumerate() {
        let (kind, attribute) = if disk.device { ("block", "dev") } else { ("file", "file") };
        let (path, target) = (escaped(&disk.path), device(index));
        // Writing to a String cannot fail.
        let _ = write!(
            xml,
            "    <disk type='{kind}' device='disk'>\n      <driver name='qemu' type='raw'/>\n      \
             <source {attribute}='{path}'/>\n      <target dev='{target}' bus='scsi'/>\n    </disk>\n"
        );
    }
    xml.push_str("  </devices>\n</domain>\n");
    xml
}

/// Linux's name of the disk with this number, from 0: sda … sdz, sdaa …
pub(super) fn device(index: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = index + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(char::from(b"abcdefghijklmnopqrstuvwxyz"[rest % 26]));
        rest /= 26;
    }
    letters.iter().rev().fold(String::from("sd"), |name, letter| name + &letter.to_string())
}

/// The number of the disk that a device or a partition of it (`/dev/sdb2`) is on.
pub(super) fn index(device: &str) -> Option<usize> {
    let name = device.strip_prefix("/dev/")?;
    let name =
        name.strip_prefix("sd").or_else(|| name.strip_prefix("hd")).or_else(|| name.strip_prefix("vd"))?;
    let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.is_empty() || letters.len() > 3 || !letters.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    letters.bytes().try_fold(0, |sum: usize, b| Some(sum * 26 + usize::from(b - b'a') + 1))?.checked_sub(1)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&apos;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_disks_are_there_in_order_each_as_what_it_is() {
        let disks = [
            Source { path: "/v/a.raw".into(), device: false },
            Source { path: "/dev/drbd/by-res/cs-1/0".into(), device: true },
        ];
        let xml = domain(&disks, Firmware::Uefi);
        let first = xml.find("<source file='/v/a.raw'/>\n      <target dev='sda' bus='scsi'/>");
        let second =
            xml.find("<source dev='/dev/drbd/by-res/cs-1/0'/>\n      <target dev='sdb' bus='scsi'/>");
        assert!(first.is_some() && first < second, "{xml}");
        assert!(xml.contains("<os firmware='efi'>"));
        assert!(!domain(&disks, Firmware::Bios).contains("firmware"));
    }

    #[test]
    fn a_path_cannot_break_out_of_its_attribute() {
        let evil = Source { path: "/a'/><disk> & \"b\"".into(), device: false };
        let xml = domain(&[evil], Firmware::Bios);
        assert!(xml.contains("<source file='/a&apos;/&gt;&lt;disk&gt; &amp; &quot;b&quot;'/>"), "{xml}");
        assert_eq!(xml.matches("<disk ").count(), 1);
    }

    #[test]
    fn only_files_and_devices_with_a_path_that_xml_can_say_are_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Source::of(folder.path()).is_err(), "a folder");
        assert!(Source::of(Path::new("/dev/null")).is_err(), "no block device");
        let control = folder.path().join("a\nb");
        std::fs::write(&control, b"").expect("a file");
        assert!(Source::of(&control).is_err(), "a newline");
        let plain = folder.path().join("a b");
        std::fs::write(&plain, b"").expect("a file");
        assert!(!Source::of(&plain).expect("a file").device);
    }

    #[test]
    fn disks_are_numbered_as_linux_does() {
        for (number, name) in
            [(0, "sda"), (25, "sdz"), (26, "sdaa"), (51, "sdaz"), (52, "sdba"), (701, "sdzz")]
        {
            assert_eq!(device(number), name);
            assert_eq!(index(&format!("/dev/{name}1")), Some(number));
        }
        assert_eq!(index("/dev/hdb"), Some(1));
        for other in ["/dev/mapper/vg-root", "/dev/md0", "/dev/vg/root", "sda", "/dev/sd1", "/dev/sdA"] {
            assert_eq!(index(other), None, "{other}");
        }
    }
}
