//! Batches whose contents follow from their number.

use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, cast::AsArray, types::Int64Type};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_zerobus_sdk_wrapper::wal::{Frame, PreparedFrame};

const ROWS_MAX: i64 = 1_000_000;

static IDS: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)])));
static NAMES: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ]))
});

/// How many rows the batch of this number has: a few, now and then some hundred.
pub(crate) fn rows(number: u64) -> u64 {
    match number % 13 {
        0 => 150 + number % 200,
        n => n % 5 + 1,
    }
}

fn with_rows(number: u64, rows: u64) -> RecordBatch {
    let ids: Int64Array = (0..rows as i64).map(|row| number as i64 * ROWS_MAX + row).collect();
    let ids: ArrayRef = Arc::new(ids);
    if number % 3 > 0 {
        return RecordBatch::try_new(Arc::clone(&IDS), vec![ids]).unwrap();
    }
    let names: StringArray = (0..rows).map(|row| (row % 3 > 0).then(|| format!("{number}/{row}"))).collect();
    RecordBatch::try_new(Arc::clone(&NAMES), vec![ids, Arc::new(names)]).unwrap()
}

/// The frame of the batch of this number.
pub(crate) fn frame(number: u64) -> PreparedFrame {
    PreparedFrame::new(&with_rows(number, rows(number))).unwrap()
}

/// A frame that no segment of so many bytes can hold.
pub(crate) fn oversized(segment_bytes: u64) -> PreparedFrame {
    PreparedFrame::new(&with_rows(1, segment_bytes / 8)).unwrap()
}

/// The number of the batch that a frame holds; an error unless it is that batch to the last byte.
pub(crate) fn number_of(frame: &Frame) -> Result<u64, String> {
    let batch = frame.decode().map_err(|error| format!("R2: frame {} is no batch: {error}", frame.lsn))?;
    let first = batch.column(0).as_primitive_opt::<Int64Type>().map(|ids| ids.value(0));
    let number = first.map_or(0, |first| first / ROWS_MAX) as u64;
    if batch != with_rows(number, rows(number)) {
        return Err(format!("R2: frame {} is no batch that was ever appended", frame.lsn));
    }
    Ok(number)
}
