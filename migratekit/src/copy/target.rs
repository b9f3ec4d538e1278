//! The destination of a copy: found and checked first, touched only when the source is known to be there.
//!
//! A file or a device is known again by its inode or number. An NBD export has nothing of the kind: a resumed copy
//! checks its address and size here, and reads back what is said to be durable before it goes on (see [`super`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::claim::{Claim, claim};
use super::identity::{absolute, identity, is_same_file, same_copy, source_file};
use super::resume::{Header, Resume, VERSION};
use super::{Args, Error, Summary};
use crate::manifest::{self, Manifest};
use crate::nbd::NbdUri;
use crate::read::Reader;
use crate::replica::{Options, ReadsZero};
use crate::target::{self, FileTarget, Flushing, NbdOptions, NbdTarget, Target};

/// Where the copy goes.
pub(super) struct Destination {
    place: Place,
    header: Header,
    /// An earlier run wrote something.
    resumed: bool,
    /// Holds the manifest of a copy without a resume file.
    scratch: Option<TempDir>,
}

enum Place {
    File {
        path: PathBuf,
        exists: bool,
        /// The file is this run's own.
        made: bool,
        /// Nobody else copies to it meanwhile. `None`: it does not exist yet.
        claim: Option<Claim>,
    },
    Nbd(Arc<NbdTarget>),
}

impl Place {
    fn path(&self) -> PathBuf {
        match self {
            Self::File { path, .. } => path.clone(),
            Self::Nbd(target) => target.name().into(),
        }
    }
}

impl Destination {
    /// Looks at the target and the resume file. Changes nothing but an empty resume file, which may be made.
    pub(super) async fn find(args: &Args, reader: &Reader) -> Result<(Self, Resume), Error> {
        let (args, source, size) = (args.clone(), reader.name().to_owned(), reader.size());
        let found = tokio::task::spawn_blocking(move || Self::find_now(&args, source, size)).await;
        found.map_err(|_| Error::Died { who: "thread that opens the target" })?
    }

    fn find_now(args: &Args, source: String, size_bytes: u64) -> Result<(Self, Resume), Error> {
        let (place, mut header, short) = match args.nbd_target() {
            Some(uri) => {
                let (place, header) = find_nbd(args, &uri?, source, size_bytes)?;
                (place, header, None)
            }
            None => find_file(args, source, size_bytes)?,
        };
        let gone = matches!(&place, Place::File { exists: false, .. });
        let (mut resume, mut resumed) = (Resume::default(), false);
        let mut short = short.map(Error::from);
        if let Some(file) = &args.resume {
            if let Some(error) = short.take_if(|_| !file.exists()) {
                return Err(error);
            }
            let (found, earlier) = Resume::open(&absolute(file)?)?;
            resume = found;
            if let Some(earlier) = earlier {
                same_copy(file, &earlier, &header)?;
                if gone && !resume.intended.is_empty() {
                    return Err(Error::TargetGone { target: place.path(), path: file.clone() });
                }
                // A run that wrote nothing may not even have made its target: this one begins anew, and says so.
                resumed = !resume.intended.is_empty();
                if resumed && earlier.target_file != header.target_file {
                    return Err(Error::OtherTarget { target: place.path(), path: file.clone() });
                }
                if resumed
                    && let Some(Error::Target(target::Error::TooSmall { path: target, need, have })) = &short
                {
                    let (target, need, have) = (target.clone(), *need, *have);
                    return Err(Error::TargetShrunk { target, have, need, path: file.clone() });
                }
                if resumed {
                    header.made_target = earlier.made_target;
                }
            }
        }
        match short {
            Some(error) => Err(error),
            None => Ok((Self { place, header, resumed, scratch: None }, resume)),
        }
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
            true => {
                Manifest::open(&manifest_path, size).map_err(|error| lost(&manifest_path, resume, error))?
            }
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
        let target: Arc<dyn Target> = match &mut self.place {
            Place::Nbd(target) => Arc::clone(target) as _,
            Place::File { path, exists: true, .. } => Arc::new(FileTarget::open(path, size)?),
            Place::File { path, made, claim: held, .. } => {
                let target = FileTarget::create(path, size).map_err(|error| appeared(path, error))?;
                // Only who has the claim may remove the file: another copy may have been faster.
                *held = claim(path)?;
                *made = true;
                Arc::new(target)
            }
        };
        Ok((target, Arc::new(manifest)))
    }

    /// Whether what earlier runs wrote has to be looked for before the copy goes on: nothing else says that the
    /// target is the one they wrote to.
    pub(super) fn must_prove_itself(&self) -> bool {
        self.resumed && matches!(self.place, Place::Nbd(_))
    }

    /// Most bytes that a session writes before it flushes. A flush over the network costs a round trip and all of the
    /// server's page cache, and what is not flushed costs no memory here.
    pub(super) fn options(&self) -> Options {
        match self.place {
            Place::File { .. } => Options::default(),
            Place::Nbd(_) => Options { flush_bytes: 64 << 20, window: 256 << 20, ..Options::default() },
        }
    }

    /// Bytes of one request that the target likes best.
    pub(super) fn preferred(&self) -> u64 {
        match &self.place {
            Place::File { .. } => 0,
            Place::Nbd(target) => target.export().block_preferred,
        }
    }

