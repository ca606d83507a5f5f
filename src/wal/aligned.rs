//! Memory as direct writes want it: beginning at a multiple of the block size, and, where it is long, in large
//! pages.

use std::{collections::VecDeque, fmt, mem::MaybeUninit};

use arrow_buffer::Buffer;

use crate::io::BLOCK;

/// Bytes are copied and checksummed in pieces of this length, which stay in the cache meanwhile.
const PIECE_BYTES: usize = 64 * 1024;
/// A large page. The device takes few pieces of memory in one request, and a page is one piece.
pub(super) const LARGE_PAGE: usize = 2 * 1024 * 1024;
/// A buffer that grows to this length lies in large pages.
const LARGE_BYTES_MIN: usize = LARGE_PAGE / 4;

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

    /// An empty buffer for whole blocks in large pages.
    pub(super) fn of_large_pages(capacity: usize) -> AlignedBuf {
        // The system has zeros for what nobody touches, so what lies before the first large page costs no memory.
        let mut bytes = vec![0; AlignedBuf::large_capacity(capacity) + LARGE_PAGE - 1];
        let start = bytes.as_ptr().align_offset(LARGE_PAGE);
        bytes.truncate(start);
        want_large_pages(bytes.spare_capacity_mut());
        AlignedBuf { bytes, start, alignment: LARGE_PAGE }
    }

    /// What a buffer in large pages takes that has this capacity at least.
    pub(super) fn large_capacity(capacity: usize) -> usize {
        capacity.next_multiple_of(LARGE_PAGE)
    }

    /// The bytes that it takes without moving: as many as were asked for, or more.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity() - (self.alignment - 1)
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

    /// Appends the buffers and returns the checksum of their bytes.
    pub(super) fn extend_summed(&mut self, buffers: &[Buffer]) -> u32 {
        self.reserve(buffers.iter().map(Buffer::len).sum());
        let mut checksum = crc32fast::Hasher::new();
        let mut parts = buffers.iter().map(Buffer::as_slice).collect();
        self.fill_summed(usize::MAX, &mut parts, &mut checksum);
        checksum.finalize()
    }

    /// Takes bytes of the parts until there are `length` in here or none are left, and adds them to the checksum.
    pub(super) fn fill_summed(
        &mut self,
        length: usize,
        parts: &mut VecDeque<&[u8]>,
        checksum: &mut crc32fast::Hasher,
    ) {
        while self.len() < length
            && let Some(part) = parts.pop_front()
        {
            let start = self.len();
            let (piece, rest) = part.split_at(part.len().min(PIECE_BYTES).min(length - start));
            self.extend(piece);
            checksum.update(&self.as_slice()[start..]);
            if !rest.is_empty() {
                parts.push_front(rest);
            }
        }
    }

    /// Appends zeros up to the end of a block.
    pub(super) fn fill_block(&mut self) {
        self.extend_zeros(self.len().next_multiple_of(BLOCK) - self.len());
    }

    /// Empties it and gives its memory back, if it is more than this.
    pub(super) fn give_back(&mut self, capacity: usize) {
        if self.bytes.capacity() > capacity + self.alignment {
            *self = AlignedBuf::of_blocks(0);
        }
    }

    pub(super) fn extend_zeros(&mut self, count: usize) {
        self.reserve(count);
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    fn reserve(&mut self, additional: usize) {
        if self.bytes.capacity() - self.bytes.len() < additional {
            let capacity = (self.len() + additional).max(2 * self.len());
            let mut larger = match capacity < LARGE_BYTES_MIN {
                true => AlignedBuf::with_capacity(capacity, self.alignment),
                false => AlignedBuf::of_large_pages(capacity),
            };
            larger.bytes.extend_from_slice(self.as_slice());
            *self = larger;
        }
    }
}

/// Asks for large pages, which begin where the memory does. Without them writes are only slower. An allocator may give memory
/// that somebody had before, in small pages: these go back first.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the calls take an address")]
fn want_large_pages(memory: &mut [MaybeUninit<u8>]) {
    use rustix::mm::{Advice, madvise};
    let (start, length) = (memory.as_mut_ptr(), memory.len() / LARGE_PAGE * LARGE_PAGE);
    for advice in [Advice::LinuxDontNeed, Advice::LinuxHugepage] {
        // SAFETY: the range lies within memory that is borrowed for the call and holds nothing yet; what it reads as is all
        // that changes.
        let _ = unsafe { madvise(start.cast(), length, advice) };
    }
}

#[cfg(not(target_os = "linux"))]
fn want_large_pages(_memory: &mut [MaybeUninit<u8>]) {}

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
