//! Which of a guest's disks it boots from, by what is on them.
//!
//! The order of the disks says little: VMware boots from whichever its settings name, and those are not on the disks. The target
//! boots from the first, so somebody has to know. Firmware starts an EFI system partition, or the code at the start of
//! a disk; the first sectors tell.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SECTOR: usize = 512;
/// Sector sizes under which a GPT may have been written.
const SECTORS: [usize; 2] = [512, 4096];
/// Mixed-endian, as on disk: C12A7328-F81F-11D2-BA4B-00A0C93EC93B.
const ESP: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
/// 21686148-6449-6E6F-744E-656564454649, where GRUB lies on a GPT that is booted by a BIOS.
const BIOS_BOOT: [u8; 16] =
    [0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49];

/// What the start of a disk says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// It has an EFI system partition.
    pub esp: bool,
    /// It has code for a BIOS. Windows writes that on data disks, too.
    pub code: bool,
    /// It has a partition marked active, or one for GRUB.
    pub active: bool,
}

impl Table {
    /// Of the disk at `path`.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let file = std::fs::File::open(path)?;
        // A header in the second of the largest sectors, and 128 entries of 128 bytes behind it.
        let mut start = vec![0; 4096 * 2 + 128 * 128];
        let mut got = 0;
        while let Some(rest) = start.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, got as u64)? {
                0 => break,
                more => got += more,
            }
        }
        Ok(Self::of(start.get(..got).unwrap_or_default()))
    }

    fn of(start: &[u8]) -> Self {
        let mut table = Self::default();
        let Some(first) = start.get(..SECTOR).filter(|first| first.ends_with(&[0x55, 0xaa])) else {
            return table;
        };
        table.code = first.iter().take(440).any(|byte| *byte != 0);
        for entry in first.get(446..510).unwrap_or_default().chunks_exact(16) {
            table.active |= entry.first() == Some(&0x80);
            table.esp |= entry.get(4) == Some(&0xef);
        }
        for sector in SECTORS {
            if start.get(sector..sector + 8) != Some(b"EFI PART") {
                continue;
            }
            for entry in start.get(sector * 2..).unwrap_or_default().chunks_exact(128).take(128) {
                table.esp |= entry.starts_with(&ESP);
                table.active |= entry.starts_with(&BIOS_BOOT);
            }
        }
        table
    }

    /// How likely a firmware can start it.
    fn rank(self) -> u8 {
        match self {
            Self { esp: true, .. } | Self { code: true, active: true, .. } => 2,
            Self { code: true, .. } => 1,
            Self { .. } => 0,
        }
    }
}

/// Chooses. `mounts` are the numbers of the disks with the guest's file systems, the one that says most first
/// (`/boot/efi`, `/boot`, `/`); empty for one that is not recognised, or where it is not known (LVM).
///
/// Windows may have its boot loader on another disk than itself, and writes code on all; there the table counts before
/// the file system. A Linux has its loader where its `/boot` is.
pub(super) fn choose(tables: &[Table], mounts: &[usize], windows: bool) -> Option<usize> {
    let rank = |index: usize| tables.get(index).map_or(0, |table| table.rank());
    let mounted = mounts.iter().copied().find(|index| rank(*index) > 0);
    let best = tables.iter().map(|table| table.rank()).max().filter(|best| *best > 0);
    let of_best = |index: &usize| Some(rank(*index)) == best;
    let by_table = || {
        best?;
        mounts.iter().copied().find(of_best).or_else(|| (0..tables.len()).find(|index| of_best(index)))
    };
    let by_both = if windows { by_table().or(mounted) } else { mounted.or_else(by_table) };
    // Started by somebody else, a loader on a CD or a network: the disk with the system is the best there is.
    by_both.or_else(|| mounts.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mbr(code: bool, entries: &[(u8, u8)]) -> Vec<u8> {
        let mut sector = vec![0; SECTOR];
        sector[0] = if code { 0xeb } else { 0 };
        for (number, (flag, kind)) in entries.iter().enumerate() {
            sector[446 + number * 16] = *flag;
            sector[446 + number * 16 + 4] = *kind;
        }
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    fn gpt(sector: usize, kinds: &[[u8; 16]]) -> Vec<u8> {
        let mut start = mbr(false, &[(0, 0xee)]);
        start.resize(sector * 2 + 128 * 128, 0);
        start[sector..sector + 8].copy_from_slice(b"EFI PART");
        for (number, kind) in kinds.iter().enumerate() {
            start[sector * 2 + number * 128..][..16].copy_from_slice(kind);
        }
        start
    }

    const ACTIVE: Table = Table { esp: false, code: true, active: true };
    const CODE: Table = Table { esp: false, code: true, active: false };
    const EFI: Table = Table { esp: true, code: false, active: false };
    const DATA: Table = Table { esp: false, code: false, active: false };

    #[test]
    fn a_table_says_what_a_firmware_could_start() {
        assert_eq!(Table::of(&mbr(true, &[(0x80, 7)])), ACTIVE);
        assert_eq!(Table::of(&mbr(true, &[(0, 0x83)])), CODE);
        assert_eq!(Table::of(&mbr(false, &[(0, 0x83)])), DATA);
        assert_eq!(Table::of(&mbr(false, &[(0, 0xef)])), EFI);
        let data = [9; 16];
        assert_eq!(Table::of(&gpt(512, &[data, ESP])), EFI);
        assert_eq!(Table::of(&gpt(4096, &[ESP])), EFI);
        assert_eq!(Table::of(&gpt(512, &[data])), DATA);
        assert!(Table::of(&gpt(512, &[BIOS_BOOT, data])).active);
        // Random, empty and cut disks.
        for start in [&[0; 30_000][..], &[0x5a; 30_000], &[], &[0x55, 0xaa]] {
            assert_eq!(Table::of(start), DATA);
        }
        let cut = gpt(512, &[ESP]);
        assert_eq!(Table::of(&cut[..520]), DATA);
    }

    #[test]
    fn linux_boots_from_the_disk_with_its_boot_folder() {
        assert_eq!(choose(&[DATA, CODE], &[1], false), Some(1));
        // Another system's old disk does not win by its mark.
        assert_eq!(choose(&[ACTIVE, CODE], &[1], false), Some(1));
        assert_eq!(choose(&[DATA, EFI], &[1, 0], false), Some(1));
        // LVM: nobody says where it is, the tables do.
        assert_eq!(choose(&[CODE, DATA, EFI], &[], false), Some(2));
        // Nothing on it starts: the system's own.
        assert_eq!(choose(&[DATA, DATA], &[1], false), Some(1));
    }

    #[test]
    fn windows_boots_from_the_disk_that_is_marked() {
        assert_eq!(choose(&[ACTIVE, CODE], &[1], true), Some(0));
        assert_eq!(choose(&[CODE, CODE], &[1], true), Some(1));
        assert_eq!(choose(&[ACTIVE, ACTIVE], &[1], true), Some(1));
        assert_eq!(choose(&[CODE, EFI], &[0], true), Some(1));
    }

    #[test]
    fn nothing_that_boots_is_no_boot_disk() {
        assert_eq!(choose(&[DATA, DATA], &[], false), None);
        assert_eq!(choose(&[], &[], true), None);
    }
}
