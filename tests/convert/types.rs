//! Which types there are, and which go into one another without loss: the mapping table once more, written down
//! from the specification and not from the code under test.

use std::collections::HashMap;

use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};
use arrow_zerobus_sdk_wrapper::convert::DeltaType;

use crate::choices::Choices;
use crate::variants;

pub(crate) const UUID: &str = "arrow.uuid";
pub(crate) const BOOL8: &str = "arrow.bool8";
pub(crate) const JSON: &str = "arrow.json";
pub(crate) const VARIANT: &str = "arrow.parquet.variant";
pub(crate) const UNKNOWN: &str = "geoarrow.wkb";

pub(crate) const UNITS: [TimeUnit; 4] =
    [TimeUnit::Microsecond, TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Nanosecond];

pub(crate) type Extension = Option<&'static str>;

/// A field of a type, with its extension.
pub(crate) fn field(name: &str, data_type: DataType, nullable: bool, extension: Extension) -> Field {
    let metadata = extension.map(|name| ("ARROW:extension:name".to_owned(), name.to_owned()));
    Field::new(name, data_type, nullable).with_metadata(HashMap::from_iter(metadata))
}

/// Every Arrow type that is no list, struct, map, dictionary or run; of decimals and bytes, some.
pub(crate) fn scalar_types() -> Vec<(DataType, Extension)> {
    use DataType as A;
    let mut types: Vec<(DataType, Extension)> = [
        A::Int32,
        A::Int64,
        A::Int16,
        A::Int8,
        A::UInt8,
        A::UInt16,
        A::UInt32,
        A::UInt64,
        A::Boolean,
        A::Float32,
        A::Float64,
        A::Float16,
        A::Utf8,
        A::LargeUtf8,
        A::Utf8View,
        A::Binary,
        A::LargeBinary,
        A::BinaryView,
        A::FixedSizeBinary(1),
        A::FixedSizeBinary(16),
        A::Date32,
        A::Date64,
        A::Time32(TimeUnit::Second),
        A::Time32(TimeUnit::Millisecond),
        A::Time64(TimeUnit::Microsecond),
        A::Time64(TimeUnit::Nanosecond),
        A::Interval(IntervalUnit::YearMonth),
        A::Interval(IntervalUnit::DayTime),
        A::Interval(IntervalUnit::MonthDayNano),
    ]
    .map(|data_type| (data_type, None))
    .into();
    for unit in UNITS {
        types.push((A::Timestamp(unit, None), None));
        types.push((A::Timestamp(unit, Some("+01:30".into())), None));
        types.push((A::Timestamp(unit, Some("Europe/Berlin".into())), None));
        types.push((A::Duration(unit), None));
    }
    for (precision, scale) in [(9, 2), (5, 0), (4, 4), (6, -3)] {
        types.push((A::Decimal32(precision, scale), None));
        types.push((A::Decimal64(2 * precision, scale), None));
        types.push((A::Decimal128(2 * precision + 20, 5 * scale), None));
        types.push((A::Decimal256(2 * precision + 20, 5 * scale), None));
    }
    types.push((A::Decimal256(76, 38), None));
    types.push((A::Decimal256(76, -2), None));
    types.extend([
        (A::FixedSizeBinary(16), Some(UUID)),
        (A::Int8, Some(BOOL8)),
        (A::Utf8, Some(JSON)),
        (A::Utf8View, Some(JSON)),
        (variants::data_type(A::Binary, A::Binary), Some(VARIANT)),
        (variants::data_type(A::BinaryView, A::LargeBinary), Some(VARIANT)),
        (A::Binary, Some(UNKNOWN)),
        (A::Int8, Some(UNKNOWN)),
    ]);
    types
}

/// Delta types that are no ARRAY, STRUCT or MAP; of DECIMAL, some.
pub(crate) fn delta_scalars() -> Vec<DeltaType> {
    use DeltaType as D;
    let mut types = vec![
        D::Boolean,
        D::Byte,
        D::Short,
        D::Integer,
        D::Long,
        D::Float,
        D::Double,
        D::String,
        D::Binary,
        D::Date,
        D::Timestamp,
        D::TimestampNtz,
        D::Variant,
    ];
    let decimals = [(38, 0), (38, 38), (38, 9), (20, 0), (10, 2), (3, 3), (1, 0)];
    types.extend(decimals.map(|(precision, scale)| D::Decimal { precision, scale }));
    types
}

/// The precision and scale of a decimal of any width.
pub(crate) fn decimal(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some((*precision, *scale)),
        _ => None,
    }
}

pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(crate) fn is_binary(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    )
}

