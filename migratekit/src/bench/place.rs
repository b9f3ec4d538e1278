//! Where it is written to. Nothing that was there before is touched unless the operator said so; nothing made here
//! outlives the process, however it ends: a file in a folder has no name.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::leaf::LEAF;

use super::{Args, Error};
use crate::copy::{Claim, Error as CopyError, check_scheme, claim, is_same_file};
use crate::nbd::NbdUri;
use crate::target::{FileTarget, NbdOptions, NbdTarget, Target};

/// Less is not worth measuring: a session flushes every 16 MiB.
const LEAST: u64 = 4 << 20;

/// Checked, and able to give a target for each measurement.
pub(super) struct Place {
    kind: Kind,
    /// Bytes that may be written, whole leaves.
    room: u64,
}

enum Kind {
    Folder(PathBuf),
    Existing {
        path: PathBuf,
        /// Nobody else copies to it, or measures it, meanwhile.
        _claim: Option<Claim>,
    },
    Nbd(Arc<NbdTarget>),
}

impl Place {
    /// Looks, and touches nothing. Blocks.
    pub(super) fn find(args: &Args) -> Result<Self, Error> {
        let path = &args.target;
        check_scheme(&path.to_string_lossy())?;
        let (kind, have) = if let Some(uri) = path.to_str().filter(|text| NbdUri::is_uri(text)) {
            Self::nbd(args, &uri.parse().map_err(Error::Uri)?)?
        } else {
            match std::fs::metadata(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return Err(Error::Missing { path: path.clone() });
                }
                Err(source) => return Err(Error::Io { action: "look at", path: path.clone(), source }),
                Ok(metadata) if metadata.is_dir() => (Kind::Folder(path.clone()), free(path)? / 2),
                Ok(_) if !args.overwrite => return Err(Error::Exists { path: path.clone() }),
                Ok(_) => {
                    if !NbdUri::is_uri(&args.source) && is_same_file(args.source.as_ref(), path) {
                        return Err(CopyError::SameFile { path: path.clone() }.into());
                    }
                    let claim = claim(path)?;
                    let size = FileTarget::open(path, 0)?.size();
                    (Kind::Existing { path: path.clone(), _claim: claim }, size)
                }
            }
        };
        let room = have.min(args.bytes.max(LEAST)) / LEAF * LEAF;
        match (&kind, room < LEAST) {
            (_, false) => Ok(Self { kind, room }),
            (Kind::Folder(path), true) => Err(Error::NoRoom { path: path.clone(), free: have * 2 }),
            (_, true) => Err(Error::TooSmall { name: path.display().to_string(), have, need: LEAST }),
        }
    }

    fn nbd(args: &Args, uri: &NbdUri) -> Result<(Kind, u64), Error> {
        let path = PathBuf::from(uri.to_string());
        if !args.overwrite {
            return Err(Error::Exists { path });
        }
        if args.source == args.target.to_string_lossy() {
            return Err(CopyError::SameFile { path }.into());
        }
        let mut options = NbdOptions::default();
        if let Some(connections) = args.connections {
            options.connections = usize::from(connections);
        }
        let target = NbdTarget::open(uri, 0, &options)?;
        let size = target.size();
        Ok((Kind::Nbd(Arc::new(target)), size))
    }

    /// Without secrets.
    pub(super) fn name(&self) -> String {
        match &self.kind {
            Kind::Folder(path) | Kind::Existing { path, .. } => path.display().to_string(),
            Kind::Nbd(target) => target.name(),
        }
    }

    pub(super) fn room(&self) -> u64 {
        self.room
    }

    /// A target of [`room`](Self::room) bytes; in a folder a new one each time, so that its blocks are, too. Blocks.
    pub(super) fn open(&self) -> Result<Arc<dyn Target>, Error> {
        Ok(match &self.kind {
            Kind::Folder(folder) => Arc::new(FileTarget::nameless(folder, self.room)?),
            Kind::Existing { path, .. } => Arc::new(FileTarget::open(path, self.room)?),
            Kind::Nbd(target) => Arc::clone(target) as _,
        })
    }

    /// Says good-bye to a server. Blocks.
    pub(super) fn close(&self) {
        if let Kind::Nbd(target) = &self.kind {
            target.close();
        }
    }
}

fn free(folder: &Path) -> Result<u64, Error> {
    let look = |errno: rustix::io::Errno| {
        let path = folder.to_owned();
        Error::Io { action: "look at the file system of", path, source: errno.into() }
    };
    let told = rustix::fs::statvfs(folder).map_err(look)?;
    Ok(told.f_bavail.saturating_mul(told.f_frsize))
}
