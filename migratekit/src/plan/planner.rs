//! The walk over the disk.

use std::collections::VecDeque;

use shared::leaf::{LEAF, round_out};
use shared::range::{ByteRange, RangeSet};

use super::{Areas, Error, Extents};

/// Bounds of a plan, all in bytes but one. The defaults are right; tests make them small.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most bytes of one chunk of data; whole leaves, at most [`MAX_DATA`](crate::piece::MAX_DATA).
    pub chunk: u64,
    /// Most bytes of one zero range: what a target may have to write out in one go.
    pub zero: u64,
    /// Zeros between data that are read rather than told apart, when the gap is no longer than this.
    pub gap: u64,
    /// Most bytes of data in a window.
    pub window_data: u64,
    /// Most ranges (of data and zeros) in a window.
    pub window_ranges: usize,
    /// Stretch of disk that extents are first asked for.
    pub stretch_first: u64,
    /// Longest stretch, reached by doubling over emptiness.
    pub stretch_max: u64,
    /// Planned ranges with no more than this between them are asked about together.
    pub ask_gap: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            chunk: 4 << 20,
            zero: 1 << 30,
            gap: 256 << 10,
            window_data: 64 << 20,
            window_ranges: 4096,
            stretch_first: 1 << 30,
            stretch_max: 16 << 30,
            ask_gap: 16 << 20,
        }
    }
}

/// A bounded part of the plan, in the order of the disk; windows do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Chunks to read: whole leaves, at most `Options::chunk` bytes each.
    pub data: Vec<ByteRange>,
    /// Ranges of whole leaves that read as zeros.
    pub zero: Vec<ByteRange>,
}

impl Window {
    /// Bytes of data.
    pub fn data_bytes(&self) -> u64 {
        self.data.iter().map(|r| r.len()).sum()
    }

    /// Bytes of zeros.
    pub fn zero_bytes(&self) -> u64 {
        self.zero.iter().map(|r| r.len()).sum()
    }

    /// Everything in it: what has to be announced before it is written.
    pub fn ranges(&self) -> RangeSet {
        self.data.iter().chain(&self.zero).copied().collect()
    }
}

enum Kind {
    Data,
    Zero,
}

/// Cuts a disk into windows of work. See the [module](super) for what it computes.
pub struct Planner {
    size: u64,
    areas: Areas,
    required: RangeSet,
    durable: RangeSet,
    extents: Box<dyn Extents>,
    options: Options,
    /// Everything before it is planned; a whole leaf, or the size.
    at: u64,
    /// Changes before it are known.
    known: u64,
    /// Known changes from `at` on, widened to leaves.
    changed: RangeSet,
    stretch: u64,
    ready: VecDeque<(ByteRange, Kind)>,
}

impl Planner {
    /// A plan over a disk of `size` bytes. `required` is planned whether changed or not; of `durable`, whole leaves
    /// are left out.
    pub fn new(
        size: u64,
        areas: Areas,
        required: &RangeSet,
        durable: &RangeSet,
        extents: Box<dyn Extents>,
    ) -> Self {
        Self::with_options(size, areas, required, durable, extents, Options::default())
    }

    /// With bounds of one's own.
    pub fn with_options(
        size: u64,
        areas: Areas,
        required: &RangeSet,
        durable: &RangeSet,
        extents: Box<dyn Extents>,
        options: Options,
    ) -> Self {
        let known = if matches!(areas, Areas::Changed(_)) { 0 } else { size };
        let mut changed = RangeSet::new();
        if matches!(areas, Areas::All) {
            changed.insert(ByteRange::new(0, size));
        }
        Self {
            size,
            areas,
            required: required.iter().map(|r| round_out(r, size)).collect(),
            durable: durable.iter().map(|r| round_in(r, size)).collect(),
            extents,
            options,
            at: 0,
            known,
            changed,
            stretch: options.stretch_first,
            ready: VecDeque::new(),
        }
    }

    /// The disk's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Up to where the disk has been planned (handed out or about to be), in bytes.
    pub fn position(&self) -> u64 {
        self.ready.front().map_or(self.at, |(range, _)| range.start)
    }

    /// The next window; `None` when the disk is done.
    ///
    /// # Errors
    /// When changed areas or extents cannot be had. Asking again goes on from where it failed.
    pub async fn next(&mut self) -> Result<Option<Window>, Error> {
        let mut window = Window::default();
        let mut room = self.options.window_data;
        while room > 0 && window.data.len() + window.zero.len() < self.options.window_ranges {
            let Some((range, kind)) = self.ready.pop_front() else {
                // Another stretch may take a while; what there is can be worked on meanwhile.
                if window != Window::default() || !self.refill().await? {
                    break;
                }
                continue;
            };
            match kind {
                Kind::Zero => window.zero.push(range),
                Kind::Data if range.len() <= room || window.data.is_empty() => {
                    room = room.saturating_sub(range.len());
                    window.data.push(range);
                }
                Kind::Data => {
                    self.ready.push_front((range, kind));
                    break;
                }
            }
        }
        Ok((window != Window::default()).then_some(window))
    }