/// The Delta type that a scalar type becomes when nobody knows the table.
pub(crate) fn default_type(data_type: &DataType, extension: Extension) -> Option<DeltaType> {
    use DataType as A;
    use DeltaType as D;
    Some(match (data_type, extension) {
        (A::FixedSizeBinary(16), Some(UUID)) => D::String,
        (A::Int8, Some(BOOL8)) => D::Boolean,
        (A::Struct(_), Some(VARIANT)) => D::Variant,
        (A::Boolean, _) => D::Boolean,
        (A::Int8, _) => D::Byte,
        (A::Int16 | A::UInt8, _) => D::Short,
        (A::Int32 | A::UInt16, _) => D::Integer,
        (A::Int64 | A::UInt32, _) => D::Long,
        (A::UInt64, _) => D::Decimal { precision: 20, scale: 0 },
        (A::Float16 | A::Float32, _) => D::Float,
        (A::Float64, _) => D::Double,
        (A::Date32 | A::Date64, _) => D::Date,
        (A::Timestamp(_, None), _) => D::TimestampNtz,
        (A::Timestamp(_, Some(_)), _) => D::Timestamp,
        (text, _) if is_text(text) => D::String,
        (binary, _) if is_binary(binary) => D::Binary,
        (other, _) => {
            let (precision, scale) = decimal(other)?;
            let zeros = (-scale).max(0) as u8;
            let (precision, scale) = (precision + zeros, scale.max(0) as u8);
            if precision > 38 {
                return None;
            }
            D::Decimal { precision, scale }
        }
    })
}

/// Whether every value of a scalar type that the Delta type can hold goes into it unchanged.
pub(crate) fn is_lossless(data_type: &DataType, extension: Extension, delta_type: &DeltaType) -> bool {
    use DataType as A;
    use DeltaType as D;
    let is_whole = |delta_type: &DeltaType| matches!(delta_type, D::Byte | D::Short | D::Integer | D::Long);
    let is_decimal = matches!(delta_type, D::Decimal { .. });
    match (data_type, extension) {
        (A::FixedSizeBinary(16), Some(UUID)) if *delta_type == D::String => true,
        (A::Int8, Some(BOOL8)) if *delta_type == D::Boolean => true,
        (A::Struct(_), Some(VARIANT)) => *delta_type == D::Variant,
        (A::Boolean, _) => *delta_type == D::Boolean,
        (A::Float16 | A::Float32 | A::Float64, _) => matches!(delta_type, D::Float | D::Double),
        (A::Date32 | A::Date64, _) => matches!(delta_type, D::Date | D::TimestampNtz),
        (A::Timestamp(_, None), _) => *delta_type == D::TimestampNtz,
        (A::Timestamp(_, Some(_)), _) => *delta_type == D::Timestamp,
        (A::Time32(_) | A::Time64(_), _) => matches!(delta_type, D::String | D::Integer | D::Long),
        (A::Duration(_), _) => matches!(delta_type, D::String | D::Long),
        (A::Interval(IntervalUnit::YearMonth), _) => matches!(delta_type, D::String | D::Integer),
        (A::Interval(_), _) => *delta_type == D::String,
        (integer, _) if integer.is_integer() => {
            is_decimal || is_whole(delta_type) || matches!(delta_type, D::Float | D::Double)
        }
        (text, _) if is_text(text) => is_decimal || matches!(delta_type, D::String | D::Variant),
        (binary, _) if is_binary(binary) => *delta_type == D::Binary,
        (other, _) => decimal(other).is_some_and(|(_, scale)| {
            is_decimal || *delta_type == D::String || scale == 0 && is_whole(delta_type)
        }),
    }
}

/// A scalar type, and one of the Delta types that it goes into; without a table, the one by default.
pub(crate) fn scalar(choices: &mut Choices, has_table: bool) -> (DataType, Extension, DeltaType) {
    let types = scalar_types();
    loop {
        let (data_type, extension) = choices.pick(&types).clone();
        let default = default_type(&data_type, extension);
        let others = delta_scalars().into_iter().filter(|other| is_lossless(&data_type, extension, other));
        let others: Vec<_> = if has_table { others.collect() } else { Vec::new() };
        let targets: Vec<_> = default.into_iter().chain(others).collect();
        if !targets.is_empty() {
            return (data_type, extension, choices.pick(&targets).clone());
        }
        // A type that no table by default has; from a list of zeros it is never picked.
    }
}

/// Whether the service takes maps with keys of a Delta type.
pub(crate) fn is_key(delta_type: &DeltaType) -> bool {
    use DeltaType as D;
    !matches!(
        delta_type,
        D::Float | D::Double | D::Binary | D::Struct(_) | D::Array { .. } | D::Map { .. } | D::Variant
    )
}
