//! The destination of a copy: found and checked first, touched only when the source is known to be there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use tempfile::TempDir;

use super::resume::{Header, Resume, VERSION};
use super::{Args, Error, Summary};
use crate::manifest::Manifest;
use crate::nbd::NbdUri;
use crate::read::Reader;
use crate::replica::ReadsZero;
use crate::target::{FileTarget, Target};

/// Where the copy goes.
pub(super) struct Destination {
    path: PathBuf,
    header: Header,
    /// An earlier run wrote something.
    resumed: bool,
    exists: bool,
    /// The file is this run's own.
    made: bool,
    /// Keeps a block device from being mounted meanwhile.
    _claim: Option<File>,
    /// Holds the manifest of a copy without a resume file.
    scratch: Option<TempDir>,
}

impl Destination {
    /// Looks at the target and the resume file. Changes nothing but an empty resume file, which may be made.
    pub(super) async fn find(args: &Args, reader: &Reader) -> Result<(Self, Resume), Error> {
        let (args, source, size) = (args.clone(), reader.name().to_owned(), reader.size());
        let found = tokio::task::spawn_blocking(move || Self::find_now(&args, source, size)).await;
        found.map_err(|_| Error::Died { who: "thread that opens the target" })?
    }

    fn find_now(args: &Args, source: String, size_bytes: u64) -> Result<(Self, Resume), Error> {
        let path = absolute(&args.target)?;
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(Error::Io { action: "look at", path, source }),
        };
        let mut claim = None;
        if let Some(metadata) = &metadata {
            if !NbdUri::is_uri(&args.source)
                && std::fs::metadata(&args.source)
                    .is_ok_and(|source| identity(&behind(source)) == identity(&behind(metadata.clone())))
            {
                return Err(Error::SameFile { path });
            }
            if metadata.file_type().is_block_device() {
                claim = Some(claim_device(&path)?);
            }
            // Opened once for its errors: too small, read only, neither file nor device.
            drop(FileTarget::open(&path, size_bytes)?);
        } else if args.bitmap.is_some() {
            return Err(Error::NothingToUpdate { path });
        }
        let exists = metadata.is_some();
        let mut header = Header {
            migratekit_copy: VERSION,
            source,
            size_bytes,
            target: path.clone(),
            bitmap: args.bitmap.clone(),
            target_file: metadata.as_ref().map(identity),
            made_target: !exists,
        };
        let (mut resume, mut resumed) = (Resume::default(), false);
        if let Some(file) = &args.resume {
            let (found, earlier) = Resume::open(&absolute(file)?)?;
            resume = found;
            if let Some(earlier) = earlier {
                same_copy(file, &earlier, &header)?;
                if !exists && !resume.intended.is_empty() {
                    return Err(Error::TargetGone { target: path, path: file.clone() });
                }
                // A run that wrote nothing may not even have made its target: this one begins anew, and says so.
                resumed = !resume.intended.is_empty();
                if resumed && earlier.target_file != header.target_file {
                    return Err(Error::OtherTarget { target: path, path: file.clone() });
                }
                if resumed {
                    header.made_target = earlier.made_target;
                }
            }
        }
        Ok((Self { path, header, resumed, exists, made: false, _claim: claim, scratch: None }, resume))
    }

    /// Opens the target for writing, making it if it does not exist, and the manifest beside the resume file.
    pub(super) fn open(
        &mut self,
        size: u64,
        resume: &Resume,
    ) -> Result<(Arc<dyn Target>, Arc<Manifest>), Error> {
        let manifest_path = match &resume.file {
            Some(file) => file.manifest_path(),
            None => {
                let folder = tempfile::Builder::new().prefix("migratekit-copy-").tempdir();
                let folder = folder.map_err(|source| Error::Io {
                    action: "make a folder in",
                    path: std::env::temp_dir(),
                    source,
                })?;
                self.scratch.insert(folder).path().join("manifest")
            }
        };
        let manifest = match self.resumed {
            true => Manifest::open(&manifest_path, size)?,
            // Left by a run that died before it wrote anything.
            false if resume.file.is_some() && manifest_path.exists() => {
                let removed = std::fs::remove_file(&manifest_path);
                removed.map_err(|source| Error::Io {
                    action: "remove",
                    path: manifest_path.clone(),
                    source,
                })?;
                Manifest::create(&manifest_path, size)?
            }
            false => Manifest::create(&manifest_path, size)?,
        };
        // The header first: if the target is there afterwards, it is known who made it.
        if !self.resumed {
            resume.begin(&self.header)?;
        }
        let target = match self.exists {
            true => FileTarget::open(&self.path, size)?,
            false => FileTarget::create(&self.path, size)?,
        };
        self.made = !self.exists;
        Ok((Arc::new(target), Arc::new(manifest)))
    }

    /// Which file the target is, where the header could not say.
    pub(super) fn made(&self) -> Result<Option<(u64, u64)>, Error> {
        match self.made {
            true => {
                let metadata = std::fs::metadata(&self.path);
                let path = self.path.clone();
                Ok(Some(identity(&metadata.map_err(|source| Error::Io {
                    action: "look at",
                    path,
                    source,
                })?)))
            }
            false => Ok(None),
        }
    }

    /// A file made by this copy reads as zeros; what stands in an existing one is unknown.
    pub(super) fn reads_zero(&self) -> ReadsZero {
        if self.header.made_target { ReadsZero::Yes } else { ReadsZero::Unknown }
    }

    /// After a copy that failed: removes the part of a file that this run made and nobody can go on with.
    pub(super) fn settle(&self, args: &Args, done: &Result<Summary, Error>) {
        let wanted = done.is_ok() || args.resume.is_some() || matches!(done, Err(Error::Different { .. }));
        if !wanted && self.made {
            match std::fs::remove_file(&self.path) {
                Ok(()) => tracing::info!(target = %self.path.display(), "removed the unfinished copy"),
                Err(error) => {
                    tracing::warn!(target = %self.path.display(), %error, "the unfinished copy could not be removed");
                }
            }
        }
    }
}

