//! What to read of a disk, window by window.
//!
//! ```text
//! plan = (changed ∪ required) widened to leaves ∩ [0, size) − durable
//! data = plan ∩ data extents widened to leaves      → chunks to read
//! zero = plan − data                                → ranges to call zero without reading
//! ```
//!
//! The [`Planner`] walks the disk once, from the start to the end. It asks for changed areas page by page and for
//! extents stretch by stretch, so its memory does not grow with the disk (it holds `required` and `durable`, which
//! are given, one page of changed areas and the extents of one stretch).
//!
//! Deliberately not here: reading, hashing, and where changes come from. Extents only save reads: calling zeros data
//! costs time, never correctness; calling data zeros loses it, so whatever is unsure must come as data.

mod planner;

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use shared::range::ByteRange;

pub use planner::{Options, Planner, Window};

/// Why a source could not tell: kept as it is, for the chain of the error.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// One page of changed areas: everything that changed in `offset..next_offset`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedPage {
    /// Changed bytes; none before the offset that was asked for. May be empty: that is not the end.
    pub ranges: Vec<ByteRange>,
    /// Up to where this page tells, in bytes; the next page is asked from here.
    pub next_offset: u64,
}

/// Tells what changed, in pages (DESIGN §6 rule 4: asked until the capacity is reached, and never at it).
#[async_trait]
pub trait ChangedAreas: Send {
    /// The page that starts at `offset`, which is less than the disk's size.
    async fn page(&mut self, offset: u64) -> Result<ChangedPage, SourceError>;
}

/// Tells data from zeros.
#[async_trait]
pub trait Extents: Send {
    /// Ranges within `window` that may hold something else than zeros. Order and overlaps do not matter; what lies
    /// outside the window is ignored.
    async fn data(&mut self, window: ByteRange) -> Result<Vec<ByteRange>, SourceError>;
}

/// For sources that cannot tell: all is data.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExtents;

#[async_trait]
impl Extents for NoExtents {
    async fn data(&mut self, window: ByteRange) -> Result<Vec<ByteRange>, SourceError> {
        Ok(vec![window])
    }
}

/// Which areas of the disk are wanted.
pub enum Areas {
    /// The whole disk.
    All,
    /// What changed (and what is required besides).
    Changed(Box<dyn ChangedAreas>),
    /// Nothing but what is required.
    RequiredOnly,
}

/// Why planning stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source refused or failed a page of changed areas.
    #[error("the changed areas from offset {offset} on could not be read")]
    Changed { offset: u64, source: SourceError },
    /// A page that leads nowhere.
    #[error("the page of changed areas at offset {offset} ends at {next_offset}, where it began or before")]
    NoProgress { offset: u64, next_offset: u64 },
    /// A page that tells about something before itself.
    #[error("the page of changed areas at offset {offset} holds {range:?}, which starts before it")]
    BeforePage { offset: u64, range: ByteRange },
    /// The source failed to tell data from zeros.
    #[error("the extents of {window:?} could not be read")]
    Extents { window: ByteRange, source: SourceError },
}
