//! A regular file or a block device as a target.
//!
//! Whole pages are written and read around the page cache, over a second descriptor, and made durable by `fdatasync`;
//! the odd end of a disk, and everything on a file system that has nothing but memory or refuses `O_DIRECT`, goes through
//! it. Nothing here locks the file: who may write is decided above, by `copy` and `bench` with a lock, by the control
//! plane with sessions.

mod behind;
mod direct;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, SeekFrom};
use rustix::io::Errno;
use shared::range::ByteRange;

use behind::Behind;

use super::{AlignedBuf, Error, Op, ReadPath, Target, sync_parent};

/// Most buffers of one `pwritev`: `IOV_MAX` on Linux.
const MAX_SLICES: usize = 1024;

/// Written at a time where zeros have to be written.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    BlockDevice,
}

/// What may be done with the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    ReadWrite,
    ReadOnly,
}

/// See the module.
pub struct FileTarget {
    path: PathBuf,
    file: Arc<File>,
    /// `None` where the file system refuses `O_DIRECT`.
    direct: Option<Arc<File>>,
    /// `None` where nothing is gained by writing around the cache, or nothing may be written.
    behind: Option<Behind>,
    kind: Kind,
    size: u64,
    /// Whether others can find it: a file without a name has none to lose.
    named: bool,
    /// A flush failed: the kernel will not report the loss again.
    lost: AtomicBool,
}

impl FileTarget {
    /// Makes a sparse file of `size` bytes, durably: name and size survive a crash.
    ///
    /// A file that is there already is refused (`Io` with `AlreadyExists`).
    pub fn create(path: &Path, size: u64) -> Result<Self, Error> {
        let fail = |e: io::Error| Error::from_io(Op::Create, path, 0, e);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(fail)?;
        let made = file.set_len(size).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
        if let Err(e) = made {
            // Half-made and ours: leaving it would block the next attempt.
            let _ = std::fs::remove_file(path);
            return Err(fail(e));
        }
        Self::open(path, size)
    }

    /// Makes a sparse file of `size` bytes that has no name: it is gone as soon as nobody has it open, however the process
    /// ends. Its messages name the folder.
    pub fn nameless(folder: &Path, size: u64) -> Result<Self, Error> {
        let fail = |e: io::Error| Error::from_io(Op::Create, folder, 0, e);
        let file = tempfile::tempfile_in(folder).map_err(fail)?;
        file.set_len(size).map_err(fail)?;
        // Opened once more, to go around the cache.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(Self { named: false, ..Self::open_as(Path::new(&path), folder, size, Access::ReadWrite)? })
    }

    /// Opens a file or block device of at least `need` bytes for writing.
    pub fn open(path: &Path, need: u64) -> Result<Self, Error> {
        Self::open_as(path, path, need, Access::ReadWrite)
    }

    /// Opens it for reading only; writes fail.
    pub fn open_read_only(path: &Path, need: u64) -> Result<Self, Error> {
        Self::open_as(path, path, need, Access::ReadOnly)
    }

    /// `name` stands for it in messages.
    fn open_as(path: &Path, name: &Path, need: u64, access: Access) -> Result<Self, Error> {
        let fail = |e: io::Error| Error::from_io(Op::Open, name, 0, e);
        let writable = access == Access::ReadWrite;
        // Asked before opening: opening a FIFO or a terminal may hang.
        let kind = match std::fs::metadata(path).map_err(fail)?.file_type() {
            t if t.is_file() => Kind::File,
            t if t.is_block_device() => Kind::BlockDevice,
            _ => return Err(Error::Unsuitable { path: name.to_owned() }),
        };
        let file = OpenOptions::new().read(true).write(writable).open(path).map_err(fail)?;
        let size = match kind {
            Kind::File => file.metadata().map_err(fail)?.len(),
            Kind::BlockDevice => rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|e| fail(e.into()))?,
        };
        if size < need {
            return Err(Error::TooSmall { path: name.to_owned(), need, have: size });
        }
        let (file, direct) = (Arc::new(file), direct::open(path, writable).map_err(fail)?.map(Arc::new));
        let behind = match &direct {
            Some(direct) if writable && (kind == Kind::BlockDevice || !direct::in_memory(&file)) => {
                Some(Behind::new(name, direct::Direct::new(Arc::clone(direct), Arc::clone(&file))))
            }
            _ => None,
        };
        let (path, named, lost) = (name.to_owned(), true, AtomicBool::new(false));
        Ok(Self { path, file, direct, behind, kind, size, named, lost })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn fail(&self, op: Op, offset: u64, source: impl Into<io::Error>) -> Error {
        Error::from_io(op, &self.path, offset, source)
    }

