//! When cycles start by themselves, when they must not, how fast they may be, and how old the last restore point may get.
//!
//! ```text
//!  Spec (what the operator wrote) ──parse──► Schedule ──► next_due, starts, blackout_end, rate_at, next_run
//!                                            rpo      ──► rpo::state
//! ```
//!
//! Pure: no clock and no IO. Everything is a function of `now` and of the *anchor*, the moment up to which the schedule's
//! times have been dealt with; the reconciler keeps it in the database. However many times lie between the anchor and
//! now, they are one cycle: what was missed in an outage, a hold or a blackout is made up once.

mod error;
pub mod rpo;
#[cfg(test)]
mod tests;
mod trigger;
mod window;

pub use error::Error;
pub use trigger::Trigger;
pub use window::Window;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// Bytes a second: below it a leaf takes more than a second.
const LOWEST_RATE: u64 = 64 << 10;

/// What the operator wrote; how it is stored, and what REST takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// Between the starts of two cycles, at least 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_seconds: Option<u64>,
    /// Five fields: minute, hour, day of the month, month, day of the week.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Of the cron expression and of all windows that name no other; an IANA name, empty: UTC.
    pub time_zone: String,
    /// Windows in which no cycle starts: `mon-fri 08:00-18:00`, with a time zone of its own behind it if need be.
    pub blackout: Vec<String>,
    pub blackout_running: BlackoutRunning,
    /// How old the last restore point may get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpo_seconds: Option<u64>,
    pub bandwidth: Vec<RateSpec>,
}

/// A rate by time of day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// As a blackout's.
    pub window: String,
    /// For all its disks together; 0: no limit.
    pub rate_bytes_per_second: u64,
}

/// What becomes of a cycle that runs when a blackout begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BlackoutRunning {
    /// It is let end.
    #[default]
    Finish,
    /// It stops at a durable point and goes on behind the blackout.
    Pause,
}

/// A checked [`Spec`].
#[derive(Clone, Debug)]
pub struct Schedule {
    trigger: Option<Trigger>,
    blackout: Vec<Window>,
    pub blackout_running: BlackoutRunning,
    bandwidth: Vec<(Window, u64)>,
    pub rpo: Option<Duration>,
}

/// 2026-01-01.
const A_NEW_YEAR: Timestamp = Timestamp::constant(1_767_225_600, 0);

impl Schedule {
    /// Checks all of it.
    ///
    /// # Errors
    /// What is wrong, why, and what to write instead.
    pub fn parse(spec: &Spec) -> Result<Self, Error> {
        let zone = zone(&spec.time_zone)?;
        let trigger = match (spec.every_seconds, spec.cron.as_deref()) {
            (Some(_), Some(_)) => return Err(Error::EveryAndCron),
            (Some(seconds), None) => Some(Trigger::every(seconds)?),
            (None, Some(cron)) => Some(Trigger::cron(cron, zone.clone())?),
            (None, None) => None,
        };
        let window = |text: &String| Window::parse(text, &zone);
        let blackout = spec.blackout.iter().map(window).collect::<Result<Vec<_>, _>>()?;
        let mut bandwidth = Vec::new();
        for RateSpec { window: text, rate_bytes_per_second: rate } in &spec.bandwidth {
            if (1..LOWEST_RATE).contains(rate) || i64::try_from(*rate).is_err() {
                return Err(Error::Rate { window: text.clone(), asked: *rate });
            }
            bandwidth.push((window(text)?, *rate));
        }
        let rpo = match spec.rpo_seconds {
            Some(seconds) if !(60..=trigger::LONGEST).contains(&seconds) => {
                return Err(Error::Rpo { asked: seconds });
            }
            rpo => rpo.map(Duration::from_secs),
        };
        if trigger.is_none() && rpo.is_none() && bandwidth.is_empty() {
            return Err(Error::Empty);
        }
        if trigger.is_none() && !blackout.is_empty() {
            return Err(Error::BlackoutOfNothing);
        }
        // A year of today's rules holds every window there is, and how they lie to each other where the clock is set.
        if window::end_of_all(&blackout, A_NEW_YEAR).is_none() {
            return Err(Error::AlwaysBlackout);
        }
        Ok(Self { trigger, blackout, blackout_running: spec.blackout_running, bandwidth, rpo })
    }

