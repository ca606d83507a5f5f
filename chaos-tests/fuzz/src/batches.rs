//! Batches of all kinds, and the messages that the log stores of them.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Int64Array, ListArray, NullArray,
    RecordBatch, StringArray, StringViewArray, StructArray,
    types::{Int32Type, Int64Type},
};
use arrow_ipc::{
    MetadataVersion,
    writer::{IpcWriteOptions, StreamEncoder},
};

/// How many kinds there are.
pub const KINDS: usize = 5;

/// A batch of one kind with so many rows.
pub fn batch(kind: usize, rows: usize) -> RecordBatch {
    let numbers: ArrayRef = Arc::new((0..rows as i64).collect::<Int64Array>());
    let text = |row: usize| (row % 3 > 0).then(|| format!("a text of row {row}"));
    let texts: StringArray = (0..rows).map(text).collect();
    let columns: Vec<(&str, ArrayRef)> = match kind % KINDS {
        0 => vec![("id", numbers), ("name", Arc::new(texts))],
        1 => {
            let keys: DictionaryArray<Int32Type> = (0..rows).map(|row| Some(["a", "b"][row % 2])).collect();
            vec![("key", Arc::new(keys))]
        }
        2 => {
            let lists = (0..rows).map(|row| Some((0..row as i64 % 4).map(Some).collect::<Vec<_>>()));
            let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
            let inner = StructArray::try_from(vec![("n", numbers), ("list", list)]).unwrap();
            vec![("struct", Arc::new(inner))]
        }
        3 => {
            let views: StringViewArray = (0..rows).map(text).collect();
            let flags: BooleanArray = (0..rows).map(|row| Some(row % 2 == 0)).collect();
            vec![("view", Arc::new(views)), ("flag", Arc::new(flags))]
        }
        _ => {
            let decimals: Decimal128Array = (0..rows as i128).map(Some).collect();
            vec![("nothing", Arc::new(NullArray::new(rows))), ("price", Arc::new(decimals))]
        }
    };
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

/// A batch of one row of so many bytes: fills segments, and is quickly decoded.
pub fn long_batch(bytes: usize) -> RecordBatch {
    let column: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&vec![7; bytes]]));
    RecordBatch::try_from_iter([("bytes", column)]).unwrap()
}

/// The schema message of a batch, and its other messages.
pub fn messages(batch: &RecordBatch) -> (Vec<u8>, Vec<u8>) {
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5).unwrap();
    let mut encoder = StreamEncoder::try_new_with_options(&batch.schema(), options).unwrap();
    let bytes: Vec<u8> = encoder.encode(batch).unwrap().iter().flat_map(|buffer| buffer.to_vec()).collect();
    let schema_length = 8 + u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
    let (schema, rest) = bytes.split_at(schema_length);
    (schema.to_vec(), rest.to_vec())
}
