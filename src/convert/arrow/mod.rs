//! Arrow → Arrow: how a batch becomes one that the service takes over Arrow Flight.
//!
//! Values are judged by the same rules as for protobuf, so a row is refused on both ways for the same reasons; only what
//! protobuf cannot carry is good here. What is good is converted by Arrow's kernels; where those have no exact conversion,
//! by the writers of the protobuf side, whose output is read back.

mod lists;
mod shape;
mod size;
mod target;
mod written;

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{ArrowError, FieldRef, Schema, SchemaRef};

use self::shape::Shape;
pub(crate) use self::size::rows_within;
use super::encode;
use super::error::{ConversionError, RowError, RowErrorReason};
use super::mapping::{self, Rules, Wire};
use super::plan::Columns;
use super::{Encoded, Policies, TableSchema};

/// How batches of one Arrow schema become batches of the one that the service wants.
#[derive(Clone, Debug)]
pub struct ArrowPlan {
    /// What the service is told.
    schema: SchemaRef,
    columns: Columns,
    /// How each field of the schema is made, and of which column; of none if the batches do not have it.
    shapes: Arc<[(Option<usize>, Shape)]>,
}

impl ArrowPlan {
    /// The plan for batches of this schema, into the columns of the table if they are known.
    ///
    /// Columns are matched as for protobuf; see [`Plan::new`](super::Plan::new). The fields are those of the table, in its
    /// order; what the batch does not have is null.
    ///
    /// # Errors
    ///
    /// When the service could have no table of this schema, a column is missing or unknown, or it has a type without
    /// a lossless conversion; the error names the column and says what to do.
    pub fn new(
        schema: &Schema,
        table: Option<&TableSchema>,
        policies: Policies,
    ) -> Result<ArrowPlan, ConversionError> {
        let table = TableSchema::of_batches(schema, table, Wire::Arrow)?;
        let nodes = mapping::columns(schema.fields(), &table.columns, Rules { wire: Wire::Arrow, policies })?;
        let mut matched = nodes.iter().peekable();
        let (mut fields, mut shapes) = (Vec::new(), Vec::new());
        for (position, column) in table.columns.iter().enumerate() {
            let field = target::field(column, position, &column.name, 0);
            match matched.next_if(|(_, node)| node.header.name == column.name) {
                Some((source, node)) => {
                    let field = field?;
                    let shape = Shape::new(&schema.fields()[*source], node, &column.delta_type, &field);
                    shapes.push((Some(*source), shape));
                    fields.push(field);
                }
                // Batches that have other columns of the table share their streams.
                None => fields.extend(field.ok().inspect(|field| {
                    shapes.push((None, Shape::Null(field.data_type().clone())));
                })),
            }
        }
        let columns = Columns { source: schema.fields().clone(), nodes: nodes.into() };
        Ok(ArrowPlan { schema: Arc::new(Schema::new(fields)), columns, shapes: shapes.into() })
    }

    /// The schema of what the service gets.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Appends these rows of the batch to `out`, in runs, and returns those of which nothing was appended because one of
    /// their values cannot be converted. A batch of another schema than the plan's is refused row by row.
    ///
    /// What is appended may share memory with the batch.
    ///
    /// # Panics
    ///
    /// If the batch has fewer rows than `rows` says.
    pub fn convert(&self, batch: &RecordBatch, rows: Range<usize>, out: &mut Vec<RecordBatch>) -> Encoded {
        let mut encoded = self.check(batch, rows.clone());
        let mut start = rows.start;
        let refused: Vec<usize> = encoded.refused.iter().map(|error| error.row).collect();
        for end in refused.into_iter().chain([rows.end]) {
            if start < end {
                match self.convert_run(batch, start..end) {
                    Ok(run) => out.push(run),
                    Err(error) => encoded.refused.extend(unconvertible(start..end, &error)),
                }
            }
            start = end + 1;
        }
        encoded.refused.sort_by_key(|error| error.row);
        encoded
    }

    /// What [`convert`](ArrowPlan::convert) would say about these rows.
    ///
    /// # Panics
    ///
    /// If the batch has fewer rows than `rows` says.
    pub fn check(&self, batch: &RecordBatch, rows: Range<usize>) -> Encoded {
        assert!(rows.end <= batch.num_rows(), "rows {rows:?} of a batch of {} rows", batch.num_rows());
        match self.columns.bind(batch) {
            Ok(mut fields) => encode::check(&mut fields, rows),
            Err(other) => other.at_rows(rows),
        }
    }

    /// All values in these rows are known to be good.
    fn convert_run(&self, batch: &RecordBatch, rows: Range<usize>) -> Result<RecordBatch, ArrowError> {
        let count = rows.len();
        let column = |((source, shape), field): (&(Option<usize>, Shape), &FieldRef)| match source {
            Some(source) => shape.convert(&batch.column(*source).slice(rows.start, count)),
            None => Ok(new_null_array(field.data_type(), count)),
        };
        let columns = self.shapes.iter().zip(self.schema.fields()).map(column);
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns.collect::<Result<_, _>>()?,
            &options,
        )
    }
}

/// The rows of a run that Arrow could not convert although each of their values is good: too many elements for the offsets
/// of a list, for one.
fn unconvertible(rows: Range<usize>, error: &ArrowError) -> impl Iterator<Item = RowError> {
    let value = error.to_string();
    rows.map(move |row| RowError {
        row,
        column: String::new(),
        value: value.clone(),
        reason: RowErrorReason::Unconvertible,
    })
}

#[cfg(test)]
mod tests;