    /// The schedule's next time after both `anchor` and `now`, a blackout or not.
    fn next_time(&self, anchor: Timestamp, now: Timestamp) -> Option<Timestamp> {
        self.trigger.as_ref()?.next_after(anchor, anchor.max(now))
    }

    /// A time of the schedule has come that was not dealt with.
    pub fn is_due(&self, anchor: Timestamp, now: Timestamp) -> bool {
        let next = self.trigger.as_ref().and_then(|trigger| trigger.next_after(anchor, anchor));
        next.is_some_and(|next| next <= now)
    }

    /// A cycle may start now.
    pub fn starts(&self, anchor: Timestamp, now: Timestamp) -> bool {
        self.is_due(anchor, now) && !self.in_blackout(now)
    }

    /// The anchor once all times up to `now` are dealt with.
    pub fn dealt_with(&self, anchor: Timestamp, now: Timestamp) -> Timestamp {
        self.trigger.as_ref().map_or(now, |trigger| trigger.dealt_with(anchor, now))
    }

    /// The next start after `now` if what is due now starts now; never in a blackout.
    pub fn next_due(&self, anchor: Timestamp, now: Timestamp) -> Option<Timestamp> {
        window::end_of_all(&self.blackout, self.next_time(anchor, now)?)
    }

    /// When the next cycle starts: what is due starts now, or behind the blackout.
    pub fn next_run(&self, anchor: Timestamp, now: Timestamp) -> Option<Timestamp> {
        match self.is_due(anchor, now) {
            true => window::end_of_all(&self.blackout, now),
            false => self.next_due(anchor, now),
        }
    }

    /// The next `count` starts, if each begins in time.
    pub fn preview(&self, anchor: Timestamp, now: Timestamp, count: usize) -> Vec<Timestamp> {
        let mut at = (anchor, now);
        let mut found = Vec::new();
        while found.len() < count {
            let Some(next) = self.next_due(at.0, at.1) else { break };
            found.push(next);
            at = (self.dealt_with(at.0, next), next);
        }
        found
    }

    pub fn in_blackout(&self, now: Timestamp) -> bool {
        self.blackout.iter().any(|window| window.end_at(now).is_some())
    }

    /// When the blackout of `now` is over; `None` outside of one.
    pub fn blackout_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.in_blackout(now).then(|| window::end_of_all(&self.blackout, now)).flatten()
    }

    /// What the migration may take of the network now, bytes a second: the lowest rate of the windows that `now` is in,
    /// outside of them `own`. 0: no limit.
    pub fn rate_at(&self, now: Timestamp, own: u64) -> u64 {
        let open = self.bandwidth.iter().filter(|(window, _)| window.end_at(now).is_some());
        // 0 is the highest.
        open.map(|(_, rate)| *rate).min_by_key(|rate| rate.wrapping_sub(1)).unwrap_or(own)
    }
}

/// An IANA time zone.
fn zone(name: &str) -> Result<TimeZone, Error> {
    match name {
        "" => Ok(TimeZone::UTC),
        name => TimeZone::get(name).map_err(|_| Error::Zone { asked: name.to_owned() }),
    }
}

impl Spec {
    /// In one line, for people.
    pub fn text(&self) -> String {
        let period = |seconds| shared::config::Period(Duration::from_secs(seconds)).to_string();
        let mut parts = Vec::new();
        if let Some(every) = self.every_seconds {
            parts.push(format!("every {}", period(every)));
        }
        if let Some(cron) = &self.cron {
            let zone = if self.time_zone.is_empty() { "UTC" } else { &self.time_zone };
            parts.push(format!("cron {cron} ({zone})"));
        }
        if !self.blackout.is_empty() {
            parts.push(format!("not {}", self.blackout.join(", ")));
        }
        if let Some(rpo) = self.rpo_seconds {
            parts.push(format!("RPO {}", period(rpo)));
        }
        for RateSpec { window, rate_bytes_per_second: rate } in &self.bandwidth {
            parts.push(match rate {
                0 => format!("{window} without limit"),
                rate => format!("{window} at {}/s", shared::config::ByteSize(*rate)),
            });
        }
        parts.join("; ")
    }
}
