//! Memory that a server's answer is read into.

/// Start of every buffer, so that an `O_DIRECT` writer can use it as it is.
const ALIGNMENT: usize = 4096;

/// A heap buffer that starts at a multiple of 4096 and never moves while it lives.
pub struct Buffer {
    memory: Vec<u8>,
    skew: usize,
    len: usize,
}

impl Buffer {
    /// `capacity` bytes, all zero.
    pub fn new(capacity: usize) -> Self {
        let memory = vec![0; capacity.saturating_add(ALIGNMENT)];
        let skew = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, skew, len: capacity }
    }

    /// Most bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.memory.len() - ALIGNMENT
    }

    /// Shows the first `len` bytes only; at most the capacity.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.capacity());
    }

    /// Bytes shown.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are shown.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes shown.
    pub fn as_slice(&self) -> &[u8] {
        &self.memory[self.skew..self.skew + self.len]
    }

    /// The bytes shown.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.skew..self.skew + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_aligned_and_bounded() {
        for capacity in [0, 1, 4096, 100_000] {
            let mut buffer = Buffer::new(capacity);
            assert_eq!(buffer.as_slice().len(), capacity);
            assert_eq!(buffer.as_slice().as_ptr().align_offset(ALIGNMENT), 0);
            buffer.set_len(usize::MAX);
            assert_eq!(buffer.as_mut_slice().len(), capacity, "never past the capacity");
            buffer.set_len(0);
            assert!(buffer.is_empty());
        }
    }
}