    /// Plans stretches until something is ready; `false` at the end of the disk.
    async fn refill(&mut self) -> Result<bool, Error> {
        while self.ready.is_empty() {
            if self.at >= self.size {
                return Ok(false);
            }
            self.learn().await?;
            let known = if self.known == self.size { self.size } else { self.known / LEAF * LEAF };
            let stretch = ByteRange::new(self.at, known.min(self.at.saturating_add(self.stretch)));
            let plan = self.planned(stretch);
            let segments = self.tell_apart(&plan).await?;
            self.changed.remove(stretch);
            self.at = stretch.end;
            self.ready.extend(segments);
        }
        Ok(true)
    }

    /// Asks for changed areas until at least the next leaf is known.
    async fn learn(&mut self) -> Result<(), Error> {
        while self.known < self.size && self.known / LEAF * LEAF <= self.at {
            let Areas::Changed(areas) = &mut self.areas else { break };
            let offset = self.known;
            let page = areas.page(offset).await.map_err(|source| Error::Changed { offset, source })?;
            if page.next_offset <= offset {
                return Err(Error::NoProgress { offset, next_offset: page.next_offset });
            }
            for range in page.ranges {
                if range.start < offset {
                    return Err(Error::BeforePage { offset, range });
                }
                self.changed.insert(round_out(range, self.size));
            }
            self.known = page.next_offset.min(self.size);
        }
        Ok(())
    }

    fn planned(&self, stretch: ByteRange) -> RangeSet {
        let mut plan: RangeSet = self.changed.within(stretch).collect();
        for range in self.required.within(stretch) {
            plan.insert(range);
        }
        for range in self.durable.within(stretch) {
            plan.remove(range);
        }
        plan
    }

    /// Cuts the planned ranges into data and zeros, by the extents.
    async fn tell_apart(&mut self, plan: &RangeSet) -> Result<Vec<(ByteRange, Kind)>, Error> {
        let mut segments = Vec::new();
        let mut data = 0;
        for window in hulls(plan, self.options.ask_gap) {
            let extents =
                self.extents.data(window).await.map_err(|source| Error::Extents { window, source })?;
            let extents: RangeSet =
                extents.into_iter().map(|r| round_out(r.intersect(window), self.size)).collect();
            for range in plan.within(window) {
                let mut at = range.start;
                for part in close_gaps(extents.within(range), self.options.gap) {
                    cut(&mut segments, ByteRange::new(at, part.start), self.options.zero, || Kind::Zero);
                    cut(&mut segments, part, self.options.chunk, || Kind::Data);
                    data += part.len();
                    at = part.end;
                }
                cut(&mut segments, ByteRange::new(at, range.end), self.options.zero, || Kind::Zero);
            }
        }
        let stretch = if data == 0 { self.stretch.saturating_mul(2) } else { self.options.stretch_first };
        self.stretch = stretch.min(self.options.stretch_max);
        Ok(segments)
    }
}

/// Whole leaves within `range`.
fn round_in(range: ByteRange, size: u64) -> ByteRange {
    let end = if range.end >= size { size } else { range.end / LEAF * LEAF };
    ByteRange::new(range.start.div_ceil(LEAF).saturating_mul(LEAF), end)
}

/// The plan's ranges, those with small gaps between them joined: what is asked about in one question.
fn hulls(plan: &RangeSet, gap: u64) -> Vec<ByteRange> {
    close_gaps(plan.iter(), gap).collect()
}

/// Joins neighbours (in order) that have at most `gap` bytes between them.
fn close_gaps(ranges: impl Iterator<Item = ByteRange>, gap: u64) -> impl Iterator<Item = ByteRange> {
    let mut ranges = ranges.peekable();
    std::iter::from_fn(move || {
        let mut joined = ranges.next()?;
        while let Some(next) = ranges.next_if(|next| next.start.saturating_sub(joined.end) <= gap) {
            joined.end = next.end;
        }
        Some(joined)
    })
}

/// Pieces of at most `most` bytes (whole leaves).
fn cut(out: &mut Vec<(ByteRange, Kind)>, range: ByteRange, most: u64, kind: impl Fn() -> Kind) {
    let most = (most / LEAF * LEAF).max(LEAF);
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at.saturating_add(most));
        out.push((ByteRange::new(at, end), kind()));
        at = end;
    }
}
