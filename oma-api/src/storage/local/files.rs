//! Files and folders that are there whole and durable, or not at all.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use migratekit::target::{clone_file, sync_parent};

use super::super::Error;

/// The name under which something is made or removed.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

fn is_unfinished(name: &OsString) -> bool {
    name.to_str().is_some_and(|n| n.ends_with(".tmp"))
}

/// Makes `path` with `make`, which gets another name and must sync what it makes. What an earlier attempt left
/// under that name is thrown away first.
pub(super) fn make_whole(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
    let unfinished = unfinished(path);
    let made = remove_any(&unfinished)
        .and_then(|()| make(&unfinished))
        .and_then(|()| std::fs::rename(&unfinished, path))
        .and_then(|()| sync_parent(path));
    made.map_err(|e| {
        // What cannot be removed now is removed by the next attempt.
        let _ = remove_any(&unfinished);
        failed("make", path, e)
    })
}

/// Removes `path` so that a crash leaves it whole or gone. Nothing there is success.
pub(super) fn remove_whole(path: &Path) -> Result<(), Error> {
    let unfinished = unfinished(path);
    let removed = remove_any(&unfinished)
        .and_then(|()| match std::fs::rename(path, &unfinished) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        })
        .and_then(|()| sync_parent(path))
        .and_then(|()| remove_any(&unfinished));
    removed.map_err(|e| failed("remove", path, e))
}

/// Removes what a crash left half-made in `folder`.
pub(super) fn sweep(folder: &Path) -> Result<(), Error> {
    let sweep = || -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if is_unfinished(&entry.file_name()) {
                remove_any(&entry.path())?;
            }
        }
        Ok(())
    };
    sweep().map_err(|e| failed("clean", folder, e))
}

/// A durable copy of a file that nobody writes meanwhile, its holes kept, its blocks shared where that can be.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let from = File::open(from)?;
    let to = File::create_new(to)?;
    clone_file(&from, &to)?;
    to.sync_all()
}

fn remove_any(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Sorts an error of the system by what has to be done about it.
pub(super) fn failed(what: &'static str, place: &Path, source: impl Into<io::Error>) -> Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let (place, source) = (place.display().to_string(), source.into());
    match source.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Error::NoRoom { place, source },
        _ => Error::Io { what, place, source },
    }
}
