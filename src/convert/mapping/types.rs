//! THE table: which Arrow type becomes which Delta type by default, and which other ones it fits into without loss.
//!
//! To add a type, give it a line in [`default_type`] and one in [`conversion`]; when none of the writers in
//! `values/` writes it the way the service reads it, add one there. What has neither line is refused; `advice.rs` says
//! what to do then. Lists, structs and maps are no lines here: they are followed by `derive.rs` and `matching.rs`.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_schema::{DataType, Field, Fields, IntervalUnit, TimeUnit};

use crate::convert::DeltaType;
use crate::convert::encode::{
    Bits, Conversion, Converted, FixedBytes, Numbers, Source, Strings, VariantAsJson, Views,
};
use crate::convert::policy::Policies;
use crate::convert::values::*;

/// What the values of a field are, behind dictionary keys and run ends.
#[derive(Clone, Copy, Debug)]
pub(in crate::convert) struct ValueType<'a> {
    pub(in crate::convert) data_type: &'a DataType,
    pub(in crate::convert) extension: Option<Extension<'a>>,
}

/// The extension types that mean something to us; all others are sent as what they are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::convert) enum Extension<'a> {
    /// `arrow.uuid`, sixteen bytes.
    Uuid,
    /// `arrow.bool8`, a boolean in a byte.
    Bool8,
    /// `arrow.json`, which goes where other text goes.
    Json,
    /// `arrow.parquet.variant`, a struct of two byte strings; when it is shredded, also of typed values.
    Variant,
    /// Any other, by its name.
    Other(&'a str),
}

