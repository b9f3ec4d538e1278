//! Which file or device a path leads to, and whether another copy is the same as this one.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Error;
use super::resume::{Header, SourceFile};
use crate::nbd::NbdUri;

/// Whether both paths, loop devices seen through, lead to one file or device.
pub(crate) fn is_same_file(a: &Path, b: &Path) -> bool {
    let identity = |path| std::fs::metadata(path).map(|metadata| identity(&behind(metadata)));
    identity(a).is_ok_and(|a| identity(b).is_ok_and(|b| a == b))
}

/// The file behind a loop device; anything else is itself.
fn behind(metadata: std::fs::Metadata) -> std::fs::Metadata {
    backing_file(&metadata).and_then(|path| std::fs::metadata(path).ok()).unwrap_or(metadata)
}

/// Of a loop device. What it names may be gone.
pub(super) fn backing_file(metadata: &std::fs::Metadata) -> Option<PathBuf> {
    if !metadata.file_type().is_block_device() {
        return None;
    }
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let backing =
        std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/loop/backing_file")).ok()?;
    Some(backing.trim_end_matches('\n').into())
}

/// Device and inode; of a block device, its number, as its node may be made again.
pub(super) fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    match metadata.file_type().is_block_device() {
        true => (metadata.rdev(), 0),
        false => (metadata.dev(), metadata.ino()),
    }
}

/// What a file source is known by; nothing of a device or an export.
pub(super) fn source_file(source: &str) -> Option<SourceFile> {
    let metadata = if NbdUri::is_uri(source) { None } else { std::fs::metadata(source).ok() };
    let file = metadata.filter(|metadata| metadata.is_file())?;
    Some(SourceFile { inode: file.ino(), modified: (file.mtime(), file.mtime_nsec()) })
}

pub(super) fn same_copy(file: &Path, earlier: &Header, now: &Header) -> Result<(), Error> {
    let differs =
        |what, had: String, have: String| Error::OtherCopy { path: file.to_owned(), what, had, have };
    let name = |bitmap: &Option<String>| bitmap.clone().unwrap_or_else(|| "none".to_owned());
    if earlier.source != now.source {
        return Err(differs("the source", earlier.source.clone(), now.source.clone()));
    }
    if earlier.size_bytes != now.size_bytes {
        return Err(differs("its size", earlier.size_bytes.to_string(), now.size_bytes.to_string()));
    }
    if let (Some(was), Some(is)) = (&earlier.source_file, &now.source_file)
        && was != is
    {
        return Err(Error::SourceChanged { source_name: now.source.clone(), path: file.to_owned() });
    }
    if earlier.target != now.target {
        let shown = |header: &Header| header.target.display().to_string();
        return Err(differs("the target", shown(earlier), shown(now)));
    }
    if earlier.target_bytes != now.target_bytes {
        let shown = |header: &Header| header.target_bytes.map_or("unknown".into(), |bytes| bytes.to_string());
        return Err(differs("the size of the target", shown(earlier), shown(now)));
    }
    if earlier.bitmap != now.bitmap {
        return Err(differs("the bitmap", name(&earlier.bitmap), name(&now.bitmap)));
    }
    Ok(())
}

pub(super) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::Io { action: "find", path: path.to_owned(), source })
}
