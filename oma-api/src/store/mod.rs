//! The control plane's memory: the only place with SQL.
//!
//! ```text
//!  services, reconcilers ──► Store ──► one writing connection (BEGIN IMMEDIATE, one transaction a method)
//!                                 └──► reading connections (query_only)
//! ```
//!
//! A method is one transaction, and one that changes something returns only after its COMMIT. What a peer shows
//! of a migration changes together with a row in `events`, whose number is the sequence number of a watch.
//! Rows come back as domain types; a row that cannot be one is [`Error::Corrupt`], with table, id and column.
//!
//! It decides nothing about products: which action fits is [`shared::migration`]'s, what follows is the services'.
//! What it does hold is what only a transaction can: one unfinished migration a VM, one cycle a migration, the
//! order of epochs, the refusal of writers that were overtaken, and the commit of a cycle as a whole.
//!
//! Time is an argument (`now`) wherever a row gets one, so that tests and replays decide it.

mod agent;
mod checkpoint;
mod commit;
mod disk;
mod error;
mod event;
mod job;
mod job_change;
mod migration;
mod restore_point;
mod row;
mod schema;
mod url;
mod words;

#[cfg(test)]
mod tests;

pub use agent::{Agent, AgentHello};
pub use checkpoint::{CheckpointOf, Checkpoints};
pub use commit::{Committed, CycleCommit, DiskCommit};
pub use disk::{Arm, Disk, Manifest, NewDisk, VolumeContent};
pub use error::Error;
pub use event::Event;
pub use job::{Job, JobDisk, Progress};
pub use job_change::{JobStep, NewJob};
pub use migration::{Failure, Migration, NewMigration, Protection, Which};
pub use restore_point::{RestorePoint, RestorePointDisk};
pub use words::{CheckpointKind, JobKind, JobStatus, Wanted};

use error::Doing;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyPool, Connection as _, Transaction};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::watch;

/// How many readers may be at work at once.
const READERS: u32 = 4;

/// How long a statement waits for a connection before the store says that it is overloaded.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// A handle; clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    /// SQLite has one writer: one connection queues them fairly, where several would meet in SQLITE_BUSY.
    write: AnyPool,
    read: AnyPool,
    changes: watch::Sender<u64>,
}

/// The file whose lock says that a control plane uses the database.
///
/// # Errors
/// [`Error::Url`].
pub fn lock_file(database_url: &str) -> Result<PathBuf, Error> {
    Ok(PathBuf::from(format!("{}.lock", url::sqlite_file(database_url)?.shown)))
}

impl Store {
    /// Opens the database; makes the file when it is missing, never the folder. Does not touch the schema:
    /// call [`migrate`](Self::migrate) next.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::NoFolder`], [`Error::Connect`].
    pub async fn connect(database_url: &str) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let file = url::sqlite_file(database_url)?;
        let failed = |source| Error::Connect { url: file.shown.clone(), source };
        let options = AnyConnectOptions::from_str(&file.url).map_err(failed)?;
        // A pool retries until its patience ends; one plain connection says at once what is wrong with the file.
        let mut probe = sqlx::AnyConnection::connect_with(&options).await.map_err(failed)?;
        set_up(&mut probe, WRITER).await.map_err(failed)?;
        probe.close().await.map_err(failed)?;
        let pool = || {
            AnyPoolOptions::new()
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .before_acquire(|c, _| Box::pin(is_idle(c)))
        };
        let write = pool()
            .max_connections(1)
            .after_connect(|c, _| Box::pin(async move { set_up(c, WRITER).await }))
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        let read = pool()
            .max_connections(READERS)
            .after_connect(|c, _| Box::pin(async move { set_up(c, READER).await }))
            .connect_with(options)
            .await
            .map_err(failed)?;
        Ok(Self { write, read, changes: watch::Sender::new(0) })
    }

    /// Brings the schema up to date. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Schema`]: among others, when a newer version of the program has been here.
    pub async fn migrate(&self) -> Result<(), Error> {
        schema::up(&self.write).await?;
        let last = self.event_last().await?;
        self.changes.send_replace(last);
        Ok(())
    }

    /// Takes the schema back to `version` (0: nothing is left, rows included).
    ///
    /// # Errors
    /// [`Error::Schema`].
    pub async fn migrate_down(&self, version: i64) -> Result<(), Error> {
        schema::down(&self.write, version).await
    }

    /// The number of the newest event; woken after each commit that wrote one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Waits for what is running, then closes the file.
    pub async fn close(&self) {
        self.write.close().await;
        self.read.close().await;
    }

    /// Opens the one writing transaction; dropped without [`Write::commit`], it leaves nothing.
    async fn write(&self) -> Result<Write, Error> {
        // IMMEDIATE: the write lock is taken before the first read, so nothing read can be stale when written.
        let tx = self.write.begin_with("BEGIN IMMEDIATE").await.doing("opening a transaction")?;
        Ok(Write { tx, changes: self.changes.clone(), event: None })
    }
}

/// A writing transaction.
struct Write {
    tx: Transaction<'static, Any>,
    changes: watch::Sender<u64>,
    event: Option<u64>,
}

impl Write {
    async fn commit(self) -> Result<(), Error> {
        self.tx.commit().await.doing("committing")?;
        if let Some(seq) = self.event {
            self.changes.send_if_modified(|last| {
                let newer = seq > *last;
                *last = seq.max(*last);
                newer
            });
        }
        Ok(())
    }
}

/// A full disk makes SQLite roll back by itself; the driver goes on counting the transaction as open, and would refuse
/// every other for ever. Such a connection is replaced.
async fn is_idle(connection: &mut sqlx::AnyConnection) -> Result<bool, sqlx::Error> {
    // A rollback may still be queued: the answer comes after it.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// FULL: a COMMIT that returned survives a power cut; WAL alone would only survive a crash of the program.
const WRITER: &[&str] = &[
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 10000",
];
const READER: &[&str] = &["PRAGMA busy_timeout = 10000", "PRAGMA query_only = ON"];

async fn set_up(connection: &mut sqlx::AnyConnection, pragmas: &[&'static str]) -> Result<(), sqlx::Error> {
    for &pragma in pragmas {
        sqlx::query(pragma).execute(&mut *connection).await?;
    }
    Ok(())
}
