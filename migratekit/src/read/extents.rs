//! What the source knows without reading: data and zeros, and changed areas of a dirty bitmap.

use std::sync::Arc;

use async_trait::async_trait;
use shared::leaf::LEAF;
use shared::range::ByteRange;
use tokio::sync::oneshot;

use super::Error;
use super::queue::{Job, Shared};
use crate::nbd::{self, BASE_ALLOCATION, Export, STATE_DIRTY, STATE_ZERO, Status, dirty_bitmap_context};
use crate::plan::{ChangedAreas, ChangedPage, Extents, SourceError};

/// Most bytes of one question: lengths are 32 bits on the wire.
const MOST: u64 = (1 << 32) - LEAF;

/// Asks over a reader's connections.
struct Asker {
    shared: Arc<Shared>,
    export: Arc<Export>,
}

impl Asker {
    /// What `context` says from `from` on: ranges in order without gaps, and where the answer ends: that may be past
    /// `to` (the protocol lets the last extent go on), but not past the export. The answer is empty when the server left
    /// the context out.
    async fn ask(&self, context: &str, from: u64, to: u64) -> Result<(Vec<(ByteRange, u32)>, u64), Error> {
        let question = ByteRange::new(from, to.min(from.saturating_add(MOST)));
        let (reply, answer) = oneshot::channel();
        let closed = || Error::Closed { source_name: self.shared.name().to_owned() };
        let job = Job::Status { range: self.export.round_out(question), reply };
        self.shared.push(job).map_err(|_| closed())?;
        let statuses: Vec<Status> = answer.await.map_err(|_| closed())??;
        let mut at = from;
        let mut ranges = Vec::new();
        for (range, flags) in statuses.into_iter().filter(|s| s.context == context).flat_map(|s| s.extents) {
            // Rounding out may have moved the start before the question; a gap would be a server's mistake.
            if range.start > at {
                break;
            }
            let part = ByteRange::new(at, range.end.min(self.export.size));
            if !part.is_empty() {
                at = part.end;
                ranges.push((part, flags));
            }
        }
        Ok((ranges, at))
    }
}

/// Tells data from zeros by `base:allocation`; all is data where the server does not have it, or fails to answer.
pub struct SourceExtents {
    asker: Asker,
    /// The end of the last answer, which may reach beyond what was asked. Used, because asking is not cheap everywhere:
    /// nbdkit on tmpfs walks to the next hole page by page, however little it is asked about.
    last: Option<(ByteRange, u32)>,
    warned: bool,
}

impl SourceExtents {
    pub(super) fn new(shared: Arc<Shared>, export: Arc<Export>) -> Self {
        Self { asker: Asker { shared, export }, last: None, warned: false }
    }

    async fn known(&mut self, window: ByteRange) -> Result<Vec<ByteRange>, Error> {
        let mut data: Vec<ByteRange> = Vec::new();
        let mut at = window.start;
        while at < window.end {
            let told = self.last.filter(|(range, _)| range.start <= at && at < range.end);
            let (ranges, end) = match told {
                Some((range, flags)) => (vec![(ByteRange::new(at, range.end), flags)], range.end),
                None => match self.asker.ask(BASE_ALLOCATION, at, window.end).await {
                    Ok(answer) => answer,
                    Err(Error::Nbd(error @ nbd::Error::Status { .. })) => {
                        self.warn(&error);
                        (Vec::new(), at)
                    }
                    Err(error) => return Err(error),
                },
            };
            self.last = ranges.last().copied();
            for (range, flags) in ranges {
                // A hole that does not read as zeros may read as anything.
                if flags & STATE_ZERO == 0 {
                    push(&mut data, range);
                }
            }
            if end == at {
                push(&mut data, ByteRange::new(at, window.end));
                break;
            }
            at = end;
        }
        Ok(data)
    }

    fn warn(&mut self, error: &nbd::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(error = %error, "the source cannot tell data from zeros here: reading all of it");
        }
    }
}

/// Adds a range; what touches the same leaf as the last one joins it, so that the list stays short.
fn push(list: &mut Vec<ByteRange>, range: ByteRange) {
    match list.last_mut() {
        Some(last) if range.start / LEAF <= last.end.div_ceil(LEAF) => last.end = last.end.max(range.end),
        _ => list.push(range),
    }
}

#[async_trait]
impl Extents for SourceExtents {
    async fn data(&mut self, window: ByteRange) -> Result<Vec<ByteRange>, SourceError> {
        let window = window.intersect(ByteRange::new(0, self.asker.export.size));
        if !self.asker.export.has_context(BASE_ALLOCATION) {
            return Ok(vec![window]);
        }
        Ok(self.known(window).await?)
    }
}

/// The changed areas that a dirty bitmap of a QEMU server shows.
pub struct DirtyBitmap {
    asker: Asker,
    context: String,
}

impl DirtyBitmap {
    pub(super) fn new(shared: Arc<Shared>, export: Arc<Export>, name: &str) -> Result<Self, Error> {
        let context = dirty_bitmap_context(name);
        if !export.has_context(&context) {
            let source_name = shared.name().to_owned();
            return Err(Error::NoBitmap { source_name, name: name.to_owned() });
        }
        Ok(Self { asker: Asker { shared, export }, context })
    }
}

#[async_trait]
impl ChangedAreas for DirtyBitmap {
    async fn page(&mut self, offset: u64) -> Result<ChangedPage, SourceError> {
        let size = self.asker.export.size;
        let (ranges, next_offset) = self.asker.ask(&self.context, offset, size).await?;
        if next_offset == offset {
            let source_name = self.asker.shared.name().to_owned();
            return Err(Error::NoStatus { source_name, context: self.context.clone(), offset }.into());
        }
        let dirty = ranges.into_iter().filter(|(_, flags)| flags & STATE_DIRTY != 0).map(|(range, _)| range);
        Ok(ChangedPage { ranges: dirty.collect(), next_offset })
    }
}
