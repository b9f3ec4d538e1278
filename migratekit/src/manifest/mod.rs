//! The manifest: the hash of every leaf of a replica, on disk, one file a version.
//!
//! It says what the replica *should* hold. A hash enters it only from data that was sent, never by reading the
//! replica again (DESIGN §6 rule 15). Versions, and which of them belongs to which commit, are the control
//! plane's business; so is who may write one.
//!
//! ```text
//! 0         4096                                  4096 + 16 * leaves
//! | header  | hash of leaf 0 | hash of leaf 1 | …  |
//! ```
//!
//! The hash of a zero leaf is 16 zero bytes, so zeros of the disk are holes of the file, and what it costs grows
//! with the data: 256 KiB for each GiB. Nothing is kept in memory.

mod hash;
mod header;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use shared::leaf::{HASH_LEN, LEAF, LeafHash, is_whole_leaves, leaf_count};
use shared::range::ByteRange;

use crate::target::{clone_file, sync_parent};

pub use hash::{is_zero, leaf_hash, leaf_hashes};
use header::HEADER;

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("manifest {path}: {why}: it is damaged or not a manifest; a hash-diff sync into a new one repairs this", path = path.display())]
    Invalid { path: PathBuf, why: &'static str },
    #[error("manifest {path} is of a disk of {have} bytes, not {need}", path = path.display())]
    WrongSize { path: PathBuf, have: u64, need: u64 },
    /// The caller asked for something that is not whole leaves inside the disk.
    #[error("manifest {path}: {range:?} is not whole leaves of a disk of {size} bytes", path = path.display())]
    Range { path: PathBuf, range: ByteRange, size: u64 },
    #[error("cannot {what} manifest {path}", path = path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// It is gone, or not what it was: trying again does not help, another one may take its place.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Invalid { .. } | Self::WrongSize { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Range { .. } => false,
        }
    }
}

/// One version. All offsets are bytes of the *disk*, multiples of a leaf.
#[derive(Debug)]
pub struct Manifest {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Manifest {
    /// A new one, all zero, of a disk of `size` bytes, durable. One that is there already is refused
    /// (`Io` with `AlreadyExists`).
    pub fn create(path: &Path, size: u64) -> Result<Self, Error> {
        let make = |file: &File| {
            file.write_all_at(&header::encode(size), 0)?;
            file.set_len(HEADER + leaf_count(size) * HASH_LEN as u64)
        };
        let file = make_whole(path, make).map_err(|e| io_error("create", path, e))?;
        Ok(Self { path: path.to_owned(), file, size })
    }

