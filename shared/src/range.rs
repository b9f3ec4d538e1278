//! Byte ranges and sets of them.

use std::collections::BTreeMap;
use std::fmt;

/// Half-open: `start..end`, in bytes from the start of a disk. Never reversed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteRange {
    pub start: u64,
    pub end: u64,
}

impl ByteRange {
    /// A reversed range becomes an empty one.
    pub const fn new(start: u64, end: u64) -> Self {
        let end = if end < start { start } else { end };
        Self { start, end }
    }

    /// `None` when the end would pass 2^64.
    pub fn at(offset: u64, length: u64) -> Option<Self> {
        Some(Self { start: offset, end: offset.checked_add(length)? })
    }

    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    pub const fn is_empty(self) -> bool {
        self.end == self.start
    }

    pub fn intersect(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        Self::new(start, self.end.min(other.end))
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// Disjoint ranges, touching ones merged.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// start -> end
    map: BTreeMap<u64, u64>,
}

impl RangeSet {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn insert(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&s, &e)) = self.map.range(..=end).next_back() {
            if e < start {
                break;
            }
            start = start.min(s);
            end = end.max(e);
            self.map.remove(&s);
        }
        self.map.insert(start, end);
    }

    pub fn remove(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        while let Some((&s, &e)) = self.map.range(..range.end).next_back() {
            if e <= range.start {
                break;
            }
            self.map.remove(&s);
            if e > range.end {
                self.map.insert(range.end, e);
            }
            if s < range.start {
                self.map.insert(s, range.start);
                break;
            }
        }
    }

    pub fn union(&mut self, other: &Self) {
        other.iter().for_each(|r| self.insert(r));
    }

    pub fn subtract(&mut self, other: &Self) {
        if self.count() >= other.count() {
            return other.iter().for_each(|r| self.remove(r));
        }
        // A few ranges against many: only those that overlap cost anything.
        for own in self.iter().collect::<Vec<_>>() {
            other.within(own).for_each(|r| self.remove(r));
        }
    }

    /// The parts of the set within `window`, in order.
    pub fn within(&self, window: ByteRange) -> impl Iterator<Item = ByteRange> + '_ {
        let before = self.map.range(..window.start).next_back();
        let inside = self.map.range(window.start..window.end.max(window.start));
        before
            .into_iter()
            .chain(inside)
            .map(move |(&s, &e)| ByteRange::new(s, e).intersect(window))
            .filter(|r| !r.is_empty())
    }

    /// Whether every byte of `range` is in the set.
    pub fn contains(&self, range: ByteRange) -> bool {
        range.is_empty() || self.map.range(..=range.start).next_back().is_some_and(|(_, &e)| e >= range.end)
    }

    pub fn contains_all(&self, other: &Self) -> bool {
        other.iter().all(|r| self.contains(r))
    }

    pub fn iter(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.map.iter().map(|(&start, &end)| ByteRange { start, end })
    }

    /// Number of ranges.
    pub fn count(&self) -> usize {
        self.map.len()
    }

    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Bytes in the set.
    pub fn total(&self) -> u64 {
        self.iter().map(ByteRange::len).sum()
    }

    /// LEB128 pairs of (gap since the last end, length): a few bytes a range.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.map.len() * 6);
        let mut last = 0;
        for range in self.iter() {
            put_varint(&mut out, range.start - last);
            put_varint(&mut out, range.len());
            last = range.end;
        }
        out
    }

    /// `None` when the bytes are not what [`encode`](Self::encode) made.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut set = Self::new();
        let (mut at, mut last) = (0, 0u64);
        while at < bytes.len() {
            let start = last.checked_add(get_varint(bytes, &mut at)?)?;
            let range = ByteRange::at(start, get_varint(bytes, &mut at)?)?;
            last = range.end;
            set.insert(range);
        }
        Some(set)
    }
}

impl FromIterator<ByteRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = ByteRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        ranges.into_iter().for_each(|r| set.insert(r));
        set
    }
}

impl fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn get_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn model(set: &RangeSet) -> Vec<bool> {
        let mut bits = vec![false; 128];
        for r in set.iter() {
            bits[usize::try_from(r.start).expect("small")..usize::try_from(r.end).expect("small")].fill(true);
        }
        bits
    }

    proptest! {
        /// Against a plain array of bits: insert, remove, within, contains, encode and decode.
        #[test]
        fn behaves_like_a_bitmap(ops in prop::collection::vec((any::<bool>(), 0u64..128, 0u64..128), 0..60), w in (0u64..128, 0u64..128)) {
            let mut set = RangeSet::new();
            let mut bits = vec![false; 128];
            for (add, a, b) in ops {
                let r = ByteRange::new(a.min(b), a.max(b));
                bits[usize::try_from(r.start).expect("small")..usize::try_from(r.end).expect("small")].fill(add);
                if add { set.insert(r) } else { set.remove(r) }
            }
            prop_assert_eq!(model(&set), bits.clone());
            let ranges: Vec<_> = set.iter().collect();
            prop_assert!(ranges.windows(2).all(|p| p[0].end < p[1].start), "merged and in order");
            prop_assert_eq!(RangeSet::decode(&set.encode()), Some(set.clone()));
            let w = ByteRange::new(w.0.min(w.1), w.0.max(w.1));
            let inside: RangeSet = set.within(w).collect();
            let mut cut = set.clone();
            cut.remove(ByteRange::new(0, w.start));
            cut.remove(ByteRange::new(w.end, 128));
            prop_assert_eq!(&inside, &cut);
            let all = (w.start..w.end).all(|i| bits[usize::try_from(i).expect("small")]);
            prop_assert_eq!(set.contains(w), all);
        }

        #[test]
        fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = RangeSet::decode(&bytes);
        }
    }
}
