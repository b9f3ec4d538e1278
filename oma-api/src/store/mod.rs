//! The control plane's memory: the only place with SQL.
//!
//! ```text
//!  services, reconcilers ──► Store ──► one writing connection (one transaction a method: see `transaction`)
//!                                 └──► reading connections (which cannot write)
//!                                        SQLite, or MariaDB/MySQL: what differs is in `dialect`
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

mod accept;
mod adopt;
mod agent;
mod attempt;
mod census;
mod checkpoint;
mod claim;
mod commit;
mod dialect;
mod disk;
mod dump;
mod error;
mod event;
mod failover;
mod history;
mod job;
mod job_change;
mod job_rows;
mod live;
mod load;
mod measured;
mod meter;
mod migration;
mod migration_list;
mod migration_page;
mod notice;
mod owned;
mod pool;
mod profile;
mod reading;
mod restore_point;
mod restored;
mod row;
mod schedule;
mod schema;
mod server;
mod shown;
mod system_pause;
mod token;
mod transaction;
mod url;
mod wishes;
mod words;
mod workflow;
mod workflow_ask;
mod workflow_change;

#[cfg(test)]
mod tests;

pub use accept::{Accepted, DiskChange, RetiredDisk};
pub use agent::{Agent, AgentHello};
pub use attempt::{Attempt, Attempted};
pub use census::{Active, Census, Unfinished};
pub use checkpoint::{CheckpointOf, Checkpoints};
pub use claim::DatabaseClaim;
pub use commit::{Committed, CycleCommit, DiskCommit};
pub use disk::{Arm, Disk, Manifest, NewDisk, VolumeContent, VolumeWork};
pub use dump::{Moment, Record, Value};
pub use error::Error;
pub use event::Event;
pub use failover::{FailoversOf, MOST_TESTS};
pub use history::HistoryEntry;
pub use job::{Job, JobDisk, Progress};
pub use job_change::{JobStep, NewJob};
pub use load::Load;
pub use measured::CyclesOf;
pub use migration::{Failure, Migration, NewMigration, Protection, Which};
pub use migration_page::PageOf;
pub use notice::{Delivery, DueNotice};
pub use owned::{Makes, Owned};
pub use profile::Profile;
pub use restore_point::{RestorePoint, RestorePointDisk};
pub use restored::{INTERRUPTED_BY_RESTORE, Restored};
pub use schedule::{ScheduleRow, Scheduled};
pub use schema::newest as newest_schema;
pub use shown::Shown;
pub use system_pause::SystemPause;
pub use token::TokenRow;
pub use wishes::{Automatic, LastAction, Wishes};
pub use words::{CheckpointKind, JobKind, JobStatus, Wanted};
pub use workflow_ask::Asked;

use dialect::{Dialect, Role};
use error::Doing as _;
use pool::{connection_number, set_up};
use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, AnyPool, Connection as _};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use transaction::{Place, Write};
use url::Location;

/// How many readers may be at work at once.
const READERS: u32 = 4;

/// Connections for writing, of which one is in use: a server's may be silent for a long time before it is known to be
/// lost, and keeps its place until then.
const WRITERS: u32 = 4;

/// How long a transaction waits for those before it before the store says that it is overloaded.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a server may take to accept a connection, being started included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle; clones share the connections.
#[derive(Clone)]
pub struct Store {
    dialect: Dialect,
    /// For people.
    shown: Arc<str>,
    /// For the driver.
    options: Arc<AnyConnectOptions>,
    /// One writer at a time, queued fairly.
    write: AnyPool,
    slot: Arc<Mutex<()>>,
    read: AnyPool,
    changes: watch::Sender<u64>,
    place: Arc<Place>,
    /// Set, for ever, when another program has taken the database.
    overtaken: watch::Sender<bool>,
    meter: meter::Meter,
}

/// The options hold the password.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("database", &self.shown).finish_non_exhaustive()
    }
}

