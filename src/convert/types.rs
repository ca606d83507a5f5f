//! Which protobuf type an Arrow type becomes, and how its values look on the wire.
//!
//! To add a type, give it a line in [`Conversion::of`]; when none of the [`Value`]s below writes it the
//! way the service reads it, add one.

use std::marker::PhantomData;

use arrow_array::types::*;
use arrow_array::{Array, BooleanArray, GenericByteArray, PrimitiveArray, StringViewArray};
use arrow_schema::{DataType, TimeUnit};
use bytes::BufMut;
use prost::encoding::{WireType, encode_varint, encoded_len_varint};
use prost_types::field_descriptor_proto::Type;

use super::encode::{Bind, bind};
use super::error::RowErrorReason;

/// How a column of one Arrow type is converted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversion {
    pub(super) field_type: Type,
    pub(super) wire_type: WireType,
    pub(super) bind: Bind,
}

impl Conversion {
    /// The conversion of a type, if it has one.
    ///
    /// The comments name the Delta types, in the order of the lines below them.
    pub(super) fn of(arrow_type: &DataType) -> Option<Conversion> {
        Some(match arrow_type {
            // BOOLEAN
            DataType::Boolean => to::<Bool>(Type::Bool),
            // BYTE, SHORT, INT, LONG
            DataType::Int8 => to::<Integer<Int8Type>>(Type::Int32),
            DataType::Int16 => to::<Integer<Int16Type>>(Type::Int32),
            DataType::Int32 => to::<Integer<Int32Type>>(Type::Int32),
            DataType::Int64 => to::<Integer<Int64Type>>(Type::Int64),
            // SHORT, INT, LONG: the narrowest signed type that holds all values
            DataType::UInt8 => to::<Integer<UInt8Type>>(Type::Int32),
            DataType::UInt16 => to::<Integer<UInt16Type>>(Type::Int32),
            DataType::UInt32 => to::<Integer<UInt32Type>>(Type::Int64),
            // FLOAT, DOUBLE
            DataType::Float32 => to::<Float>(Type::Float),
            DataType::Float64 => to::<Double>(Type::Double),
            // STRING
            DataType::Utf8 => to::<ByteString<Utf8Type>>(Type::String),
            DataType::LargeUtf8 => to::<ByteString<LargeUtf8Type>>(Type::String),
            DataType::Utf8View => to::<StringView>(Type::String),
            // BINARY
            DataType::Binary => to::<ByteString<BinaryType>>(Type::Bytes),
            DataType::LargeBinary => to::<ByteString<LargeBinaryType>>(Type::Bytes),
            // DATE
            DataType::Date32 => to::<Integer<Date32Type>>(Type::Int32),
            // TIMESTAMP with a zone, whatever it is, for the value is an instant in UTC; else TIMESTAMP_NTZ
            DataType::Timestamp(unit, _) => match unit {
                TimeUnit::Second => to::<Timestamp<TimestampSecondType>>(Type::Int64),
                TimeUnit::Millisecond => to::<Timestamp<TimestampMillisecondType>>(Type::Int64),
                TimeUnit::Microsecond => to::<Timestamp<TimestampMicrosecondType>>(Type::Int64),
                TimeUnit::Nanosecond => to::<Timestamp<TimestampNanosecondType>>(Type::Int64),
            },
            // The type of the values; `positions` follows the keys, one step
            DataType::Dictionary(keys, values)
                if keys.is_integer() && !matches!(**values, DataType::Dictionary(..)) =>
            {
                Conversion::of(values)?
            }
            _ => return None,
        })
    }
}

fn to<V: Value>(field_type: Type) -> Conversion {
    Conversion { field_type, wire_type: V::WIRE_TYPE, bind: bind::<V> }
}

/// What to cast a column to when its type has no conversion.
pub(super) fn cast_advice(arrow_type: &DataType) -> &'static str {
    match arrow_type {
        DataType::Float16 => "Float32",
        DataType::Date64 => "Date32, or Timestamp to keep the time of day",
        // The service reads DECIMAL columns from decimal text.
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => "Utf8, which a DECIMAL column takes as text",
        DataType::BinaryView | DataType::FixedSizeBinary(_) => "Binary",
        DataType::Time32(_) | DataType::Time64(_) | DataType::Duration(_) | DataType::Interval(_) => {
            "Utf8 or Int64, whichever the table has"
        }
        DataType::Dictionary(_, values) if Conversion::of(values).is_none() => cast_advice(values),
        DataType::RunEndEncoded(_, values) if Conversion::of(values.data_type()).is_none() => {
            cast_advice(values.data_type())
        }
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => "the type of its values",
        DataType::Null => "the type of the table's column, or leave it out",
        _ => {
            "Utf8 or Binary, or to several columns of Boolean, integer, float, text, binary, date or timestamp type"
        }
    }
}

/// How the values of one Arrow array type are written.
pub(super) trait Value: 'static {
    type Array: Array + 'static;
    const WIRE_TYPE: WireType;

    /// What [`put`](Value::put) will write, or why the value cannot be written.
    fn size(array: &Self::Array, position: usize) -> Result<usize, Fault>;

    /// Writes the value without its key; a value that [`size`](Value::size) refused is never asked for.
    fn put(array: &Self::Array, position: usize, out: &mut impl BufMut);
}

