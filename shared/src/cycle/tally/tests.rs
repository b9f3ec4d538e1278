use super::*;
use proptest::prelude::*;

const SIZE: u64 = 1000;

/// Of the last attempt.
const EPOCH: Epoch = Epoch(9);

/// An attempt's words, in the order of the struct.
fn said(planned: u64, done: u64, data: u64, resumed: u64, plan_complete: bool) -> DiskProgress {
    DiskProgress {
        size: SIZE,
        planned,
        done,
        read: data,
        wire: data,
        data,
        resumed,
        plan_complete,
        ..DiskProgress::default()
    }
}

fn seen(tally: &Tally) -> (u64, u64, u64, u64, bool) {
    let DiskProgress { planned, done, data, wire, plan_complete, .. } = *tally.shown();
    (planned, done, data, wire, plan_complete)
}

/// A cut, a retry that finds less durable than was sent, a cut before anything was found, the end.
#[test]
fn what_is_sent_again_is_counted_once() {
    let mut tally = Tally::new(&DiskProgress { size: SIZE, ..DiskProgress::default() });
    for (said, expected) in [
        (said(0, 0, 0, 0, false), (0, 0, 0, 0, false)),
        (said(600, 300, 400, 0, false), (600, 300, 400, 400, false)),
        (said(800, 300, 420, 0, true), (800, 300, 420, 420, true)),
        // Cut: 120 bytes were under way.
        (said(0, 0, 0, 0, false), (800, 300, 420, 420, true)),
        (said(350, 300, 20, 300, false), (800, 300, 420, 440, true)),
        (said(800, 450, 150, 300, true), (800, 450, 450, 570, true)),
        // Cut at once, twice.
        (said(0, 0, 0, 0, false), (800, 450, 450, 570, true)),
        (said(0, 0, 0, 0, false), (800, 450, 450, 570, true)),
        (said(800, 800, 350, 450, true), (800, 800, 800, 920, true)),
    ] {
        tally.take(&said, SIZE);
        assert_eq!(seen(&tally), expected, "{said:?}");
    }
    let last = tally.last(Some(800), 450, 350, 450);
    assert_eq!(
        (last.planned, last.done, last.data, last.wire, last.resumed, last.plan_complete),
        (800, 800, 800, 920, 450, true)
    );
}

/// A plan that another way of bringing the disk up to date makes longer.
#[test]
fn a_plan_counts_until_it_is_made_again_or_passed() {
    let mut tally = Tally::new(&said(200, 200, 200, 0, true));
    tally.take(&said(200, 200, 0, 200, false), SIZE);
    assert_eq!(seen(&tally), (200, 200, 200, 200, true));
    tally.take(&said(201, 200, 0, 200, false), SIZE);
    assert_eq!(seen(&tally), (201, 200, 200, 200, false));
    tally.take(&said(900, 500, 0, 200, true), SIZE);
    assert_eq!(seen(&tally), (900, 500, 200, 200, true));
}

/// The report that would have told may be late, or lost.
#[test]
fn the_end_is_counted_whatever_was_reported_before() {
    let quiet = Tally::new(&DiskProgress { size: SIZE, ..DiskProgress::default() });
    let interrupted = Tally::new(&said(1000, 400, 450, 0, true));
    let mut retried = interrupted.clone();
    retried.take(&said(0, 0, 0, 0, false), SIZE);
    for (tally, durable, found, data, zero, expected) in [
        (&quiet, Some(700), 0, 600, 100, (700, 600, 0)),
        (&quiet, None, 0, 0, 1000, (1000, 0, 0)),
        // More than the disk has.
        (&quiet, None, u64::MAX, u64::MAX, u64::MAX, (1000, 1000, 1000)),
        // The attempt after the cut said nothing at all, or no more than that it began.
        (&interrupted, Some(1000), 400, 400, 600, (1000, 800, 400)),
        (&retried, Some(1000), 400, 600, 400, (1000, 1000, 400)),
        (&retried, Some(1000), 430, 500, 500, (1000, 930, 430)),
        // Nothing was durable: all is sent again.
        (&retried, Some(1000), 0, 900, 100, (1000, 900, 0)),
    ] {
        let mut tally = tally.clone();
        tally.begun(EPOCH);
        let last = tally.last(durable, found, data, zero);
        assert_eq!((last.planned, last.data, last.resumed), expected, "{tally:?} {found} {data} {zero}");
        assert_eq!((last.done, last.plan_complete, last.size), (last.planned, true, SIZE));
    }
}