    fn check(&self, op: Op, range: Option<ByteRange>) -> Result<(), Error> {
        if self.lost.load(Ordering::Acquire) && op != Op::Read {
            return Err(Error::Lost { path: self.path.clone() });
        }
        let range = range.unwrap_or(ByteRange::new(u64::MAX, u64::MAX));
        match range.end <= self.size {
            true => Ok(()),
            false => Err(Error::Outside {
                op,
                path: self.path.clone(),
                start: range.start,
                end: range.end,
                size: self.size,
            }),
        }
    }

    fn write_cached(&self, offset: u64, data: &[Bytes]) -> Result<(), Error> {
        let mut slices: Vec<_> = data.iter().filter(|d| !d.is_empty()).map(|d| IoSlice::new(d)).collect();
        let mut rest = &mut slices[..];
        let mut at = offset;
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(MAX_SLICES)];
            match rustix::io::pwritev(&self.file, batch, at) {
                Ok(0) => return Err(self.fail(Op::Write, at, io::ErrorKind::WriteZero)),
                Ok(n) => {
                    at += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.fail(Op::Write, at, e)),
            }
        }
        Ok(())
    }

    /// Waits for what was written to `range` and is still on its way.
    fn settle(&self, range: ByteRange) -> Result<(), Error> {
        self.behind.as_ref().map_or(Ok(()), |behind| behind.settle(range))
    }

    fn write_zeros(&self, range: ByteRange) -> Result<(), Error> {
        let mut at = range.start;
        while at < range.end {
            let n = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(ZEROS.len());
            match rustix::io::pwrite(&self.file, &ZEROS[..n], at) {
                Ok(0) => return Err(self.fail(Op::Zero, at, io::ErrorKind::WriteZero)),
                Ok(n) => at += n as u64,
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.fail(Op::Zero, at, e)),
            }
        }
        Ok(())
    }

    /// Whether the system could do it; what it cannot do is written instead.
    fn fallocate(&self, mode: FallocateFlags, range: ByteRange) -> Result<bool, Error> {
        loop {
            return match rustix::fs::fallocate(&self.file, mode, range.start, range.len()) {
                Ok(()) => Ok(true),
                Err(Errno::INTR) => continue,
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => Ok(false),
                Err(e) => Err(self.fail(Op::Zero, range.start, e)),
            };
        }
    }

    fn read_around_cache(&self, direct: &File, offset: u64, buf: &mut AlignedBuf) -> Result<(), Error> {
        let want = buf.as_slice().len();
        let room = buf.rounded_mut();
        let mut at = 0;
        while at < want {
            match rustix::io::pread(direct, &mut room[at..], offset + at as u64) {
                Ok(0) => return Err(self.fail(Op::Read, offset, io::ErrorKind::UnexpectedEof)),
                Ok(n) if at + n >= want => break,
                // A short read that is not aligned cannot be continued with O_DIRECT: go on from its last whole page.
                Ok(n) if n < AlignedBuf::ALIGN => {
                    return Err(self.fail(Op::Read, offset, io::ErrorKind::UnexpectedEof));
                }
                Ok(n) => at = (at + n) / AlignedBuf::ALIGN * AlignedBuf::ALIGN,
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.fail(Op::Read, offset + at as u64, e)),
            }
        }
        Ok(())
    }

    fn read_dropped(&self, offset: u64, buf: &mut AlignedBuf) -> Result<(), Error> {
        let len = NonZeroU64::new(buf.as_slice().len() as u64);
        // A dirty page cannot be dropped.
        rustix::fs::fdatasync(&self.file).map_err(|e| self.lost(e))?;
        rustix::fs::fadvise(&self.file, offset, len, Advice::DontNeed)
            .map_err(|e| self.fail(Op::Read, offset, e))?;
        let room = buf.as_mut_slice();
        let mut at = 0;
        while at < room.len() {
            match rustix::io::pread(&self.file, &mut room[at..], offset + at as u64) {
                Ok(0) => return Err(self.fail(Op::Read, offset, io::ErrorKind::UnexpectedEof)),
                Ok(n) => at += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.fail(Op::Read, offset + at as u64, e)),
            }
        }
        Ok(())
    }

    /// Whether what was written is still where it is looked for.
    fn check_file(&self, op: Op) -> Result<(), Error> {
        if self.kind == Kind::BlockDevice {
            return Ok(());
        }
        let now = self.file.metadata().map_err(|e| self.fail(op, 0, e))?;
        if now.len() < self.size {
            return Err(Error::Shrunk { path: self.path.clone(), need: self.size, have: now.len() });
        }
        match self.named && now.nlink() == 0 {
            true => Err(Error::Removed { path: self.path.clone() }),
            false => Ok(()),
        }
    }

    fn lost(&self, e: Errno) -> Error {
        self.lost.store(true, Ordering::Release);
        self.fail(Op::Flush, 0, e)
    }
}

