//! Writing transactions: one at a time, whole or not at all, and never of unknown outcome.
//!
//! ```text
//!  a method ──► slot (one writer) ──► BEGIN ─► UPDATE writer (lock, owner, token) ─► statements ─► COMMIT
//!     ▲                                 │                                              │       │ no answer
//!     │                                 ▼ deadlock, lock wait, lost connection         │       ▼
//!     └──────── again, whole ◄──────────┴──────────────────────────────────────────────┘   look the token up
//! ```
//!
//! SQLite: `BEGIN IMMEDIATE` takes the write lock before the first read. MariaDB and MySQL have no such word; there the
//! first statement changes the one row of `writer`, which
//! - takes that row's lock before the first read, so that what the transaction reads (at REPEATABLE READ, from then on)
//!   cannot be changed by another before it writes (DESIGN §6 rule 12);
//! - names the program by the `owner` it wrote at its start: one whose place was taken changes no row, and nothing else;
//! - leaves a token: after a COMMIT whose answer was lost, the row tells whether it was done. The slot is held until
//!   that is known, so that no other transaction of ours writes over it.
//!
//! A method's closure may run several times; it changes nothing but its transaction.

use super::dialect::Dialect;
use super::error::Doing as _;
use super::row::{Row, sql};
use super::{ACQUIRE_TIMEOUT, Error, Store, connection_number};
use prometheus::HistogramTimer;
use sqlx::{Any, AssertSqlSafe, Transaction};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, warn};

/// For how long a transaction is begun again that the database gave up.
const PATIENCE: Duration = Duration::from_secs(10);

/// For how long an answer is looked for that was lost.
const LOOK_UP: Duration = Duration::from_secs(60);

/// Connections that are remembered.
const REMEMBERED: usize = 16;

/// Between attempts: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// For how long the answer to a COMMIT is waited for: a machine that lost its power does not say so.
const ANSWER: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 20 });

/// For how long a transaction may run in all, its look-up included.
const LONGEST: Duration = Duration::from_secs(180);

/// Of a server's database: who we are there, and which connections wrote in our name.
#[derive(Debug)]
pub(super) struct Place {
    /// What the row of `writer` holds while the database is ours.
    pub(super) owner: String,
    /// The server's numbers of the connections that may still hold the row's lock.
    connections: Mutex<Vec<i64>>,
}

impl Place {
    pub(super) fn new() -> Self {
        Self { owner: uuid::Uuid::new_v4().to_string(), connections: Mutex::default() }
    }

    /// A connection for writing was opened.
    pub(super) fn opened(&self, connection: i64) {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == REMEMBERED {
            all.remove(0);
        }
        all.push(connection);
    }

