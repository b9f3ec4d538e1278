//! One daemon for one set of data.
//!
//! Two control planes on the same database, state or storage would both commit and both clean up: each removes what the
//! other is making. Two agents in one state folder would remove each other's sockets. The lock is the kernel's (`flock`)
//! and goes with the process, however that ends.

use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// Name of the lock file in a folder that is ours alone.
const NAME: &str = ".lock";

/// Something another daemon has, or that cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} is used by another {program} that still runs: stop that one, or give this one folders (and a database) of its own", path.display())]
    Taken { program: &'static str, path: PathBuf },
    #[error("cannot lock {}", path.display())]
    Lock { path: PathBuf, source: std::io::Error },
}

/// Held for as long as it lives.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl Claim {
    /// A folder, which exists.
    ///
    /// # Errors
    /// [`Error`].
    pub fn folder(program: &'static str, folder: &Path) -> Result<Self, Error> {
        Self::file(program, &folder.join(NAME))
    }

    /// A lock file, made where it is not there.
    ///
    /// # Errors
    /// [`Error`].
    pub fn file(program: &'static str, path: &Path) -> Result<Self, Error> {
        let lock = |source| Error::Lock { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(lock)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Taken { program, path: path.to_owned() }),
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
        let first = Claim::folder("oma-api", dir.path()).expect("free");
        let second = Claim::folder("oma-api", dir.path()).expect_err("taken").to_string();
        assert!(second.contains("another oma-api"), "{second}");
        drop(first);
        // Children of other tests hold it too until they are what they are to be.
        let free = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            Claim::folder("oma-api", dir.path()).is_ok()
        });
        assert!(free, "it goes with its holder");
    }
}
