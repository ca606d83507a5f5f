//! Memory as direct writes want it: beginning at a multiple of the block size.

use std::fmt;

use crate::io::BLOCK;

/// Bytes that grow at the end and begin at an address of the wanted alignment.
pub(super) struct AlignedBuf {
    /// The buffer's bytes begin at `start`; it never grows beyond its capacity in place, so the
    /// address of the first one stays.
    bytes: Vec<u8>,
    start: usize,
    alignment: usize,
}

impl AlignedBuf {
    /// An empty buffer that takes `capacity` bytes without moving.
    pub(super) fn with_capacity(capacity: usize, alignment: usize) -> AlignedBuf {
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity + alignment - 1);
        let start = bytes.as_ptr().align_offset(alignment);
        bytes.resize(start, 0);
        AlignedBuf { bytes, start, alignment }
    }

    /// An empty buffer for whole blocks.
    pub(super) fn of_blocks(capacity: usize) -> AlignedBuf {
        AlignedBuf::with_capacity(capacity, BLOCK)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    pub(super) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn extend_zeros(&mut self, count: usize) {
        self.reserve(count);
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    fn reserve(&mut self, additional: usize) {
        if self.bytes.capacity() - self.bytes.len() < additional {
            let capacity = (self.len() + additional).max(2 * self.len());
            let mut larger = AlignedBuf::with_capacity(capacity, self.alignment);
            larger.bytes.extend_from_slice(self.as_slice());
            *self = larger;
        }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_stay_aligned_however_the_buffer_grows() {
        let mut buffer = AlignedBuf::of_blocks(10);
        let mut expected = Vec::new();
        for round in 0..200u8 {
            let part = vec![round; usize::from(round) * 37];
            buffer.extend(&part);
            buffer.extend_zeros(3);
            expected.extend_from_slice(&part);
            expected.extend_from_slice(&[0; 3]);
            assert!(buffer.as_slice().as_ptr().addr().is_multiple_of(BLOCK));
        }
        assert_eq!(buffer.as_slice(), expected);
        buffer.clear();
        assert_eq!(buffer.len(), 0);
    }
}
