//! A window of the week: days, from–to in local time, a zone. It may cross midnight; its day is that on which it opens.

use super::{Error, zone};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// See the module.
#[derive(Clone, Debug)]
pub struct Window {
    /// By their offset from Monday.
    days: [bool; 7],
    from: Time,
    /// `None`: the end of the day.
    to: Option<Time>,
    zone: TimeZone,
}

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Window {
    /// `mon-fri 08:00-18:00`, `sat,sun 22:00-06:00 Europe/Berlin`, `daily 00:00-24:00`. A window whose ends are the same
    /// is a whole day.
    pub(super) fn parse(text: &str, default: &TimeZone) -> Result<Self, Error> {
        let wrong = |why| Error::Window { asked: text.to_owned(), why };
        let mut words = text.split_whitespace();
        let (Some(days), Some(hours)) = (words.next(), words.next()) else {
            return Err(wrong("days and hours are missing"));
        };
        let days = parse_days(days)
            .ok_or_else(|| wrong("the days are none (mon tue wed thu fri sat sun, daily)"))?;
        let (from, to) = hours.split_once('-').ok_or_else(|| wrong("the hours need a from and a to"))?;
        let from =
            parse_time(from).ok_or_else(|| wrong("it opens at no time of the day (00:00 to 23:59)"))?;
        let to = match to {
            "24:00" => None,
            to => Some(
                parse_time(to).ok_or_else(|| wrong("it closes at no time of the day (00:00 to 24:00)"))?,
            ),
        };
        let zone = match words.next() {
            Some(name) => zone(name)?,
            None => default.clone(),
        };
        match words.next() {
            Some(_) => Err(wrong("there is something behind the time zone")),
            None => Ok(Self { days, from, to, zone }),
        }
    }

    /// When it closes, if `at` is in it.
    pub(super) fn end_at(&self, at: Timestamp) -> Option<Timestamp> {
        let today = at.to_zoned(self.zone.clone()).date();
        // Of tomorrow too: where the clock is set back over midnight, a window of tomorrow opens today.
        let days = [today.yesterday().ok(), Some(today), today.tomorrow().ok()];
        let open = days.into_iter().flatten().filter_map(|day| self.on(day));
        open.filter(|(start, end)| *start <= at && at < *end).map(|(_, end)| end).max()
    }

    /// The window of that day. Where a clock that is set makes an end ambiguous, it is the wider one.
    fn on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days[usize::try_from(day.weekday().to_monday_zero_offset()).ok()?] {
            return None;
        }
        let (end_day, to) = match self.to {
            Some(to) if to > self.from => (day, to),
            Some(to) => (day.tomorrow().ok()?, to),
            None => (day.tomorrow().ok()?, Time::midnight()),
        };
        let start = self.zone.to_ambiguous_timestamp(day.to_datetime(self.from)).earlier().ok()?;
        let end = self.zone.to_ambiguous_timestamp(end_day.to_datetime(to)).later().ok()?;
        Some((start, end))
    }
}

/// The first moment from `at` on that is in none of them; `None`: there is none for a year. Windows of two zones may leave
/// an hour in winter and none from spring to autumn.
pub(super) fn end_of_all(windows: &[Window], at: Timestamp) -> Option<Timestamp> {
    let most = at.checked_add((400 * 24).hours()).ok()?;
    let mut free = at;
    while free < most {
        match windows.iter().filter_map(|window| window.end_at(free)).max() {
            None => return Some(free),
            Some(end) => free = end,
        }
    }
    None
}

fn parse_days(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    if matches!(text, "daily" | "*") {
        return Some([true; 7]);
    }
    let index = |name: &str| NAMES.iter().position(|n| n.eq_ignore_ascii_case(name));
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (index(first)?, index(last)?);
        // fri-mon goes over the end of the week.
        loop {
            days[day] = true;
            if day == last {
                break;
            }
            day = (day + 1) % 7;
        }
    }
    Some(days)
}

fn parse_time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |digits: &str| {
        (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()))
            .then(|| digits.parse().ok())
            .flatten()
    };
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}
