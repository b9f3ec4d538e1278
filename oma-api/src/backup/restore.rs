//! Makes database and manifests of a backup.
//!
//! ```text
//!  checksum ─► claims (no control plane runs) ─► nothing there that would be missed ─► manifests ─► new database
//!                                                                                                       │
//!  what is on the storage and nobody's: named, never deleted ◄─ swapped in ◄─ what is unknown since ◄───┘
//! ```

use super::format::{Error as FileError, Header, ManifestOf, Piece, Reader};
use crate::Config;
use crate::oma;
use crate::storage::Storage;
use crate::store::{self, Restored, Store};
use anyhow::Context as _;
use jiff::Timestamp;
use migratekit::target::sync_parent;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What to do with a database that has something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    Refuse,
    Replace,
}

/// A restore that was done.
#[derive(Debug)]
pub struct Done {
    pub header: Header,
    pub restored: Restored,
    /// Volumes on the storage that no unfinished migration has.
    pub orphan_volumes: Vec<String>,
    /// Snapshots on the storage that no restore point names.
    pub orphan_snapshots: Vec<String>,
    /// Where the file of the database before is.
    pub before: Option<PathBuf>,
}

/// Restores `from` into the configured database and state folder.
///
/// # Errors
/// What is in the way, and what to do; the configured database is as it was then, unless it is a server's and the
/// message of the next start says otherwise.
pub async fn restore(config: &Config, from: &Path, present: Present) -> anyhow::Result<Done> {
    let mut reader = Reader::open(from)?;
    let header = reader.header()?;
    if header.schema > store::newest_schema() {
        anyhow::bail!(
            "{} was taken by a newer version ({}): restore it with that version",
            from.display(),
            header.program
        );
    }
    let oma::Held { storage, claims: _claims, .. } = oma::claim(config).await?;
    let url = config.database_url.as_str();
    let file = store::database_file(url)?;
    let place = match &file {
        Some(file) => Place::file(file, url, present).await?,
        None => Place::server(url, present).await?,
    };
    let restored = fill(&place.store, &mut reader, &header, config, &*storage).await;
    let restored = match restored {
        Ok(restored) => restored,
        Err(error) => {
            place.store.close().await;
            return Err(error);
        }
    };
    let before = place.into_use(file.as_deref()).await?;
    let of = |all: BTreeSet<String>, ours: &BTreeSet<String>| all.difference(ours).cloned().collect();
    Ok(Done {
        orphan_volumes: of(volumes(&*storage).await?, &restored.volumes),
        orphan_snapshots: of(snapshots(&*storage).await?, &restored.snapshots),
        header,
        restored,
        before,
    })
}

async fn volumes(storage: &dyn Storage) -> anyhow::Result<BTreeSet<String>> {
    Ok(storage.volumes().await?.into_iter().map(|v| v.volume.to_string()).collect())
}

async fn snapshots(storage: &dyn Storage) -> anyhow::Result<BTreeSet<String>> {
    Ok(storage.snapshots().await?.into_iter().map(|s| s.name.to_string()).collect())
}

/// Rows and manifests, and then what is unknown since.
async fn fill(
    store: &Store,
    reader: &mut Reader,
    header: &Header,
    config: &Config,
    storage: &dyn Storage,
) -> anyhow::Result<Restored> {
    let manifests = config.state_dir.join("manifests");
    let mut load = store.load(header.schema).await?;
    let mut writing: Option<Manifest> = None;
    loop {
        match reader.piece()? {
            Piece::Row(record) => load.row(&record).await?,
            Piece::Manifest(of) => {
                if let Some(written) = writing.take() {
                    written.into_place()?;
                }
                let plain = Path::new(&of.file).file_name().is_some_and(|name| name == of.file.as_str());
                if !plain {
                    return Err(reader.damaged("a manifest's name leads elsewhere").into());
                }
                writing = Some(Manifest::make(&manifests, &of)?);
            }
            Piece::Data { offset, bytes } => match &writing {
                Some(manifest) => manifest.write(offset, &bytes)?,
                None => return Err(reader.damaged("data of no manifest").into()),
            },
            Piece::Header(_) => return Err(reader.damaged("a second header").into()),
            Piece::End => break,
        }
    }
    if let Some(written) = writing {
        written.into_place()?;
    }
    // Before the rows that name them.
    sync_parent(&manifests.join("any")).context("the manifests cannot be made durable")?;
    load.finish().await?;
    store.migrate().await?;
    let (snapshots, volumes) = (snapshots(storage).await?, volumes(storage).await?);
    Ok(store.restored(&snapshots, &volumes, Timestamp::now()).await?)
}