/// The file behind a loop device; anything else is itself.
fn behind(metadata: std::fs::Metadata) -> std::fs::Metadata {
    if !metadata.file_type().is_block_device() {
        return metadata;
    }
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let backing = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/loop/backing_file"));
    let file = backing.ok().and_then(|path| std::fs::metadata(path.trim_end_matches('\n')).ok());
    file.unwrap_or(metadata)
}

/// Device and inode; of a block device, its number, as its node may be made again.
fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    match metadata.file_type().is_block_device() {
        true => (metadata.rdev(), 0),
        false => (metadata.dev(), metadata.ino()),
    }
}

fn same_copy(file: &Path, earlier: &Header, now: &Header) -> Result<(), Error> {
    let differs =
        |what, had: String, have: String| Error::OtherCopy { path: file.to_owned(), what, had, have };
    let name = |bitmap: &Option<String>| bitmap.clone().unwrap_or_else(|| "none".to_owned());
    if earlier.source != now.source {
        return Err(differs("the source", earlier.source.clone(), now.source.clone()));
    }
    if earlier.size_bytes != now.size_bytes {
        return Err(differs("its size", earlier.size_bytes.to_string(), now.size_bytes.to_string()));
    }
    if earlier.target != now.target {
        let shown = |header: &Header| header.target.display().to_string();
        return Err(differs("the target", shown(earlier), shown(now)));
    }
    if earlier.bitmap != now.bitmap {
        return Err(differs("the bitmap", name(&earlier.bitmap), name(&now.bitmap)));
    }
    Ok(())
}

/// Linux refuses an exclusive open of a device that is mounted, or used by another exclusive opener.
fn claim_device(path: &Path) -> Result<File, Error> {
    let flags = i32::try_from(OFlags::EXCL.bits()).expect("an open flag fits the C int it is");
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::ResourceBusy => Error::InUse { path },
            _ => Error::Io { action: "open", path, source },
        }
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::Io { action: "find", path: path.to_owned(), source })
}
