//! Between rows and domain types.

use super::Error;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use shared::cycle::{DiskProgress, Finding, FindingKind, Strategy};
use shared::vm::Configuration;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Row as _};
use std::fmt::Display;
use std::str::FromStr;

/// A statement; the text is a literal, values are bound.
pub(super) fn sql<'q>(text: &'static str) -> Query<'q, Any, AnyArguments> {
    sqlx::query(text)
}

/// Most values of one list in a statement: the databases take more.
pub(super) const MOST_AMONG: usize = 500;

/// A statement with a list of values, which are bound: `before (?, ?, …) after`. At most [`MOST_AMONG`] of them.
pub(super) fn among<'v>(
    before: &'static str,
    values: impl IntoIterator<Item = &'v str>,
    after: &'static str,
) -> Query<'static, Any, AnyArguments> {
    let values: Vec<_> = values.into_iter().collect();
    let marks = vec!["?"; values.len()].join(", ");
    // Of literals and question marks only.
    let query = sqlx::query(sqlx::AssertSqlSafe(format!("{before} ({marks}) {after}")));
    values.into_iter().fold(query, |query, value| query.bind(value.to_owned()))
}

/// Binds a disk's counters in the order in which the statements that store them name them: planned, done, read, wire,
/// data, resumed.
pub(super) fn counted<'q>(
    query: Query<'q, Any, AnyArguments>,
    disk: &DiskProgress,
) -> Query<'q, Any, AnyArguments> {
    let counters = [disk.planned, disk.done, disk.read, disk.wire, disk.data, disk.resumed];
    counters.into_iter().fold(query, |query, bytes| query.bind(shown(bytes)))
}

/// A row and its name, so that what is wrong with it can be said.
pub(super) struct Row<'r> {
    row: &'r AnyRow,
    table: &'static str,
    id: String,
}

impl<'r> Row<'r> {
    /// A row whose identity is in column `id_column`.
    pub(super) fn new(row: &'r AnyRow, table: &'static str, id_column: &'static str) -> Result<Self, Error> {
        let mut this = Self { row, table, id: String::from("(unknown id)") };
        this.id = this.text(id_column)?;
        Ok(this)
    }

    pub(super) fn corrupt(&self, column: &'static str, why: impl Display) -> Error {
        Error::Corrupt { table: self.table, id: self.id.clone(), column, why: why.to_string() }
    }

    fn get<T>(&self, column: &'static str) -> Result<T, Error>
    where
        T: sqlx::Decode<'r, Any> + sqlx::Type<Any>,
    {
        self.row.try_get(column).map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn text(&self, column: &'static str) -> Result<String, Error> {
        self.get(column)
    }

    pub(super) fn opt_text(&self, column: &'static str) -> Result<Option<String>, Error> {
        self.get(column)
    }

    pub(super) fn blob(&self, column: &'static str) -> Result<Vec<u8>, Error> {
        self.get(column)
    }

    pub(super) fn opt_blob(&self, column: &'static str) -> Result<Option<Vec<u8>>, Error> {
        self.get(column)
    }

    pub(super) fn double(&self, column: &'static str) -> Result<f64, Error> {
        self.get(column)
    }

    /// A count or a number of bytes.
    pub(super) fn count(&self, column: &'static str) -> Result<u64, Error> {
        let value: i64 = self.get(column)?;
        u64::try_from(value).map_err(|_| self.corrupt(column, format_args!("{value} is negative")))
    }

    pub(super) fn opt_count(&self, column: &'static str) -> Result<Option<u64>, Error> {
        let value: Option<i64> = self.get(column)?;
        value
            .map(|v| u64::try_from(v).map_err(|_| self.corrupt(column, format_args!("{v} is negative"))))
            .transpose()
    }

    pub(super) fn flag(&self, column: &'static str) -> Result<bool, Error> {
        match self.get::<i64>(column)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.corrupt(column, format_args!("{other} is neither 0 nor 1"))),
        }
    }

