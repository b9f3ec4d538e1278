//! One control plane for one database of a server. (For a file, the kernel's lock on a file beside it does that.)
//!
//! ```text
//!  start ─► GET_LOCK on a connection of its own ─► asked after every few seconds ─┐
//!              │ another has it: refused                ▲                         │ lost
//!                                                       └── taken again ◄─────────┤
//!                                     another has it, or has had it: this one ends ┘
//! ```
//!
//! The lock keeps a second program from starting; it is the server's, and goes with the connection. What keeps two from
//! writing is the owner in the table `writer`, which every writing transaction asks for: between the loss of the lock
//! and its return the one that came last writes, and the other finds out at its next transaction. That is also all
//! there is on a Galera cluster, where a lock of one node is nothing to the others.

use super::dialect::{Dialect, Role};
use super::error::Doing as _;
use super::row::{Row, sql};
use super::{CONNECT_TIMEOUT, Error, Store, connection_number, set_up};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Between questions after the lock. The server drops the connection after 60 silent seconds.
const PERIOD: Duration = Duration::from_secs(5);

/// For how long a start waits for the end of a program that was killed.
const START: i64 = 5;

/// Between attempts to take the lock again.
const PAUSE: Duration = Duration::from_secs(1);

const TAKE: &str = "SELECT CAST(GET_LOCK(CONCAT('migratekit:', MD5(DATABASE())), ?) AS SIGNED)";
const HOLDER: &str = "SELECT CAST(IS_USED_LOCK(CONCAT('migratekit:', MD5(DATABASE()))) AS SIGNED)";

/// Held for as long as it lives.
#[derive(Debug)]
pub struct DatabaseClaim {
    store: Store,
    connection: AnyConnection,
    number: i64,
}

impl Store {
    /// Takes the database of a server for this program; `None` for a file, whose claim is on [`lock_file`](super::lock_file).
    ///
    /// # Errors
    /// [`Error::Taken`], [`Error::Connect`].
    pub async fn claim(&self) -> Result<Option<DatabaseClaim>, Error> {
        if self.dialect == Dialect::Sqlite {
            return Ok(None);
        }
        let (mut connection, number) = self.claim_connection().await?;
        match take(&mut connection, START).await? {
            true => Ok(Some(DatabaseClaim { store: self.clone(), connection, number })),
            false => {
                let holder = holder(&mut connection).await?;
                Err(Error::Taken { url: self.shown.to_string(), connection: holder })
            }
        }
    }

    async fn claim_connection(&self) -> Result<(AnyConnection, i64), Error> {
        let open = async {
            let mut connection = AnyConnection::connect_with(&self.options).await?;
            set_up(&mut connection, self.dialect, Role::Writer).await?;
            let number = connection_number(&mut connection).await?;
            Ok((connection, number))
        };
        let opened = timeout(CONNECT_TIMEOUT, open).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        opened.map_err(|source| Error::Connect { url: self.shown.to_string(), source })
    }
}

impl DatabaseClaim {
    /// Holds the claim until `shutdown`; takes it again when it was lost.
    ///
    /// # Errors
    /// [`Error::Overtaken`]: stop, another program has the database.
    pub async fn keep(self, shutdown: CancellationToken) -> Result<(), Error> {
        self.keep_every(PERIOD, shutdown).await
    }

    pub(super) async fn keep_every(
        mut self,
        period: Duration,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let mut overtaken = self.store.overtaken.subscribe();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                // Within a future of its own: what it gives is a lock on what it watches.
                true = async { overtaken.wait_for(|&taken| taken).await.is_ok() } => {
                    return Err(self.store.overtaken());
                }
                () = sleep(period) => {}
            }
            let held = timeout(CONNECT_TIMEOUT, holder(&mut self.connection)).await;
            let lost = match held {
                Ok(Ok(Some(number))) if number == self.number => continue,
                Ok(Ok(_)) => "the server gave it up".to_owned(),
                Ok(Err(error)) => shared::error::chain(&error),
                Err(_) => "the server does not answer".to_owned(),
            };
            warn!(database = %self.store.shown, why = lost, "the claim on the database was lost; it is taken again");
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                taken = self.take_again() => taken?,
            }
        }
    }

    async fn take_again(&mut self) -> Result<(), Error> {
        let mut told = false;
        loop {
            match self.try_again().await {
                Ok(()) => {
                    info!(database = %self.store.shown, "the claim on the database is held again");
                    return Ok(());
                }
                Err(fatal @ (Error::Overtaken { .. } | Error::Taken { .. })) => return Err(fatal),
                Err(error) if !told => {
                    error!(error = %shared::error::chain(&error), "the database does not answer; it is asked again");
                    told = true;
                }
                Err(_) => {}
            }
            sleep(PAUSE).await;
        }
    }

    async fn try_again(&mut self) -> Result<(), Error> {
        let (mut connection, number) = self.store.claim_connection().await?;
        let mut taken = take(&mut connection, 0).await?;
        if !taken && holder(&mut connection).await? == Some(self.number) {
            // Our own connection, which only the server still believes in.
            let kill = AssertSqlSafe(format!("KILL {}", self.number));
            let _ = sqlx::raw_sql(kill).execute(&mut connection).await;
            taken = take(&mut connection, 1).await?;
        }
        let row =
            sql("SELECT name, owner FROM writer WHERE name = 'writer'").fetch_one(&mut connection).await;
        let row = row.doing("reading who may write")?;
        if Row::new(&row, "writer", "name")?.text("owner")? != self.store.place.owner {
            return Err(self.store.overtaken());
        }
        if !taken {
            // It has the lock and is about to write its name.
            return Err(self.store.overtaken());
        }
        self.connection = connection;
        self.number = number;
        Ok(())
    }
}

/// `seconds`: how long to wait for it.
async fn take(connection: &mut AnyConnection, seconds: i64) -> Result<bool, Error> {
    let row = sql(TAKE).bind(seconds).fetch_one(connection).await.doing("claiming the database")?;
    let taken: Option<i64> = row.try_get(0).doing("claiming the database")?;
    Ok(taken == Some(1))
}

/// The number of the connection that has the lock.
async fn holder(connection: &mut AnyConnection) -> Result<Option<i64>, Error> {
    let row = sql(HOLDER).fetch_one(connection).await.doing("looking at the claim on the database")?;
    row.try_get(0).doing("looking at the claim on the database")
}
