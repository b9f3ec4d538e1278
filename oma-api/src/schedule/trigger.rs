//! What makes a cycle due: an interval, or a cron expression in a time zone.

use super::Error;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::Duration;

/// Seconds: a year. Nobody means more, and no sum of times overflows.
pub(super) const LONGEST: u64 = 366 * 86_400;

/// How late a cycle may start without the interval's next times moving with it. Else two could be closer than that
/// to each other; and without it each would be a bit later in the hour than the one before.
const LATE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, Debug)]
pub enum Trigger {
    Every(Duration),
    /// Where the clock is set forward over a time, it comes right after the gap; where an hour comes twice, a time in
    /// it comes once. Expressions with a `*` for minute or hour go by the time that passes (Vixie cron's rules).
    Cron(Box<Cron>, TimeZone),
}

impl Trigger {
    pub(super) fn every(seconds: u64) -> Result<Self, Error> {
        match (60..=LONGEST).contains(&seconds) {
            true => Ok(Self::Every(Duration::from_secs(seconds))),
            false => Err(Error::Every { asked: seconds }),
        }
    }

    pub(super) fn cron(asked: &str, zone: TimeZone) -> Result<Self, Error> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(asked).map_err(|why| {
            // It repeats what was asked.
            let why = why.to_string().trim_end_matches('.').escape_debug().to_string();
            Error::Cron { asked: asked.to_owned(), why }
        })?;
        let trigger = Self::Cron(Box::new(cron), zone);
        match trigger.next_after(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(trigger),
            None => Err(Error::CronNever { asked: asked.to_owned() }),
        }
    }

    /// The first time after `at`, which is not before `anchor`.
    pub(super) fn next_after(&self, anchor: Timestamp, at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(every) => last_of(anchor, *every, at).checked_add(*every).ok(),
            Self::Cron(cron, zone) => {
                let next = cron.find_next_occurrence(&at.to_zoned(zone.clone()), false).ok()?;
                Some(next.timestamp()).filter(|next| *next > at)
            }
        }
    }

    pub(super) fn dealt_with(&self, anchor: Timestamp, now: Timestamp) -> Timestamp {
        match self {
            Self::Every(every) => {
                let last = last_of(anchor, *every, now);
                let late = Duration::try_from(now.duration_since(last)).unwrap_or_default();
                if late <= LATE { last } else { now }
            }
            Self::Cron(..) => now,
        }
    }
}

/// The last of the times `anchor`, `anchor` + `every`, … that is not after `at`; `anchor` if all are.
fn last_of(anchor: Timestamp, every: Duration, at: Timestamp) -> Timestamp {
    let passed = Duration::try_from(at.duration_since(anchor)).unwrap_or_default();
    let rest = passed.as_nanos() % every.as_nanos();
    let whole = passed.saturating_sub(Duration::from_nanos_u128(rest));
    anchor.checked_add(whole).unwrap_or(anchor)
}