impl<'a> ValueType<'a> {
    pub(in crate::convert) fn of(field: &'a Field) -> ValueType<'a> {
        let mut data_type = field.data_type();
        let mut extension = field.extension_type_name();
        loop {
            data_type = match data_type {
                DataType::Dictionary(_, values) => values,
                DataType::RunEndEncoded(_, values) => {
                    extension = extension.or(values.extension_type_name());
                    values.data_type()
                }
                _ => break,
            };
        }
        let extension = extension.map(|name| match (name, data_type) {
            ("arrow.uuid", DataType::FixedSizeBinary(16)) => Extension::Uuid,
            ("arrow.bool8", DataType::Int8) => Extension::Bool8,
            ("arrow.json", DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => Extension::Json,
            ("arrow.parquet.variant", DataType::Struct(_)) => Extension::Variant,
            _ => Extension::Other(name),
        });
        ValueType { data_type, extension }
    }
}

/// The Delta type of a scalar type when no table says another one.
pub(super) fn default_type(value_type: ValueType<'_>) -> Option<DeltaType> {
    Some(match (value_type.data_type, value_type.extension) {
        (DataType::Int8, Some(Extension::Bool8)) => DeltaType::Boolean,
        (DataType::FixedSizeBinary(_), Some(Extension::Uuid)) => DeltaType::String,
        (DataType::Struct(fields), Some(Extension::Variant)) if is_plain_variant(fields) => {
            DeltaType::Variant
        }
        (data_type, _) => match data_type {
            DataType::Boolean => DeltaType::Boolean,
            DataType::Int8 => DeltaType::Byte,
            DataType::Int16 => DeltaType::Short,
            DataType::Int32 => DeltaType::Integer,
            DataType::Int64 => DeltaType::Long,
            // The narrowest signed type that holds all values.
            DataType::UInt8 => DeltaType::Short,
            DataType::UInt16 => DeltaType::Integer,
            DataType::UInt32 => DeltaType::Long,
            DataType::UInt64 => DeltaType::Decimal { precision: 20, scale: 0 },
            DataType::Float16 | DataType::Float32 => DeltaType::Float,
            DataType::Float64 => DeltaType::Double,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DeltaType::String,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => DeltaType::Binary,
            DataType::Date32 | DataType::Date64 => DeltaType::Date,
            // The value is an instant in UTC, whatever the zone is called.
            DataType::Timestamp(_, Some(_)) => DeltaType::Timestamp,
            DataType::Timestamp(_, None) => DeltaType::TimestampNtz,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => delta_decimal(*precision, *scale)?,
            _ => return None,
        },
    })
}

/// Whether it is a variant that is not shredded.
pub(super) fn is_variant(value_type: ValueType<'_>) -> bool {
    match value_type.data_type {
        DataType::Struct(fields) => {
            value_type.extension == Some(Extension::Variant) && is_plain_variant(fields)
        }
        _ => false,
    }
}

/// Whether a variant is not shredded: it has the two byte strings and nothing else.
fn is_plain_variant(fields: &Fields) -> bool {
    let is_bytes = |name| {
        fields.find(name).is_some_and(|(_, field)| {
            let data_type = ValueType::of(field).data_type;
            matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
        })
    };
    fields.len() == 2 && is_bytes(VariantAsJson::METADATA) && is_bytes(VariantAsJson::VALUE)
}

/// The DECIMAL that holds every value of a decimal, if there is one.
fn delta_decimal(precision: u8, scale: i8) -> Option<DeltaType> {
    // Zeros in front of the point have no sign of their own in Delta: they are digits.
    let (precision, scale) = match u8::try_from(scale) {
        Ok(scale) => (precision, scale),
        Err(_) => (precision.checked_add(scale.unsigned_abs())?, 0),
    };
    (scale <= precision && precision <= 38).then_some(DeltaType::Decimal { precision, scale })
}

/// How the values of a scalar type are written into a column of the table, if that is without loss.
///
/// One value may still be out of the range of the column; its row is refused then.
pub(super) fn conversion(
    value_type: ValueType<'_>,
    delta_type: &DeltaType,
    policies: Policies,
) -> Option<Arc<dyn Conversion>> {
    use DataType as A;
    use DeltaType as D;
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};

    match (value_type.extension, delta_type) {
        (Some(Extension::Bool8), D::Boolean) => return to::<Numbers<Int8Type>, _>(Flag),
        (Some(Extension::Uuid), D::String) => return to::<FixedBytes, _>(UuidText),
        _ => {}
    }
    match value_type.data_type {
        A::Struct(fields) => match (value_type.extension, delta_type) {
            (Some(Extension::Variant), D::Variant) if is_plain_variant(fields) => {
                Some(Arc::new(VariantAsJson))
            }
            _ => None,
        },
        A::Boolean => match delta_type {
            D::Boolean => to::<Bits, _>(Flag),
            _ => None,
        },
        A::Int8 => integer::<Int8Type>(delta_type),
        A::Int16 => integer::<Int16Type>(delta_type),
        A::Int32 => integer::<Int32Type>(delta_type),
        A::Int64 => integer::<Int64Type>(delta_type),
        A::UInt8 => integer::<UInt8Type>(delta_type),
        A::UInt16 => integer::<UInt16Type>(delta_type),
        A::UInt32 => integer::<UInt32Type>(delta_type),
        A::UInt64 => integer::<UInt64Type>(delta_type),
        A::Float16 => match delta_type {
            D::Float => to::<Numbers<Float16Type>, _>(Single),
            D::Double => to::<Numbers<Float16Type>, _>(Double),
            _ => None,
        },
        A::Float32 => match delta_type {
            D::Float => to::<Numbers<Float32Type>, _>(Single),
            D::Double => to::<Numbers<Float32Type>, _>(Double),
            _ => None,
        },
        A::Float64 => match delta_type {
            D::Double => to::<Numbers<Float64Type>, _>(Double),
            D::Float => to::<Numbers<Float64Type>, _>(ExactSingle),
            _ => None,
        },
        A::Utf8 => text::<Strings<Utf8Type>>(delta_type),
        A::LargeUtf8 => text::<Strings<LargeUtf8Type>>(delta_type),
        A::Utf8View => text::<Views<StringViewType>>(delta_type),
        A::Binary => binary::<Strings<BinaryType>>(delta_type),
        A::LargeBinary => binary::<Strings<LargeBinaryType>>(delta_type),
        A::BinaryView => binary::<Views<BinaryViewType>>(delta_type),
        A::FixedSizeBinary(_) => binary::<FixedBytes>(delta_type),
        A::Date32 => match delta_type {
            D::Date => to::<Numbers<Date32Type>, _>(INTEGER),
            D::TimestampNtz => to::<Numbers<Date32Type>, _>(Micros { factor: 86_400_000_000, unit: "days" }),
            _ => None,
        },
        A::Date64 => match delta_type {
            D::Date => to::<Numbers<Date64Type>, _>(MillisAsDays),
            D::TimestampNtz => to::<Numbers<Date64Type>, _>(Micros { factor: 1_000, unit: "ms" }),
            _ => None,
        },
        A::Timestamp(unit, zone) => match (delta_type, zone) {
            (D::Timestamp, Some(_)) | (D::TimestampNtz, None) => match unit {
                Second => to::<Numbers<TimestampSecondType>, _>(Micros { factor: 1_000_000, unit: "s" }),
                Millisecond => {
                    to::<Numbers<TimestampMillisecondType>, _>(Micros { factor: 1_000, unit: "ms" })
                }
                Microsecond => to::<Numbers<TimestampMicrosecondType>, _>(LONG),
                Nanosecond => {
                    let policy = policies.timestamp_ns;
                    to::<Numbers<TimestampNanosecondType>, _>(NanosAsMicros { policy })
                }
            },
            _ => None,
        },
        A::Decimal32(_, scale) => decimal::<Decimal32Type>(*scale, delta_type),
        A::Decimal64(_, scale) => decimal::<Decimal64Type>(*scale, delta_type),
        A::Decimal128(_, scale) => decimal::<Decimal128Type>(*scale, delta_type),
        A::Decimal256(_, scale) => decimal::<Decimal256Type>(*scale, delta_type),
        A::Time32(Second) => time::<Time32SecondType>(Second, delta_type),
        A::Time32(Millisecond) => time::<Time32MillisecondType>(Millisecond, delta_type),
        A::Time64(Microsecond) => time::<Time64MicrosecondType>(Microsecond, delta_type),
        A::Time64(Nanosecond) => time::<Time64NanosecondType>(Nanosecond, delta_type),
        A::Duration(unit) => match unit {
            Second => duration::<DurationSecondType>(*unit, delta_type),
            Millisecond => duration::<DurationMillisecondType>(*unit, delta_type),
            Microsecond => duration::<DurationMicrosecondType>(*unit, delta_type),
            Nanosecond => duration::<DurationNanosecondType>(*unit, delta_type),
        },
        A::Interval(unit) => match (unit, delta_type) {
            (IntervalUnit::YearMonth, D::String) => {
                to::<Numbers<IntervalYearMonthType>, _>(Formatted(IntervalText))
            }
            (IntervalUnit::YearMonth, D::Integer) => to::<Numbers<IntervalYearMonthType>, _>(INTEGER),
            (IntervalUnit::DayTime, D::String) => {
                to::<Numbers<IntervalDayTimeType>, _>(Formatted(IntervalText))
            }
            (IntervalUnit::MonthDayNano, D::String) => {
                to::<Numbers<IntervalMonthDayNanoType>, _>(Formatted(IntervalText))
            }
            _ => None,
        },
        _ => None,
    }
}

const BYTE: Whole<{ i8::MIN as i64 }, { i8::MAX as i64 }> = Whole;
const SHORT: Whole<{ i16::MIN as i64 }, { i16::MAX as i64 }> = Whole;
const INTEGER: Whole<{ i32::MIN as i64 }, { i32::MAX as i64 }> = Whole;
const LONG: Whole<{ i64::MIN }, { i64::MAX }> = Whole;

/// Read as `S`, written by the writer.
fn to<S: Source, W>(writer: W) -> Option<Arc<dyn Conversion>>
where
    Converted<S, W>: Conversion + 'static,
{
    Some(Arc::new(Converted::<S, W>::new(writer)))
}

/// Every integer fits into every type of number, value by value.
fn integer<T: ArrowPrimitiveType>(delta_type: &DeltaType) -> Option<Arc<dyn Conversion>>
where
    T::Native: ToLong + Unscaled + Into<i128>,
{
    match *delta_type {
        DeltaType::Float => to::<Numbers<T>, _>(WholeSingle),
        DeltaType::Double => to::<Numbers<T>, _>(WholeDouble),
        DeltaType::Decimal { precision, scale } => to::<Numbers<T>, _>(Decimal::new(0, precision, scale)?),
        _ => whole::<T>(delta_type),
    }
}

fn whole<T: ArrowPrimitiveType<Native: ToLong>>(delta_type: &DeltaType) -> Option<Arc<dyn Conversion>> {
    match delta_type {
        DeltaType::Byte => to::<Numbers<T>, _>(BYTE),
        DeltaType::Short => to::<Numbers<T>, _>(SHORT),
        DeltaType::Integer => to::<Numbers<T>, _>(INTEGER),
        DeltaType::Long => to::<Numbers<T>, _>(LONG),
        _ => None,
    }
}

fn decimal<T: ArrowPrimitiveType>(scale: i8, delta_type: &DeltaType) -> Option<Arc<dyn Conversion>>
where
    T::Native: ToLong + Unscaled,
{
    match *delta_type {
        DeltaType::Decimal { precision, scale: to_scale } => {
            to::<Numbers<T>, _>(Decimal::new(scale, precision, to_scale)?)
        }
        DeltaType::String => to::<Numbers<T>, _>(DecimalAsText { scale }),
        _ if scale == 0 => whole::<T>(delta_type),
        _ => None,
    }
}

fn text<S>(delta_type: &DeltaType) -> Option<Arc<dyn Conversion>>
where
    S: for<'v> Source<Value<'v> = &'v [u8]>,
{
    match *delta_type {
        DeltaType::String => to::<S, _>(Raw),
        DeltaType::Variant => to::<S, _>(Json),
        DeltaType::Decimal { precision, scale } => to::<S, _>(DecimalText { precision, scale }),
        _ => None,
    }
}

fn binary<S>(delta_type: &DeltaType) -> Option<Arc<dyn Conversion>>
where
    S: for<'v> Source<Value<'v> = &'v [u8]>,
{
    match delta_type {
        DeltaType::Binary => to::<S, _>(Raw),
        _ => None,
    }
}

/// Integers are the count of the unit.
fn time<T: ArrowPrimitiveType>(unit: TimeUnit, delta_type: &DeltaType) -> Option<Arc<dyn Conversion>>
where
    T::Native: ToLong + Into<i64>,
{
    match delta_type {
        DeltaType::String => to::<Numbers<T>, _>(Formatted(TimeText(unit))),
        DeltaType::Integer | DeltaType::Long => whole::<T>(delta_type),
        _ => None,
    }
}

/// A LONG is the count of the unit.
fn duration<T: ArrowPrimitiveType<Native = i64>>(
    unit: TimeUnit,
    delta_type: &DeltaType,
) -> Option<Arc<dyn Conversion>> {
    match delta_type {
        DeltaType::String => to::<Numbers<T>, _>(Formatted(DurationText(unit))),
        DeltaType::Long => to::<Numbers<T>, _>(LONG),
        _ => None,
    }
}
