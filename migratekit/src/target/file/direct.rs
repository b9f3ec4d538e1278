//! Around the page cache: what `O_DIRECT` takes, and what is done where it is refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::behind::Store;
use crate::target::AlignedBuf;

/// `statfs` of tmpfs (linux/magic.h), which takes `O_DIRECT` since Linux 6.6 and has nothing but the cache.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Opens it once more; `None` where it is refused.
pub(super) fn open(path: &Path, writable: bool) -> io::Result<Option<File>> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).expect("an open flag fits the C int it is");
    match OpenOptions::new().read(true).write(writable).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the file's storage is the page cache itself. One that cannot be asked is taken for a disk.
pub(super) fn in_memory(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|fs| fs.f_type == TMPFS_MAGIC)
}

/// Writes around the cache, or through it what cannot be.
pub(super) struct Direct {
    direct: Arc<File>,
    cached: Arc<File>,
    /// It took the flag, and not a write: some file systems want larger blocks than ours.
    refused: AtomicBool,
}

impl Direct {
    pub(super) fn new(direct: Arc<File>, cached: Arc<File>) -> Self {
        Self { direct, cached, refused: AtomicBool::new(false) }
    }
}

impl Store for Direct {
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut at = 0;
        while at < data.len() && !self.refused.load(Ordering::Relaxed) {
            match rustix::io::pwrite(&*self.direct, &data[at..], offset + at as u64) {
                // Cut short inside a page (the disk is full there, say): the cached write finds out why.
                Ok(n) if n < AlignedBuf::ALIGN => break,
                Ok(n) => at += n / AlignedBuf::ALIGN * AlignedBuf::ALIGN,
                Err(Errno::INTR) => {}
                Err(Errno::INVAL) => self.refused.store(true, Ordering::Relaxed),
                Err(e) => return Err(e.into()),
            }
        }
        self.cached.write_all_at(&data[at..], offset + at as u64)
    }
}