    /// An id, a word or a time: anything with one spelling.
    pub(super) fn parsed<T>(&self, column: &'static str) -> Result<T, Error>
    where
        T: FromStr<Err: Display>,
    {
        self.text(column)?.parse().map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn opt_parsed<T>(&self, column: &'static str) -> Result<Option<T>, Error>
    where
        T: FromStr<Err: Display>,
    {
        self.opt_text(column)?.map(|text| text.parse().map_err(|e| self.corrupt(column, e))).transpose()
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, Error> {
        parse_time(&self.text(column)?).map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn opt_time(&self, column: &'static str) -> Result<Option<Timestamp>, Error> {
        self.opt_text(column)?.map(|text| parse_time(&text).map_err(|e| self.corrupt(column, e))).transpose()
    }

    /// A word and, where the word needs one, a change id.
    pub(super) fn strategy(&self, column: &'static str, since: &'static str) -> Result<Strategy, Error> {
        match (self.text(column)?.as_str(), self.opt_text(since)?) {
            ("full", _) => Ok(Strategy::Full),
            ("hash_diff", _) => Ok(Strategy::HashDiff),
            ("changed", Some(since)) => Ok(Strategy::Changed { since }),
            ("changed", None) => Err(self.corrupt(since, "the strategy changed needs one")),
            (other, _) => {
                Err(self.corrupt(column, format_args!("{other:?} is none of full changed hash_diff")))
            }
        }
    }

    /// A VM's configuration. One of a newer version is read as far as it is known.
    pub(super) fn configuration(&self, column: &'static str) -> Result<Option<Configuration>, Error> {
        let text = self.opt_text(column)?;
        text.map(|t| serde_json::from_str(&t).map_err(|e| self.corrupt(column, e))).transpose()
    }

    pub(super) fn findings(&self, column: &'static str) -> Result<Vec<Finding>, Error> {
        let list: Vec<StoredFinding> =
            serde_json::from_str(&self.text(column)?).map_err(|e| self.corrupt(column, e))?;
        list.into_iter()
            .map(|f| {
                let disk = f.disk_key.map(|k| k.parse().map_err(|e| self.corrupt(column, e))).transpose()?;
                Ok(Finding { kind: finding_kind(&f.kind), disk, message: f.message })
            })
            .collect()
    }
}

/// The two columns of a strategy.
pub(super) fn strategy_columns(strategy: &Strategy) -> (&'static str, Option<&str>) {
    match strategy {
        Strategy::Full => ("full", None),
        Strategy::Changed { since } => ("changed", Some(since)),
        Strategy::HashDiff => ("hash_diff", None),
    }
}

/// RFC 3339, UTC, always six decimals: 27 characters that sort as the times do.
pub(super) fn time(at: Timestamp) -> String {
    format!("{at:.6}")
}

pub(super) fn opt_time(at: Option<Timestamp>) -> Option<String> {
    at.map(time)
}

/// The store's own spelling, and what `NOW()` leaves when somebody writes by hand (`2026-11-21 12:55:46`), which is taken
/// for UTC.
fn parse_time(text: &str) -> Result<Timestamp, jiff::Error> {
    match text.as_bytes().get(10) {
        Some(b' ') => Ok(text.parse::<DateTime>()?.to_zoned(TimeZone::UTC)?.timestamp()),
        Some(_) | None => text.parse(),
    }
}

/// The time as it will come back from the database.
pub(super) fn stored(at: Timestamp) -> Timestamp {
    time(at).parse().expect("the store's own spelling of a time is one")
}

/// A counter for people: one that no disk can have is shown as the most there is.
pub(super) fn shown(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) fn int(what: &'static str, value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::TooLarge { what, value })
}

pub(super) fn opt_int(what: &'static str, value: Option<u64>) -> Result<Option<i64>, Error> {
    value.map(|v| int(what, v)).transpose()
}

pub(super) fn flag(value: bool) -> i64 {
    i64::from(value)
}

#[derive(serde::Serialize, serde::Deserialize)]
struct StoredFinding {
    kind: String,
    disk_key: Option<String>,
    message: String,
}

pub(super) fn findings_json(findings: &[Finding]) -> String {
    let list: Vec<_> = findings
        .iter()
        .map(|f| StoredFinding {
            kind: f.kind.as_str().to_owned(),
            disk_key: f.disk.clone().map(String::from),
            message: f.message.clone(),
        })
        .collect();
    serde_json::to_string(&list).expect("strings and lists have a JSON form")
}

/// A word of a newer version is kept as unknown, which is never success.
fn finding_kind(word: &str) -> FindingKind {
    use FindingKind as K;
    let known = [
        K::DiskAdded,
        K::DiskRemoved,
        K::DiskResized,
        K::ChangeIdUnknown,
        K::ChangeQueryRefused,
        K::NoChangeTracking,
        K::VmUnknown,
        K::SnapshotLost,
    ];
    known.into_iter().find(|k| k.as_str() == word).unwrap_or(K::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_have_one_width() {
        assert_eq!(
            time("2026-11-21T12:55:46.123456789Z".parse().expect("a time")),
            "2026-11-21T12:55:46.123456Z"
        );
        assert_eq!(time("2026-11-21T12:55:46Z".parse().expect("a time")), "2026-11-21T12:55:46.000000Z");
    }

    #[test]
    fn a_time_written_by_hand_is_taken_for_utc() {
        let at = |text: &str| parse_time(text).map(time).map_err(|e| e.to_string());
        assert_eq!(at("2025-09-05 15:26:15").as_deref(), Ok("2025-09-05T15:26:15.000000Z"));
        assert_eq!(at("2025-09-05 15:26:15.123456").as_deref(), Ok("2025-09-05T15:26:15.123456Z"));
        assert_eq!(at("2025-09-05T15:26:15.123456Z").as_deref(), Ok("2025-09-05T15:26:15.123456Z"));
        for wrong in
            ["yesterday", "2025-09-05", "2025-09-05 25:00:00", "0000-00-00 00:00:00", "2025-09-05T15:26:15"]
        {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn times_sort_as_text(a in 0i64..4_000_000_000_000_000, b in 0i64..4_000_000_000_000_000) {
            let at = |us| Timestamp::from_microsecond(us).expect("in range");
            prop_assert_eq!(time(at(a)).len(), 27);
            prop_assert_eq!(time(at(a)).cmp(&time(at(b))), a.cmp(&b));
            prop_assert_eq!(stored(at(a)), at(a));
        }
    }
}
