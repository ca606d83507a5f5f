//! How many bytes rows of a batch take in memory of their own, and how many rows fit into so many.
//!
//! Only for the types that [`target`](super::target) has.

use std::ops::Range;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;

/// The longest run of rows from `first` on that takes at most `max_bytes` and has at most `max_rows` rows, and what it
/// takes; at least one row. None if there is no row `first`.
pub(crate) fn rows_within(
    batch: &RecordBatch,
    first: usize,
    max_bytes: usize,
    max_rows: usize,
) -> Option<(Range<usize>, usize)> {
    let most = (batch.num_rows().checked_sub(first)?).min(max_rows.max(1));
    if most == 0 {
        return None;
    }
    let bytes = |rows: usize| bytes_of(batch, first..first + rows);
    // At least one row is good, and more than `most` are none.
    let (mut good, mut bad) = (1, most + 1);
    if bytes(most) <= max_bytes {
        good = most;
        bad = most + 1;
    }
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if bytes(middle) <= max_bytes {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Some((first..first + good, bytes(good)))
}

/// What these rows take.
pub(super) fn bytes_of(batch: &RecordBatch, rows: Range<usize>) -> usize {
    batch.columns().iter().map(|column| array_bytes(column, rows.clone())).sum()
}

fn array_bytes(array: &dyn Array, rows: Range<usize>) -> usize {
    let validity = if array.nulls().is_some() { rows.len().div_ceil(8) } else { 0 };
    let values = match array.data_type() {
        DataType::Boolean => rows.len().div_ceil(8),
        DataType::LargeUtf8 => long(array.as_string::<i64>().value_offsets(), &rows),
        DataType::LargeBinary => long(array.as_binary::<i64>().value_offsets(), &rows),
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            inside(lists.value_offsets(), lists.values(), &rows)
        }
        DataType::Map(..) => {
            let maps = array.as_map();
            inside(maps.value_offsets(), maps.entries(), &rows)
        }
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|column| array_bytes(column, rows.clone())).sum()
        }
        other => other.primitive_width().unwrap_or_default() * rows.len(),
    };
    validity + values
}

fn long(offsets: &[i64], rows: &Range<usize>) -> usize {
    8 * rows.len() + (offsets[rows.end] - offsets[rows.start]) as usize
}

fn inside(offsets: &[i32], values: &dyn Array, rows: &Range<usize>) -> usize {
    4 * rows.len() + array_bytes(values, offsets[rows.start] as usize..offsets[rows.end] as usize)
}
