//! Slices of batches that count for no more memory than their rows take, in the memory of the whole batch.
//!
//! The client cuts a batch into messages by the memory that its buffers belong to, so that a slice counts like all of
//! what it is a slice of; and every column of a frame like the whole frame.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, GenericByteArray, cast::AsArray, make_array, types::BinaryType,
    types::ByteArrayType, types::LargeBinaryType, types::LargeUtf8Type, types::Utf8Type,
};
use arrow_buffer::{
    ArrowNativeType, BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer,
};
use arrow_schema::DataType;
use bytes::Bytes;

/// The column with buffers that hold its rows and nothing else; none if they would have to be copied for that.
pub(super) fn trimmed(column: &dyn Array) -> Option<ArrayRef> {
    let nulls = column.nulls().map(|nulls| NullBuffer::new(bits(nulls.inner())));
    Some(match column.data_type() {
        DataType::Boolean => Arc::new(BooleanArray::new(bits(column.as_boolean().values()), nulls)),
        DataType::Utf8 => strings(column.as_bytes::<Utf8Type>(), nulls),
        DataType::LargeUtf8 => strings(column.as_bytes::<LargeUtf8Type>(), nulls),
        DataType::Binary => strings(column.as_bytes::<BinaryType>(), nulls),
        DataType::LargeBinary => strings(column.as_bytes::<LargeBinaryType>(), nulls),
        data_type => {
            let width = data_type.primitive_width()?;
            let data = column.to_data();
            let values = data.buffers().first()?;
            let values = part(values, data.offset() * width..(data.offset() + data.len()) * width);
            let data = data.into_builder().offset(0).buffers(vec![values]).nulls(nulls);
            make_array(data.build().ok()?)
        }
    })
}

/// Some bytes of a buffer, as a buffer that ends there.
fn part(buffer: &Buffer, bytes: Range<usize>) -> Buffer {
    Buffer::from(Bytes::from_owner(Part(buffer.slice_with_length(bytes.start, bytes.len()))))
}

/// What keeps the memory.
struct Part(Buffer);

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn bits(bits: &BooleanBuffer) -> BooleanBuffer {
    let bytes = bits.offset() / 8..(bits.offset() + bits.len()).div_ceil(8);
    BooleanBuffer::new(part(bits.inner(), bytes), bits.offset() % 8, bits.len())
}

/// Only the offsets are copied, for the first one has to be zero.
fn strings<T: ByteArrayType>(column: &GenericByteArray<T>, nulls: Option<NullBuffer>) -> ArrayRef {
    let offsets = column.value_offsets();
    let (first, last) = (offsets[0], offsets[column.len()]);
    let moved: MutableBuffer = offsets.iter().map(|offset| *offset - first).collect();
    let values = part(column.values(), first.as_usize()..last.as_usize());
    let moved = ScalarBuffer::new(moved.into(), 0, offsets.len());
    #[expect(unsafe_code, reason = "what is a string, and how offsets rise, was looked at before")]
    // SAFETY: The offsets are those of a valid array less the first one, and the values are what they point at there.
    let column =
        unsafe { GenericByteArray::<T>::new_unchecked(OffsetBuffer::new_unchecked(moved), values, nulls) };
    Arc::new(column)
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Int32Type;
    use arrow_array::{
        Decimal128Array, DictionaryArray, Int64Array, LargeBinaryArray, ListArray, StringArray,
        TimestampMicrosecondArray,
    };

    use super::*;

    const ROWS: usize = 1000;

    fn every_third<T>(value: impl Fn(usize) -> T) -> impl Iterator<Item = Option<T>> {
        (0..ROWS).map(move |row| (row % 3 > 0).then(|| value(row)))
    }

    #[test]
    fn a_slice_is_the_same_and_counts_for_its_rows() {
        let text = |row: usize| "x".repeat(row % 7);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter(every_third(|row| row as i64))),
            Arc::new(Int64Array::from_iter_values(0..ROWS as i64)),
            Arc::new(
                TimestampMicrosecondArray::from_iter(every_third(|row| row as i64)).with_timezone("UTC"),
            ),
            Arc::new(
                Decimal128Array::from_iter(every_third(|row| row as i128))
                    .with_precision_and_scale(9, 3)
                    .unwrap(),
            ),
            Arc::new(BooleanArray::from_iter(every_third(|row| row % 2 == 0))),
            Arc::new(StringArray::from_iter(every_third(text))),
            Arc::new(StringArray::from_iter_values((0..ROWS).map(text))),
            Arc::new(LargeBinaryArray::from_iter(every_third(text))),
        ];
        for column in columns {
            let whole = column.get_buffer_memory_size();
            for (start, length) in [(0, ROWS), (0, 100), (1, 100), (13, 200), (ROWS - 9, 9), (500, 0)] {
                let slice = column.slice(start, length);
                let trimmed = trimmed(&slice).unwrap();
                assert_eq!(*trimmed, *slice, "{:?} from {start}", column.data_type());
                trimmed.to_data().validate_full().unwrap();
                let bytes = trimmed.get_buffer_memory_size();
                let share = whole * length / ROWS + 128;
                assert!(bytes <= share, "{bytes} B for {share} B of {:?}", column.data_type());
            }
        }
    }

    #[test]
    fn what_would_have_to_be_copied_is_told() {
        let words: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
        let columns: [ArrayRef; 2] = [Arc::new(words), Arc::new(list)];
        assert!(columns.iter().all(|column| trimmed(column).is_none()));
    }
}
