//! Which protobuf message describes the rows of a schema, and which schemas have none.
//!
//! The rules are those of the service's own client: proto2, required if NOT NULL, the field number is the
//! position of the column plus one, the JSON name is the name.

use std::collections::HashMap;

use arrow_schema::{Field, Schema};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};

use super::error::ConversionError;

/// The service's limit of columns in a table.
const COLUMNS_MAX: usize = 2_000;

/// Name of the message; the service knows the table by the stream, not by it.
const MESSAGE_NAME: &str = "Record";

/// Checks what a message asks of its field names and of their number.
pub(super) fn check_names(schema: &Schema) -> Result<(), ConversionError> {
    let columns = schema.fields().len();
    if columns == 0 {
        return Err(ConversionError::NoColumns);
    }
    if columns > COLUMNS_MAX {
        return Err(ConversionError::TooManyColumns { columns, columns_max: COLUMNS_MAX });
    }
    let mut seen = HashMap::with_capacity(columns);
    for (position, field) in schema.fields().iter().enumerate() {
        let column = field.name();
        if let Some(reason) = name_fault(column) {
            return Err(ConversionError::InvalidColumnName { column: column.clone(), position, reason });
        }
        if let Some(first) = seen.insert(column.to_ascii_lowercase(), position) {
            let column = column.clone();
            return Err(ConversionError::DuplicateColumnName { column, first, second: position });
        }
    }
    Ok(())
}

fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.starts_with(|first: char| first.is_ascii_digit()) {
        Some("it starts with a digit")
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        Some("only ASCII letters, digits and underscores are allowed")
    } else {
        None
    }
}

/// The message of these fields, in their order.
pub(super) fn message(fields: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto { name: Some(MESSAGE_NAME.to_owned()), field: fields, ..Default::default() }
}

/// The field of a column that is not repeated.
pub(super) fn field(column: &Field, number: i32, field_type: Type) -> FieldDescriptorProto {
    let label = if column.is_nullable() { Label::Optional } else { Label::Required };
    FieldDescriptorProto {
        name: Some(column.name().clone()),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(field_type.into()),
        json_name: Some(column.name().clone()),
        proto3_optional: Some(column.is_nullable()),
        ..Default::default()
    }
}
