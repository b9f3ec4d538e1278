//! Between the wire and the domain.
//!
//! Generated types come in and go out here and in the gRPC handlers, nowhere else. What comes in is checked once,
//! by `TryFrom`, and named when it is wrong ([`Invalid`]).

mod agent;
pub mod call;
mod migration;
mod power;
mod profile;
mod progress;
pub mod push;
pub mod refusal;
mod vm;

pub use agent::{inventory_from_wire, strategy_to_wire};
pub use migration::{
    action_from_wire, action_to_wire, phase_from_wire, phase_to_wire, state_from_wire, state_to_wire,
};
pub use profile::{profile_from_wire, profile_to_wire};
pub use progress::{WatchAnswers, progress_refused, watch_answers};

use crate::range::ByteRange;

/// A field of a message that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field}: {why}")]
pub struct Invalid {
    pub field: &'static str,
    pub why: String,
}

impl Invalid {
    pub fn new(field: &'static str, why: impl ToString) -> Self {
        Self { field, why: why.to_string() }
    }

    /// A field that must be set and was not.
    pub fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

/// Checks that the range does not pass 2^64.
pub fn range_from_wire(range: &proto::v1::ByteRange) -> Result<ByteRange, Invalid> {
    ByteRange::at(range.offset, range.length).ok_or_else(|| Invalid::new("range", "passes 2^64"))
}

/// Every range of a repeated field.
pub fn ranges_from_wire(ranges: &[proto::v1::ByteRange]) -> Result<crate::range::RangeSet, Invalid> {
    ranges.iter().map(range_from_wire).collect()
}

/// For a repeated field.
pub fn ranges_to_wire<'a>(ranges: impl IntoIterator<Item = ByteRange> + 'a) -> Vec<proto::v1::ByteRange> {
    ranges.into_iter().map(|r| proto::v1::ByteRange { offset: r.start, length: r.len() }).collect()
}
