//! What is decided once per Arrow schema, so that nothing of it is asked again per row.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field as ArrowField, Fields, Schema};
use prost_types::DescriptorProto;

use super::bind::bind;
use super::encode::{self, Field};
use super::error::{ConversionError, RowError, RowErrorReason};
use super::mapping::{self, Node, Rules, Wire};
use super::{Policies, Records, TableColumn, TableSchema, descriptor};

/// How batches of one Arrow schema become protobuf records.
#[derive(Clone, Debug)]
pub struct Plan {
    descriptor: DescriptorProto,
    columns: Columns,
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
    /// Columns are matched by name, as Delta compares them, in any order. Without a table, one is assumed that
    /// has the columns of the schema ([`TableSchema::from_arrow`]).
    ///
    /// # Errors
    ///
    /// When the service could have no table of this schema, a column is missing or unknown, or it has a type without
    /// a lossless conversion; the error names the column and says what to do.
    pub fn new(
        schema: &Schema,
        table: Option<&TableSchema>,
        policies: Policies,
    ) -> Result<Plan, ConversionError> {
        let table = TableSchema::of_batches(schema, table, Wire::Protobuf)?;
        let descriptor = descriptor::of_table(&without_unsendable(&table, schema))?;
        let nodes =
            mapping::columns(schema.fields(), &table.columns, Rules { wire: Wire::Protobuf, policies })?;
        let columns = Columns { source: schema.fields().clone(), nodes: nodes.into() };
        Ok(Plan { descriptor, columns })
    }

    /// The message that describes a record to the service.
    pub fn descriptor(&self) -> &DescriptorProto {
        &self.descriptor
    }

    /// Appends these rows of the batch to `out`, one record per row in their order, and returns the rows
    /// of which nothing was appended because one of their values cannot be converted.
    ///
    /// Every value is written, zero, false and empty ones too, for only a missing field is null. A batch of another
    /// schema than the plan's is refused row by row.
    ///
    /// # Panics
    ///
    /// If the batch has fewer rows than `rows` says.
    pub fn encode(&self, batch: &RecordBatch, rows: Range<usize>, out: &mut Records) -> Encoded {
        assert!(rows.end <= batch.num_rows(), "rows {rows:?} of a batch of {} rows", batch.num_rows());
        match self.columns.bind(batch) {
            Ok(mut fields) => encode::encode(&mut fields, rows, out),
            Err(other) => other.at_rows(rows),
        }
    }
}

/// The table without the columns that protobuf cannot carry and that the batches do not have: one that may be null may be
/// left out.
fn without_unsendable<'t>(table: &'t TableSchema, schema: &Schema) -> Cow<'t, TableSchema> {
    let is_sent = |name: &str| schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name));
    let is_sendable = |column: &TableColumn| {
        !column.nullable || descriptor::has_message(&column.delta_type) || is_sent(&column.name)
    };
    if table.columns.iter().all(is_sendable) {
        return Cow::Borrowed(table);
    }
    let columns = table.columns.iter().filter(|column| is_sendable(column)).cloned().collect();
    Cow::Owned(TableSchema { columns })
}

/// The columns of a batch, each with what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// The columns of the batches.
    pub(super) source: Fields,
    /// The fields of the table, each with the column that it comes from.
    pub(super) nodes: Arc<[(usize, Node)]>,
}

impl Columns {
    /// Binds each field to its array.
    pub(super) fn bind<'a>(
        &'a self,
        batch: &'a RecordBatch,
    ) -> Result<Vec<Box<dyn Field + 'a>>, OtherSchema> {
        self.check_schema(batch.schema_ref().fields())?;
        let mut fields = Vec::with_capacity(self.nodes.len());
        for (source, node) in self.nodes.iter() {
            let field = bind(node, batch.column(*source).as_ref());
            fields.push(field.ok_or_else(|| OtherSchema::at(&self.source[*source]))?);
        }
        Ok(fields)
    }

    /// Compares what says something about the values: names, types and extensions, not whether they may be null.
    fn check_schema(&self, fields: &Fields) -> Result<(), OtherSchema> {
        if std::ptr::eq(&**fields, &*self.source) {
            return Ok(());
        }
        for (planned, field) in self.source.iter().zip(fields) {
            let is_same = Arc::ptr_eq(planned, field)
                || planned.name() == field.name()
                    && planned.data_type() == field.data_type()
                    && planned.extension_type_name() == field.extension_type_name();
            if !is_same {
                return Err(OtherSchema { column: planned.name().clone(), found: described(field) });
            }
        }
        let surplus = fields.get(self.source.len()).map(|field| OtherSchema::at(field));
        let lacking = self.source.get(fields.len());
        let missing =
            lacking.map(|field| OtherSchema { found: "missing".to_owned(), ..OtherSchema::at(field) });
        surplus.or(missing).map_or(Ok(()), Err)
    }
}

/// What does not fit the plan.
pub(super) struct OtherSchema {
    column: String,
    found: String,
}

impl OtherSchema {
    fn at(field: &ArrowField) -> OtherSchema {
        OtherSchema { column: field.name().clone(), found: described(field) }
    }

    /// The refusal of all these rows.
    pub(super) fn at_rows(&self, rows: Range<usize>) -> Encoded {
        Encoded { refused: rows.map(|row| self.at_row(row)).collect(), ..Encoded::default() }
    }

    fn at_row(&self, row: usize) -> RowError {
        RowError {
            row,
            column: self.column.clone(),
            value: self.found.clone(),
            reason: RowErrorReason::OtherSchema,
        }
    }
}

fn described(field: &ArrowField) -> String {
    format!("{} {}", field.name(), field.data_type())
}
