//! One look at a machine, by its console, its network or the agent in it. Nothing of the guest is believed but that it is
//! there, and no look lasts longer than [`ANSWERS`].

use super::http;
use crate::compute::{Compute, Error, MachineName};
use crate::failover::request::Check;
use shared::error::chain;
use std::time::Duration;
use tokio::time::timeout;

/// The longest wait for a guest's answer. One that does not answer is asked again until its own time is over.
const ANSWERS: Duration = Duration::from_secs(5);

/// And the least, at the end of that time.
const LEAST: Duration = Duration::from_millis(500);

/// Bytes of the console that are read at once.
const PART: usize = 64 << 10;

/// What a look saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Ready,
    /// With what was there instead, where there is more to say.
    Not(Option<String>),
}

/// Looks at one machine for one thing.
pub(super) struct Looks<'a> {
    compute: &'a dyn Compute,
    name: &'a MachineName,
    check: &'a Check,
    /// Where the console was read up to.
    from: u64,
}

impl<'a> Looks<'a> {
    pub(super) fn new(compute: &'a dyn Compute, name: &'a MachineName, check: &'a Check) -> Self {
        Self { compute, name, check, from: 0 }
    }

    /// Whether it needs a network card.
    pub(super) fn by_network(&self) -> bool {
        matches!(self.check, Check::Tcp { .. } | Check::Http(_))
    }

    /// Looks once; `left` is what is left of the time that the machine has.
    ///
    /// # Errors
    /// The backend does not do what it should. What does not answer, or is overloaded, is no failure: it is asked again.
    pub(super) async fn once(&mut self, left: Duration) -> Result<Seen, Error> {
        let most = left.clamp(LEAST, ANSWERS);
        let looked = match self.check {
            // A file, read to its end: that takes as long as it takes.
            Check::Console { text } => return self.console(text).await,
            Check::Tcp { .. } | Check::Http(_) | Check::GuestAgent => timeout(most, self.ask()).await,
        };
        match looked {
            Err(_) if most == ANSWERS => Ok(Seen::Not(Some(format!("no answer within {most:?}")))),
            // Cut short: what was seen before says more.
            Err(_) => Ok(Seen::Not(None)),
            Ok(Err(error @ Error::Monitor { .. })) => Ok(Seen::Not(Some(chain(&error)))),
            Ok(seen) => seen,
        }
    }

    async fn ask(&self) -> Result<Seen, Error> {
        let ready = |ready| if ready { Seen::Ready } else { Seen::Not(None) };
        match self.check {
            Check::Console { .. } => Ok(Seen::Not(None)),
            Check::Tcp { port } => Ok(ready(self.compute.reach(self.name, *port).await?.is_some())),
            Check::Http(wanted) => match self.compute.reach(self.name, wanted.port).await? {
                None => Ok(Seen::Not(Some(format!("TCP port {} is not open", wanted.port)))),
                Some(at) => Ok(match http::get(at, wanted).await {
                    Ok(()) => Seen::Ready,
                    Err(why) => Seen::Not(Some(why)),
                }),
            },
            Check::GuestAgent => Ok(ready(self.compute.guest_agent(self.name).await?)),
        }
    }

    async fn console(&mut self, text: &str) -> Result<Seen, Error> {
        loop {
            let part = self.compute.console(self.name, self.from, PART).await?;
            if part.data.windows(text.len()).any(|window| window == text.as_bytes()) {
                return Ok(Seen::Ready);
            }
            let end = part.offset + part.data.len() as u64;
            // It may have begun at the end of this part.
            self.from = self.from.max(end.saturating_sub(text.len() as u64 - 1));
            if end >= part.end {
                return Ok(Seen::Not(None));
            }
        }
    }
}
