//! Cuts a disk into what has to be read and what has not.

use shared::leaf::round_out;
use shared::range::{ByteRange, RangeSet};

use super::Error;
use crate::manifest::Manifest;
use crate::target::Target;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Whole leaves, at most one request.
    Compare(ByteRange),
    /// Zero on both sides.
    Holes(ByteRange),
    /// Not to be compared.
    Skip(ByteRange),
    End,
}

pub(super) struct Walk<'a> {
    target: &'a dyn Target,
    manifest: &'a Manifest,
    skip: &'a RangeSet,
    request: u64,
    at: u64,
    size: u64,
    /// The next ranges with data of either side, asked again once passed. Empty at the size: no more.
    of_target: ByteRange,
    of_manifest: ByteRange,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        target: &'a dyn Target,
        manifest: &'a Manifest,
        skip: &'a RangeSet,
        request: u64,
    ) -> Self {
        let none = ByteRange::new(0, 0);
        let size = manifest.disk_size();
        Self { target, manifest, skip, request, at: 0, size, of_target: none, of_manifest: none }
    }

    pub(super) fn stop(&mut self) {
        self.at = self.size;
    }

    pub(super) fn next(&mut self) -> Result<Step, Error> {
        if self.at >= self.size {
            return Ok(Step::End);
        }
        let rest = ByteRange::new(self.at, self.size);
        let skip = self.skip.within(rest).next().unwrap_or(ByteRange::new(self.size, self.size));
        if skip.start == self.at {
            self.at = skip.end;
            return Ok(Step::Skip(skip));
        }
        let none = ByteRange::new(self.size, self.size);
        if self.of_target.end <= self.at {
            let next = self.target.next_data(self.at)?.map(|r| r.intersect(rest)).filter(|r| !r.is_empty());
            self.of_target = next.map_or(none, |r| round_out(r, self.size));
        }
        if self.of_manifest.end <= self.at {
            self.of_manifest = self.manifest.next_data(self.at)?.unwrap_or(none);
        }
        // What begins first decides; the other one is looked at again where this piece ends.
        let first = match self.of_target.start <= self.of_manifest.start {
            true => self.of_target,
            false => self.of_manifest,
        };
        let data = ByteRange::new(first.start.max(self.at), first.end);
        if data.start > self.at {
            let holes = ByteRange::new(self.at, data.start.min(skip.start));
            self.at = holes.end;
            return Ok(Step::Holes(holes));
        }
        let end = data.end.min(skip.start).min(self.at + self.request);
        let compare = ByteRange::new(self.at, end);
        self.at = end;
        Ok(Step::Compare(compare))
    }
}
