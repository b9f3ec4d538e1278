//! Which level to compress at: measured, by turns.
//!
//! ```text
//!  settle ─► measure this level ─► another to try? ─ yes ─► settle …
//!     ▲                                 │ no
//!     └──── next round, later and later ┴─► keep the one that got the most through
//! ```
//!
//! Pure: time and events come in.

use super::Mode;
use std::time::Duration;

/// How well to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Plain,
    Fast,
    Strong,
}

impl Level {
    const ALL: [Self; 3] = [Self::Plain, Self::Fast, Self::Strong];

    /// As zstd counts; `None`: not at all.
    pub(super) fn zstd(self) -> Option<i32> {
        match self {
            Self::Plain => None,
            Self::Fast => Some(-3),
            Self::Strong => Some(1),
        }
    }
}

/// After a change of level: what is on its way was made at the old one.
const SETTLE: Duration = Duration::from_millis(100);

/// How long, and how many pieces at least, a level is measured.
const MEASURE: (Duration, u32) = (Duration::from_millis(250), 6);

/// A higher level must get so much more through to be worth its work.
const GAIN: f64 = 1.05;

/// Until the next round: the first wait, and the longest, reached by doubling while rounds change nothing.
const ROUNDS: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(64));

/// Data that shrinks to more than this is not compressed.
const SHRINKS: f64 = 0.9;

/// Bytes between two samples of data that is not compressed; the first ones come with every piece.
const BETWEEN_SAMPLES: u64 = 32 << 20;
const FIRST_SAMPLES: u32 = 8;

/// Chooses the level for one stream.
#[derive(Debug)]
pub(super) struct Chooser {
    mode: Mode,
    level: Level,
    /// What it was before this round.
    kept: Level,
    /// Bytes a second that got through at each level when it was last measured.
    rates: [f64; 3],
    /// Levels that this round has yet to try.
    to_try: Vec<Level>,
    next_round: Duration,
    wait: Duration,
    measuring: Measuring,
    samples: u32,
    /// What data shrank to lately, of 1.
    shrunk: f64,
    unsampled: u64,
}

#[derive(Debug, Default)]
struct Measuring {
    /// Nothing counts before.
    from: Duration,
    bytes: u64,
    pieces: u32,
}

impl Chooser {
    pub(super) fn new(mode: Mode) -> Self {
        let level = match mode {
            Mode::Auto | Mode::Off => Level::Plain,
            Mode::Fast => Level::Fast,
            Mode::Strong => Level::Strong,
        };
        Self {
            mode,
            level,
            kept: level,
            rates: [0.0; 3],
            to_try: vec![],
            next_round: Duration::ZERO,
            wait: ROUNDS.0,
            // The first of all fills buffers all the way.
            measuring: Measuring { from: MEASURE.0, ..Measuring::default() },
            samples: 0,
            shrunk: 1.0,
            unsampled: 0,
        }
    }

    /// For the next piece.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Whether a part of the next piece should be compressed to see what it shrinks to.
    pub(super) fn wants_sample(&self) -> bool {
        self.mode == Mode::Auto
            && self.level == Level::Plain
            && (self.samples < FIRST_SAMPLES || self.unsampled >= BETWEEN_SAMPLES)
    }

    /// A piece, or a sample of one, shrank to `part` of 1.
    pub(super) fn sampled(&mut self, part: f64) {
        self.samples = self.samples.saturating_add(1);
        self.unsampled = 0;
        // The mean of the first ones; then old ones fade.
        let weight = 1.0 / f64::from(self.samples.min(2 * FIRST_SAMPLES));
        self.shrunk += (part.min(1.0) - self.shrunk) * weight;
    }

    /// `bytes` of data (before compression) were taken by the transport, at `now`.
    pub(super) fn sent(&mut self, now: Duration, bytes: u64) {
        self.unsampled = self.unsampled.saturating_add(bytes);
        if self.mode != Mode::Auto || now < self.measuring.from {
            return;
        }
        self.measuring.bytes += bytes;
        self.measuring.pieces += 1;
        let time = now.saturating_sub(self.measuring.from);
        if time < MEASURE.0 || self.measuring.pieces < MEASURE.1 {
            return;
        }
        self.rates[self.level as usize] = rate(self.measuring.bytes, time);
        self.measuring = Measuring { from: now, ..Measuring::default() };
        self.decide(now);
    }

    fn decide(&mut self, now: Duration) {
        if self.shrunk > SHRINKS {
            self.to_try.clear();
            self.kept = Level::Plain;
            self.change(Level::Plain, now);
            return;
        }
        let in_round = self.level != self.kept || !self.to_try.is_empty();
        if !in_round {
            if now >= self.next_round {
                self.to_try = Level::ALL.into_iter().rev().filter(|level| *level != self.kept).collect();
                self.try_next(now);
            }
            return;
        }
        // What does not pay with little work does not pay with more.
        if self.level == Level::Fast && self.best() == Level::Plain {
            self.to_try.retain(|level| *level == Level::Plain);
        }
        if !self.to_try.is_empty() {
            self.try_next(now);
            return;
        }
        let best = self.best();
        self.wait = if best == self.kept { (self.wait * 2).min(ROUNDS.1) } else { ROUNDS.0 };
        self.next_round = now + self.wait;
        self.kept = best;
        self.change(best, now);
    }

    fn try_next(&mut self, now: Duration) {
        if let Some(level) = self.to_try.pop() {
            self.change(level, now);
        }
    }

