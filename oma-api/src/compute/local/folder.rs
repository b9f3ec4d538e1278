//! A machine's folder: what it is, written whole and durable, and what its QEMU keeps there.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use migratekit::target::sync_parent;
use serde::{Deserialize, Serialize};

use super::super::{Console, Definition, Error, MachineName};
use super::process::{self, Holder};
use crate::storage::VolumeId;

/// What is written of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) definition: Definition,
    /// Volume ids, in order.
    disks: Vec<String>,
}

impl Record {
    pub(super) fn new(definition: Definition) -> Self {
        Self { definition, disks: Vec::new() }
    }

    pub(super) fn push(&mut self, volume: &VolumeId) {
        self.disks.push(volume.as_str().to_owned());
    }
}

/// The folder of one machine; it may not exist.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
}

impl Folder {
    pub(super) fn of(machines: &Path, name: &MachineName) -> Self {
        Self { path: machines.join(name.as_str()) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn record(&self) -> PathBuf {
        self.file("machine.json")
    }

    /// QEMU holds a lock on it while it lives.
    pub(super) fn pid(&self) -> PathBuf {
        self.file("pid")
    }

    /// What the guest's EFI firmware remembers.
    pub(super) fn vars(&self) -> PathBuf {
        self.file("vars.fd")
    }

    /// What QEMU says when it starts.
    pub(super) fn qemu_log(&self) -> PathBuf {
        self.file("qemu.log")
    }

    pub(super) fn screen(&self) -> PathBuf {
        self.file("screen.png")
    }

    /// `None`: there is no such machine.
    pub(super) fn read(&self) -> Result<Option<(Record, Vec<VolumeId>)>, Error> {
        let path = self.record();
        let unreadable = |source: super::super::Source| {
            let place = path.display().to_string();
            Error::Unreadable { place, source }
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(failed("read", &path, e)),
        };
        let record: Record = serde_json::from_slice(&text).map_err(|e| unreadable(e.into()))?;
        let disks = record.disks.iter().map(VolumeId::parse).collect::<Result<_, _>>();
        let disks = disks.map_err(|e| unreadable(e.into()))?;
        Ok(Some((record, disks)))
    }

    /// Writes a record in place of the one that is there.
    pub(super) fn write(&self, record: &Record) -> Result<(), Error> {
        let path = self.record();
        let text = serde_json::to_vec_pretty(record).map_err(|e| failed("write", &path, e.into()))?;
        write_whole(&path, |file| file.write_all(&text))
    }

    /// Makes the folder with its record: both, or nothing under its name.
    pub(super) fn make(&self, record: &Record) -> Result<(), Error> {
        let half = Self { path: unfinished(&self.path) };
        remove_any(&half.path).map_err(|e| failed("remove", &half.path, e))?;
        // Whoever can reach the sockets in it can do with the guest what he likes.
        let made = fs::DirBuilder::new().mode(0o700).create(&half.path);
        made.map_err(|e| failed("make", &half.path, e))?;
        half.write(record)?;
        let named = fs::rename(&half.path, &self.path).and_then(|()| sync_parent(&self.path));
        named.map_err(|e| failed("make", &self.path, e))
    }

    /// The firmware's memory as it comes from the distribution, once.
    pub(super) fn ensure_vars(&self, template: &Path) -> Result<(), Error> {
        let path = self.vars();
        if path.exists() {
            return Ok(());
        }
        let fresh = fs::read(template).map_err(|e| failed("read", template, e))?;
        write_whole(&path, |file| file.write_all(&fresh))
    }

    /// The caller knows that no QEMU runs in it.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let half = unfinished(&self.path);
        let removed = remove_any(&half)
            .and_then(|()| match fs::rename(&self.path, &half) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            })
            .and_then(|()| sync_parent(&self.path))
            .and_then(|()| remove_any(&half));
        removed.map_err(|e| failed("remove", &self.path, e))
    }

    /// What is there of the console's log.
    pub(super) fn console(&self, from: u64, most: usize) -> Result<Console, Error> {
        let path = self.file("console.log");
        let read = || {
            let mut log = match File::open(&path) {
                Ok(log) => log,
                // It did not start yet.
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
                Err(e) => return Err(e),
            };
            let mut data = Vec::new();
            log.seek(SeekFrom::Start(from))?;
            (&log).take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut data)?;
            Ok((data, log.metadata()?.len()))
        };
        let (data, end) = read().map_err(|e| failed("read", &path, e))?;
        Ok(Console { offset: from.min(end), data, end })
    }

    /// The last lines that QEMU said when it was started.
    pub(super) fn last_words(&self) -> String {
        const LINES: usize = 6;
        let said = fs::read(self.qemu_log()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        last.join("; ")
    }
}

/// The names of all machines, in order.
pub(super) fn names(machines: &Path) -> Result<Vec<MachineName>, Error> {
    let list = || -> io::Result<Vec<MachineName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(machines)? {
            let name = entry?.file_name();
            // What has another name is not ours, or half-made.
            names.extend(name.to_str().and_then(|name| MachineName::parse(name).ok()));
        }
        names.sort();
        Ok(names)
    };
    list().map_err(|e| failed("list", machines, e))
}

/// Removes what a crash left half-made or half-removed.
pub(super) fn sweep(machines: &Path) -> Result<(), Error> {
    let list = || fs::read_dir(machines)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    for path in list().map_err(|e| failed("list", machines, e))? {
        if !path.as_os_str().as_encoded_bytes().ends_with(b".tmp") {
            continue;
        }
        let folder = Folder { path };
        match process::holder(&folder.pid()) {
            Ok(Holder::Nobody) => {
                remove_any(&folder.path).map_err(|e| failed("remove", &folder.path, e))?;
            }
            // Cannot be by what we do: only what is stopped is renamed.
            Ok(holder) => {
                tracing::warn!(folder = %folder.path.display(), ?holder, "a machine runs in a folder that was being removed: left alone");
            }
            Err(error) => {
                tracing::warn!(folder = %folder.path.display(), %error, "cannot tell whether a machine runs in a folder that was being removed: left alone");
            }
        }
    }
    Ok(())
}

/// Writes a file so that its name always stands for a whole one.
fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), Error> {
    let half = unfinished(path);
    let written = || {
        let mut file = File::create(&half)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&half, path)?;
        sync_parent(path)
    };
    written().map_err(|e| failed("write", path, e))
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

fn remove_any(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) fn failed(what: &'static str, place: &Path, source: io::Error) -> Error {
    Error::Io { what, place: place.display().to_string(), source }
}