/// The control plane was killed: of what the attempt before it had come to, the last second was not stored. The attempt after
/// it may count higher or lower than what is stored; it is a new one all the same, and the last word of the old one is none.
#[test]
fn an_attempt_is_known_by_its_epoch_and_not_by_its_numbers() {
    let of = |epoch: u64, said: DiskProgress| DiskProgress { epoch: Some(Epoch(epoch)), ..said };
    for (low, high) in [(30, 150), (250, 400)] {
        let mut tally = Tally::new(&said(1000, 200, 200, 0, true));
        tally.take(&of(3, said(1000, 220, low, 220, true)), SIZE);
        assert_eq!((tally.shown().data, tally.shown().wire), (200 + low, 200 + low));
        tally.take(&of(2, said(1000, 290, 290, 0, true)), SIZE);
        tally.take(&of(3, said(1000, 500, high, 220, true)), SIZE);
        assert_eq!((tally.shown().data, tally.shown().wire), (200 + high, 200 + high));
        // The one that finished it, of which nothing was heard.
        tally.begun(EPOCH);
        let last = tally.last(Some(1000), 600, 400, 0);
        assert_eq!((last.data, last.resumed), (tally.shown().data.min(600) + 400, 600));
    }
}

/// A disk that was sealed before its agent said a word.
#[test]
fn what_comes_after_the_seal_is_of_the_attempt_that_sealed() {
    let mut tally = Tally::new(&said(1000, 200, 200, 0, true));
    tally.begun(EPOCH);
    let last = tally.last(Some(1000), 200, 800, 0);
    assert_eq!((last.data, last.wire, last.resumed), (1000, 200, 200));
    tally.seal(&last);
    tally.take(&DiskProgress { epoch: Some(EPOCH), ..said(1000, 1000, 800, 200, true) }, SIZE);
    assert_eq!((tally.shown().data, tally.shown().wire), (1000, 1000));
    // Said to another process, in which the disk was sealed already.
    let mut tally = Tally::new(&last);
    tally.seal(&last);
    tally.take(&DiskProgress { epoch: Some(EPOCH), ..said(1000, 1000, 800, 200, true) }, SIZE);
    assert_eq!(tally.shown().wire, 200);
}

/// What is said of a disk after its end.
#[test]
fn a_sealed_disk_takes_only_the_end_of_its_last_attempt() {
    let mut tally = Tally::new(&DiskProgress { size: SIZE, ..DiskProgress::default() });
    tally.take(&said(500, 100, 200, 0, true), SIZE);
    let last = tally.last(Some(500), 0, 450, 50);
    tally.seal(&last);
    let sealed = (500, 500, 450);
    for (said, wire) in [
        (said(500, 500, 460, 0, true), 460),
        (said(0, 0, 0, 0, false), 460),
        (said(500, 500, 400, 0, true), 460),
        (DiskProgress { planned: 900, ..said(900, 900, 900, 0, false) }, 460),
    ] {
        tally.take(&said, SIZE);
        tally.seal(&last);
        let now = tally.shown();
        assert_eq!(((now.planned, now.done, now.data), now.wire), (sealed, wire), "{said:?}");
        assert!(now.plan_complete);
    }
}

fn anything() -> impl Strategy<Value = DiskProgress> {
    let count = || prop_oneof![4 => 0..=SIZE, 1 => Just(0), 1 => Just(u64::MAX)];
    (count(), count(), count(), count(), count(), any::<bool>()).prop_map(
        |(planned, done, moved, data, resumed, plan_complete)| DiskProgress {
            read: moved,
            wire: moved,
            ..said(planned, done, data, resumed, plan_complete)
        },
    )
}

proptest! {
    /// Whatever is said, in whatever order.
    #[test]
    fn nothing_runs_backwards_or_past_the_disk(all in prop::collection::vec(anything(), 1..30)) {
        let mut tally = Tally::new(&DiskProgress { size: SIZE, ..DiskProgress::default() });
        for said in all {
            let was = tally.shown().clone();
            tally.take(&said, SIZE);
            let now = tally.shown();
            for (was, now) in [
                (was.done, now.done),
                (was.read, now.read),
                (was.wire, now.wire),
                (was.data, now.data),
                (was.resumed, now.resumed),
            ] {
                prop_assert!(was <= now, "{said:?}: {was} then {now}");
            }
            prop_assert!(now.done <= now.planned && now.data <= now.planned && now.planned <= SIZE);
        }
    }

    /// An agent that tells the truth of a disk that is all data, however often it is cut: what was durable is found, the
    /// rest is sent again, and in the end every byte was counted once.
    #[test]
    fn a_disk_of_data_is_counted_once(attempts in prop::collection::vec((0..=300u64, 0..=100u64), 0..8)) {
        let mut tally = Tally::new(&DiskProgress { size: SIZE, ..DiskProgress::default() });
        let mut durable = 0;
        for (sent, under_way) in attempts {
            tally.take(&said(0, 0, 0, 0, false), SIZE);
            let sent = sent.min(SIZE - durable);
            let (found, kept) = (durable, sent.saturating_sub(under_way));
            tally.take(&said(found + sent, found, 0, found, false), SIZE);
            tally.take(&said(found + sent, found + kept, sent, found, false), SIZE);
            durable += kept;
            prop_assert!(tally.shown().data >= durable && tally.shown().data <= SIZE);
        }
        tally.take(&said(0, 0, 0, 0, false), SIZE);
        let last = tally.last(Some(SIZE), durable, SIZE - durable, durable);
        prop_assert_eq!((last.data, last.done, last.resumed), (SIZE, SIZE, durable));
    }
}
