//! Where the files of a run lie.

use super::Options;
use anyhow::{Context as _, ensure};
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A kind of storage under test.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) folder: PathBuf,
}

impl Place {
    pub(super) fn memory(options: &Options) -> Self {
        Self { name: "tmpfs", folder: options.memory.clone() }
    }

    pub(super) fn disk(options: &Options) -> Self {
        Self { name: "disk", folder: options.disk.clone() }
    }

    /// Bytes free; on a tmpfs no more than there is memory for. 0 where nobody knows.
    pub(super) fn room(&self) -> u64 {
        let free = rustix::fs::statvfs(&self.folder).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        let free = free.unwrap_or(0);
        match self.name {
            "tmpfs" => free.min(available_memory()),
            _ => free,
        }
    }

    /// A folder of its own, with room for `bytes`.
    pub(super) fn folder(&self, bytes: u64) -> anyhow::Result<TempDir> {
        let (at, free) = (self.folder.display(), self.room());
        ensure!(free >= bytes, "{at} has {} MiB free, {} MiB are needed", free >> 20, bytes >> 20);
        let folder = tempfile::Builder::new().prefix("mk-bench-").tempdir_in(&self.folder);
        folder.with_context(|| format!("{at} cannot be used"))
    }

    /// Fills so much memory once and frees it; a disk needs none of that. A guest's memory comes from its host when it is
    /// first touched: whoever ran first would pay for it (measured: a second of two and a half).
    pub(super) fn touch(&self, bytes: u64) -> anyhow::Result<()> {
        if self.name == "tmpfs" {
            let folder = self.folder(bytes)?;
            let mut file = std::fs::File::create(folder.path().join("touched"))?;
            std::io::copy(&mut std::io::repeat(1).take(bytes), &mut file)?;
        }
        Ok(())
    }
}

fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// A file system that shares blocks between copies, so that a commit costs what changed and not what is there: XFS in
/// a file, where this may be mounted.
pub(super) struct Reflink {
    pub(super) folder: PathBuf,
    mounted: bool,
    // Removed after it is unmounted.
    _image: TempDir,
}

impl Reflink {
    /// Plain files where it may not.
    pub(super) fn mount(options: &Options) -> anyhow::Result<Self> {
        let image = tempfile::Builder::new().prefix("mk-bench-xfs-").tempdir_in(&options.disk)?;
        let (file, folder) = (image.path().join("xfs.img"), image.path().join("xfs"));
        std::fs::File::create(&file)?.set_len(16 << 30)?;
        std::fs::create_dir(&folder)?;
        let mounted = run("mkfs.xfs", &["-q".as_ref(), file.as_ref()])
            && run("mount", &["-o".as_ref(), "loop".as_ref(), file.as_ref(), folder.as_ref()]);
        Ok(Self { folder, mounted, _image: image })
    }

    pub(super) fn kind(&self) -> &'static str {
        if self.mounted { "XFS" } else { "no reflink" }
    }
}

impl Drop for Reflink {
    fn drop(&mut self) {
        if self.mounted && !run("umount", &[self.folder.as_ref()]) {
            // Whoever still has it open ends with this process.
            run("umount", &["-l".as_ref(), self.folder.as_ref()]);
        }
    }
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
