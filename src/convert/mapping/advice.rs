//! What to do with a column that cannot be converted. Each text goes on behind "which cannot be converted; ".

use arrow_schema::{DataType, Fields};

use super::types::{Extension, ValueType};
use crate::convert::DeltaType;

pub(super) fn wrap_elements() -> String {
    "wrap the inner list or map in a struct, for protobuf has no list of lists or maps; \
     or send it with transport=\"arrow_flight\", which has"
        .to_owned()
}

pub(super) fn wrap_values() -> String {
    "wrap the values of the map in a struct, for protobuf has no map of lists or maps; \
     or send it with transport=\"arrow_flight\", which has"
        .to_owned()
}

pub(super) fn map_key() -> String {
    "cast the keys to an integer, boolean, text, date, timestamp or decimal type: a map of Delta has no other keys \
     on this way"
        .to_owned()
}

/// For a type that no Delta type is the natural one of.
pub(super) fn without_table(value_type: ValueType<'_>) -> String {
    match value_type.data_type {
        DataType::Struct(fields) if value_type.extension == Some(Extension::Variant) => variant(fields),
        DataType::Null => "leave it out, or cast the column to the type of the table's column".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => cast("Utf8, or to Int64 to send the count of its unit"),
        DataType::Duration(_) => cast("Int64 to send the count of its unit, or to Utf8"),
        DataType::Interval(_) => cast("Utf8, or to Duration and then Int64"),
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => {
            cast("Utf8, or to a decimal with at most 38 digits, as a DECIMAL column has")
        }
        DataType::Union(..) => {
            cast("Utf8 as JSON, or to a struct with a nullable field for each of its types")
        }
        DataType::Struct(_) => "give the struct a field, a STRUCT of Delta has at least one".to_owned(),
        _ => cast("Utf8 or Binary"),
    }
}

/// For a type that does not go into the table's column.
pub(super) fn with_table(value_type: ValueType<'_>, delta_type: &DeltaType) -> String {
    use DataType as A;
    use DeltaType as D;

    match (value_type.data_type, delta_type) {
        (A::Struct(fields), D::Variant) if value_type.extension == Some(Extension::Variant) => {
            variant(fields)
        }
        _ if value_type.extension == Some(Extension::Variant) => {
            format!("make the table's column a VARIANT, or {}", cast(arrow_name(delta_type)))
        }
        (A::Timestamp(_, Some(_)), D::TimestampNtz) => {
            "convert its instants to local times and cast the column to a Timestamp without a zone".to_owned()
        }
        (A::Timestamp(_, None), D::Timestamp) => {
            "say in which zone its local times are: cast the column to a Timestamp with that zone".to_owned()
        }
        (A::Date32 | A::Date64, D::Timestamp) => {
            "say in which zone its days begin: cast the column to a Timestamp with that zone".to_owned()
        }
        (A::Utf8 | A::LargeUtf8 | A::Utf8View, D::Date | D::Timestamp | D::TimestampNtz) => {
            format!("parse its texts: cast the column to {}", arrow_name(delta_type))
        }
        (data_type, D::Date | D::Timestamp | D::TimestampNtz) if data_type.is_integer() => {
            format!("say what its numbers count: cast the column to {}", arrow_name(delta_type))
        }
        (A::Union(..), D::Variant) => cast("Utf8 and write the value of each row as JSON"),
        (_, D::Variant) => cast("Utf8 with JSON in it"),
        (A::Null, _) => "let the table's column be null, or send values".to_owned(),
        (_, D::Array { .. }) => cast(&format!("a list, as {delta_type} is one")),
        (_, D::Struct(_)) => cast(&format!("a struct, as {delta_type} is one")),
        (_, D::Map { .. }) => cast(&format!("a map, as {delta_type} is one")),
        (data_type, _) if data_type.is_nested() => {
            "give the table's column the same shape, or send its parts as columns of their own".to_owned()
        }
        _ => cast(arrow_name(delta_type)),
    }
}

/// For what goes into a VARIANT, in an Arrow batch.
pub(super) fn variant_in_arrow(value_type: ValueType<'_>) -> String {
    match value_type.data_type {
        DataType::Struct(fields) if value_type.extension == Some(Extension::Variant) => variant(fields),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            "encode its JSON as variants, or send it with transport=\"protobuf\", where a VARIANT is read from JSON"
                .to_owned()
        }
        _ => "encode its values as variants: Arrow Flight has no other form of a VARIANT".to_owned(),
    }
}

/// For keys of maps that are the same number in different texts.
pub(super) fn decimal_text_keys() -> String {
    "cast the keys to Decimal128: texts may write one number in several ways".to_owned()
}

fn cast(to: &str) -> String {
    format!("cast the column to {to}")
}

fn variant(fields: &Fields) -> String {
    if fields.find("typed_value").is_some() {
        return "unshred it first: put its typed values back into the variants, and leave \"typed_value\" out"
            .to_owned();
    }
    "give the struct the two fields of a variant, \"metadata\" and \"value\", both of them Binary".to_owned()
}

/// The Arrow type that goes into a Delta type as it is.
fn arrow_name(delta_type: &DeltaType) -> &'static str {
    match delta_type {
        DeltaType::Boolean => "Boolean",
        DeltaType::Byte => "Int8",
        DeltaType::Short => "Int16",
        DeltaType::Integer => "Int32",
        DeltaType::Long => "Int64",
        DeltaType::Float => "Float32",
        DeltaType::Double => "Float64",
        DeltaType::String | DeltaType::Variant => "Utf8",
        DeltaType::Binary => "Binary",
        DeltaType::Date => "Date32",
        DeltaType::Timestamp => "Timestamp with a zone",
        DeltaType::TimestampNtz => "Timestamp without a zone",
        DeltaType::Decimal { .. } => "a decimal of the same precision and scale",
        DeltaType::Struct(_) => "Struct",
        DeltaType::Array { .. } => "List",
        DeltaType::Map { .. } => "Map",
    }
}
