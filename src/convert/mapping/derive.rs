//! The columns that a table must have to take batches of an Arrow schema: what is assumed when nobody knows the table.

use std::borrow::Cow;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};

use super::matching::{check_distinct, join};
use super::types::{Extension, ValueType, default_type};
use super::{Wire, advice};
use crate::convert::descriptor::{DEPTH_MAX, is_map_key};
use crate::convert::encode::{ELEMENT_NAME, KEY_NAME, VALUE_NAME};
use crate::convert::error::ConversionError;
use crate::convert::{DeltaType, TableColumn, TableSchema};

/// The service's limit of columns in a table.
const COLUMNS_MAX: usize = 2_000;

impl TableSchema {
    /// The table that takes every value of the columns of this schema: each has the Delta type nearest to its Arrow
    /// type, and may be null if the field may.
    ///
    /// # Errors
    ///
    /// When a type has no such Delta type, or the service could have no table of these columns.
    pub fn from_arrow(schema: &Schema) -> Result<TableSchema, ConversionError> {
        TableSchema::derive(schema, Wire::Protobuf)
    }

    /// The same for a way of sending: Arrow knows lists inside of lists.
    fn derive(schema: &Schema, wire: Wire) -> Result<TableSchema, ConversionError> {
        let columns = schema.fields().len();
        if columns > COLUMNS_MAX {
            return Err(ConversionError::TooManyColumns { columns, columns_max: COLUMNS_MAX });
        }
        Ok(TableSchema { columns: derive_columns(schema.fields(), "", 0, wire)? })
    }

    /// The table that batches of this schema go to: the one that is known, or else the one that takes every value of
    /// theirs.
    pub(in crate::convert) fn of_batches<'a>(
        schema: &Schema,
        known: Option<&'a TableSchema>,
        wire: Wire,
    ) -> Result<Cow<'a, TableSchema>, ConversionError> {
        match known {
            _ if schema.fields().is_empty() => Err(ConversionError::NoColumns),
            Some(known) => Ok(Cow::Borrowed(known)),
            None => TableSchema::derive(schema, wire).map(Cow::Owned),
        }
    }
}

fn derive_columns(
    fields: &Fields,
    path: &str,
    depth: usize,
    wire: Wire,
) -> Result<Vec<TableColumn>, ConversionError> {
    check_distinct(fields, path)?;
    let column = |(number, field): (u32, &FieldRef)| {
        Ok(TableColumn {
            name: field.name().clone(),
            number,
            delta_type: derive(field, &join(path, field.name()), depth, wire)?,
            nullable: field.is_nullable(),
        })
    };
    (1..).zip(fields).map(column).collect()
}

/// The default type of a field, which has `depth` types around it.
fn derive(field: &Field, path: &str, depth: usize, wire: Wire) -> Result<DeltaType, ConversionError> {
    if depth > DEPTH_MAX {
        let column = path.split('.').next().unwrap_or_default().to_owned();
        return Err(ConversionError::TooDeep { column, depth_max: DEPTH_MAX });
    }
    let value_type = ValueType::of(field);
    let refuse = |what_to_do| ConversionError::UnsupportedType {
        column: path.to_owned(),
        arrow_type: field.data_type().clone(),
        delta_type: None,
        what_to_do,
    };
    match value_type.data_type {
        DataType::Struct(_) if value_type.extension == Some(Extension::Variant) => {}
        DataType::Struct(fields) if !fields.is_empty() => {
            return Ok(DeltaType::Struct(derive_columns(fields, path, depth + 1, wire)?));
        }
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => {
            return match derive(element, &join(path, ELEMENT_NAME), depth + 1, wire)? {
                DeltaType::Array { .. } | DeltaType::Map { .. } if wire == Wire::Protobuf => {
                    Err(refuse(advice::wrap_elements()))
                }
                element => Ok(DeltaType::Array { element: Box::new(element) }),
            };
        }
        DataType::Map(entries, _) => {
            if let DataType::Struct(fields) = entries.data_type()
                && let [key, value] = &fields[..]
            {
                let key = derive(key, &join(path, KEY_NAME), depth + 1, wire)?;
                let value = derive(value, &join(path, VALUE_NAME), depth + 1, wire)?;
                // The client would take such a key, but no table has it.
                let is_variant = key == DeltaType::Variant;
                return match value {
                    _ if is_variant || !is_map_key(&key) => Err(refuse(advice::map_key())),
                    DeltaType::Array { .. } | DeltaType::Map { .. } if wire == Wire::Protobuf => {
                        Err(refuse(advice::wrap_values()))
                    }
                    value => Ok(DeltaType::Map { key: Box::new(key), value: Box::new(value) }),
                };
            }
        }
        _ => {}
    }
    default_type(value_type).ok_or_else(|| refuse(advice::without_table(value_type)))
}