    /// Opens one of a disk of `size` bytes.
    pub fn open(path: &Path, size: u64) -> Result<Self, Error> {
        let fail = |e| io_error("open", path, e);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(fail)?;
        let mut head = [0; header::LEN];
        match file.read_exact_at(&mut head, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::Invalid { path: path.to_owned(), why: "it is too short" });
            }
            Err(e) => return Err(fail(e)),
        }
        let have = header::decode(&head).map_err(|why| Error::Invalid { path: path.to_owned(), why })?;
        if have != size {
            return Err(Error::WrongSize { path: path.to_owned(), have, need: size });
        }
        if file.metadata().map_err(fail)?.len() != HEADER + leaf_count(size) * HASH_LEN as u64 {
            return Err(Error::Invalid { path: path.to_owned(), why: "its length does not fit its disk" });
        }
        Ok(Self { path: path.to_owned(), file, size })
    }

    /// A copy under another name, durable and whole or not there at all: blocks shared where the file system
    /// can, else a copy of what is not zero. This one must not be written meanwhile.
    pub fn clone_to(&self, path: &Path) -> Result<Self, Error> {
        let make = |file: &File| clone_file(&self.file, file).map(|_| ());
        let file = make_whole(path, make).map_err(|e| io_error("clone into", path, e))?;
        Ok(Self { path: path.to_owned(), file, size: self.size })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the disk.
    pub fn disk_size(&self) -> u64 {
        self.size
    }

    /// The hashes of the leaves from `offset` on.
    pub fn set(&self, offset: u64, hashes: &[LeafHash]) -> Result<(), Error> {
        let range = self.leaves(offset, hashes.len())?;
        // Zeros over a hole would fill it.
        if hashes.iter().all(|h| *h == LeafHash::ZERO) {
            return self.set_zero(range);
        }
        let bytes: Vec<u8> = hashes.iter().flat_map(|h| h.0).collect();
        self.file.write_all_at(&bytes, position(offset)).map_err(|e| io_error("write", &self.path, e))
    }

    /// All leaves of `range` are zero. Costs the same for any length.
    pub fn set_zero(&self, range: ByteRange) -> Result<(), Error> {
        self.check(range)?;
        if range.is_empty() {
            return Ok(());
        }
        let (start, len) = (position(range.start), leaf_count(range.len()) * HASH_LEN as u64);
        loop {
            match rustix::fs::fallocate(
                &self.file,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                start,
                len,
            ) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.write_zeros(start, start + len),
                Err(e) => return Err(io_error("write", &self.path, e)),
            }
        }
    }

    fn write_zeros(&self, mut at: u64, end: u64) -> Result<(), Error> {
        let zeros = [0; 4096];
        while at < end {
            let n = usize::try_from(end - at).unwrap_or(zeros.len()).min(zeros.len());
            self.file.write_all_at(&zeros[..n], at).map_err(|e| io_error("write", &self.path, e))?;
            at += n as u64;
        }
        Ok(())
    }

    /// Reads the hashes of the leaves from `offset` on into `hashes`.
    pub fn read(&self, offset: u64, hashes: &mut [LeafHash]) -> Result<(), Error> {
        self.leaves(offset, hashes.len())?;
        let mut bytes = vec![0; hashes.len() * HASH_LEN];
        self.file.read_exact_at(&mut bytes, position(offset)).map_err(|e| io_error("read", &self.path, e))?;
        for (hash, bytes) in hashes.iter_mut().zip(bytes.chunks_exact(HASH_LEN)) {
            hash.0.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Everything set before the call is durable when it returns. An error is final, as a target's is.
    pub fn flush(&self) -> Result<(), Error> {
        rustix::fs::fdatasync(&self.file).map_err(|e| io_error("flush", &self.path, e))
    }

    /// The first stretch of the disk at or after `offset` whose leaves may not all be zero: what lies before it
    /// has zero hashes. `None`: only zeros follow.
    pub fn next_data(&self, offset: u64) -> Result<Option<ByteRange>, Error> {
        if offset >= self.size {
            return Ok(None);
        }
        let fail = |e: Errno| io_error("look for data in", &self.path, e);
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(position(offset / LEAF * LEAF))) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(ByteRange::new(offset, self.size))),
            Err(e) => return Err(fail(e)),
        };
        let end = rustix::fs::seek(&self.file, SeekFrom::Hole(start)).map_err(fail)?;
        let leaf = |position: u64| position.saturating_sub(HEADER) / HASH_LEN as u64;
        let first = leaf(start) * LEAF;
        let end = leaf(end.saturating_add(HASH_LEN as u64 - 1)).saturating_mul(LEAF).min(self.size);
        Ok(Some(ByteRange::new(first.max(offset), end)))
    }

    fn leaves(&self, offset: u64, count: usize) -> Result<ByteRange, Error> {
        let end = (count as u64).checked_mul(LEAF).and_then(|l| l.checked_add(offset));
        let range = ByteRange::new(offset, end.unwrap_or(u64::MAX));
        // The last leaf may be short.
        let tail = range.end.checked_sub(self.size).is_some_and(|over| over < LEAF);
        let range = ByteRange::new(offset, if tail { self.size } else { range.end });
        self.check(range).map(|()| range)
    }

    fn check(&self, range: ByteRange) -> Result<(), Error> {
        match is_whole_leaves(range, self.size) {
            true => Ok(()),
            false => Err(Error::Range { path: self.path.clone(), range, size: self.size }),
        }
    }
}

/// Where the hash of the leaf at `offset` of the disk lies in the file.
fn position(offset: u64) -> u64 {
    HEADER + offset / LEAF * HASH_LEN as u64
}

fn io_error(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
    Error::Io { what, path: path.to_owned(), source: source.into() }
}

/// Makes a file that is there whole and durable, or not at all: under another name first, then renamed.
fn make_whole(path: &Path, fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<File> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    let unfinished = PathBuf::from(unfinished);
    if path.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&unfinished)?;
    let made = fill(&file).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&unfinished, path));
    if let Err(e) = made {
        // Left from this attempt only; the next one would truncate it anyway.
        let _ = std::fs::remove_file(&unfinished);
        return Err(e);
    }
    sync_parent(path)?;
    Ok(file)
}
