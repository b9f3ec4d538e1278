//! What was accepted and is not yet done, for targets that return from a write before it is.

use shared::range::ByteRange;

/// Changes under way or waiting for their turn. No two of them overlap: whoever adds one waits until its range is
/// [`free`](Self::free), so that the last write of a place is the one that stays.
#[derive(Default)]
pub(super) struct Outstanding {
    list: Vec<(u64, ByteRange)>,
    next: u64,
}

impl Outstanding {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing touches `range`.
    pub(super) fn free(&self, range: ByteRange) -> bool {
        self.settled(range, self.next)
    }

    /// The number by which it is [`done`](Self::done).
    pub(super) fn add(&mut self, range: ByteRange) -> u64 {
        let id = self.next;
        self.next += 1;
        self.list.push((id, range));
        id
    }

    pub(super) fn done(&mut self, id: u64) {
        self.list.retain(|(other, _)| *other != id);
    }

    /// Parts what was added before from what will be.
    pub(super) fn mark(&self) -> u64 {
        self.next
    }

    /// Whether nothing that was added before the mark touches `range` any more.
    pub(super) fn settled(&self, range: ByteRange, mark: u64) -> bool {
        let touches = |other: &ByteRange| other.start < range.end && range.start < other.end;
        !self.list.iter().any(|(id, other)| *id < mark && touches(other))
    }
}
