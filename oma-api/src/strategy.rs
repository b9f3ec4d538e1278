//! How a disk is brought up to date next. Pure.

use crate::store::Disk;
use shared::cycle::Strategy;

/// A source without change ids, and one whose ids are not to be trusted, is compared, and so is an adopted replica; any
/// other first cycle takes all.
pub fn of(disk: &Disk) -> Strategy {
    match (&disk.manifest, &disk.change_id) {
        (None, _) if disk.needs_hash_diff => Strategy::HashDiff,
        (None, _) => Strategy::Full,
        (Some(_), Some(since)) if !disk.needs_hash_diff => Strategy::Changed { since: since.clone() },
        (Some(_), _) => Strategy::HashDiff,
    }
}