/// A value that cannot be written.
pub(super) struct Fault {
    pub(super) value: String,
    pub(super) reason: RowErrorReason,
}

struct Bool;

impl Value for Bool {
    type Array = BooleanArray;
    const WIRE_TYPE: WireType = WireType::Varint;

    fn size(_: &BooleanArray, _: usize) -> Result<usize, Fault> {
        Ok(1)
    }

    fn put(array: &BooleanArray, position: usize, out: &mut impl BufMut) {
        out.put_u8(u8::from(array.value(position)));
    }
}

/// Integers and dates: the two's complement of 64 bits as a varint, so a negative `int32` takes ten bytes.
struct Integer<T>(PhantomData<T>);

impl<T: ArrowPrimitiveType<Native: Into<i64>>> Value for Integer<T> {
    type Array = PrimitiveArray<T>;
    const WIRE_TYPE: WireType = WireType::Varint;

    fn size(array: &PrimitiveArray<T>, position: usize) -> Result<usize, Fault> {
        let value: i64 = array.value(position).into();
        Ok(encoded_len_varint(value.cast_unsigned()))
    }

    fn put(array: &PrimitiveArray<T>, position: usize, out: &mut impl BufMut) {
        let value: i64 = array.value(position).into();
        encode_varint(value.cast_unsigned(), out);
    }
}

struct Float;

impl Value for Float {
    type Array = PrimitiveArray<Float32Type>;
    const WIRE_TYPE: WireType = WireType::ThirtyTwoBit;

    fn size(_: &PrimitiveArray<Float32Type>, _: usize) -> Result<usize, Fault> {
        Ok(4)
    }

    fn put(array: &PrimitiveArray<Float32Type>, position: usize, out: &mut impl BufMut) {
        out.put_f32_le(array.value(position));
    }
}

struct Double;

impl Value for Double {
    type Array = PrimitiveArray<Float64Type>;
    const WIRE_TYPE: WireType = WireType::SixtyFourBit;

    fn size(_: &PrimitiveArray<Float64Type>, _: usize) -> Result<usize, Fault> {
        Ok(8)
    }

    fn put(array: &PrimitiveArray<Float64Type>, position: usize, out: &mut impl BufMut) {
        out.put_f64_le(array.value(position));
    }
}

struct ByteString<T>(PhantomData<T>);

impl<T: ByteArrayType> Value for ByteString<T> {
    type Array = GenericByteArray<T>;
    const WIRE_TYPE: WireType = WireType::LengthDelimited;

    fn size(array: &GenericByteArray<T>, position: usize) -> Result<usize, Fault> {
        Ok(size_of_bytes(array.value(position).as_ref()))
    }

    fn put(array: &GenericByteArray<T>, position: usize, out: &mut impl BufMut) {
        put_bytes(array.value(position).as_ref(), out);
    }
}

struct StringView;

impl Value for StringView {
    type Array = StringViewArray;
    const WIRE_TYPE: WireType = WireType::LengthDelimited;

    fn size(array: &StringViewArray, position: usize) -> Result<usize, Fault> {
        Ok(size_of_bytes(array.value(position).as_bytes()))
    }

    fn put(array: &StringViewArray, position: usize, out: &mut impl BufMut) {
        put_bytes(array.value(position).as_bytes(), out);
    }
}

fn size_of_bytes(bytes: &[u8]) -> usize {
    encoded_len_varint(bytes.len() as u64) + bytes.len()
}

fn put_bytes(bytes: &[u8], out: &mut impl BufMut) {
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

/// Microseconds since 1970, of any unit.
struct Timestamp<T>(PhantomData<T>);

impl<T: ArrowTimestampType> Timestamp<T> {
    /// The microseconds of a value in `T`'s unit, or none if they do not fit.
    ///
    /// Nanoseconds are floored: every instant stays in its microsecond, before 1970 too.
    fn microseconds(value: i64) -> Option<i64> {
        match T::UNIT {
            TimeUnit::Second => value.checked_mul(1_000_000),
            TimeUnit::Millisecond => value.checked_mul(1_000),
            TimeUnit::Microsecond => Some(value),
            TimeUnit::Nanosecond => Some(value.div_euclid(1_000)),
        }
    }
}

impl<T: ArrowTimestampType> Value for Timestamp<T> {
    type Array = PrimitiveArray<T>;
    const WIRE_TYPE: WireType = WireType::Varint;

    fn size(array: &PrimitiveArray<T>, position: usize) -> Result<usize, Fault> {
        let value = array.value(position);
        match Self::microseconds(value) {
            Some(microseconds) => Ok(encoded_len_varint(microseconds.cast_unsigned())),
            None => Err(Fault {
                value: format!("{value} {}", T::UNIT),
                reason: RowErrorReason::TimestampOverflow,
            }),
        }
    }

    fn put(array: &PrimitiveArray<T>, position: usize, out: &mut impl BufMut) {
        let microseconds = Self::microseconds(array.value(position));
        debug_assert!(microseconds.is_some(), "a value without a size is written");
        encode_varint(microseconds.unwrap_or_default().cast_unsigned(), out);
    }
}
