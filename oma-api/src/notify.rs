//! Sends the mails that the database has for whoever wants to hear of a failover.
//!
//! ```text
//!  a job's change ─ same transaction ─► failover_notices: due ─► SMTP relay ─► sent
//!                                          ▲      └ refused, silent ─► later (10 s … 10 min)
//!                                          └────────┘        a day later, or no such mailbox ─► given up, logged
//! ```
//!
//! Nothing waits for a mail: jobs are driven whether a relay answers or not. A mail is sent at least once; when this
//! program ends between the relay's answer and its note of it, twice, with the same Message-ID.

mod mail;
#[cfg(test)]
mod tests;

pub use mail::{Error, Mailer, Security, Settings};

use crate::clock::Clock;
use crate::store::{Delivery, DueNotice, Store};
use shared::error::chain;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Between looks for mails.
const PERIOD: Duration = Duration::from_secs(1);

/// Mails of a look.
const AT_ONCE: u32 = 16;

/// Between two attempts: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// For how long a mail is tried to be sent.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// See the module.
pub struct Notifier {
    store: Store,
    mailer: Mailer,
    clock: Clock,
}

impl Notifier {
    pub fn new(store: Store, mailer: Mailer, clock: Clock) -> Self {
        Self { store, mailer, clock }
    }

    /// Sends what is due, until `shutdown`. A mail under way then is sent again by the next run.
    pub async fn run(&self, shutdown: CancellationToken) {
        let send = async {
            loop {
                self.round().await;
                tokio::time::sleep(PERIOD).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = send => {}
        }
    }

    /// Once through those that are due.
    pub(crate) async fn round(&self) {
        let due = match self.store.notice_list_due(self.clock.now(), AT_ONCE).await {
            Ok(due) => due,
            Err(error) => return warn!(error = %chain(&error), "mails cannot be listed"),
        };
        for notice in due {
            let became = self.deliver(&notice).await;
            if let Err(error) = self.store.notice_tried(&notice, &became, self.clock.now()).await {
                warn!(workflow = %notice.job, error = %chain(&error), "what became of a mail cannot be recorded");
            }
        }
    }

    async fn deliver(&self, notice: &DueNotice) -> Delivery {
        let late = notice.created_at + PATIENCE;
        // Of a time without a relay, perhaps: nobody wants to hear of that now.
        if self.clock.now() > late {
            let error = "it could not be sent within 24 h".to_owned();
            error!(workflow = %notice.job, to = notice.to, "a mail about a failover is given up: {error}");
            return Delivery::GivenUp { error };
        }
        match self.mailer.send(notice).await {
            Ok(()) => {
                info!(workflow = %notice.job, to = notice.to, "mail about a failover sent");
                Delivery::Sent
            }
            Err(refused) if refused.is_final() => {
                let error = chain(&refused);
                error!(workflow = %notice.job, to = notice.to, error, "a mail about a failover is given up");
                Delivery::GivenUp { error }
            }
            Err(failed) => {
                let error = chain(&failed);
                warn!(workflow = %notice.job, to = notice.to, error, "a mail about a failover is sent again later");
                let doubled = u32::try_from(notice.attempts.min(16)).unwrap_or(16);
                let pause = PAUSE.0.saturating_mul(1 << doubled).min(PAUSE.1);
                Delivery::Later { at: self.clock.now() + pause, error }
            }
        }
    }
}
