//! Whether the target has room for it.
//!
//! ```text
//!  left = free − what migrations that have begun may still write − what this one may write
//!  of one: size of its disks − what its running cycle has written + restore points
//! ```
//!
//! At worst a disk is full of data, so its whole size counts. A migration reserves that from begin until its first commit;
//! from then on what it took is in the target's free space, and is not counted again. A first copy that was begun anew
//! may write over what it had written: it counts twice then, for that time, which errs to the safe side. A restore point
//! costs nothing when it is taken where blocks are shared, and grows with what later cycles write: a tenth of the disks
//! each is assumed, for want of a measurement. Where nothing is shared each costs all of it, and a commit makes a new
//! one before it removes the oldest.

use super::{Code, Facts, Finding, Space};
use crate::storage::PointCost;
use serde::Serialize;
use shared::config::ByteSize;
use utoipa::ToSchema;

/// Percent of the whole that must, and that should, be free after the copy.
const LEAST: u64 = 5;
const ENOUGH: u64 = 20;

/// A restore point that shares blocks, in parts of the disks.
const SHARE: u64 = 10;

/// Bytes on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PreflightRoom)]
pub struct Room {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// That other migrations may still write, restore points included.
    pub reserved_bytes: u64,
    /// That this VM takes at worst, restore points included.
    pub needed_bytes: u64,
    /// Free after the copy; 0 also when it does not fit.
    pub left_bytes: u64,
}

/// At worst, what a replica of this size with its restore points still takes.
fn need(size: u64, done: u64, cost: PointCost, points: u64) -> u64 {
    let restore_points = match cost {
        PointCost::Shared => (size / SHARE).saturating_mul(points),
        PointCost::Whole => size.saturating_mul(points.saturating_add(1)),
    };
    size.saturating_sub(done).saturating_add(restore_points)
}

pub(super) fn look(facts: &Facts, found: &mut Vec<Finding>) -> Option<Room> {
    let (free, total, cost, points, reserves) = match &facts.space {
        Space::Known { free, total, cost, points, reserves } => (*free, *total, *cost, *points, reserves),
        Space::Unknown { why } => {
            let what = format!("the target does not say how much room it has: {why}");
            let action = "see to it that its storage answers; cycles stop by themselves when it gets full";
            found.push(Finding::new(Code::TargetRoomUnknown, "target", what, action));
            return None;
        }
    };
    let reserved = reserves.iter().map(|r| need(r.size, r.done, cost, points)).fold(0, u64::saturating_add);
    // What it has already is with the reserves: a VM that is protected would be counted twice.
    let needed = if facts.unfinished.is_some() { 0 } else { need(facts.size(), 0, cost, points) };
    let left = free.saturating_sub(reserved).saturating_sub(needed);
    let of = |percent: u64| (total / 100).saturating_mul(percent);
    let missing = reserved.saturating_add(needed).saturating_sub(free);
    let code = if left < of(LEAST) || missing > 0 {
        Some((Code::TargetRoomShort, LEAST))
    } else if left < of(ENOUGH) {
        Some((Code::TargetRoomLow, ENOUGH))
    } else {
        None
    };
    if let Some((code, percent)) = code {
        let kind = match cost {
            PointCost::Shared => "which share blocks with it",
            PointCost::Whole => "each a copy of its own",
        };
        let what = format!(
            "of {} on the target {} are free; {} are reserved for migrations whose first copy has not ended, this VM takes up to \
             {} with its restore points, {kind}, and {} would be left where {percent} % should stay free",
            mib(total),
            mib(free),
            mib(reserved),
            mib(needed),
            percent_of(left, total),
        );
        let action = "make room there, let others end first, or protect it elsewhere";
        found.push(Finding::new(code, "target", what, action));
    }
    let room = Room {
        total_bytes: total,
        free_bytes: free,
        reserved_bytes: reserved,
        needed_bytes: needed,
        left_bytes: left,
    };
    Some(room)
}

/// For people: a number of this size is not read to the byte.
fn mib(bytes: u64) -> String {
    match bytes >> 20 {
        0 => ByteSize(bytes).to_string(),
        mib => format!("{mib} MiB"),
    }
}

fn percent_of(part: u64, whole: u64) -> String {
    format!("{} %", u128::from(part) * 100 / u128::from(whole.max(1)))
}
