//! A snapshot's record in the agent's own folder: what is about to be made, and later that it is whole.
//!
//! ```text
//!  FOLDER/<vm uuid>/<snapshot name>/snapshot.json   written before the first effect, again when all is made
//!                                  /<disk>.…        scratch files of the snapshot
//! ```
//!
//! It is what an agent that was killed finds things again by, and where the time and the change ids come from that
//! were reported. It holds nothing that the control plane needs: with the folder gone, the snapshot is lost.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::ids::{DiskKey, VmUuid};

use super::{ChangeId, Error, Snapshot, SnapshotDisk, SnapshotName};

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Anything may be there or not.
    Making,
    /// Everything was there.
    Whole,
}

/// The record. `T` is what the source needs to take a disk's part of the snapshot down again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record<T> {
    pub(super) stage: Stage,
    pub(super) taken_at: jiff::Timestamp,
    pub(super) disks: Vec<RecordDisk<T>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RecordDisk<T> {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) change_id: Option<String>,
    pub(super) means: T,
}

impl<T> Record<T> {
    /// The snapshot as it was given back when it was made.
    pub(super) fn snapshot(&self, name: &SnapshotName) -> Result<Snapshot, Error> {
        let disk = |disk: &RecordDisk<T>| {
            Some(SnapshotDisk {
                key: DiskKey::parse(disk.key.clone()).ok()?,
                size: disk.size,
                change_id: disk.change_id.clone().map(ChangeId::new),
            })
        };
        let disks = self.disks.iter().map(disk).collect::<Option<_>>();
        let disks = disks.ok_or_else(|| Error::SnapshotLost {
            name: name.clone(),
            why: "its record names a disk that cannot be".to_owned(),
        })?;
        Ok(Snapshot { name: name.clone(), taken_at: self.taken_at, disks })
    }
}

/// The folder of one VM.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(parent: &Path, vm: &VmUuid) -> Self {
        Self { path: parent.join(vm.as_str()) }
    }

    /// Where the files of one snapshot lie.
    pub(super) fn of(&self, name: &SnapshotName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// Names of the snapshots that have a folder.
    pub(super) fn names(&self) -> Result<Vec<SnapshotName>, Error> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(failed("list", &self.path)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("list", &self.path))?;
            // What is not ours is left alone.
            names.extend(entry.file_name().to_str().and_then(|name| SnapshotName::parse(name).ok()));
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn load<T: DeserializeOwned>(&self, name: &SnapshotName) -> Result<Option<Record<T>>, Error> {
        let path = self.of(name).join("snapshot.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::BadRecord { path, source })
    }

    /// Durable when it returns.
    pub(super) fn save<T: Serialize>(&self, name: &SnapshotName, record: &Record<T>) -> Result<(), Error> {
        let folder = self.of(name);
        fs::create_dir_all(&folder).map_err(failed("make the folder", &folder))?;
        let (new, path) = (folder.join("snapshot.json.new"), folder.join("snapshot.json"));
        let bytes =
            serde_json::to_vec_pretty(record).map_err(io::Error::other).map_err(failed("write", &new))?;
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().map_err(failed("write", &new))?;
        fs::rename(&new, &path).map_err(failed("write", &path))?;
        for folder in [&folder, &self.path] {
            File::open(folder).and_then(|f| f.sync_all()).map_err(failed("flush", folder))?;
        }
        Ok(())
    }

    /// Removes the snapshot's folder with all that is in it.
    pub(super) fn remove(&self, name: &SnapshotName) -> Result<(), Error> {
        let folder = self.of(name);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &folder)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Names the path in an IO error.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Folder { what, path, source }
}
