//! Files in a folder: for the demo, tests and small installations.
//!
//! ```text
//! ROOT/volumes/<id>.img            sparse, exactly as large as the volume
//! ROOT/labels/<id>.json           whose it is, as JSON
//! ROOT/snapshots/<name>/<id>.img   read-only copies: shared blocks where the file system can (XFS, btrfs),
//!                                  else the data only
//! …/*.tmp                          half-made; removed when it is found
//! ```
//!
//! What has its final name is whole and durable: everything is made under another name, synced, renamed, and its
//! folder synced. One process at a time uses a root; who opens it sees to that (see `claim`).

mod files;
mod labels;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use migratekit::replica::ReadsZero;
use migratekit::target::{CloneKind, FileTarget, Target, clone_file};

use super::{
    Error, Label, Listed, Opener, PointCost, Snapshot, SnapshotName, Space, Storage, VolumeId, VolumeInfo,
};
use files::{failed, make_whole, remove_whole};

/// See the module.
#[derive(Clone, Debug)]
pub struct LocalStorage {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    volumes: PathBuf,
    snapshots: PathBuf,
    /// What volumes say of themselves.
    labels: PathBuf,
    /// Snapshots of one name at a time: a second caller would take the first one's half-made files for a crash's.
    changes: std::sync::Mutex<()>,
}

impl LocalStorage {
    /// Makes the folders where they are missing, and removes what a crash left half-made.
    pub async fn open(root: &Path) -> Result<Self, Error> {
        let root = root.to_owned();
        blocking(move || {
            let [volumes, snapshots, labels] = ["volumes", "snapshots", "labels"].map(|name| root.join(name));
            for folder in [&volumes, &snapshots, &labels] {
                std::fs::create_dir_all(folder).map_err(|e| failed("make", folder, e))?;
                files::sweep(folder)?;
            }
            File::open(&root).and_then(|f| f.sync_all()).map_err(|e| failed("sync", &root, e))?;
            let root = Root { volumes, snapshots, labels, changes: std::sync::Mutex::new(()) };
            Ok(Self { root: Arc::new(root) })
        })
        .await
    }

    /// Opens one volume of a snapshot; writes to it fail.
    async fn open_snapshot(&self, name: &SnapshotName, volume: &VolumeId) -> Result<Arc<dyn Target>, Error> {
        let (name, volume) = (name.clone(), volume.clone());
        self.run(move |root| {
            let path = root.snapshot_image(&name, &volume);
            match path.exists() {
                true => Ok(Arc::new(FileTarget::open_read_only(&path, 0)?) as Arc<dyn Target>),
                false => Err(Error::NoSnapshot { snapshot: name, volume }),
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let root = self.root.clone();
        blocking(move || work(&root)).await
    }

    /// As [`run`](Self::run), for what makes or removes names.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let one_at_a_time = |root: &Root| {
            let _guard = root.changes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            work(root)
        };
        self.run(one_at_a_time).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Died)?
}

impl Root {
    fn image(&self, volume: &VolumeId) -> PathBuf {
        self.volumes.join(format!("{volume}.img"))
    }

    fn snapshot(&self, name: &SnapshotName) -> PathBuf {
        self.snapshots.join(name.as_str())
    }

    fn snapshot_image(&self, name: &SnapshotName, volume: &VolumeId) -> PathBuf {
        self.snapshot(name).join(format!("{volume}.img"))
    }

    fn info(&self, volume: &VolumeId) -> Result<Option<VolumeInfo>, Error> {
        let path = self.image(volume);
        match std::fs::metadata(&path) {
            // Of a file alone nobody can tell whether it was written, or was cloned.
            Ok(file) => Ok(Some(VolumeInfo { size: file.len(), reads_zero: ReadsZero::Unknown })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("look at", &path, e)),
        }
    }

    fn create(&self, volume: &VolumeId, size: u64) -> Result<VolumeInfo, Error> {
        match self.info(volume)? {
            Some(info) if info.size == size => Ok(info),
            Some(info) => Err(Error::OtherSize { volume: volume.clone(), have: info.size, need: size }),
            None => {
                make_whole(&self.image(volume), |unfinished| {
                    let file = File::create_new(unfinished)?;
                    file.set_len(size)?;
                    file.sync_all()
                })?;
                Ok(VolumeInfo { size, reads_zero: ReadsZero::Yes })
            }
        }
    }

