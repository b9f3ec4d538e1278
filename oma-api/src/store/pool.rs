//! The connections, and what makes one fit for the next who needs it.
//!
//! Whoever asked may go away at any moment: a request was cancelled, a watcher hung up. At a server the driver then does not
//! know what its connection still has to say: an answer that was half read, or one to the preparation of a statement, is taken
//! for the answer to what is asked next, or waited for, for ever. And a transaction that was being opened stays open: all that
//! is read in it later is of that moment. So a connection that comes back has to answer a question that was never asked
//! before, outside of any transaction and soon; one that does not is closed.

use super::dialect::{Dialect, Role};
use super::transaction::Place;
use super::{ACQUIRE_TIMEOUT, CONNECT_TIMEOUT};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection as _, Row as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use tracing::debug;

/// For how long a connection that came back keeps its place without an answer.
const ANSWER: Duration = Duration::from_secs(1);

/// What no connection was asked before.
static ASKED: AtomicU32 = AtomicU32::new(1);

/// Opens the pools of a store.
pub(super) struct Pools {
    pub(super) dialect: Dialect,
    pub(super) galera: bool,
    pub(super) options: AnyConnectOptions,
    pub(super) place: Arc<Place>,
}

impl Pools {
    pub(super) async fn open(&self, role: Role, connections: u32) -> Result<AnyPool, sqlx::Error> {
        let (dialect, galera, place) = (self.dialect, self.galera, Arc::clone(&self.place));
        AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(if dialect == Dialect::Sqlite { ACQUIRE_TIMEOUT } else { CONNECT_TIMEOUT })
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .before_acquire(|c, _| Box::pin(is_idle(c)))
            .after_release(move |c, _| {
                Box::pin(async move { Ok(dialect == Dialect::Sqlite || answers(c).await) })
            })
            .after_connect(move |c, _| {
                let place = Arc::clone(&place);
                Box::pin(async move {
                    set_up(c, dialect, role).await?;
                    if galera {
                        sqlx::raw_sql("SET SESSION wsrep_sync_wait = 1").execute(&mut *c).await?;
                    }
                    if (dialect, role) == (Dialect::MariaDb, Role::Writer) {
                        place.opened(connection_number(c).await?);
                    }
                    Ok(())
                })
            })
            .connect_with(self.options.clone())
            .await
    }
}

/// A full disk makes SQLite roll back by itself; the driver goes on counting the transaction as open, and would refuse
/// every other for ever. Such a connection is replaced, and one that a server has dropped.
async fn is_idle(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    // A rollback may still be queued: the answer comes after it.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// Whether a server's connection has nothing more to say, and is in no transaction.
async fn answers(connection: &mut AnyConnection) -> bool {
    let asked = ASKED.fetch_add(1, Ordering::Relaxed);
    let question = sqlx::raw_sql(AssertSqlSafe(format!("ROLLBACK; SELECT {asked}")));
    let fits = match timeout(ANSWER, question.fetch_all(connection)).await {
        Ok(Ok(rows)) => rows.len() == 1 && rows[0].try_get::<i64, _>(0).ok() == Some(i64::from(asked)),
        Ok(Err(_)) | Err(_) => false,
    };
    if !fits {
        debug!("a connection to the database that somebody gave up is closed");
    }
    fits
}

pub(super) async fn set_up(
    connection: &mut AnyConnection,
    dialect: Dialect,
    role: Role,
) -> Result<(), sqlx::Error> {
    for &statement in dialect.session(role) {
        sqlx::raw_sql(statement).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The server's number of a connection: what KILL takes.
pub(super) async fn connection_number(connection: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    // The function's own type is another one on MySQL.
    sqlx::query("SELECT CAST(CONNECTION_ID() AS SIGNED)").fetch_one(connection).await?.try_get(0)
}
