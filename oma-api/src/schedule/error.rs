//! What cannot be a schedule.

use super::trigger::LONGEST;

/// What is wrong, why, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("an interval of {asked} s is none: between 60 s (1m) and {LONGEST} s (a year)")]
    Every { asked: u64 },
    #[error("an interval and a cron expression are two schedules: give one of them")]
    EveryAndCron,
    #[error(
        "{asked:?} is no cron expression: {why}; write five fields (minute hour day-of-month month day-of-week), such as \
         \"*/15 * * * *\" or \"0 22 * * mon-fri\""
    )]
    Cron { asked: String, why: String },
    #[error("{asked:?} never comes: no day of the calendar fits")]
    CronNever { asked: String },
    #[error("{asked:?} is no time zone: write its IANA name, such as Europe/Berlin or UTC")]
    Zone { asked: String },
    #[error(
        "{asked:?} is no window: {why}; write days and hours, such as \"mon-fri 08:00-18:00\" or \"daily 22:00-06:00\""
    )]
    Window { asked: String, why: &'static str },
    #[error("the blackout windows leave no minute of the year in which a cycle could start: leave some")]
    AlwaysBlackout,
    #[error(
        "blackout windows keep the schedule away, and there is none: give an interval or a cron expression too"
    )]
    BlackoutOfNothing,
    #[error(
        "{asked} bytes a second in {window:?} cannot be kept: at least 65536 (64 KiB), or 0 for no limit"
    )]
    Rate { window: String, asked: u64 },
    #[error("a recovery point objective of {asked} s is none: between 60 s (1m) and {LONGEST} s (a year)")]
    Rpo { asked: u64 },
    #[error(
        "nothing is scheduled: give an interval, a cron expression, a recovery point objective or a bandwidth"
    )]
    Empty,
}

impl Error {
    /// Upper snake case.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Every { .. } => "INTERVAL_INVALID",
            Self::EveryAndCron => "SCHEDULE_AMBIGUOUS",
            Self::Cron { .. } => "CRON_INVALID",
            Self::CronNever { .. } => "CRON_NEVER",
            Self::Zone { .. } => "TIME_ZONE_UNKNOWN",
            Self::Window { .. } => "WINDOW_INVALID",
            Self::AlwaysBlackout => "ALWAYS_BLACKOUT",
            Self::BlackoutOfNothing => "BLACKOUT_OF_NOTHING",
            Self::Rate { .. } => "RATE_TOO_LOW",
            Self::Rpo { .. } => "RPO_INVALID",
            Self::Empty => "SCHEDULE_EMPTY",
        }
    }
}
