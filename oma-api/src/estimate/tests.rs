use super::*;
use proptest::prelude::*;

fn at(seconds: f64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(1e9 + seconds)
}

/// A VM that writes `dirty` bytes a second, cycles on end, newest first: what `copy` bytes a second and `overhead` a
/// cycle make of it.
fn cycles(dirty: f64, copy: f64, overhead: f64, count: usize) -> Vec<Measured> {
    let (mut now, mut age, mut all) = (0.0, 0.0, Vec::new());
    for number in 0..count {
        let bytes = if number == 0 { 2e9 } else { dirty * age };
        let time = overhead + bytes / copy;
        all.push(Measured {
            incremental: number > 0,
            size: 0,
            bytes: whole(bytes),
            started_at: at(now),
            taken_at: at(now),
            finished_at: at(now + time),
            whole: true,
        });
        (now, age) = (now + time, time);
    }
    all.reverse();
    all
}

fn of_newest(newest: &[Measured]) -> History<'_> {
    History { newest, largest: None }
}

fn of<'a>(own: &'a [Measured], agents: &'a [Measured]) -> Basics<'a> {
    let now = own.first().map_or(at(0.0), |last| last.finished_at);
    Basics {
        size: 2_000_000_000,
        unsettled: false,
        own: of_newest(own),
        agents: of_newest(agents),
        limit: 0,
        now,
    }
}

#[test]
fn what_was_measured_goes_before_a_guess() {
    let guess = estimate(&of(&[], &[]));
    assert_eq!((guess.basis, guess.next, guess.downtime), (Basis::Default, Some(2_000_000_000), None));
    assert_eq!((guess.eta, guess.trend), (Some(Duration::from_secs(22)), Trend::Unknown));
    let others = cycles(10e6, 50e6, 1.0, 3);
    let from_others = estimate(&of(&[], &others));
    assert_eq!((from_others.basis, from_others.downtime), (Basis::AgentHistory, None));
    assert!((49_000_000..51_000_000).contains(&from_others.copy_rate), "{from_others:?}");
    let own = cycles(20e6, 50e6, 1.0, 1);
    let first = estimate(&of(&own, &others));
    assert_eq!((first.basis, first.dirty_rate, first.downtime), (Basis::Measured, None, None));
    assert_eq!((first.next, first.eta), (None, None), "what is written since is not known");
}

#[test]
fn a_limit_bounds_the_rate() {
    let own = cycles(20e6, 50e6, 1.0, 3);
    let limited = estimate(&Basics { limit: 10_000_000, ..of(&own, &[]) });
    assert_eq!((limited.copy_rate, limited.trend), (10_000_000, Trend::NonConverging));
}

/// Red when the fixed part of small cycles counts as copying: an hour's changes would seem to take half an hour.
#[test]
fn small_cycles_that_are_alike_do_not_say_what_a_byte_takes() {
    let all = cycles(1e6, 50e6, 1.0, 30);
    let (own, first) = (&all[..20], &all[29]);
    let of = Basics { own: History { newest: own, largest: Some(first) }, ..of(own, &[]) };
    let hour = Basics { now: of.now + SignedDuration::from_hours(1), ..of };
    let said = estimate(&hour);
    assert_eq!((said.size, said.next), (2_000_000_000, Some(2_000_000_000)));
    assert!((40.0..42.0).contains(&said.eta.expect("known").as_secs_f64()), "{said:?}");
}

/// Red when the hours for which a cycle was paused count as copying.
#[test]
fn a_paused_cycle_tells_what_was_written_and_not_how_fast_it_is_copied() {
    let mut own = cycles(1e6, 50e6, 1.0, 4);
    let expected = estimate(&of(&own, &[]));
    own[1].started_at -= SignedDuration::from_hours(3);
    own[1].whole = false;
    let said = estimate(&of(&own, &[]));
    assert_eq!(said.dirty_rate, expected.dirty_rate);
    assert!(said.copy_rate.abs_diff(expected.copy_rate) < 500_000, "{said:?}");
    own.truncate(2);
    own.remove(0);
    assert_eq!(estimate(&of(&own, &[])).basis, Basis::Default);
}

/// Red when a cycle that compares all of a disk and finds nothing is taken for one of no time.
#[test]
fn cycles_that_bring_nothing_take_their_time_all_the_same() {
    let mut own = cycles(1e6, 50e6, 0.0, 3);
    for (n, cycle) in own.iter_mut().take(2).enumerate() {
        cycle.bytes = n as u64 * 1000;
        cycle.finished_at = cycle.started_at + SignedDuration::from_secs(60);
    }
    let said = estimate(&of(&own, &[]));
    assert_eq!((said.eta, said.downtime), (Some(Duration::from_secs(60)), Some(Duration::from_secs(60))));
    // Its full cycle was paused, and nothing is written any more.
    let mut idle = own;
    idle[2].whole = false;
    idle[1].bytes = 0;
    let said = estimate(&of(&idle, &[]));
    assert_eq!((said.basis, said.downtime), (Basis::Default, Some(Duration::from_secs(60))));
    assert_eq!(said.trend, Trend::Converging);
}

