//! Which restore points are kept: so many, and none that is too old. Pure.
//!
//! The newest one always is: it is what the next cycle, and a switch, start from. What a failover needs is not known here;
//! the store does not give it away (`Store::restore_point_delete`).

use crate::store::RestorePoint;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use shared::config::Period;
use std::fmt;
use std::num::NonZeroU32;

/// What `[restore_points]` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Of each migration.
    pub count: NonZeroU32,
    /// By the time that their data is of; `None`: as old as they get.
    pub max_age: Option<Period>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { count: const { NonZeroU32::new(2).expect("not 0") }, max_age: None }
    }
}

impl Retention {
    /// What was taken before goes, but for the newest. `None`: nothing does for its age.
    pub fn oldest(&self, now: Timestamp) -> Option<Timestamp> {
        now.checked_sub(SignedDuration::try_from(self.max_age?.0).ok()?).ok()
    }

    /// Those that go, oldest first, of all that a migration has, in the order of their commits.
    pub fn surplus(&self, mut points: Vec<RestorePoint>, now: Timestamp) -> Vec<RestorePoint> {
        let newest = points.pop();
        let count = usize::try_from(self.count.get()).unwrap_or(usize::MAX);
        let beyond = (points.len() + usize::from(newest.is_some())).saturating_sub(count);
        let oldest = self.oldest(now);
        let too_old = |p: &RestorePoint| oldest.is_some_and(|oldest| p.taken_at < oldest);
        let goes = points.into_iter().enumerate().filter(|(n, p)| *n < beyond || too_old(p));
        goes.map(|(_, point)| point).collect()
    }
}

/// For people, after "kept are".
impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count.get() {
            1 => f.write_str("the newest")?,
            count => write!(f, "the newest {count}")?,
        }
        match (self.count.get(), self.max_age) {
            (2.., Some(age)) => write!(f, ", none but the last older than {age}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::ids::{JobId, MigrationId, RestorePointId};

    fn keeps(count: u32, max_age: Option<&str>) -> Retention {
        let max_age = max_age.map(|age| age.parse().expect("a span"));
        Retention { count: count.try_into().expect("not 0"), max_age }
    }

    /// Their data is of that many seconds after the epoch.
    fn points(taken: &[i64]) -> Vec<RestorePoint> {
        let point = |(n, taken): (usize, &i64)| RestorePoint {
            id: RestorePointId::generate(),
            migration: MigrationId::generate(),
            job: JobId::parse("job-20261121-125644").expect("an id"),
            snapshot_name: format!("rp-{n}"),
            taken_at: Timestamp::from_second(*taken).expect("a time"),
            committed_at: Timestamp::from_second(*taken).expect("a time"),
            disks: vec![],
        };
        taken.iter().enumerate().map(point).collect()
    }

    fn gone(retention: Retention, taken: &[i64], now: i64) -> Vec<String> {
        let now = Timestamp::from_second(now).expect("a time");
        retention.surplus(points(taken), now).into_iter().map(|p| p.snapshot_name).collect()
    }

    #[test]
    fn the_oldest_beyond_the_count_go_and_those_that_are_too_old() {
        assert_eq!(gone(Retention::default(), &[1, 2, 3, 4], 1 << 30), ["rp-0", "rp-1"]);
        assert_eq!(gone(Retention::default(), &[1, 2], 1 << 30), [""; 0]);
        assert_eq!(gone(Retention::default(), &[], 5), [""; 0]);
        assert_eq!(gone(keeps(1, None), &[1, 2], 3), ["rp-0"]);
        assert_eq!(gone(keeps(9, Some("1m")), &[0, 40, 100], 100), ["rp-0"]);
        assert_eq!(gone(keeps(2, Some("1m")), &[0, 40, 100], 101), ["rp-0", "rp-1"]);
        // The newest stays, however old; one whose clock was ahead is not old.
        assert_eq!(gone(keeps(2, Some("1m")), &[0, 1], 1 << 30), ["rp-0"]);
        assert_eq!(gone(keeps(2, Some("1m")), &[900, 1], 100), [""; 0]);
    }

    #[test]
    fn it_is_said_in_words() {
        for (retention, says) in [
            (Retention::default(), "the newest 2"),
            (keeps(1, Some("1d")), "the newest"),
            (keeps(5, Some("36h")), "the newest 5, none but the last older than 1d12h"),
        ] {
            assert_eq!(retention.to_string(), says);
        }
    }

    proptest! {
        #[test]
        fn the_newest_stays_and_the_rest_keeps_to_the_rule(
            taken in proptest::collection::vec(0i64..1000, 0..9), count in 1u32..5, age in proptest::option::of(1u32..500)
        ) {
            let retention = Retention { count: count.try_into().expect("not 0"), max_age: age.map(Period::seconds) };
            let gone = gone(retention, &taken, 1000);
            let stays: Vec<_> = (0..taken.len()).filter(|n| !gone.contains(&format!("rp-{n}"))).collect();
            prop_assert!(gone.is_sorted());
            prop_assert!(stays.len() <= count as usize);
            prop_assert!(taken.is_empty() || stays.last() == Some(&(taken.len() - 1)));
            let old = |n: &usize| age.is_some_and(|age| 1000 - taken[*n] > i64::from(age));
            prop_assert!(stays.iter().rev().skip(1).all(|n| !old(n)), "{stays:?}");
            // And nothing goes without a reason.
            for n in 0..taken.len().saturating_sub(1) {
                let beyond = n + (count as usize) < taken.len();
                prop_assert_eq!(gone.contains(&format!("rp-{n}")), beyond || old(&n));
            }
        }
    }
}
