//! Takes a backup, while a control plane is at work or not.

use super::format::{BLOCK, Error as FileError, Header, ManifestOf, Piece, Writer};
use crate::Config;
use crate::store::Moment;
use anyhow::Context as _;
use jiff::Timestamp;
use migratekit::target::sync_parent;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// How often a new moment is sought whose manifests are all there: each commit removes some.
const ATTEMPTS: usize = 10;

/// What to do with a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Replace,
}

/// A backup that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub rows: u64,
    pub manifests: usize,
    /// Of the file.
    pub bytes: u64,
    /// Manifests that the database names and the folder does not have.
    pub missing: Vec<String>,
}

/// A manifest, open: it may be removed while the backup is written, and never changes.
struct Open {
    name: String,
    file: File,
}

/// Writes database and manifests into `to`, whole or not at all.
///
/// # Errors
/// What cannot be read or written, and what to do.
pub async fn backup(config: &Config, to: &Path, existing: Existing) -> anyhow::Result<Made> {
    if existing == Existing::Refuse && to.exists() {
        anyhow::bail!("{} is there already: name another file, or say --force", to.display());
    }
    let (moment, manifests, missing) = moment(config).await?;
    let unfinished = Unfinished::make(to)?;
    let failed = |source| FileError::Io { what: "write", path: unfinished.path.clone(), source };
    let mut writer = Writer::new(unfinished.file.try_clone()?).map_err(failed)?;
    let header = Header {
        program: shared::telemetry::VERSION.to_owned(),
        schema: moment.schema(),
        taken_at: Timestamp::now().to_string(),
    };
    writer.piece(&Piece::Header(header)).map_err(failed)?;
    let mut rows = 0;
    let read = moment.rows(|record| {
        rows += 1;
        writer.piece(&Piece::Row(record))
    });
    read.await?.map_err(failed)?;
    let count = manifests.len();
    for manifest in manifests {
        let named = manifest.name.clone();
        copy(&mut writer, manifest).with_context(|| format!("manifest {named}"))?;
    }
    let bytes = writer.finish().map_err(failed)?;
    unfinished.into_place(to)?;
    Ok(Made { rows, manifests: count, bytes, missing })
}

/// A moment of the database, and the manifests that it names, held so that no commit can take them away.
async fn moment(config: &Config) -> anyhow::Result<(Moment, Vec<Open>, Vec<String>)> {
    // A file a disk and restore point: more than the usual limit of a shell.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let folder = config.state_dir.join("manifests");
    let mut attempt = 1;
    loop {
        let mut moment = Moment::of(config.database_url.as_str()).await?;
        let (mut open, mut missing) = (Vec::new(), Vec::new());
        for name in moment.manifests().await? {
            let path = folder.join(&name);
            match File::open(&path) {
                Ok(file) => open.push(Open { name, file }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(name),
                Err(source) => return Err(FileError::Io { what: "open", path, source }.into()),
            }
        }
        if missing.is_empty() || attempt == ATTEMPTS {
            return Ok((moment, open, missing));
        }
        attempt += 1;
    }
}

fn copy(writer: &mut Writer, Open { name, mut file }: Open) -> io::Result<()> {
    let size = file.metadata()?.len();
    writer.piece(&Piece::Manifest(ManifestOf { file: name, size }))?;
    let mut block = vec![0; BLOCK];
    let mut offset = 0;
    while offset < size {
        let length = usize::try_from(size - offset).unwrap_or(BLOCK).min(BLOCK);
        file.read_exact(&mut block[..length])?;
        if block[..length].iter().any(|byte| *byte != 0) {
            writer.piece(&Piece::Data { offset, bytes: block[..length].to_vec() })?;
        }
        offset += length as u64;
    }
    Ok(())
}

/// The file under another name, so that what has its final name is whole. Two backups at once have two.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    fn make(to: &Path) -> Result<Self, FileError> {
        let mut name: OsString = to.as_os_str().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let path = PathBuf::from(name);
        // Hashes of tokens, names of VMs and what they are made of: the owner's alone.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        match file {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(FileError::Io { what: "make", path, source }),
        }
    }

    fn into_place(self, to: &Path) -> Result<(), FileError> {
        let done = std::fs::rename(&self.path, to).and_then(|()| sync_parent(to));
        done.map_err(|source| FileError::Io { what: "make", path: to.to_owned(), source })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // In place already, or of no use.
        let _ = std::fs::remove_file(&self.path);
    }
}
