//! Small batches of plain columns, from where their exporter has them straight into a frame.

use std::str;

use arrow_array::ffi::FFI_ArrowArray;
use arrow_schema::DataType;

use super::schemas::StructSchema;
use crate::wal::{BUFFERS_MAX, COLUMNS_MAX, FlatColumn, LARGE_BYTES_MIN, PreparedFrame, flat_buffers};

const OFFSET: usize = size_of::<i32>();

/// The frame of an array that is a batch of this schema; none if a column is not plain, is a part of another, or does not keep
/// what its type promises: the import says of each what is wrong.
pub(super) fn frame(array: &FFI_ArrowArray, schema: &StructSchema) -> Option<PreparedFrame> {
    let fields = schema.schema.fields();
    let flat = schema.flat.as_ref()?;
    let rows = array.len();
    // The offsets of no rows may be missing.
    if rows == 0 || array.offset() != 0 || array.num_children() != fields.len() {
        return None;
    }
    let mut columns = [FlatColumn::default(); COLUMNS_MAX];
    for (index, field) in fields.iter().enumerate() {
        columns[index] = column(array.child(index), field.data_type(), rows)?;
    }
    flat.frame(u32::try_from(rows).ok()?, &columns[..fields.len()])
}

fn column<'a>(array: &'a FFI_ArrowArray, data_type: &DataType, rows: usize) -> Option<FlatColumn<'a>> {
    let count = flat_buffers(data_type)?;
    let null_count = array.null_count_opt()?;
    if array.offset() != 0 || array.len() != rows || array.num_buffers() != count {
        return None;
    }
    // SAFETY: the exporter says that its buffers are as long as an array of this type and so many rows has them, and they live as
    // long as the array.
    #[expect(unsafe_code, reason = "the interface is one of pointers")]
    let buffer = |index: usize, bytes: usize| match (array.buffer(index), bytes) {
        (_, 0) => Some(&[][..]),
        (start, _) if start.is_null() => None,
        (start, bytes) => Some(unsafe { std::slice::from_raw_parts(start, bytes) }),
    };
    let validity = buffer(0, if null_count > 0 { rows.div_ceil(8) } else { 0 })?;
    let mut buffers = [validity; BUFFERS_MAX];
    match data_type.primitive_width() {
        Some(width) => buffers[1] = buffer(1, rows.checked_mul(width)?)?,
        None => {
            let offsets = buffer(1, (rows + 1).checked_mul(OFFSET)?)?;
            // Longer ones would be looked at in vain: the frame would be a large one.
            let values = buffer(2, last(offsets).filter(|bytes| *bytes < LARGE_BYTES_MIN)?)?;
            let is_text = *data_type == DataType::Utf8;
            (buffers[1], buffers[2]) = are_valid(offsets, values, is_text).then_some((offsets, values))?;
        }
    }
    Some(FlatColumn { null_count, buffers, count })
}

fn number(bytes: &[u8]) -> Option<usize> {
    usize::try_from(i32::from_ne_bytes(bytes.try_into().ok()?)).ok()
}

/// Where the last value ends.
fn last(offsets: &[u8]) -> Option<usize> {
    number(offsets.rchunks_exact(OFFSET).next()?)
}

/// Whether the offsets begin with 0 and never go back, and each value is a text, if they are texts.
fn are_valid(offsets: &[u8], values: &[u8], are_texts: bool) -> bool {
    let text = if are_texts { str::from_utf8(values) } else { Ok("") };
    let Ok(text) = text else { return false };
    let mut before = 0;
    number(&offsets[..OFFSET]) == Some(0)
        && offsets.chunks_exact(OFFSET).all(|offset| {
            let Some(offset) = number(offset).filter(|offset| *offset >= before && *offset <= values.len())
            else {
                return false;
            };
            before = offset;
            !are_texts || text.is_char_boundary(offset)
        })
}
