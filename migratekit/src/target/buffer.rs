//! Memory that `O_DIRECT` accepts, without unsafe code.

/// A buffer whose first byte lies on a multiple of [`ALIGN`](Self::ALIGN) and whose capacity is one.
///
/// It over-allocates by one page and starts where the alignment is, so it costs 4 KiB more than it holds.
pub struct AlignedBuf {
    memory: Vec<u8>,
    start: usize,
    capacity: usize,
    len: usize,
}

impl AlignedBuf {
    /// Covers every logical block size in use (512 and 4096).
    pub const ALIGN: usize = 4096;

    /// Room for `capacity` bytes, rounded up to [`ALIGN`](Self::ALIGN); its length is `capacity`.
    pub fn new(capacity: usize) -> Self {
        let rounded = capacity.next_multiple_of(Self::ALIGN);
        let memory = vec![0; rounded + Self::ALIGN];
        let start = memory.as_ptr().align_offset(Self::ALIGN);
        assert!(start <= Self::ALIGN, "a byte pointer can always be aligned");
        Self { memory, start, capacity: rounded, len: capacity }
    }

    /// Bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many bytes the next read asks for; cut to the capacity.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.capacity);
    }

    /// The bytes asked for.
    pub fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// The bytes asked for.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    /// The length rounded up to the alignment: what an `O_DIRECT` read needs, even at the end of a file.
    pub(super) fn rounded_mut(&mut self) -> &mut [u8] {
        let len = self.len.next_multiple_of(Self::ALIGN);
        &mut self.memory[self.start..self.start + len]
    }
}
