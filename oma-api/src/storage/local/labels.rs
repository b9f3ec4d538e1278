//! Labels of local volumes: `labels/<id>.json`, a line of JSON.

use super::super::{Error, Label, Listed, VolumeId};
use super::Root;
use super::files::{self, failed};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use tracing::warn;

impl Root {
    fn label_file(&self, volume: &VolumeId) -> PathBuf {
        self.labels.join(format!("{volume}.json"))
    }

    pub(super) fn set_label(&self, volume: &VolumeId, label: &Label) -> Result<(), Error> {
        if self.info(volume)?.is_none() {
            return Err(Error::NoVolume { volume: volume.clone() });
        }
        files::make_whole(&self.label_file(volume), |unfinished| {
            let mut file = File::create_new(unfinished)?;
            serde_json::to_writer(&mut file, label)?;
            file.write_all(b"\n")?;
            file.sync_all()
        })
    }

    pub(super) fn remove_label(&self, volume: &VolumeId) -> Result<(), Error> {
        files::remove_whole(&self.label_file(volume))
    }

    /// One that cannot be read makes its volume say nothing: the operator can still name it.
    fn read_label(&self, volume: &VolumeId) -> Result<Option<Label>, Error> {
        let path = self.label_file(volume);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)
                .inspect_err(|error| warn!(%volume, %error, "a volume's label cannot be read"))
                .ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, error)),
        }
    }

    pub(super) fn all_volumes(&self) -> Result<Vec<Listed>, Error> {
        let mut all = Vec::new();
        for volume in super::volumes_in(&self.volumes)?.unwrap_or_default() {
            // Removed since the folder was read.
            let Some(info) = self.info(&volume)? else { continue };
            let label = self.read_label(&volume)?;
            all.push(Listed { volume, size: info.size, label });
        }
        Ok(all)
    }
}