    /// Never cuts.
    fn resize(&self, volume: &VolumeId, size: u64) -> Result<(), Error> {
        let path = self.image(volume);
        let info = self.info(volume)?.ok_or_else(|| Error::NoVolume { volume: volume.clone() })?;
        if info.size >= size {
            return Ok(());
        }
        let grown = File::options().write(true).open(&path).and_then(|file| {
            file.set_len(size)?;
            file.sync_all()
        });
        grown.map_err(|e| failed("enlarge", &path, e))
    }

    fn take_snapshot(&self, volumes: &[VolumeId], name: &SnapshotName) -> Result<(), Error> {
        let path = self.snapshot(name);
        if let Some(there) = volumes_in(&path)? {
            let asked: BTreeSet<_> = volumes.iter().cloned().collect();
            return match there == asked {
                true => Ok(()),
                false => Err(Error::OtherVolumes { snapshot: name.clone() }),
            };
        }
        if let Some(missing) = volumes.iter().find(|v| !self.image(v).exists()) {
            return Err(Error::NoVolume { volume: missing.clone() });
        }
        make_whole(&path, |unfinished| {
            std::fs::create_dir(unfinished)?;
            for volume in volumes {
                files::copy(&self.image(volume), &unfinished.join(format!("{volume}.img")))?;
            }
            File::open(unfinished)?.sync_all()
        })
    }

    fn all_snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        let fail = |e| failed("list", &self.snapshots, e);
        let mut out = Vec::new();
        for entry in std::fs::read_dir(&self.snapshots).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            // Names that we would not make are half-made or not ours.
            let Some(name) = entry.file_name().to_str().and_then(|n| SnapshotName::parse(n).ok()) else {
                continue;
            };
            if let Some(volumes) = volumes_in(&entry.path())? {
                out.push(Snapshot { name, volumes: volumes.into_iter().collect() });
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    fn clone_snapshot(
        &self,
        name: &SnapshotName,
        volume: &VolumeId,
        new: &VolumeId,
    ) -> Result<VolumeInfo, Error> {
        let from = self.snapshot_image(name, volume);
        if !from.exists() {
            return Err(Error::NoSnapshot { snapshot: name.clone(), volume: volume.clone() });
        }
        if self.info(new)?.is_some() {
            return Err(Error::VolumeExists { volume: new.clone() });
        }
        make_whole(&self.image(new), |unfinished| files::copy(&from, unfinished))?;
        self.info(new)?.ok_or_else(|| Error::NoVolume { volume: new.clone() })
    }

    fn reset(&self, volume: &VolumeId, to: &SnapshotName) -> Result<(), Error> {
        let from = self.snapshot_image(to, volume);
        if !from.exists() {
            return Err(Error::NoSnapshot { snapshot: to.clone(), volume: volume.clone() });
        }
        make_whole(&self.image(volume), |unfinished| files::copy(&from, unfinished))
    }
}

/// `None`: no such snapshot.
fn volumes_in(folder: &Path) -> Result<Option<BTreeSet<VolumeId>>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(failed("list", folder, e)),
    };
    let mut volumes = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(|e| failed("list", folder, e))?.file_name();
        let id = name.to_str().and_then(|n| n.strip_suffix(".img")).and_then(|n| VolumeId::parse(n).ok());
        volumes.extend(id);
    }
    Ok(Some(volumes))
}

#[async_trait]
impl Storage for LocalStorage {
    async fn create(&self, volume: &VolumeId, size: u64) -> Result<VolumeInfo, Error> {
        let volume = volume.clone();
        self.change(move |root| root.create(&volume, size)).await
    }

    async fn resize(&self, volume: &VolumeId, size: u64) -> Result<(), Error> {
        let volume = volume.clone();
        self.change(move |root| root.resize(&volume, size)).await
    }

    async fn volume(&self, volume: &VolumeId) -> Result<Option<VolumeInfo>, Error> {
        let volume = volume.clone();
        self.run(move |root| root.info(&volume)).await
    }

    async fn label(&self, volume: &VolumeId, label: &Label) -> Result<(), Error> {
        let (volume, label) = (volume.clone(), label.clone());
        self.change(move |root| root.set_label(&volume, &label)).await
    }

