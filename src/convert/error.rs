//! Why a schema or a row cannot become protobuf.

use arrow_schema::DataType;

use crate::error::{Coded, ErrorCode};

/// Why no batch of a schema can be converted.
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
        /// Where it stands in the schema, from 0.
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
        /// Where the first stands in the schema, from 0.
        first: usize,
        /// Where the second stands in the schema, from 0.
        second: usize,
    },
    /// No lossless conversion of the type is known.
    #[error(
        "column {column:?} has the Arrow type {arrow_type}, which cannot be converted; cast the column to {cast_to}"
    )]
    UnsupportedType {
        /// The name of the column.
        column: String,
        /// Its type.
        arrow_type: DataType,
        /// The type or types to cast it to.
        cast_to: &'static str,
    },
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
    /// The name of the column.
    pub column: String,
    /// The value, as text.
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
    /// The instant lies outside of what 64 bits of microseconds can count.
    #[error("timestamp out of the range of microseconds")]
    TimestampOverflow,
    /// The batch does not have the schema that the plan was made for.
    #[error("the batch has another schema than the plan")]
    OtherSchema,
}