/// A manifest that is being written, under another name.
struct Manifest {
    unfinished: PathBuf,
    path: PathBuf,
    file: File,
}

impl Manifest {
    fn make(folder: &Path, of: &ManifestOf) -> Result<Self, FileError> {
        let (path, unfinished) = (folder.join(&of.file), folder.join(format!("{}.restoring", of.file)));
        // Zeros of a manifest are holes of its file.
        let file = File::create(&unfinished).and_then(|file| file.set_len(of.size).map(|()| file));
        let file = file.map_err(|source| FileError::Io { what: "make", path: unfinished.clone(), source })?;
        Ok(Self { unfinished, path, file })
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|source| FileError::Io { what: "write", path: self.unfinished.clone(), source })
    }

    fn into_place(self) -> Result<(), FileError> {
        let done = self.file.sync_all().and_then(|()| std::fs::rename(&self.unfinished, &self.path));
        done.map_err(|source| FileError::Io { what: "write", path: self.path, source })
    }
}

/// The database that is being made.
struct Place {
    store: Store,
    /// Beside the configured file, where it is one.
    beside: Option<PathBuf>,
    _claim: Option<store::DatabaseClaim>,
}

impl Place {
    /// Beside `file`, which stays as it is.
    async fn file(file: &Path, url: &str, present: Present) -> anyhow::Result<Self> {
        if file.exists() {
            let there = Store::connect(url).await?;
            refuse_unless(there.is_empty().await?, present, &file.display().to_string())?;
            // Takes its log into it, which would be taken for the new one's.
            there.close().await;
            if with(file, "-wal").exists() {
                anyhow::bail!("{} is in use by another program: end that first", file.display());
            }
        }
        let beside = with(file, ".restoring");
        for left in [beside.clone(), with(&beside, "-wal"), with(&beside, "-shm")] {
            match std::fs::remove_file(&left) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", left.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        let store = Store::connect(&format!("{url}.restoring")).await?;
        Ok(Self { store, beside: Some(beside), _claim: None })
    }

    /// In place: a server cannot exchange databases.
    async fn server(url: &str, present: Present) -> anyhow::Result<Self> {
        let store = Store::connect(url).await?;
        let claim = store.claim().await?;
        refuse_unless(store.is_empty().await?, present, "the database")?;
        Ok(Self { store, beside: None, _claim: claim })
    }

    /// Gives where the one before is.
    async fn into_use(self, file: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
        self.store.close().await;
        let (Some(beside), Some(file)) = (self.beside, file) else { return Ok(None) };
        File::open(&beside)
            .and_then(|new| new.sync_all())
            .context("the new database cannot be made durable")?;
        let mut kept = None;
        if file.exists() {
            let before = with(file, &format!(".before-restore-{}", Timestamp::now().as_second()));
            // A second name, so that there is a database under the first one at every moment.
            std::fs::hard_link(file, &before).with_context(|| format!("cannot make {}", before.display()))?;
            kept = Some(before);
        }
        let swapped = std::fs::rename(&beside, file).and_then(|()| sync_parent(file));
        swapped.with_context(|| format!("cannot put the new database into {}", file.display()))?;
        Ok(kept)
    }
}

fn refuse_unless(is_empty: bool, present: Present, what: &str) -> anyhow::Result<()> {
    match present {
        Present::Refuse if !is_empty => anyhow::bail!(
            "{what} has migrations, tokens or agents in it: take a backup of it, then say --replace"
        ),
        Present::Refuse | Present::Replace => Ok(()),
    }
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
