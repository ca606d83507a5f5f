//! Conversions that Arrow has no exact kernel for: written as protobuf, which has one for every type, and read back.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, LargeBinaryBuilder, LargeStringBuilder, PrimitiveBuilder};
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{Array as _, ArrayRef};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use prost::encoding::decode_varint;

use crate::convert::bind::bind;
use crate::convert::encode;
use crate::convert::mapping::Node;
use crate::convert::records::Records;

/// The values as the service would read them out of records. A value that cannot be written is one that nobody sees, and
/// becomes null.
pub(super) fn written(node: &Node, array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let failed = || ArrowError::CastError(format!("{} is not {to}", array.data_type()));
    let mut records = Records::new();
    let field = bind(node, array).ok_or_else(failed)?;
    let refused = encode::encode(&mut [field], 0..array.len(), &mut records).refused;
    let mut refused = refused.iter().map(|error| error.row).peekable();
    let mut next = 0;
    // Behind the key; an empty record is a null.
    let key_len = node.header.key.len();
    let values: Vec<Option<&[u8]>> = (0..array.len())
        .map(|row| {
            if refused.next_if_eq(&row).is_some() {
                return None;
            }
            next += 1;
            records.record(next - 1).get(key_len..).filter(|value| !value.is_empty())
        })
        .collect();
    let values = values.into_iter();
    Ok(match to {
        DataType::Boolean => {
            let mut builder = BooleanBuilder::with_capacity(array.len());
            values.for_each(|value| builder.append_option(value.map(|value| varint(value) != 0)));
            Arc::new(builder.finish())
        }
        DataType::Int8 => numbers::<Int8Type>(values, to, |value| varint(value) as i8),
        DataType::Int16 => numbers::<Int16Type>(values, to, |value| varint(value) as i16),
        DataType::Int32 => numbers::<Int32Type>(values, to, |value| varint(value) as i32),
        DataType::Int64 => numbers::<Int64Type>(values, to, |value| varint(value).cast_signed()),
        DataType::Date32 => numbers::<Date32Type>(values, to, |value| varint(value) as i32),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            numbers::<TimestampMicrosecondType>(values, to, |value| varint(value).cast_signed())
        }
        DataType::Float32 => numbers::<Float32Type>(values, to, |value| f32::from_le_bytes(fixed(value))),
        DataType::Float64 => numbers::<Float64Type>(values, to, |value| f64::from_le_bytes(fixed(value))),
        DataType::LargeBinary => {
            let mut builder = LargeBinaryBuilder::with_capacity(array.len(), records.bytes());
            values.for_each(|value| builder.append_option(value.map(delimited)));
            Arc::new(builder.finish())
        }
        DataType::LargeUtf8 => {
            let mut builder = LargeStringBuilder::with_capacity(array.len(), records.bytes());
            for value in values {
                let text = value.map(|value| std::str::from_utf8(delimited(value))).transpose();
                builder.append_option(text.map_err(|error| ArrowError::CastError(error.to_string()))?);
            }
            Arc::new(builder.finish())
        }
        _ => return Err(failed()),
    })
}

fn numbers<'v, T: ArrowPrimitiveType>(
    values: impl ExactSizeIterator<Item = Option<&'v [u8]>>,
    to: &DataType,
    read: impl Fn(&[u8]) -> T::Native,
) -> ArrayRef {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(values.len()).with_data_type(to.clone());
    values.for_each(|value| builder.append_option(value.map(&read)));
    Arc::new(builder.finish())
}

fn varint(mut value: &[u8]) -> u64 {
    decode_varint(&mut value).unwrap_or_default()
}

fn fixed<const N: usize>(value: &[u8]) -> [u8; N] {
    value.first_chunk().copied().unwrap_or([0; N])
}

/// What stands behind the length.
fn delimited(value: &[u8]) -> &[u8] {
    let mut rest = value;
    let len = decode_varint(&mut rest).unwrap_or_default() as usize;
    let start = value.len() - rest.len();
    let range: Range<usize> = start..(start + len).min(value.len());
    &value[range]
}
