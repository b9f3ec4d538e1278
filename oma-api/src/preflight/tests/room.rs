//! Room: what counts, and what is not counted twice.

use super::fixture::{GIB, all_well, codes};
use super::*;
use crate::storage::PointCost;

fn facts(size: u64, free: u64, cost: PointCost, reserves: Vec<Reserve>) -> Facts {
    let mut facts = all_well();
    facts.vm.disks[0].size = size;
    facts.space = Space::Known { free, total: 100 * GIB, cost, points: 2, reserves };
    facts
}

fn room(facts: &Facts) -> Room {
    report(facts).room.expect("known")
}

#[test]
fn restore_points_count_by_what_they_take() {
    let shared = room(&facts(10 * GIB, 80 * GIB, PointCost::Shared, vec![]));
    assert_eq!((shared.needed_bytes, shared.left_bytes), (12 * GIB, 68 * GIB), "a tenth each");
    let whole = room(&facts(10 * GIB, 80 * GIB, PointCost::Whole, vec![]));
    assert_eq!((whole.needed_bytes, whole.left_bytes), (40 * GIB, 40 * GIB), "two, and the one that is made");
}

#[test]
fn what_others_have_reserved_is_not_there_and_what_they_wrote_counts_once() {
    let other = |done| vec![Reserve { size: 10 * GIB, done }];
    let untouched = room(&facts(10 * GIB, 80 * GIB, PointCost::Shared, other(0)));
    assert_eq!((untouched.reserved_bytes, untouched.left_bytes), (12 * GIB, 56 * GIB));
    // Half of it is written, so the target has that much less: the outcome is the same.
    let half = room(&facts(10 * GIB, 75 * GIB, PointCost::Shared, other(5 * GIB)));
    assert_eq!((half.reserved_bytes, half.left_bytes), (7 * GIB, 56 * GIB));
}

/// Of 100 GiB, whose percents are whole.
#[test]
fn the_two_lines_are_at_5_and_20_percent() {
    let hundredth = 100 * GIB / 100;
    for (left, code) in [
        (20 * hundredth, None),
        (20 * hundredth - 1, Some(Code::TargetRoomLow)),
        (5 * hundredth, Some(Code::TargetRoomLow)),
        (5 * hundredth - 1, Some(Code::TargetRoomShort)),
    ] {
        let facts = facts(10 * GIB, 12 * GIB + left, PointCost::Shared, vec![]);
        assert_eq!(codes(&facts), code.into_iter().collect::<Vec<_>>(), "{left}");
    }
}

/// Counters that no disk can have, and a target of no size, reach no panic and no sum that wraps.
#[test]
fn nonsense_is_no_room() {
    let reserves = vec![Reserve { size: u64::MAX, done: 0 }; 3];
    let mut none = facts(u64::MAX, u64::MAX, PointCost::Whole, reserves);
    assert!(codes(&none).contains(&Code::TargetRoomShort));
    none.space = super::fixture::space(0, 0);
    assert!(codes(&none).contains(&Code::TargetRoomShort));
    assert_eq!(room(&none).left_bytes, 0);
}

/// What it has reserved already is not wanted once more.
#[test]
fn a_vm_that_is_protected_is_not_counted_again() {
    let mut facts = facts(10 * GIB, 80 * GIB, PointCost::Shared, vec![Reserve { size: 10 * GIB, done: 0 }]);
    facts.unfinished = Some(Unfinished { id: super::fixture::id(1), position: Position::BeginPaused });
    assert_eq!((room(&facts).needed_bytes, room(&facts).reserved_bytes), (0, 12 * GIB));
}
