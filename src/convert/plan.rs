//! What is decided once per Arrow schema, so that nothing of it is asked again per row.

use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_schema::{FieldRef, Schema};
use prost_types::DescriptorProto;

use super::encode::{self, Column};
use super::error::{ConversionError, RowError, RowErrorReason};
use super::types::{Conversion, cast_advice};
use super::{Policies, Records, TableSchema, descriptor, positions};

/// How batches of one Arrow schema become protobuf records.
#[derive(Clone, Debug)]
pub struct Plan {
    descriptor: DescriptorProto,
    columns: Vec<PlannedColumn>,
}

#[derive(Clone, Debug)]
struct PlannedColumn {
    field: FieldRef,
    number: u32,
    conversion: Conversion,
}

/// What [`Plan::encode`] did besides appending records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The rows of which nothing was appended, in their order.
    pub refused: Vec<RowError>,
    /// Timestamps in appended records that lost nanoseconds.
    pub floored_timestamps: u64,
    /// Null lists and maps in appended records that became empty ones.
    pub emptied_lists: u64,
}

impl Plan {
    /// The plan for batches of this schema, into the columns of the table if they are known.
    ///
    /// # Errors
    ///
    /// When the service could have no table of this schema, or a column has a type without a lossless
    /// conversion; the error names the column and says what to do.
    pub fn new(
        schema: &Schema,
        table: Option<&TableSchema>,
        policies: Policies,
    ) -> Result<Plan, ConversionError> {
        let _ = (table, policies);
        descriptor::check_names(schema)?;
        let mut columns = Vec::with_capacity(schema.fields().len());
        let mut fields = Vec::with_capacity(schema.fields().len());
        for (number, field) in (1..).zip(schema.fields()) {
            let conversion =
                Conversion::of(field.data_type()).ok_or_else(|| ConversionError::UnsupportedType {
                    column: field.name().clone(),
                    arrow_type: field.data_type().clone(),
                    cast_to: cast_advice(field.data_type()),
                })?;
            fields.push(descriptor::field(field, number, conversion.field_type));
            columns.push(PlannedColumn { field: field.clone(), number: number.unsigned_abs(), conversion });
        }
        Ok(Plan { descriptor: descriptor::message(fields), columns })
    }

    /// The message that describes a record to the service.
    pub fn descriptor(&self) -> &DescriptorProto {
        &self.descriptor
    }

    /// Appends these rows of the batch to `out`, one record per row in their order, and returns the rows
    /// of which nothing was appended because one of their values cannot be converted.
    ///
    /// Timestamps in nanoseconds are floored to the service's microsecond. Every value is written, zero,
    /// false and empty ones too, for only a missing field is null. A batch of another schema than the plan's
    /// is refused row by row.
    ///
    /// # Panics
    ///
    /// If the batch has fewer rows than `rows` says.
    pub fn encode(&self, batch: &RecordBatch, rows: Range<usize>, out: &mut Records) -> Encoded {
        assert!(rows.end <= batch.num_rows(), "rows {rows:?} of a batch of {} rows", batch.num_rows());
        let refused = match self.bind(batch) {
            Ok(columns) => encode::encode(&columns, rows, out),
            Err((column, value)) => rows
                .map(|row| RowError {
                    row,
                    column: column.to_owned(),
                    value: value.clone(),
                    reason: RowErrorReason::OtherSchema,
                })
                .collect(),
        };
        Encoded { refused, ..Encoded::default() }
    }

    /// Binds each column to its array, or names the first that does not fit and what stands there.
    fn bind<'a>(&'a self, batch: &'a RecordBatch) -> Result<Vec<Column<'a>>, (&'a str, String)> {
        let schema = batch.schema_ref();
        if let Some(more) = schema.fields().get(self.columns.len()) {
            return Err((more.name(), more.data_type().to_string()));
        }
        let mut bound = Vec::with_capacity(self.columns.len());
        for (position, column) in self.columns.iter().enumerate() {
            let name = column.field.name().as_str();
            let Some(field) = schema.fields().get(position) else {
                return Err((name, "missing".to_owned()));
            };
            let (positions, array) = positions::bind(batch.column(position).as_ref());
            let values = match (column.conversion.bind)(array) {
                Some(values) if field.name() == name && field.data_type() == column.field.data_type() => {
                    values
                }
                _ => return Err((name, format!("{} {}", field.name(), field.data_type()))),
            };
            bound.push(Column {
                name,
                number: column.number,
                wire_type: column.conversion.wire_type,
                is_required: !column.field.is_nullable(),
                positions,
                values,
            });
        }
        Ok(bound)
    }
}
