//! Reads, repeated when the connection to the database is lost under them.
//!
//! A read changes nothing, so it is simply done again, whole, on a fresh connection: a server that was restarted, a node or
//! a proxy that was changed, an administrator's KILL are nothing that a caller should hear of. One that stays away is: it
//! is waited for for a few seconds, not for longer than somebody waits for an answer.

use super::{Error, Store};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::debug;

/// Before the second try, the third, and so on.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(200), Duration::from_millis(1000)];

/// A try is not begun later than this after the first.
const LONGEST: Duration = Duration::from_secs(5);

impl Store {
    /// Runs a read, and again when its connection was lost. The closure takes a connection of the pool each time.
    pub(super) async fn reading<T, Body, Running>(&self, body: Body) -> Result<T, Error>
    where
        Body: Fn() -> Running,
        Running: Future<Output = Result<T, Error>>,
    {
        let end = Instant::now() + LONGEST;
        for pause in PAUSES {
            match body().await {
                Err(error) if error.passes() && Instant::now() + pause < end => {
                    debug!(error = %shared::error::chain(&error), "a read is done again");
                    sleep(pause).await;
                }
                result => return result,
            }
        }
        body().await
    }
}
