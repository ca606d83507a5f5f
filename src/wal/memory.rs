//! Memory that a log is read into, again and again.
//!
//! New memory is filled with zeros, by us and mostly by the system too: for large frames that takes longer than to read
//! them.

use bytes::{Buf as _, Bytes, BytesMut};

use super::read_ahead::ReadAhead;
use crate::io::BLOCK;

/// How many pieces are kept: while one frame is converted, the next one is read.
const KEPT: usize = 2;

/// What a walk leaves to the next one: its memory, to be read into once more as soon as nobody has a frame in it any
/// more, and its pace.
#[derive(Debug, Default)]
pub(super) struct ReadMemory {
    used: [Bytes; KEPT],
    /// How much was read at once last.
    pub(super) read_bytes: usize,
    /// What a frame like the last one takes, with the next one's header.
    pub(super) stride: usize,
    /// What is read into some of it meanwhile.
    pub(super) ahead: ReadAhead,
}

impl ReadMemory {
    /// Keeps what was read into last. If there are too many, the oldest is freed with its last frame.
    pub(super) fn keep(&mut self, used: Bytes) {
        if !used.is_empty() {
            self.used.rotate_right(1);
            self.used[0] = used;
        }
    }

    /// Memory of this length or more, so that what lies behind is not filled with zeros when it is wanted again.
    ///
    /// It begins at a block, as what is read into it does in its file: some processors copy several times slower
    /// between addresses that lie differently in their pages.
    pub(super) fn take(&mut self, length: usize) -> BytesMut {
        let free = self.used.iter_mut().rev().find(|used| used.is_unique());
        let free = free.and_then(|used| std::mem::take(used).try_into_mut().ok());
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
            assert!(reader.memory.used.iter().any(|used| !used.is_empty()), "more may come at once");
            assert!(reader.next().unwrap().is_none());
            assert!(reader.memory.used.iter().all(Bytes::is_empty));
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
    fn no_more_is_kept_than_is_used_in_turns() {
        let mut memory = ReadMemory::default();
        let held: Vec<Bytes> = (0..10).map(|_| memory.take(BLOCK).freeze()).collect();
        held.iter().for_each(|bytes| memory.keep(bytes.clone()));
        drop(held);
        assert_eq!(memory.used.iter().filter(|used| used.is_unique()).count(), KEPT);
        let larger = memory.take(2 * BLOCK);
        assert!(larger.as_ptr().addr().is_multiple_of(BLOCK));
        assert_eq!(
            memory.used.iter().filter(|used| used.is_unique()).count(),
            KEPT - 1,
            "too short to be kept"
        );
    }
}
