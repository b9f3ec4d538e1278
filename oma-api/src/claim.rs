//! One control plane for one database, one state folder and one storage folder.
//!
//! Two on the same would both commit and both clean up: each removes what the other is making. The lock is the kernel's
//! (`flock`) and goes with the process, however that ends.

use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// Name of the lock file in a folder that is ours alone.
const NAME: &str = ".oma-api.lock";

/// Something another control plane has, or that cannot be locked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} is used by another oma-api that still runs: stop that one, or give this one folders and a database of its own", path.display())]
    Taken { path: PathBuf },
    #[error("cannot lock {}", path.display())]
    Lock { path: PathBuf, source: std::io::Error },
}

/// Held for as long as it lives.
#[derive(Debug)]
pub(crate) struct Claim(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl Claim {
    /// A folder, which exists.
    pub(crate) fn folder(folder: &Path) -> Result<Self, Error> {
        Self::file(&folder.join(NAME))
    }

    /// A lock file, made where it is not there.
    pub(crate) fn file(path: &Path) -> Result<Self, Error> {
        let lock = |source| Error::Lock { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(lock)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Taken { path: path.to_owned() }),
            Err(errno) => Err(lock(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_claim_names_what_is_taken() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Claim::folder(dir.path()).expect("free");
        let second = Claim::folder(dir.path()).expect_err("taken").to_string();
        assert!(second.contains("another oma-api"), "{second}");
        drop(first);
        // Children of other tests hold it too until they are what they are to be.
        let free = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            Claim::folder(dir.path()).is_ok()
        });
        assert!(free, "it goes with its holder");
    }
}
