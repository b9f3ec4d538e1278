//! Files behind volumes and snapshots: sparse or allocated, copied with their holes, counted by the blocks they take.
//!
//! A volume's file gets a new name whenever it is made anew, as a loop device gets a new number: who still has the old
//! one open has a file that is deleted.

use anyhow::{Context as _, ensure};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, ioctl_ficlone, seek};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

const KIB: u64 = 1024;

/// A new file of that size in which nothing is written.
pub(super) fn make_sparse(path: &Path, size_kib: u64) -> anyhow::Result<()> {
    let file = create(path)?;
    file.set_len(size_kib * KIB).with_context(|| format!("{} KiB", size_kib))
}

/// A new file whose blocks are all there.
pub(super) fn make_allocated(path: &Path, size_kib: u64) -> anyhow::Result<()> {
    let file = create(path)?;
    allocate(&file, size_kib)
}

/// Makes it longer or shorter.
pub(super) fn resize(path: &Path, size_kib: u64, allocated: bool) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(size_kib * KIB)?;
    if allocated { allocate(&file, size_kib) } else { Ok(()) }
}

fn create(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Left by a simulator that was killed before it wrote down which number it had given.
    remove(path);
    let made = OpenOptions::new().read(true).write(true).create_new(true).open(path);
    made.with_context(|| format!("create {}", path.display()))
}

fn allocate(file: &File, size_kib: u64) -> anyhow::Result<()> {
    file.set_len(size_kib * KIB)?;
    match fallocate(file, FallocateFlags::empty(), 0, size_kib * KIB) {
        // A file system without it: then a thick volume is thin here.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error).context("fallocate"),
    }
}

/// A copy under a new name: shares blocks where the file system can, else holes stay holes.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let source = File::open(from).with_context(|| format!("open {}", from.display()))?;
    let target = create(to)?;
    if ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while let Some((start, end)) = next_data(&source, at, size)? {
        let mut from = start;
        while from < end {
            let length = usize::try_from((end - from).min(1 << 20))?;
            source.read_exact_at(&mut buffer[..length], from)?;
            target.write_all_at(&buffer[..length], from)?;
            from += length as u64;
        }
        at = end;
    }
    ensure!(source.metadata()?.len() == size, "{} changed its size meanwhile", from.display());
    Ok(())
}

fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) => Ok(Some((start, seek(file, SeekFrom::Hole(start))?.min(size)))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A second name for a volume's bytes: how DRBD keeps replicas alike, without the network.
pub(super) fn mirror(from: &Path, to: &Path) -> anyhow::Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::hard_link(from, to).with_context(|| format!("link {}", to.display()))
}

/// Removes a file; says whether it was there.
pub(super) fn remove(path: &Path) -> bool {
    std::fs::remove_file(path).is_ok()
}

/// The same where nobody asks.
pub(super) fn discard(path: &Path) {
    remove(path);
}

/// What a file takes.
pub(super) fn allocated_kib(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.blocks() / 2)
}

/// What the files of a folder take.
pub(super) fn folder_allocated_kib(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| allocated_kib(&entry.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_bytes_and_holes() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        make_sparse(&from, 64 * 1024)?;
        let file = OpenOptions::new().write(true).open(&from)?;
        file.write_all_at(b"begin", 0)?;
        file.write_all_at(b"end", (40 << 20) + 7)?;
        copy(&from, &to)?;
        let copied = std::fs::read(&to)?;
        assert_eq!(copied.len(), 64 << 20);
        assert_eq!(&copied[..5], b"begin");
        assert_eq!(&copied[(40 << 20) + 7..(40 << 20) + 10], b"end");
        assert!(allocated_kib(&to) < 1024, "{} KiB are allocated", allocated_kib(&to));
        Ok(())
    }

    #[test]
    fn a_thick_file_takes_its_room_at_once() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        make_allocated(&folder.path().join("thick"), 4096)?;
        make_sparse(&folder.path().join("thin"), 4096)?;
        let taken = folder_allocated_kib(folder.path());
        assert!((4096..4200).contains(&taken), "{taken} KiB");
        Ok(())
    }
}
