//! A table as the catalog answers for it: `GET /api/2.1/unity-catalog/tables/{full_name}`.

use delta_kernel::schema::{DataType, PrimitiveType, StructField, StructType};
use serde::Serialize;

use super::ddl::type_text;
use crate::types::TableName;

/// The answer of the catalog, as far as clients of the service read it.
#[derive(Serialize)]
pub(super) struct TableInfo {
    name: String,
    catalog_name: String,
    schema_name: String,
    full_name: String,
    table_type: &'static str,
    data_source_format: &'static str,
    storage_location: String,
    columns: Vec<ColumnInfo>,
}

#[derive(Serialize)]
struct ColumnInfo {
    name: String,
    type_text: String,
    type_name: &'static str,
    type_json: String,
    type_precision: u8,
    type_scale: u8,
    position: usize,
    nullable: bool,
}

impl TableInfo {
    /// Describes a table at a storage location.
    pub(super) fn new(table: &TableName, schema: &StructType, storage_location: String) -> TableInfo {
        let [catalog_name, schema_name, name] = table.parts().map(str::to_owned);
        TableInfo {
            name,
            catalog_name,
            schema_name,
            full_name: table.to_string(),
            table_type: "MANAGED",
            data_source_format: "DELTA",
            storage_location,
            columns: schema.fields().enumerate().map(|(position, field)| column(position, field)).collect(),
        }
    }
}

fn column(position: usize, field: &StructField) -> ColumnInfo {
    let (type_precision, type_scale) = match &field.data_type {
        DataType::Primitive(PrimitiveType::Decimal(decimal)) => (decimal.precision(), decimal.scale()),
        _ => (0, 0),
    };
    ColumnInfo {
        name: field.name.clone(),
        type_text: type_text(&field.data_type),
        type_name: type_name(&field.data_type),
        // The catalog gives the column as Delta's own JSON, with its name and nullability around the type.
        type_json: serde_json::to_string(field).unwrap_or_default(),
        type_precision,
        type_scale,
        position,
        nullable: field.nullable,
    }
}

fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Primitive(primitive) => match primitive {
            PrimitiveType::String => "STRING",
            PrimitiveType::Long => "LONG",
            PrimitiveType::Integer => "INT",
            PrimitiveType::Short => "SHORT",
            PrimitiveType::Byte => "BYTE",
            PrimitiveType::Float => "FLOAT",
            PrimitiveType::Double => "DOUBLE",
            PrimitiveType::Boolean => "BOOLEAN",
            PrimitiveType::Binary => "BINARY",
            PrimitiveType::Date => "DATE",
            PrimitiveType::Timestamp => "TIMESTAMP",
            PrimitiveType::TimestampNtz => "TIMESTAMP_NTZ",
            PrimitiveType::Void => "NULL",
            PrimitiveType::IntervalYearMonth | PrimitiveType::IntervalDayTime => "INTERVAL",
            PrimitiveType::Decimal(_) => "DECIMAL",
        },
        DataType::Array(_) => "ARRAY",
        DataType::Struct(_) => "STRUCT",
        DataType::Map(_) => "MAP",
        DataType::Variant(_) => "VARIANT",
    }
}
