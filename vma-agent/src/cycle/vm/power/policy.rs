//! What is done next about a wish. Pure: no clock, no source.
//!
//! ```text
//!  off:  look ── off ─────────────────────────► reached
//!          ├─ graceful not over ─► press (again and again) ─► look
//!          ├─ over, force ───────► cut (again and again) ──► look ─ still on after a minute ─► gave up
//!          └─ over ──────────────────────────────────────────────────────────────────────────► gave up
//!  on:   look ── on ──► reached, else switch on ─► look ─ still off after a minute ─► gave up
//! ```

use crate::source::PowerState;
use shared::cycle::{How, PowerOrder, PowerWish};
use std::time::Duration;

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// A guest that is still booting does not hear its button, so it is pressed again. Not at every look: some guests take
/// each for another wish.
const AGAIN: Duration = Duration::from_secs(5);

/// From the cut, or the switching on, to where it shows.
const SHOWS: Duration = Duration::from_secs(60);

/// How far an order is: times since something happened, `None` where it has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// It came.
    pub(super) begun: Duration,
    /// The button was pressed for the last time.
    pub(super) pressed: Option<Duration>,
    /// The power was cut for the first time.
    pub(super) cut: Option<Duration>,
    /// The power was cut for the last time.
    pub(super) cut_again: Option<Duration>,
    /// The power was switched on.
    pub(super) switched: Option<Duration>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Look,
    Press,
    Cut,
    SwitchOn,
    /// It is as was wished.
    Reached(Option<How>),
    GaveUp,
}

/// The power was just looked at.
pub(super) fn next(order: &PowerOrder, now: PowerState, progress: Progress) -> Step {
    let due = |last: Option<Duration>| last.is_none_or(|ago| ago >= AGAIN);
    match order.wish {
        PowerWish::Report => Step::Reached(None),
        PowerWish::On if now == PowerState::Running => Step::Reached(Some(match progress.switched {
            Some(_) => How::Graceful,
            None => How::Already,
        })),
        PowerWish::On => match progress.switched {
            None => Step::SwitchOn,
            Some(ago) if ago < SHOWS => Step::Look,
            Some(_) => Step::GaveUp,
        },
        PowerWish::Off if now == PowerState::Off => {
            Step::Reached(Some(match (progress.cut, progress.pressed) {
                (Some(_), _) => How::Forced,
                (None, Some(_)) => How::Graceful,
                (None, None) => How::Already,
            }))
        }
        PowerWish::Off => match progress.cut {
            Some(ago) if ago >= SHOWS => Step::GaveUp,
            Some(_) if due(progress.cut_again) => Step::Cut,
            Some(_) => Step::Look,
            None if progress.begun < order.graceful && due(progress.pressed) => Step::Press,
            None if progress.begun < order.graceful => Step::Look,
            None if order.force => Step::Cut,
            // Even where there is no time for an answer: whether the source could is learnt so.
            None if progress.pressed.is_none() => Step::Press,
            None => Step::GaveUp,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn off(graceful: u64, force: bool) -> PowerOrder {
        let graceful = Duration::from_secs(graceful);
        PowerOrder { id: "order".to_owned(), wish: PowerWish::Off, graceful, force }
    }

    fn at(seconds: u64) -> Progress {
        Progress { begun: Duration::from_secs(seconds), ..Progress::default() }
    }

    fn pressed(seconds: u64, ago: u64) -> Progress {
        Progress { pressed: Some(Duration::from_secs(ago)), ..at(seconds) }
    }

    #[test]
    fn a_guest_is_asked_again_and_again_and_then_cut_off_where_that_is_allowed() {
        use PowerState::{Off, Running, Unknown};
        let on = PowerOrder { wish: PowerWish::On, ..off(0, false) };
        let switched = |ago| Progress { switched: Some(Duration::from_secs(ago)), ..at(ago) };
        let cut = |first, last| Progress {
            cut: Some(Duration::from_secs(first)),
            cut_again: Some(Duration::from_secs(last)),
            ..pressed(first + 10, first + 1)
        };
        for (order, now, progress, step) in [
            (off(10, true), Off, at(0), Step::Reached(Some(How::Already))),
            (off(10, true), Running, at(0), Step::Press),
            (off(10, true), Running, pressed(4, 4), Step::Look),
            (off(10, true), Running, pressed(5, 5), Step::Press),
            (off(10, true), Off, pressed(5, 5), Step::Reached(Some(How::Graceful))),
            // A source that does not know is asked, and cut, as one that is on.
            (off(10, true), Unknown, at(0), Step::Press),
            (off(10, true), Running, pressed(10, 1), Step::Cut),
            (off(10, false), Running, pressed(10, 1), Step::GaveUp),
            (off(0, true), Running, at(0), Step::Cut),
            (off(0, false), Running, at(0), Step::Press),
            (off(0, false), Running, pressed(0, 0), Step::GaveUp),
            (off(10, true), Running, cut(1, 1), Step::Look),
            (off(10, true), Running, cut(6, 5), Step::Cut),
            (off(10, true), Off, cut(1, 1), Step::Reached(Some(How::Forced))),
            (off(10, true), Running, cut(60, 1), Step::GaveUp),
            (on.clone(), Running, at(0), Step::Reached(Some(How::Already))),
            (on.clone(), Off, at(0), Step::SwitchOn),
            (on.clone(), Unknown, at(0), Step::SwitchOn),
            (on.clone(), Off, switched(1), Step::Look),
            (on.clone(), Running, switched(1), Step::Reached(Some(How::Graceful))),
            (on, Off, switched(60), Step::GaveUp),
        ] {
            assert_eq!(next(&order, now, progress), step, "{order:?} {now:?} {progress:?}");
        }
        let report = PowerOrder { wish: PowerWish::Report, ..off(10, true) };
        for now in [Off, Running, Unknown] {
            assert_eq!(next(&report, now, at(0)), Step::Reached(None));
        }
    }

    proptest! {
        /// Whatever comes when: no cut without permission or before its time, and nothing but off is taken for off.
        #[test]
        fn the_power_is_never_cut_without_leave(
            graceful in 0..100u64, force: bool, begun in 0..200u64, pressed in proptest::option::of(0..200u64),
            cut in proptest::option::of(0..200u64), state in 0..3u8, wish in 0..3u8,
        ) {
            let now = [PowerState::Running, PowerState::Off, PowerState::Unknown][usize::from(state)];
            let wish = [PowerWish::Off, PowerWish::On, PowerWish::Report][usize::from(wish)];
            let seconds = |of: Option<u64>| of.map(Duration::from_secs);
            // A cut there never was without leave.
            let cut = seconds(cut).filter(|_| force);
            let progress = Progress { pressed: seconds(pressed), cut, cut_again: cut, ..at(begun) };
            let order = PowerOrder { wish, ..off(graceful, force) };
            let step = next(&order, now, progress);
            if step == Step::Cut {
                prop_assert!(force && wish == PowerWish::Off && (begun >= graceful || cut.is_some()));
            }
            if wish == PowerWish::Off && matches!(step, Step::Reached(_)) {
                prop_assert_eq!(now, PowerState::Off);
            }
            if now == PowerState::Off && wish == PowerWish::Off {
                prop_assert!(matches!(step, Step::Reached(_)));
            }
        }
    }
}
