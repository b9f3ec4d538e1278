//! The folder of one run: what libguestfs and virt-v2v need meanwhile, gone with it.

use std::io;
use std::path::{Path, PathBuf};

/// Removed when dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A new one in `scratch`. What daemons that were killed left behind there is removed.
    pub(super) fn make(scratch: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(scratch)?;
        sweep(scratch)?;
        // The owner by number, so that a later one can tell whether it still runs. Short: sockets lie in it.
        let unique = uuid::Uuid::new_v4().as_fields().0;
        let folder = scratch.join(format!("run-{}-{unique:08x}", std::process::id()));
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the folder of a conversion stays behind");
        }
    }
}

fn sweep(scratch: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(scratch)? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("run-")?.split_once('-'));
        let Some(owner) = owner.and_then(|(owner, _)| owner.parse::<u32>().ok()) else { continue };
        // Two that sweep at once may both remove it.
        if !Path::new("/proc").join(owner.to_string()).exists()
            && let Err(error) = std::fs::remove_dir_all(entry.path())
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_leaves_nothing_behind_and_removes_what_others_left() {
        let scratch = tempfile::tempdir().expect("a folder");
        let names = || {
            let entries = std::fs::read_dir(scratch.path()).expect("it is there").flatten();
            let mut names: Vec<_> =
                entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
            names.sort();
            names
        };
        // No process has so high a number.
        for other in ["run-4294967295-1", ".guestfs-0", "run-away"] {
            std::fs::create_dir(scratch.path().join(other)).expect("a folder");
        }
        let (first, second) = (Folder::make(scratch.path()), Folder::make(scratch.path()));
        let (first, second) = (first.expect("made"), second.expect("made"));
        std::fs::write(first.path().join("overlay"), b"x").expect("a file");
        assert!(second.path().exists() && first.path() != second.path());
        assert_eq!(names().len(), 4);
        drop((first, second));
        assert_eq!(names(), [".guestfs-0", "run-away"]);
    }
}
