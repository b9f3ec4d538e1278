//! Who has a file or a block device open: what `fuser` asks, of processes only.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::processes::{self, Named};

/// Another process that has the file open, if there is one. One that is not there is open to nobody. Processes end while
/// they are looked at, and those of others may not be looked at: what cannot be read does not count.
pub(super) fn first(path: &Path) -> io::Result<Option<Named>> {
    among(processes::others()?, path)
}

/// The same, with this process among them.
pub(super) fn any(path: &Path) -> io::Result<Option<Named>> {
    among(processes::all()?, path)
}

fn among(all: impl Iterator<Item = u32>, path: &Path) -> io::Result<Option<Named>> {
    let file = match fs::metadata(path) {
        Ok(file) => Which::of(&file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    for process in all {
        let Ok(open) = fs::read_dir(processes::place(process, "fd")) else { continue };
        // Follows the link, without opening: a file that was renamed meanwhile is the same file.
        let mut open = open.flatten().filter_map(|fd| fs::metadata(fd.path()).ok());
        if open.any(|other| Which::of(&other) == file) {
            return Ok(Some(Named::of(process)));
        }
    }
    Ok(None)
}

/// What a name leads to: a block device has many.
#[derive(PartialEq, Eq)]
enum Which {
    File { device: u64, inode: u64 },
    BlockDevice { number: u64 },
}

impl Which {
    fn of(file: &Metadata) -> Self {
        match file.file_type().is_block_device() {
            true => Self::BlockDevice { number: file.rdev() },
            false => Self::File { device: file.dev(), inode: file.ino() },
        }
    }
}
