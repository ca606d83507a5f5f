//! The columns of a Delta table, as far as the conversion must know them.
//!
//! They come from the catalog, or, when that was never asked, from the Arrow schema. The catalog's answer is kept
//! over restarts, so all of this is serialised.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The columns of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// In the order of their numbers.
    pub columns: Vec<TableColumn>,
}

/// A column of a table, or a field of a STRUCT. A table can have thousands, so their serialised form has no names of
/// fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(String, u32, DeltaType, bool)", from = "(String, u32, DeltaType, bool)")]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// The number of its protobuf field: the position in the table plus one. Dropped columns leave gaps.
    pub number: u32,
    /// Its type.
    pub delta_type: DeltaType,
    /// Whether it may be null, and so be missing.
    pub nullable: bool,
}

impl From<TableColumn> for (String, u32, DeltaType, bool) {
    fn from(column: TableColumn) -> (String, u32, DeltaType, bool) {
        let TableColumn { name, number, delta_type, nullable } = column;
        (name, number, delta_type, nullable)
    }
}

impl From<(String, u32, DeltaType, bool)> for TableColumn {
    fn from((name, number, delta_type, nullable): (String, u32, DeltaType, bool)) -> TableColumn {
        TableColumn { name, number, delta_type, nullable }
    }
}

/// A type of a Delta table, of those that the service takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of Delta")]
pub enum DeltaType {
    Boolean,
    Byte,
    Short,
    Integer,
    Long,
    Float,
    Double,
    String,
    Binary,
    Date,
    Timestamp,
    TimestampNtz,
    Decimal { precision: u8, scale: u8 },
    Variant,
    Struct(Vec<TableColumn>),
    Array { element: Box<DeltaType> },
    Map { key: Box<DeltaType>, value: Box<DeltaType> },
}

impl fmt::Display for DeltaType {
    /// As it stands in a CREATE TABLE statement.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            DeltaType::Boolean => "BOOLEAN",
            DeltaType::Byte => "TINYINT",
            DeltaType::Short => "SMALLINT",
            DeltaType::Integer => "INT",
            DeltaType::Long => "BIGINT",
            DeltaType::Float => "FLOAT",
            DeltaType::Double => "DOUBLE",
            DeltaType::String => "STRING",
            DeltaType::Binary => "BINARY",
            DeltaType::Date => "DATE",
            DeltaType::Timestamp => "TIMESTAMP",
            DeltaType::TimestampNtz => "TIMESTAMP_NTZ",
            DeltaType::Variant => "VARIANT",
            DeltaType::Decimal { precision, scale } => return write!(f, "DECIMAL({precision},{scale})"),
            DeltaType::Struct(fields) => {
                f.write_str("STRUCT<")?;
                for (position, field) in fields.iter().enumerate() {
                    let comma = if position == 0 { "" } else { ", " };
                    let not_null = if field.nullable { "" } else { " NOT NULL" };
                    write!(f, "{comma}{}: {}{not_null}", field.name, field.delta_type)?;
                }
                return f.write_str(">");
            }
            DeltaType::Array { element } => return write!(f, "ARRAY<{element}>"),
            DeltaType::Map { key, value } => return write!(f, "MAP<{key}, {value}>"),
        };
        f.write_str(name)
    }
}