/// The file whose lock says that a control plane uses the database; `None` for a server's, which is claimed by
/// [`Store::claim`]. Checks the URL as a whole.
///
/// # Errors
/// [`Error::Url`], [`Error::NoFolder`].
pub fn lock_file(database_url: &str) -> Result<Option<PathBuf>, Error> {
    Ok(match url::parse(database_url)? {
        Location::Sqlite(file) => Some(PathBuf::from(format!("{}.lock", file.shown))),
        Location::MariaDb(_) => None,
    })
}

/// The database where it is a file; `None` for a server's.
///
/// # Errors
/// As [`lock_file`].
pub fn database_file(database_url: &str) -> Result<Option<PathBuf>, Error> {
    Ok(match url::parse(database_url)? {
        Location::Sqlite(file) => Some(PathBuf::from(file.shown)),
        Location::MariaDb(_) => None,
    })
}

impl Store {
    /// Opens the database; makes the file when it is missing, never the folder, nor a server's database. Does not touch
    /// the schema: call [`claim`](Self::claim) and [`migrate`](Self::migrate) next.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::NoFolder`], [`Error::Connect`]; [`Error::Server`] when the server does not keep what it
    /// confirms.
    pub async fn connect(database_url: &str) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let (dialect, url, shown) = match url::parse(database_url)? {
            Location::Sqlite(file) => (Dialect::Sqlite, file.url, file.shown),
            Location::MariaDb(server) => (Dialect::MariaDb, server.url, server.shown),
        };
        let failed = |source| Error::Connect { url: shown.clone(), source };
        let options = AnyConnectOptions::from_str(&url).map_err(failed)?;
        // A pool retries until its patience ends; one plain connection says at once what is wrong.
        let probe = tokio::time::timeout(CONNECT_TIMEOUT, AnyConnection::connect_with(&options)).await;
        let mut probe = probe.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(failed)?;
        set_up(&mut probe, dialect, Role::Writer).await.map_err(failed)?;
        let mut galera = false;
        if dialect == Dialect::MariaDb {
            galera = server::look(&mut probe, &shown).await?.galera;
        }
        probe.close().await.map_err(failed)?;
        let place = Arc::new(Place::new());
        let pool = pool::Pools { dialect, galera, options: options.clone(), place: Arc::clone(&place) };
        let writers = if dialect == Dialect::Sqlite { 1 } else { WRITERS };
        let write = pool.open(Role::Writer, writers).await.map_err(failed)?;
        let read = pool.open(Role::Reader, READERS).await.map_err(failed)?;
        Ok(Self {
            dialect,
            shown: shown.into(),
            options: Arc::new(options),
            write,
            slot: Arc::default(),
            read,
            changes: watch::Sender::new(0),
            place,
            overtaken: watch::Sender::new(false),
            meter: meter::Meter::default(),
        })
    }

    /// Brings the schema up to date, and makes this store the one that may write. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Schema`]: among others, when a newer version of the program has been here.
    pub async fn migrate(&self) -> Result<(), Error> {
        schema::up(&self.write, self.dialect).await?;
        if self.dialect == Dialect::MariaDb {
            row::sql("UPDATE writer SET owner = ?, transaction_id = '' WHERE name = 'writer'")
                .bind(self.place.owner.as_str())
                .execute(&self.write)
                .await
                .doing("taking the database")?;
        }
        let last = self.event_last().await?;
        self.changes.send_replace(last);
        Ok(())
    }

    /// Takes the schema back to `version` (0: nothing is left, rows included).
    ///
    /// # Errors
    /// [`Error::Schema`].
    pub async fn migrate_down(&self, version: i64) -> Result<(), Error> {
        schema::down(&self.write, self.dialect, version).await
    }

    /// The number of the newest event; woken after each commit that wrote one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether [`close`](Self::close) was called: nothing can be stored any more, and nothing needs to be.
    pub fn is_closed(&self) -> bool {
        self.write.is_closed()
    }

    /// Waits for what is running, then closes the connections.
    pub async fn close(&self) {
        self.write.close().await;
        self.read.close().await;
    }
}
