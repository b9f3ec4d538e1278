//! Who may write a file or device: one copy, or one measurement, at a time.
//!
//! A file is locked with `flock`, which programs that do not ask for the lock do not notice. A block device is opened
//! exclusively, which also keeps it from being mounted; it is not locked, since udev locks it for a moment whenever
//! somebody has written to it; but the file behind a loop device is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::Error;
use super::identity::backing_file;

/// Keeps other copies and measurements away until it is dropped.
pub(crate) struct Claim {
    file: File,
    /// On the file behind a loop device.
    _behind: Option<Box<Claim>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Said, not left to closing: a child that was just forked may have the descriptor, and the lock, a moment longer.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Claims what is at `path`, at once or not at all; changes nothing there. Neither file nor device: no claim.
pub(crate) fn claim(path: &Path) -> Result<Option<Claim>, Error> {
    let look = |source| Error::Io { action: "look at", path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(look)?;
    match metadata.file_type() {
        kind if kind.is_block_device() => {
            let (file, behind) = (claim_device(path)?, claim_behind(&metadata)?);
            Ok(Some(Claim { file, _behind: behind.map(Box::new) }))
        }
        kind if kind.is_file() => claim_file(path).map(Some),
        _ => Ok(None),
    }
}

/// One that cannot be opened, or is gone, is nobody's to write.
fn claim_behind(device: &std::fs::Metadata) -> Result<Option<Claim>, Error> {
    match backing_file(device).map(|file| claim_file(&file)) {
        Some(Err(error @ Error::Written { .. })) => Err(error),
        Some(claim) => Ok(claim.ok()),
        None => Ok(None),
    }
}

fn claim_file(path: &Path) -> Result<Claim, Error> {
    let fail = |action| move |source| Error::Io { action, path: path.to_owned(), source };
    // For writing: NFS gives no exclusive lock otherwise.
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(fail("open"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(Error::Written { path: path.to_owned() }),
        Err(errno @ (Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS)) => {
            tracing::warn!(target = %path.display(), error = %errno, "its file system has no locks: nothing keeps a second copy from writing to it");
        }
        Err(errno) => return Err(fail("lock")(errno.into())),
    }
    let claim = Claim { file, _behind: None };
    // A copy that failed removes its file before it lets go of the lock: this one may be of a file without a name.
    let (ours, named) = (claim.file.metadata(), std::fs::metadata(path));
    let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    match ours.is_ok_and(|ours| named.is_ok_and(|named| same(&ours, &named))) {
        true => Ok(claim),
        false => Err(Error::Written { path: path.to_owned() }),
    }
}

/// Linux refuses an exclusive open of a device that is mounted, or used by another exclusive opener.
fn claim_device(path: &Path) -> Result<File, Error> {
    let flags = i32::try_from(OFlags::EXCL.bits()).expect("an open flag fits the C int it is");
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::ResourceBusy => Error::InUse { path },
            _ => Error::Io { action: "open", path, source },
        }
    })
}
