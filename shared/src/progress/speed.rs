//! How fast a job goes. What an engine had when it was first heard of was moved at some other time, and what comes within
//! milliseconds says how updates travel, not bytes; so a speed is what was moved between two updates of at least a second.

use jiff::{SignedDuration, Timestamp};

use super::job::{Status, float};

/// Least time between the two ends of a sample.
const SAMPLE: SignedDuration = SignedDuration::from_secs(1);

/// A job that ended was at least so long under way, for its average.
const SHORTEST: SignedDuration = SignedDuration::from_millis(100);

#[derive(Clone, Debug, Default)]
pub(super) struct Speed {
    /// Bytes a second: of the last sample, and the most that was ever shown, averages included.
    pub(super) current: f64,
    pub(super) peak: f64,
    /// Bytes that were moved since the job was first heard of.
    moved: u64,
    /// None before the first update.
    sample: Option<Sample>,
}

/// Bytes since then, until it is long enough ago.
#[derive(Clone, Copy, Debug)]
struct Sample {
    since: Timestamp,
    bytes: u64,
}

impl Speed {
    /// So many bytes more were moved. `told` is the engine's own measure in bytes a second, which counts before ours; 0
    /// for none. A job that is queued or has ended moves nothing.
    pub(super) fn update(&mut self, bytes: u64, told: u64, status: Status, now: Timestamp) {
        self.moved = self.moved.saturating_add(bytes);
        let mut sample = self.sample.unwrap_or(Sample { since: now, bytes: 0 });
        sample.bytes = sample.bytes.saturating_add(bytes);
        let time = now.duration_since(sample.since);
        self.current = match (status, told) {
            // Too short for a speed: it goes on with the next update.
            (Status::Running, 0) if time < SAMPLE => {
                self.sample = Some(sample);
                return;
            }
            (Status::Running, 0) => per_second(sample.bytes, time),
            (Status::Running, told) => float(told),
            (Status::Queued | Status::Completed | Status::Failed, _) => 0.0,
        };
        self.sample = Some(Sample { since: now, bytes: 0 });
        self.keep(self.current);
    }

    /// Of all the time since the job was registered. It only falls while nothing is heard of the job.
    pub(super) fn average(&self, status: Status, elapsed: SignedDuration) -> f64 {
        match status {
            Status::Queued => 0.0,
            Status::Running => per_second(self.moved, elapsed.max(SAMPLE)),
            Status::Completed | Status::Failed => per_second(self.moved, elapsed.max(SHORTEST)),
        }
    }

    /// One that is to be shown. An average is at its highest with an update: kept then, none is ever above the peak.
    pub(super) fn keep(&mut self, speed: f64) {
        self.peak = self.peak.max(speed);
    }
}

/// The time is not zero.
fn per_second(bytes: u64, time: SignedDuration) -> f64 {
    float(bytes) / time.as_secs_f64()
}