    /// Whether what was written to it is known to be on stable storage once the copy is done.
    pub(super) fn can_flush(&self) -> bool {
        match &self.place {
            Place::File { .. } => true,
            Place::Nbd(target) => target.export().can_flush,
        }
    }

    /// Which file the target is, where the header could not say.
    pub(super) fn made(&self) -> Result<Option<(u64, u64)>, Error> {
        let Place::File { path, made: true, .. } = &self.place else { return Ok(None) };
        let look = |source| Error::Io { action: "look at", path: path.clone(), source };
        Ok(Some(identity(&std::fs::metadata(path).map_err(look)?)))
    }

    /// A file made by this copy reads as zeros, as does what the operator says does; anything else is unknown.
    pub(super) fn reads_zero(&self) -> ReadsZero {
        if self.header.made_target { ReadsZero::Yes } else { ReadsZero::Unknown }
    }

    /// After the copy: lets a server go; removes the part of a file that this run made and nobody can go on with.
    pub(super) async fn settle(&self, args: &Args, done: &Result<Summary, Error>) {
        let wanted = done.is_ok() || args.resume.is_some() || matches!(done, Err(Error::Different { .. }));
        match &self.place {
            Place::Nbd(target) => {
                let target = Arc::clone(target);
                // Fails when the runtime ends, and the connections with it.
                let _ = tokio::task::spawn_blocking(move || target.close()).await;
            }
            Place::File { path, made: true, .. } if !wanted => match std::fs::remove_file(path) {
                Ok(()) => tracing::info!(target = %path.display(), "removed the unfinished copy"),
                Err(error) => {
                    tracing::warn!(target = %path.display(), %error, "the unfinished copy could not be removed");
                }
            },
            Place::File { .. } => {}
        }
    }
}

/// The place; what binds a resume file to it; and the error of a target that is too small, if there is to be one.
fn find_file(
    args: &Args,
    source: String,
    size_bytes: u64,
) -> Result<(Place, Header, Option<target::Error>), Error> {
    let path = absolute(&args.target)?;
    if args.without_flush {
        return Err(Error::WithoutFlush { path });
    }
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => Some(metadata),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(Error::Io { action: "look at", path, source }),
    };
    let (mut held, mut short) = (None, None);
    if metadata.is_some() {
        if !NbdUri::is_uri(&args.source) && is_same_file(args.source.as_ref(), &path) {
            return Err(Error::SameFile { path });
        }
        held = claim(&path)?;
        // Opened once for its errors: too small, read only, neither file nor device.
        match FileTarget::open(&path, size_bytes).map(drop) {
            // The resume file tells whether it always was.
            Err(error @ target::Error::TooSmall { .. }) if args.resume.is_some() => short = Some(error),
            opened => opened?,
        }
    } else if args.bitmap.is_some() {
        return Err(Error::NothingToUpdate { path });
    }
    let exists = metadata.is_some();
    let header = Header {
        migratekit_copy: VERSION,
        source,
        size_bytes,
        source_file: source_file(&args.source),
        target: path.clone(),
        target_bytes: None,
        bitmap: args.bitmap.clone(),
        target_file: metadata.as_ref().map(identity),
        made_target: !exists || args.destination_is_zero,
    };
    Ok((Place::File { path, exists, made: false, claim: held }, header, short))
}

/// What is wrong with the manifest of a copy that is gone on with.
fn lost(path: &Path, resume: &Resume, error: manifest::Error) -> Error {
    let why = match &error {
        manifest::Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            "is gone".to_owned()
        }
        manifest::Error::Invalid { why, .. } => format!("is damaged ({why})"),
        manifest::Error::WrongSize { have, .. } => format!("is of another disk, of {have} bytes"),
        _ => return error.into(),
    };
    let resume = resume.file.as_ref().map_or_else(PathBuf::new, |file| file.path().to_owned());
    Error::ManifestLost { manifest: path.to_owned(), path: resume, why }
}

/// A file that was not there when it was looked for.
fn appeared(path: &Path, error: target::Error) -> Error {
    match error {
        target::Error::Io { op: target::Op::Create, source, .. }
            if source.kind() == io::ErrorKind::AlreadyExists =>
        {
            Error::Appeared { path: path.to_owned() }
        }
        error => error.into(),
    }
}

fn find_nbd(args: &Args, uri: &NbdUri, source: String, size_bytes: u64) -> Result<(Place, Header), Error> {
    if source == uri.to_string() {
        return Err(Error::SameFile { path: source.into() });
    }
    let mut options = NbdOptions::default();
    if let Some(connections) = args.connections {
        options.connections = usize::from(connections);
    }
    if args.without_flush {
        options.flushing = Flushing::IfPossible;
    }
    let target = NbdTarget::open(uri, size_bytes, &options)?;
    let header = Header {
        migratekit_copy: VERSION,
        source,
        size_bytes,
        source_file: source_file(&args.source),
        target: target.name().into(),
        target_bytes: Some(target.size()),
        bitmap: args.bitmap.clone(),
        target_file: None,
        made_target: args.destination_is_zero,
    };
    Ok((Place::Nbd(Arc::new(target)), header))
}
