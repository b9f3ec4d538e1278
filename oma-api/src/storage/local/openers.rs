//! Who has a file open: what `fuser` asks, of processes only.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether another process has the file open. One that is not there is open to nobody. Processes end while they are
/// looked at, and those of others may not be looked at: what cannot be read does not count.
pub(super) fn any(path: &Path) -> io::Result<bool> {
    let file = match fs::metadata(path) {
        Ok(file) => (file.dev(), file.ino()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let own = std::process::id().to_string();
    for process in fs::read_dir("/proc")?.flatten() {
        let name = process.file_name();
        let is_process = name.to_str().is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()) && n != own);
        if !is_process {
            continue;
        }
        let Ok(open) = fs::read_dir(process.path().join("fd")) else { continue };
        // Follows the link, without opening: a file that was renamed meanwhile is the same file.
        let mut open = open.flatten().filter_map(|fd| fs::metadata(fd.path()).ok());
        if open.any(|other| (other.dev(), other.ino()) == file) {
            return Ok(true);
        }
    }
    Ok(false)
}