/// Red when cycles of before a disk came say what the next one takes.
#[test]
fn a_disk_that_came_makes_unknown_what_the_next_cycle_takes() {
    let mut own = cycles(1e6, 50e6, 0.3, 6);
    own.iter_mut().for_each(|cycle| cycle.size = 2_000_000_000);
    let before = of(&own, &[]);
    assert!(estimate(&before).downtime.is_some());
    let said = estimate(&Basics { size: 5_000_000_000, unsettled: true, ..before.clone() });
    assert_eq!((said.next, said.eta, said.downtime), (None, None, None));
    // To be compared as a whole, by a finding or after a restore.
    let said = estimate(&Basics { unsettled: true, ..before });
    assert_eq!((said.next, said.downtime), (None, None));
    // Copied, and compared by each cycle: those with it say what it takes, from the first on.
    let with_it = |n: f64| Measured {
        incremental: n > 0.0,
        size: 5_000_000_000,
        bytes: if n > 0.0 { 1000 } else { 3_000_000_000 },
        started_at: at(100.0 + n * 10.0),
        taken_at: at(100.0 + n * 10.0),
        finished_at: at(104.0 + n * 10.0),
        whole: true,
    };
    for count in 1..4u32 {
        own.insert(0, with_it(f64::from(count - 1)));
        let said = estimate(&Basics { size: 5_000_000_000, ..of(&own, &[]) });
        let downtime = said.downtime.map(|d| d.as_secs_f64());
        assert!(downtime.is_some_and(|d| count == 1 || (3.9..6.0).contains(&d)), "{count}: {said:?}");
        let written = said.dirty_rate.expect("measured");
        assert!(written < 1_100_000, "what was copied of it was not written by the VM: {written}");
    }
}

/// Red when times that differ by chance are taken for what a few bytes take.
#[test]
fn cycles_without_bytes_do_not_say_how_fast_it_is_copied() {
    let mut own = cycles(1e6, 50e6, 0.0, 5);
    for (cycle, time) in own.iter_mut().zip([1.9, 2.3, 1.7, 2.1]) {
        cycle.bytes = 0;
        cycle.finished_at = cycle.started_at + SignedDuration::from_secs_f64(time);
    }
    own[4].bytes = 50 << 20;
    own[4].finished_at = own[4].started_at + SignedDuration::from_secs_f64(2.11);
    let said = estimate(&of(&own, &[]));
    assert!(said.copy_rate < 100_000_000, "{said:?}");
    assert!((1.6..2.4).contains(&said.downtime.expect("measured").as_secs_f64()), "{said:?}");
}

proptest! {
    /// The prediction is what the model does next; whether it converges is the comparison of the two rates.
    #[test]
    fn the_next_cycle_is_predicted(dirty in 1e6f64..90e6, copy in 20e6f64..200e6, overhead in 0.0f64..3.0) {
        let all = cycles(dirty, copy, overhead, 5);
        let (real, known) = (&all[0], &all[1..]);
        // A disk on which everything that is written is new.
        let guess = estimate(&Basics { size: 1 << 60, ..of(known, &[]) });
        let took = real.finished_at.duration_since(real.started_at).as_secs_f64();
        let said = guess.downtime.expect("measured").as_secs_f64();
        prop_assert!((said - took).abs() <= took * 0.05 + 0.01, "said {said}, took {took}");
        if (dirty / copy - 1.0).abs() > 0.2 {
            let expected = if dirty < copy { Trend::Converging } else { Trend::NonConverging };
            prop_assert_eq!(guess.trend, expected);
        }
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u64>(), 0..6), gap in -1e6f64..1e6, limit in any::<u64>()) {
        let own: Vec<_> = bytes.iter().zip(0i32..).map(|(&bytes, n)| Measured {
            incremental: true, size: 0, bytes,
            started_at: at(f64::from(n) * gap), taken_at: at(f64::from(n) * gap * 2.0), finished_at: at(gap), whole: n != 1,
        }).collect();
        let said = estimate(&Basics { size: u64::MAX, unsettled: false, own: History { newest: &own, largest: own.last() }, agents: History::default(), limit, now: at(-gap) });
        prop_assert!(said.eta.is_none_or(|eta| eta <= Duration::from_secs(31_536_000)));
    }
}