impl Target for FileTarget {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn write_at(&self, offset: u64, data: &[Bytes]) -> Result<(), Error> {
        let total = data.iter().map(|d| d.len() as u64).sum();
        // Past the end a file would grow, and a device report "no space left", which it is not.
        self.check(Op::Write, ByteRange::at(offset, total))?;
        let whole = |bytes: u64| bytes.is_multiple_of(AlignedBuf::ALIGN as u64);
        match &self.behind {
            Some(behind) if whole(offset) && whole(total) => behind.write(offset, data),
            Some(behind) => {
                // One page must not be written both ways at a time; this is the odd end of a disk, once in it.
                behind.settle_all()?;
                self.write_cached(offset, data)
            }
            None => self.write_cached(offset, data),
        }
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        self.check(Op::Zero, Some(range))?;
        if range.is_empty() {
            return Ok(());
        }
        self.settle(range)?;
        // Both guarantee zeros (the kernel fails a hole that a device would not read back as zeros); a hole keeps
        // a thin volume thin. A device takes whole blocks only, so the last, odd part is written.
        let whole = match self.kind {
            Kind::File => range,
            Kind::BlockDevice => {
                let align = AlignedBuf::ALIGN as u64;
                ByteRange::new(range.start, (range.end / align * align).max(range.start))
            }
        };
        let modes = [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE];
        let mut done = whole.is_empty();
        for mode in modes {
            done = done || self.fallocate(mode | FallocateFlags::KEEP_SIZE, whole)?;
        }
        self.write_zeros(if done { ByteRange::new(whole.end, range.end) } else { range })
    }

    fn flush(&self) -> Result<(), Error> {
        self.check(Op::Flush, Some(ByteRange::new(0, 0)))?;
        self.settle(ByteRange::new(0, self.size))?;
        loop {
            match rustix::fs::fdatasync(&self.file) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.lost(e)),
            }
        }
        self.check_file(Op::Flush).inspect_err(|_| self.lost.store(true, Ordering::Release))
    }

    fn read_direct(&self, offset: u64, buf: &mut AlignedBuf) -> Result<ReadPath, Error> {
        let range = ByteRange::at(offset, buf.as_slice().len() as u64);
        self.check(Op::Read, range)?;
        range.map_or(Ok(()), |range| self.settle(range))?;
        match &self.direct {
            Some(direct) => self.read_around_cache(direct, offset, buf).map(|()| ReadPath::Direct),
            None => self.read_dropped(offset, buf).map(|()| ReadPath::CacheDropped),
        }
    }

    fn next_data(&self, offset: u64) -> Result<Option<ByteRange>, Error> {
        if offset >= self.size {
            return Ok(None);
        }
        self.settle(ByteRange::new(offset, self.size))?;
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            // No data before the end of the file; which is no hole where the file is shorter than it was.
            Err(Errno::NXIO) => return self.check_file(Op::Seek).map(|()| None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(ByteRange::new(offset, self.size))),
            Err(e) => return Err(self.fail(Op::Seek, offset, e)),
        };
        // A file that somebody makes shorter at this instant has no hole after its data: call the rest data.
        let end = rustix::fs::seek(&self.file, SeekFrom::Hole(start)).unwrap_or(self.size);
        Ok(Some(ByteRange::new(start, end.min(self.size))))
    }
    fn end(&self) {
        if let Some(behind) = &self.behind {
            behind.end();
        }
    }
}
