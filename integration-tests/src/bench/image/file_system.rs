//! An ext4 image of real files, the same one each time.
//!
//! `mke2fs` with fixed UUID, hash seed and time, then `debugfs` writes files of this machine into it in sorted order: a
//! third from each of `/usr/bin`, `/usr/lib`, `/usr/share`. (`mke2fs -d` would take over times of change, which nobody can
//! set.) It is the same wherever the same packages are installed; its hash says whether it was.

use crate::harness::hash_file;
use anyhow::Context as _;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FOLDERS: [&str; 3] = ["/usr/bin", "/usr/lib", "/usr/share"];

/// No file takes more than this much: many kinds of data, not one.
const LARGEST: u64 = 32 << 20;

/// Makes it, with `bytes` of content, and says what it is.
pub(in crate::bench) fn file_system(path: &Path, bytes: u64) -> anyhow::Result<String> {
    let mut script = String::new();
    let (mut files, mut content) = (0u64, 0);
    script += "mkdir usr\n";
    for (index, folder) in (0u64..).zip(FOLDERS) {
        // What a folder has too little of, the next one gives.
        let most = bytes / 3 * (index + 1);
        let mut add = |found: Found| -> bool {
            match found {
                Found::Folder(name) => {
                    // Writing into a string cannot fail.
                    let _ = writeln!(script, "mkdir {name}");
                }
                Found::File(name, length) => {
                    let _ = writeln!(script, "write /{name} {name}");
                    (files, content) = (files + 1, content + length);
                }
            }
            content < most
        };
        walk(Path::new(folder), &mut add)?;
    }
    // A quarter of it is free, as in a file system in use.
    let size = (content / 3 * 4).next_multiple_of(64 << 20).max(64 << 20);
    File::create(path)?.set_len(size)?;
    let make = ["-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-U", UUID, "-E", EXTENDED];
    run(Command::new("mke2fs").args(make).arg(path))?;
    let commands = path.with_extension("debugfs");
    std::fs::write(&commands, script)?;
    run(Command::new("debugfs").arg("-w").arg("-f").arg(&commands).arg(path))?;
    let (ratio, hash) = (zstd_1(path)?, hash_file(path)?);
    Ok(format!(
        "ext4 of {} MiB, {files} files ({} MiB) of /usr/bin, /usr/lib, /usr/share in sorted order; zstd -1 makes {:.1} % of it; BLAKE3 {}",
        size >> 20,
        content >> 20,
        100.0 * ratio,
        blake3::Hash::from_bytes(hash).to_hex(),
    ))
}

const UUID: &str = "6d6b6265-6e63-4800-8000-000000000001";
const EXTENDED: &str =
    "hash_seed=6d6b6265-6e63-4800-8000-000000000002,lazy_itable_init=0,root_owner=0:0,nodiscard";

enum Found {
    /// Path without the leading slash, ours to be made.
    Folder(String),
    /// The same, and its length.
    File(String, u64),
}

/// In sorted order, until `add` has enough (`false`).
fn walk(folder: &Path, add: &mut impl FnMut(Found) -> bool) -> anyhow::Result<bool> {
    let Some(name) = plain(folder) else { return Ok(true) };
    add(Found::Folder(name));
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut entries = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<PathBuf>>>()?;
    entries.sort();
    for entry in entries {
        let meta = entry.symlink_metadata()?;
        let more = match plain(&entry) {
            Some(_) if meta.is_dir() => walk(&entry, add)?,
            Some(name) if meta.is_file() && meta.len() <= LARGEST => add(Found::File(name, meta.len())),
            _ => true,
        };
        if !more {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where `debugfs` needs no quotes.
fn plain(path: &Path) -> Option<String> {
    let name = path.to_str()?.strip_prefix('/')?;
    let fine = |c: char| c.is_ascii_alphanumeric() || "/._-+@:=,".contains(c);
    name.chars().all(fine).then(|| name.to_owned())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    // One moment for all that is written.
    command.env("E2FSPROGS_FAKE_TIME", "1700000000");
    // Debian keeps them where only root looks.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start {name}: make bench installs it"))?;
    anyhow::ensure!(status.success(), "{name} ended with {status}");
    Ok(())
}

/// What zstd's first level makes of it, as a part of it.
fn zstd_1(path: &Path) -> anyhow::Result<f64> {
    struct Count(u64);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut packed = Count(0);
    let file = File::open(path)?;
    zstd::stream::copy_encode(&file, &mut packed, 1)?;
    Ok(super::super::report::float(packed.0) / super::super::report::float(file.metadata()?.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_twice_and_a_file_system() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let said = file_system(&one, 3 << 20)?;
        assert_eq!(said, file_system(&two, 3 << 20)?);
        run(Command::new("e2fsck").arg("-fn").arg(&one))?;
        let list = Command::new("/usr/sbin/debugfs").args(["-R", "ls -p /usr/bin"]).arg(&one).output()?;
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        assert!(list.lines().filter(|line| line.contains("/100")).count() > 1, "files in it: {list}");
        Ok(())
    }
}
