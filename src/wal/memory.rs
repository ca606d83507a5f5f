//! Memory that a log is read into, again and again.
//!
//! New memory is filled with zeros, by us and mostly by the system too: for large frames that takes longer than to read
//! them.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use super::read_ahead::ReadAhead;
use crate::io::BLOCK;

/// So many pieces are kept in any case: while one frame is converted, the next one is read.
const KEPT_MIN: usize = 2;
/// More are as long as they are no more than this: frames that travel in the memory that they were read into come back when
/// they are acknowledged, and new memory would have to be made for the next ones meanwhile.
const KEPT_MAX: usize = 32;
const KEPT_BYTES_MAX: usize = 48 * 1024 * 1024;

/// What a walk leaves to the next one: its memory, to be read into once more as soon as nobody has a frame in it any
/// more, and its pace.
#[derive(Debug, Default)]
pub(super) struct ReadMemory {
    /// The newest first.
    used: VecDeque<Bytes>,
    /// How much was read at once last.
    pub(super) read_bytes: usize,
    /// What a frame like the last one takes, with the next one's header.
    pub(super) stride: usize,
    /// What is read into some of it meanwhile.
    pub(super) ahead: ReadAhead,
}

impl ReadMemory {
    /// Keeps what was read into last. If there is too much, the oldest is freed with its last frame.
    pub(super) fn keep(&mut self, used: Bytes) {
        if used.is_empty() {
            return;
        }
        self.used.push_front(used);
        while self.used.len() > KEPT_MIN && self.is_too_much() {
            self.used.pop_back();
        }
    }

    fn is_too_much(&self) -> bool {
        self.used.len() > KEPT_MAX || self.used.iter().map(Bytes::len).sum::<usize>() > KEPT_BYTES_MAX
    }

    /// Memory of this length or more, so that what lies behind is not filled with zeros when it is wanted again.
    ///
    /// It begins at a block, as what is read into it does in its file: some processors copy several times slower
    /// between addresses that lie differently in their pages.
    pub(super) fn take(&mut self, length: usize) -> BytesMut {
        let oldest = |is_right: &dyn Fn(&Bytes) -> bool| {
            self.used.iter().rposition(|used| used.is_unique() && is_right(used))
        };
        let free = oldest(&|used| used.len() >= length).or_else(|| oldest(&|_| true));
        let free = free.and_then(|at| self.used.remove(at)?.try_into_mut().ok());
        let mut bytes = free.filter(|free| free.capacity() >= length).unwrap_or_else(|| {
            // The next frame may be a little longer.
            let mut bytes = BytesMut::with_capacity(length + length / 16 + BLOCK);
            let start = bytes.as_ptr().align_offset(BLOCK);
            bytes.resize(start, 0);
            bytes.advance(start);
            bytes
        });
        if bytes.len() < length {
            bytes.resize(length, 0);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch};

    use super::*;
    use crate::types::Lsn;
    use crate::wal::{PreparedFrame, testing};

    #[test]
    fn a_reader_that_finds_nothing_new_twice_gives_its_memory_back() {
        let directory = tempfile::tempdir().unwrap();
        let (wal, _) = testing::open(directory.path(), 1 << 20);
        let ids = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("id", ids as _)]).unwrap();
        let mut reader = wal.reader(Lsn::FIRST);
        for _ in 0..2 {
            wal.append_blocking(PreparedFrame::new(&batch).unwrap()).unwrap();
            assert!(reader.next().unwrap().is_some());
            assert!(reader.next().unwrap().is_none());
            assert!(!reader.memory.used.is_empty(), "more may come at once");
            assert!(reader.next().unwrap().is_none());
            assert!(reader.memory.used.is_empty());
        }
    }

    #[test]
    fn memory_is_used_again_once_nobody_reads_in_it() {
        let mut memory = ReadMemory::default();
        let first = memory.take(3 * BLOCK).freeze();
        let address = first.as_ptr();
        let frame = first.slice(100..200);
        memory.keep(first);

        let second = memory.take(BLOCK).freeze();
        assert_ne!(second.as_ptr(), address, "a frame is still there");
        memory.keep(second);
        drop(frame);
        // As long as it was, and at the beginning of a block as ever.
        let third = memory.take(2 * BLOCK);
        assert_eq!((third.as_ptr(), third.len()), (address, 3 * BLOCK));
    }

    #[test]
    fn no_more_is_kept_than_there_were_frames_at_a_time_and_may_be_kept() {
        let kept = |count, length| {
            let mut memory = ReadMemory::default();
            let held: Vec<Bytes> = (0..count).map(|_| memory.take(length).freeze()).collect();
            held.iter().for_each(|bytes| memory.keep(bytes.clone()));
            drop(held);
            memory.used.iter().filter(|used| used.is_unique()).count()
        };
        assert_eq!(kept(1, BLOCK), 1);
        assert_eq!(kept(5, BLOCK), 5, "as many as were on their way");
        assert_eq!(kept(100, BLOCK), KEPT_MAX);
        assert_eq!(kept(10, 10_000_000), 5);
        assert_eq!(kept(10, 30_000_000), KEPT_MIN);
    }

    #[test]
    fn what_is_too_short_is_not_kept_and_new_memory_begins_at_a_block() {
        let mut memory = ReadMemory::default();
        memory.keep(BytesMut::zeroed(BLOCK).freeze());
        memory.keep(BytesMut::zeroed(BLOCK).freeze());
        assert!(memory.take(2 * BLOCK).as_ptr().addr().is_multiple_of(BLOCK));
        assert_eq!(memory.used.len(), 1);
    }
}
