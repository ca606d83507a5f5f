//! Which Arrow type the service wants for each type of a Delta table.
//!
//! They are those that the service's own client gives its users: texts and bytes with long offsets, decimals as text,
//! instants in microseconds and UTC.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

use crate::convert::descriptor::{DEPTH_MAX, MAP_KEY, is_map_key, name_fault};
use crate::convert::encode::VariantAsJson;
use crate::convert::error::ConversionError;
use crate::convert::{DeltaType, TableColumn};

/// The names that the service gives the parts of lists and maps.
const ITEM: &str = "item";
const ENTRIES: &str = "entries";
const KEYS: &str = "keys";
const VALUES: &str = "values";

/// The field of a column, which stands at `position` of its table or struct.
pub(super) fn field(
    column: &TableColumn,
    position: usize,
    path: &str,
    depth: usize,
) -> Result<Field, ConversionError> {
    if let Some(reason) = name_fault(&column.name) {
        return Err(ConversionError::InvalidColumnName { column: path.to_owned(), position, reason });
    }
    Ok(Field::new(&column.name, data_type(&column.delta_type, path, depth)?, column.nullable))
}

fn data_type(delta_type: &DeltaType, path: &str, depth: usize) -> Result<DataType, ConversionError> {
    if depth > DEPTH_MAX {
        let column = path.split('.').next().unwrap_or_default().to_owned();
        return Err(ConversionError::TooDeep { column, depth_max: DEPTH_MAX });
    }
    Ok(match delta_type {
        DeltaType::Boolean => DataType::Boolean,
        DeltaType::Byte => DataType::Int8,
        DeltaType::Short => DataType::Int16,
        DeltaType::Integer => DataType::Int32,
        DeltaType::Long => DataType::Int64,
        DeltaType::Float => DataType::Float32,
        DeltaType::Double => DataType::Float64,
        DeltaType::String | DeltaType::Decimal { .. } => DataType::LargeUtf8,
        DeltaType::Binary => DataType::LargeBinary,
        DeltaType::Date => DataType::Date32,
        DeltaType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DeltaType::TimestampNtz => DataType::Timestamp(TimeUnit::Microsecond, None),
        DeltaType::Variant => variant(),
        DeltaType::Struct(columns) => {
            let fields = columns
                .iter()
                .enumerate()
                .map(|(n, column)| field(column, n, &format!("{path}.{}", column.name), depth + 1));
            DataType::Struct(fields.collect::<Result<Vec<_>, _>>()?.into())
        }
        DeltaType::Array { element } => DataType::List(part(ITEM, element, true, path, depth)?),
        DeltaType::Map { key, .. } if **key == DeltaType::Variant || !is_map_key(key) => {
            let (column, delta_type) = (path.to_owned(), delta_type.clone());
            return Err(ConversionError::UnsupportedColumn { column, delta_type, reason: MAP_KEY });
        }
        DeltaType::Map { key, value } => {
            let parts = [part(KEYS, key, false, path, depth)?, part(VALUES, value, true, path, depth)?];
            let entries = DataType::Struct(Fields::from_iter(parts));
            DataType::Map(Arc::new(Field::new(ENTRIES, entries, false)), false)
        }
    })
}

fn part(
    name: &str,
    delta_type: &DeltaType,
    is_nullable: bool,
    path: &str,
    depth: usize,
) -> Result<FieldRef, ConversionError> {
    Ok(Arc::new(Field::new(name, data_type(delta_type, path, depth + 1)?, is_nullable)))
}

fn variant() -> DataType {
    let part = |name| Field::new(name, DataType::LargeBinary, false);
    DataType::Struct(Fields::from(vec![part(VariantAsJson::METADATA), part(VariantAsJson::VALUE)]))
}
