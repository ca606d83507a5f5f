//! What columns an exported file has: those of the batch, as far as the format needs in another shape, and where each row
//! stood.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray, UInt64Array,
    new_null_array,
};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};

use super::{ExportError, Format};
use crate::admin::chosen::Piece;
use crate::quarantine::free_name;

/// Which columns are added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added {
    pub(super) with_position: bool,
    pub(super) with_reason: bool,
}

/// The batch without the metadata of its schema, which is about one batch and not about a file of many, and in the shape that
/// the format needs: an Arrow file has one dictionary for a column, and each frame has its own.
pub(super) fn plain(batch: &RecordBatch, format: Format) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    if format == Format::Arrow {
        for (field, column) in fields.iter_mut().zip(&mut columns) {
            if let Some(valued) = without_dictionaries(field.data_type()) {
                *column = cast(column, &valued)?;
                *field = Arc::new(field.as_ref().clone().with_data_type(valued));
            }
        }
    }
    remade(fields, columns, batch.num_rows())
}

fn remade(fields: Vec<FieldRef>, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

/// The type with values in place of dictionaries; none if there are none in it.
fn without_dictionaries(data_type: &DataType) -> Option<DataType> {
    let of = |field: &FieldRef| {
        let valued = without_dictionaries(field.data_type())?;
        Some(Arc::new(field.as_ref().clone().with_data_type(valued)))
    };
    match data_type {
        DataType::Dictionary(_, value) => {
            Some(without_dictionaries(value).unwrap_or_else(|| value.as_ref().clone()))
        }
        DataType::List(field) => of(field).map(DataType::List),
        DataType::LargeList(field) => of(field).map(DataType::LargeList),
        DataType::FixedSizeList(field, size) => of(field).map(|field| DataType::FixedSizeList(field, *size)),
        DataType::Map(field, sorted) => of(field).map(|field| DataType::Map(field, *sorted)),
        DataType::Struct(fields) => {
            let valued: Vec<Option<FieldRef>> = fields.iter().map(of).collect();
            let any = valued.iter().any(Option::is_some);
            let all = valued.into_iter().zip(fields).map(|(new, old)| new.unwrap_or_else(|| Arc::clone(old)));
            any.then(|| DataType::Struct(all.collect()))
        }
        _ => None,
    }
}

/// Whether the format has something for each column.
pub(super) fn check(schema: &Schema, format: Format) -> Result<(), ExportError> {
    if format != Format::Csv {
        return Ok(());
    }
    match schema.fields().iter().find(|field| is_nested(field.data_type())) {
        None => Ok(()),
        Some(field) => Err(ExportError::Column {
            column: field.name().clone(),
            data_type: field.data_type().to_string(),
            format,
            what_to_do: "give --to jsonl, parquet or arrow",
        }),
    }
}

fn is_nested(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_nested(value),
        DataType::RunEndEncoded(_, values) => is_nested(values.data_type()),
        other => other.is_nested(),
    }
}

/// The batch with where each row stood, and why it was refused, if that is wanted.
pub(super) fn with_position(
    batch: RecordBatch,
    piece: &Piece,
    added: Added,
) -> Result<RecordBatch, ArrowError> {
    if !added.with_position {
        return Ok(batch);
    }
    let count = batch.num_rows();
    let times = TimestampMicrosecondArray::from_value(piece.unix_micros, count).with_timezone("UTC");
    let mut extra: Vec<(&str, ArrayRef, bool)> = vec![
        ("_zerobus_lsn", Arc::new(UInt64Array::from_value(piece.lsn.get(), count)), false),
        ("_zerobus_row", Arc::new(piece.rows.clone()), false),
        ("_zerobus_time", Arc::new(times), false),
    ];
    if added.with_reason {
        let text = |array: Option<&StringArray>| -> ArrayRef {
            array.map_or_else(|| new_null_array(&DataType::Utf8, count), |array| Arc::new(array.clone()))
        };
        let kept = piece.kept.as_ref();
        extra.push(("_zerobus_reason", text(kept.map(|kept| &kept.reasons)), true));
        extra.push(("_zerobus_code", text(kept.map(|kept| &kept.codes)), true));
    }
    let mut fields: Vec<FieldRef> = batch.schema().fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    for (name, column, nullable) in extra {
        let field = Field::new(free_name(&fields, name), column.data_type().clone(), nullable);
        fields.push(Arc::new(field));
        columns.push(column);
    }
    remade(fields, columns, count)
}
