//! Why a schema or a row cannot become protobuf.

use arrow_schema::DataType;

use super::DeltaType;
use crate::error::{Coded, ErrorCode};

/// Why no batch of a schema can be converted.
///
/// A column inside of others is named by its path: `order.lines.element.price`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConversionError {
    /// There is nothing to send.
    #[error("the schema has no columns")]
    NoColumns,
    /// The service's tables are narrower.
    #[error("the schema has {columns} columns, the service takes at most {columns_max}")]
    TooManyColumns {
        /// Columns of the schema.
        columns: usize,
        /// The service's limit.
        columns_max: usize,
    },
    /// A protobuf field cannot have the name of the column.
    #[error("column {position} cannot be named {column:?}: {reason}; rename the column")]
    InvalidColumnName {
        /// The name.
        column: String,
        /// Where it stands in the schema or in its struct, from 0.
        position: usize,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// Delta does not tell names apart by case.
    #[error(
        "columns {first} and {second} are both named {column:?} when case is ignored; rename one of them"
    )]
    DuplicateColumnName {
        /// The name of the second of them.
        column: String,
        /// Where the first stands in the schema or in its struct, from 0.
        first: usize,
        /// Where the second stands, from 0.
        second: usize,
    },
    /// No lossless conversion of the type is known, or none into the type of the table's column.
    #[error(
        "column {column:?} has the Arrow type {arrow_type}, which cannot be converted{}; {what_to_do}",
        into(delta_type)
    )]
    UnsupportedType {
        /// The name of the column.
        column: String,
        /// Its type.
        arrow_type: DataType,
        /// The type of the table's column, when it is known.
        delta_type: Option<DeltaType>,
        /// How the column can be sent nevertheless.
        what_to_do: String,
    },
    /// The table has no such column, and the service adds none.
    #[error("the table has no column {column:?}; add it to the table or leave it out of the batch")]
    UnknownColumn {
        /// The name of the column.
        column: String,
        /// Its type.
        arrow_type: DataType,
    },
    /// A column of the table that must have values has none.
    #[error(
        "the batch has no column {column:?}, which is {delta_type} NOT NULL in the table; \
         add it to the batch or let the table's column be null"
    )]
    MissingColumn {
        /// The name of the column.
        column: String,
        /// Its type in the table.
        delta_type: DeltaType,
    },
    /// The service has no protobuf for the type of a column of the table.
    #[error("the service cannot write the table's column {column:?} of the type {delta_type}: {reason}")]
    UnsupportedColumn {
        /// The name of the column.
        column: String,
        /// Its type in the table.
        delta_type: DeltaType,
        /// What it does not support, and what to do.
        reason: &'static str,
    },
    /// The service's descriptors end somewhere.
    #[error("column {column:?} has more than {depth_max} types inside of one another; flatten it")]
    TooDeep {
        /// The name of the outermost column.
        column: String,
        /// The service's limit.
        depth_max: usize,
    },
}

fn into(delta_type: &Option<DeltaType>) -> String {
    delta_type.as_ref().map_or_else(String::new, |delta_type| format!(" to the table's {delta_type}"))
}

impl Coded for ConversionError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Conversion
    }
}

/// A row that cannot be sent, by the first of its values that cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row}, column {column:?}, value {value}: {reason}")]
pub struct RowError {
    /// Where the row stands in its batch, from 0.
    pub row: usize,
    /// The name of the column, or the path of a value inside of it: `lines.element.price`.
    pub column: String,
    /// The value as text, shortened if it is long.
    pub value: String,
    /// What is wrong with it.
    pub reason: RowErrorReason,
}

impl Coded for RowError {
    fn code(&self) -> ErrorCode {
        ErrorCode::Conversion
    }
}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RowErrorReason {
    /// A missing required field would end the whole stream, so the row stays here.
    #[error("null in a column that is NOT NULL")]
    NullInRequired,
    /// A repeated field has no place for it.
    #[error("null element of a list, which protobuf cannot carry and transport=\"arrow_flight\" can")]
    NullElement,
    /// No map has such a key.
    #[error("null key of a map")]
    NullMapKey,
    /// The service would read a zero or an empty text instead.
    #[error("null value of a map, which protobuf cannot carry and transport=\"arrow_flight\" can")]
    NullMapValue,
    /// Whatever reads the record would keep only one of the values.
    #[error("the key stands twice in its map")]
    DuplicateMapKey,
    /// Policy `null_list = "error"`.
    #[error(
        "null list or map, which protobuf cannot tell from an empty one and transport=\"arrow_flight\" can"
    )]
    NullList,
    /// The column is too narrow for the value.
    #[error("out of the range of the column")]
    OutOfRange,
    /// The column would hold another value than this one.
    #[error("the column cannot hold the value exactly")]
    Inexact,
    /// The instant lies outside of what 64 bits of microseconds can count.
    #[error("timestamp out of the range of microseconds")]
    TimestampOverflow,
    /// Policy `timestamp_ns = "error"`.
    #[error("timestamp with nanoseconds, and the service counts in microseconds")]
    Nanoseconds,
    /// Milliseconds that are not those of a midnight.
    #[error("a date with a time of day")]
    TimeOfDay,
    /// A VARIANT is read from JSON.
    #[error("not valid as JSON")]
    InvalidJson,
    /// The bytes of a variant are not those of one.
    #[error("not valid as a variant")]
    InvalidVariant,
    /// A variant has types that JSON has not, and as a text the value would be of another type.
    #[error("a VARIANT is read from JSON, which has no {variant_type}")]
    NotInJson {
        /// The type of the value.
        variant_type: &'static str,
    },
    /// Whatever reads the value needs memory for each list and object around it.
    #[error("a variant with values in more than 128 lists and objects")]
    VariantTooDeep,
    /// A DECIMAL is read from plain digits.
    #[error("not a decimal number in plain notation")]
    InvalidDecimal,
    /// Arrow's own conversion failed where all values were found good.
    #[error("not convertible into the columns of the service")]
    Unconvertible,
    /// The batch does not have the schema that the plan was made for.
    #[error("the batch has another schema than the plan")]
    OtherSchema,
}
