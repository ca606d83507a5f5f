//! The bytes that are appended: the same memory for every method.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use rand::{RngCore, SeedableRng, rngs::StdRng};

use crate::{MIB, Result};

/// What direct writes are aligned to.
pub const BLOCK: usize = 4096;
/// Where in a block an unaligned entry begins: aligned as Arrow likes it, not as `O_DIRECT` does.
const SKEW: usize = 64;
const POOL_BYTES: usize = 64 * MIB;
/// How many different entries one producer has at most.
const ENTRIES_MAX: usize = 256;

/// Random bytes that entries are slices of.
#[derive(Clone, Debug)]
pub struct Pool {
    bytes: Bytes,
    entry_bytes: usize,
}

impl Pool {
    /// A pool of entries of this length; the same bytes at every run.
    pub fn new(entry_bytes: usize) -> Pool {
        let mut bytes = vec![0; POOL_BYTES.max(4 * entry_bytes) + 2 * BLOCK];
        StdRng::seed_from_u64(entry_bytes as u64).fill_bytes(&mut bytes);
        let bytes = Bytes::from(bytes);
        let aligned = bytes.as_ptr().align_offset(BLOCK);
        Pool { bytes: bytes.slice(aligned..), entry_bytes }
    }

    /// Of entries of this length, but without any: for logs that are only opened.
    pub fn none(entry_bytes: usize) -> Pool {
        Pool { bytes: Bytes::new(), entry_bytes }
    }

    /// How long an entry is.
    pub fn entry_bytes(&self) -> usize {
        self.entry_bytes
    }

    fn stride(&self) -> usize {
        (SKEW + self.entry_bytes).next_multiple_of(BLOCK)
    }

    /// The entries of one producer: where in memory they begin, seen from a block's beginning, and how long.
    fn slices(&self, producer: usize, skew: usize, length: usize) -> Vec<Bytes> {
        let slots = self.bytes.len().saturating_sub(BLOCK) / self.stride();
        let count = slots.min(ENTRIES_MAX);
        (0..count)
            .map(|entry| (producer * ENTRIES_MAX + entry) % slots * self.stride() + skew)
            .map(|start| self.bytes.slice(start..start + length))
            .collect()
    }

    /// Entries as a caller has them.
    pub fn entries(&self, producer: usize) -> Vec<Bytes> {
        self.slices(producer, SKEW, self.entry_bytes)
    }

    /// Entries that begin at a block in memory and fill whole ones.
    pub fn aligned_entries(&self, producer: usize) -> Vec<Bytes> {
        self.slices(producer, 0, self.entry_bytes.next_multiple_of(BLOCK))
    }

    /// Entries as batches of one row with one binary column; their buffers are the pool's.
    ///
    /// # Errors
    ///
    /// When Arrow refuses the bytes.
    pub fn batches(&self, producer: usize) -> Result<Vec<RecordBatch>> {
        let schema = Arc::new(Schema::new(vec![Field::new("payload", DataType::Binary, false)]));
        let batch = |entry: Bytes| {
            let offsets = OffsetBuffer::from_lengths([entry.len()]);
            let column: ArrayRef = Arc::new(BinaryArray::try_new(offsets, Buffer::from(entry), None)?);
            Ok(RecordBatch::try_new(Arc::clone(&schema), vec![column])?)
        };
        self.entries(producer).into_iter().map(batch).collect()
    }
}
