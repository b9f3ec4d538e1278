//! Who has a file open: what `fuser` asks, of processes only.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::processes::{self, Named};

/// Another process that has the file open, if there is one. One that is not there is open to nobody. Processes end while
/// they are looked at, and those of others may not be looked at: what cannot be read does not count.
pub(super) fn first(path: &Path) -> io::Result<Option<Named>> {
    let file = match fs::metadata(path) {
        Ok(file) => (file.dev(), file.ino()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    for process in processes::others()? {
        let Ok(open) = fs::read_dir(processes::place(process, "fd")) else { continue };
        // Follows the link, without opening: a file that was renamed meanwhile is the same file.
        let mut open = open.flatten().filter_map(|fd| fs::metadata(fd.path()).ok());
        if open.any(|other| (other.dev(), other.ino()) == file) {
            return Ok(Some(Named::of(process)));
        }
    }
    Ok(None)
}