    /// All of them; once.
    fn take(&self) -> Vec<i64> {
        std::mem::take(&mut *self.connections.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A writing transaction; dropped without [`commit`](Self::commit), it leaves nothing.
pub(super) struct Write {
    pub(super) tx: Transaction<'static, Any>,
    /// Of the newest event that was added.
    pub(super) event: Option<u64>,
    store: Store,
    token: Option<String>,
    /// Measures it.
    _running: HistogramTimer,
    /// Until the outcome is known.
    _slot: OwnedMutexGuard<()>,
}

impl Store {
    /// Runs one writing transaction, and again when the database gave it up for reasons that pass.
    pub(super) async fn write<T, Body, Running>(&self, body: Body) -> Result<T, Error>
    where
        Body: Fn(Write) -> Running,
        Running: Future<Output = Result<T, Error>>,
    {
        let end = Instant::now() + PATIENCE;
        let mut pause = PAUSE.0;
        loop {
            let result = match self.begin().await {
                Ok(write) => timeout(LONGEST, body(write)).await.unwrap_or_else(|_| {
                    let source = Err(silence()).doing("running a transaction");
                    source.map_err(|source| Error::InDoubt { source: Box::new(source) })
                }),
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.passes() && Instant::now() + pause < end => {
                    warn!(error = %shared::error::chain(&error), "a transaction is begun again");
                    sleep(pause).await;
                    pause = PAUSE.1.min(pause * 2);
                }
                result => return result,
            }
        }
    }

    async fn begin(&self) -> Result<Write, Error> {
        let waiting = self.meter.wait();
        let slot = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.slot).lock_owned()).await;
        drop(waiting);
        let slot = slot.map_err(|_| sqlx::Error::PoolTimedOut).doing("waiting for other transactions")?;
        let running = self.meter.run();
        let mut tx = self.write.begin_with(self.dialect.begin()).await.doing("opening a transaction")?;
        let token = match self.dialect {
            Dialect::Sqlite => None,
            Dialect::MariaDb => Some(self.enter(&mut tx).await?),
        };
        Ok(Write { tx, event: None, store: self.clone(), token, _running: running, _slot: slot })
    }

    /// The first statement of a transaction on a server.
    async fn enter(&self, tx: &mut Transaction<'static, Any>) -> Result<String, Error> {
        let token = uuid::Uuid::new_v4().to_string();
        let done = sql("UPDATE writer SET transaction_id = ? WHERE name = 'writer' AND owner = ?")
            .bind(token.as_str())
            .bind(self.place.owner.as_str())
            .execute(&mut **tx)
            .await;
        if matches!(&done, Err(error) if is_lock_wait(error)) {
            self.end_others(tx).await;
        }
        if done.doing("opening a transaction")?.rows_affected() == 0 {
            return Err(self.overtaken());
        }
        Ok(token)
    }

    /// Ends what the server keeps for connections that were lost on the way: they may hold the lock that we wait for. Of
    /// those that were not, none is in use but ours.
    async fn end_others(&self, tx: &mut Transaction<'static, Any>) {
        let Ok(ours) = connection_number(tx).await else { return };
        for connection in self.place.take().into_iter().filter(|c| *c != ours) {
            warn!(connection, "an earlier connection may hold a lock at the database server: ended");
            // It may have ended meanwhile.
            let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {connection}"))).execute(&mut **tx).await;
        }
    }

    /// Another program has the database: this one writes nothing more.
    pub(super) fn overtaken(&self) -> Error {
        self.overtaken.send_replace(true);
        Error::Overtaken { url: self.shown.to_string() }
    }

    /// Whether the transaction with this token was committed. The slot is held, so that only we could have written since.
    async fn was_committed(&self, token: &str) -> Result<bool, Error> {
        let end = Instant::now() + LOOK_UP;
        let mut pause = PAUSE.0;
        loop {
            match self.look_up(token).await {
                Err(source @ Error::Overtaken { .. }) => return Err(source),
                Err(source) if Instant::now() + pause >= end => {
                    error!(error = %shared::error::chain(&source), "whether a transaction was committed is not known");
                    return Err(Error::InDoubt { source: Box::new(source) });
                }
                Err(source) => {
                    warn!(error = %shared::error::chain(&source), "the outcome of a transaction is being looked for");
                    sleep(pause).await;
                    pause = PAUSE.1.min(pause * 2);
                }
                Ok(found) => {
                    warn!(committed = found, "the answer to a COMMIT was lost; its outcome was looked up");
                    return Ok(found);
                }
            }
        }
    }

    async fn look_up(&self, token: &str) -> Result<bool, Error> {
        const DOING: &str = "looking for the outcome of a transaction";
        let mut tx = self.write.begin_with(self.dialect.begin()).await.doing(DOING)?;
        // FOR UPDATE waits for a server that is still at it.
        let row = sql("SELECT name, owner, transaction_id FROM writer WHERE name = 'writer' FOR UPDATE")
            .fetch_one(&mut *tx)
            .await;
        if matches!(&row, Err(error) if is_lock_wait(error)) {
            self.end_others(&mut tx).await;
        }
        let row = row.doing(DOING)?;
        let row = Row::new(&row, "writer", "name")?;
        if row.text("owner")? != self.place.owner {
            return Err(self.overtaken());
        }
        let found = row.text("transaction_id")? == token;
        tx.rollback().await.doing(DOING)?;
        Ok(found)
    }
}

impl Write {
    /// Returns when the transaction is known to be done.
    ///
    /// # Errors
    /// When it was not done, [`Error::InDoubt`] excepted.
    pub(super) async fn commit(self) -> Result<(), Error> {
        let Self { tx, event, store, token, _running, _slot } = self;
        let answer = timeout(ANSWER, tx.commit()).await;
        if let Err(source) = answer.unwrap_or_else(|_| Err(silence())) {
            let rolled_back = is_given_up(&source);
            let error = Err(source).doing("committing");
            match token {
                Some(token) if !rolled_back => {
                    if !store.was_committed(&token).await? {
                        return error;
                    }
                }
                Some(_) | None => return error,
            }
        }
        if let Some(seq) = event {
            store.changes.send_if_modified(|last| {
                let newer = seq > *last;
                *last = seq.max(*last);
                newer
            });
        }
        Ok(())
    }
}

impl Error {
    /// Nothing was done, and the same again may succeed.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Database { source, .. } | Self::Unreachable { source, .. } => {
                is_given_up(source) || is_lost(source)
            }
            _ => false,
        }
    }
}

fn silence() -> sqlx::Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// The number of a server's error; SQLite's have none.
pub(super) fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?;
    Some(error.number())
}

/// A lock was waited for in vain.
fn is_lock_wait(error: &sqlx::Error) -> bool {
    number(error) == Some(1205)
}

/// The server took the transaction back: deadlock (on Galera: another node was first), lock wait, or a row that changed
/// under it (`innodb_snapshot_isolation`).
fn is_given_up(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(1213 | 1205 | 1020))
}

/// The connection, or the server at its other end, is gone: shutdown, killed, no node of a cluster's majority, or no
/// bytes any more.
fn is_lost(error: &sqlx::Error) -> bool {
    match number(error) {
        Some(number) => matches!(number, 1047 | 1053 | 1158..=1161 | 1317 | 1927 | 4031),
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_)),
    }
}
