//! Batches as large as a test wants them.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch};

/// A batch of so many bytes in one cell, which follow from its number.
pub(crate) fn blob(number: usize, bytes: usize) -> RecordBatch {
    let value: Vec<u8> = (0..bytes).map(|at| (at * 31 + number * 7 + at / 251) as u8).collect();
    let column: ArrayRef = Arc::new(BinaryArray::from_iter_values([value]));
    RecordBatch::try_from_iter_with_nullable([("blob", column, true)]).unwrap()
}
