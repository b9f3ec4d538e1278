//! Copies of whole files that cost little: shared blocks where the file system has them, else the data only.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// How a clone was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloneKind {
    /// Blocks are shared until one side writes (XFS, btrfs).
    Reflink,
    /// The data was copied, the holes were kept.
    SparseCopy,
}

/// Copied at a time.
const STEP: usize = 1024 * 1024;

/// Makes `to`, an empty file, the same as `from`. Durable only after `to` was synced.
///
/// `from` must not be written meanwhile: only a reflink would be one point in time.
pub fn clone_file(from: &File, to: &File) -> io::Result<CloneKind> {
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => return Ok(CloneKind::Reflink),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {}
        Err(e) => return Err(e.into()),
    }
    sparse_copy(from, to)?;
    Ok(CloneKind::SparseCopy)
}

fn sparse_copy(from: &File, to: &File) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let n = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
            from.read_exact_at(&mut buffer[..n], at)?;
            to.write_all_at(&buffer[..n], at)?;
            at += n as u64;
        }
    }
    Ok(())
}

/// Makes a name in a folder durable: a new, renamed or removed file is there after a crash only once its folder is synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