    /// Among those measured; the least work where it makes little difference.
    fn best(&self) -> Level {
        let tried = Level::ALL.into_iter().filter(|level| !self.to_try.contains(level));
        tried.fold(Level::Plain, |best, level| {
            let (rate, least) = (self.rates[level as usize], self.rates[best as usize] * GAIN);
            if rate > least { level } else { best }
        })
    }

    fn change(&mut self, level: Level, now: Duration) {
        if self.level != level {
            self.level = level;
            self.measuring = Measuring { from: now + SETTLE, ..Measuring::default() };
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate to compare")]
fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64().max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = 512 << 10;
    const MIB: f64 = 1_048_576.0;

    /// A link of so many MiB/s, MiB/s that the processors manage at each level, and what data shrinks to at each.
    struct World {
        link: f64,
        cpu: [f64; 3],
        shrinks: [f64; 3],
    }

    impl World {
        fn rate(&self, level: Level) -> f64 {
            let i = level as usize;
            (self.link / self.shrinks[i]).min(self.cpu[i]) * MIB
        }

        fn best(&self) -> f64 {
            Level::ALL.into_iter().map(|level| self.rate(level)).fold(0.0, f64::max)
        }
    }

    /// Sends for so long; what part of the best that could be was reached, and where it ended.
    fn send(chooser: &mut Chooser, world: &World, from: Duration, time: Duration) -> (f64, Level) {
        let (mut now, mut bytes) = (from, 0);
        while now < from + time {
            let level = chooser.level();
            if chooser.wants_sample() || level != Level::Plain {
                chooser.sampled(world.shrinks[(level as usize).max(1)]);
            }
            now += Duration::from_secs_f64(PIECE as f64 / world.rate(level));
            bytes += PIECE;
            chooser.sent(now, PIECE);
        }
        (rate(bytes, now - from) / world.best(), chooser.level())
    }

    const FAST_CPU: [f64; 3] = [1000.0, 600.0, 350.0];

    #[test]
    fn a_slow_link_gets_the_strong_one_a_fast_link_none() {
        let shrinks = [1.0, 0.6, 0.45];
        for (link, level) in [(119.0, Level::Strong), (12.0, Level::Strong), (2000.0, Level::Plain)] {
            let mut chooser = Chooser::new(Mode::Auto);
            let world = World { link, cpu: FAST_CPU, shrinks };
            let (_, ended) = send(&mut chooser, &world, Duration::ZERO, Duration::from_secs(10));
            assert_eq!(ended, level, "{link} MiB/s");
            let (part, _) = send(&mut chooser, &world, Duration::from_secs(10), Duration::from_secs(300));
            assert!(part > 0.98, "{link} MiB/s: {part} of the best");
        }
    }

    #[test]
    fn between_them_lies_the_fast_one() {
        let world = World { link: 300.0, cpu: FAST_CPU, shrinks: [1.0, 0.6, 0.45] };
        let mut chooser = Chooser::new(Mode::Auto);
        let (_, ended) = send(&mut chooser, &world, Duration::ZERO, Duration::from_secs(10));
        assert_eq!(ended, Level::Fast);
    }

    #[test]
    fn data_that_does_not_shrink_is_never_compressed() {
        let world = World { link: 10.0, cpu: FAST_CPU, shrinks: [1.0, 1.0, 1.0] };
        let mut chooser = Chooser::new(Mode::Auto);
        let mut now = Duration::ZERO;
        for _ in 0..2000 {
            assert_eq!(chooser.level(), Level::Plain);
            (_, _) = send(&mut chooser, &world, now, Duration::from_millis(50));
            now += Duration::from_millis(50);
        }
    }

    #[test]
    fn it_follows_the_link_and_the_data() {
        let mut chooser = Chooser::new(Mode::Auto);
        let slow = World { link: 119.0, cpu: FAST_CPU, shrinks: [1.0, 0.6, 0.45] };
        let fast = World { link: 2000.0, ..slow };
        let random = World { link: 119.0, cpu: FAST_CPU, shrinks: [1.0, 0.99, 0.98] };
        let (ten, hundred) = (Duration::from_secs(10), Duration::from_secs(100));
        assert_eq!(send(&mut chooser, &slow, Duration::ZERO, ten).1, Level::Strong);
        assert_eq!(send(&mut chooser, &fast, ten, hundred).1, Level::Plain);
        assert_eq!(send(&mut chooser, &slow, ten + hundred, hundred).1, Level::Strong);
        assert_eq!(send(&mut chooser, &random, ten + 2 * hundred, hundred).1, Level::Plain);
        assert_eq!(send(&mut chooser, &slow, ten + 3 * hundred, hundred).1, Level::Strong);
    }

    #[test]
    fn where_the_processor_is_the_bottleneck_trying_costs_little() {
        let world = World { link: 2000.0, cpu: [800.0, 400.0, 250.0], shrinks: [1.0, 0.6, 0.45] };
        let mut chooser = Chooser::new(Mode::Auto);
        let (part, _) = send(&mut chooser, &world, Duration::ZERO, Duration::from_secs(60));
        assert!(part > 0.98, "{part} of the best");
    }

    #[test]
    fn told_what_to_do_it_does_that() {
        let world = World { link: 2000.0, cpu: FAST_CPU, shrinks: [1.0, 1.0, 1.0] };
        for (mode, level) in
            [(Mode::Off, Level::Plain), (Mode::Fast, Level::Fast), (Mode::Strong, Level::Strong)]
        {
            let mut chooser = Chooser::new(mode);
            let (_, ended) = send(&mut chooser, &world, Duration::ZERO, Duration::from_secs(10));
            assert_eq!((chooser.wants_sample(), ended), (false, level));
        }
    }
}