    async fn volumes(&self) -> Result<Vec<Listed>, Error> {
        self.run(Root::all_volumes).await
    }

    async fn open(&self, volume: &VolumeId) -> Result<Arc<dyn Target>, Error> {
        let volume = volume.clone();
        self.run(move |root| {
            let info = root.info(&volume)?.ok_or_else(|| Error::NoVolume { volume: volume.clone() })?;
            Ok(Arc::new(FileTarget::open(&root.image(&volume), info.size)?) as Arc<dyn Target>)
        })
        .await
    }

    async fn path(&self, volume: &VolumeId) -> Result<PathBuf, Error> {
        let volume = volume.clone();
        self.run(move |root| match root.info(&volume)? {
            Some(_) => {
                let path = root.image(&volume);
                std::path::absolute(&path).map_err(|e| failed("look at", &path, e))
            }
            None => Err(Error::NoVolume { volume }),
        })
        .await
    }

    async fn opener(&self, volume: &VolumeId) -> Result<Option<Opener>, Error> {
        let volume = volume.clone();
        self.run(move |root| {
            let path = root.image(&volume);
            super::openers::first(&path).map_err(|e| failed("look for users of", &path, e))
        })
        .await
    }

    async fn holder(&self, volume: &VolumeId) -> Result<Option<String>, Error> {
        let volume = volume.clone();
        self.run(move |root| {
            let path = root.image(&volume);
            let found = super::openers::any(&path).map_err(|e| failed("look for users of", &path, e))?;
            Ok(found.map(|opener| opener.to_string()))
        })
        .await
    }

    async fn delete(&self, volume: &VolumeId) -> Result<(), Error> {
        let volume = volume.clone();
        self.change(move |root| {
            remove_whole(&root.image(&volume))?;
            root.remove_label(&volume)
        })
        .await
    }

    async fn snapshot(&self, volumes: &[VolumeId], name: &SnapshotName) -> Result<(), Error> {
        let (volumes, name) = (volumes.to_vec(), name.clone());
        self.change(move |root| root.take_snapshot(&volumes, &name)).await
    }

    async fn snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        self.run(Root::all_snapshots).await
    }

    async fn snapshot_size(&self, name: &SnapshotName, volume: &VolumeId) -> Result<u64, Error> {
        Ok(self.open_snapshot(name, volume).await?.size())
    }

    async fn delete_snapshot(&self, name: &SnapshotName) -> Result<(), Error> {
        let name = name.clone();
        self.change(move |root| remove_whole(&root.snapshot(&name))).await
    }

    async fn clone_snapshot(
        &self,
        name: &SnapshotName,
        volume: &VolumeId,
        new: &VolumeId,
    ) -> Result<VolumeInfo, Error> {
        let (name, volume, new) = (name.clone(), volume.clone(), new.clone());
        self.change(move |root| root.clone_snapshot(&name, &volume, &new)).await
    }

    async fn reset(&self, volume: &VolumeId, to: &SnapshotName) -> Result<(), Error> {
        let (volume, to) = (volume.clone(), to.clone());
        self.change(move |root| root.reset(&volume, &to)).await
    }

    async fn space(&self) -> Result<Space, Error> {
        self.run(|root| {
            let of = rustix::fs::statvfs(&root.volumes).map_err(|e| failed("look at", &root.volumes, e))?;
            let bytes = |blocks: u64| blocks.saturating_mul(of.f_frsize);
            Ok(Space { free: bytes(of.f_bavail), total: bytes(of.f_blocks) })
        })
        .await
    }

    async fn point_cost(&self) -> Result<PointCost, Error> {
        self.run(|root| {
            use rustix::fs::{Mode, OFlags};
            // Without names: a crash leaves nothing behind. A file system that has no such files has no reflinks either.
            let open = || {
                let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
                rustix::fs::open(&root.volumes, flags, Mode::RUSR | Mode::WUSR).map(File::from)
            };
            let (Ok(mut from), Ok(to)) = (open(), open()) else { return Ok(PointCost::Whole) };
            let tried = from.write_all(&[1; 4096]).and_then(|()| clone_file(&from, &to));
            match tried.map_err(|e| failed("try to clone in", &root.volumes, e))? {
                CloneKind::Reflink => Ok(PointCost::Shared),
                CloneKind::SparseCopy => Ok(PointCost::Whole),
            }
        })
        .await
    }
}
