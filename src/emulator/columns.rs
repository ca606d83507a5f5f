//! Rows on their way into a table: one Arrow builder per column, for flat and nested types.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int8Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{Array as _, ArrayRef, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow_buffer::{NullBuffer, NullBufferBuilder, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef, Fields, SchemaRef, TimeUnit};

/// Why a value does not fit its column. The record is not named, as the service does not name it either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("a value is required")]
    Missing,
    #[error("not parseable as protobuf")]
    Malformed,
    #[error("the wire type is not the one of the field")]
    WireType,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("out of range")]
    Range,
    #[error("not a decimal number that fits the precision and scale of the column")]
    Decimal,
    #[error("not parseable as JSON: expected {expected}")]
    Json { expected: &'static str },
    #[error("no such column in the table")]
    UnknownColumn,
}

/// A record that does not fit its table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column:?}: {problem}")]
pub(super) struct RecordError {
    /// The column, with the fields inside it; empty when the record as a whole is broken.
    pub(super) column: String,
    pub(super) problem: Problem,
}

impl RecordError {
    pub(super) fn new(column: &str, problem: Problem) -> RecordError {
        RecordError { column: column.to_owned(), problem }
    }

    /// The same error, seen from the column around it.
    pub(super) fn within(self, outer: &str) -> RecordError {
        let column =
            if self.column.is_empty() { outer.to_owned() } else { format!("{outer}.{}", self.column) };
        RecordError { column, problem: self.problem }
    }
}

/// The builder of one column.
pub(super) enum Column {
    Boolean(BooleanBuilder),
    Byte(Int8Builder),
    Short(Int16Builder),
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Decimal { values: Decimal128Builder, precision: u8, scale: u8 },
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Struct { fields: Fields, columns: Vec<Column>, validity: NullBufferBuilder },
    List { element: FieldRef, values: Box<Column>, ends: Ends },
    Map { entries: FieldRef, keys: Box<Column>, values: Box<Column>, ends: Ends },
}

/// Where the elements of each list of a column end, and which lists are null.
pub(super) struct Ends {
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
}

impl Ends {
    fn new() -> Ends {
        Ends { offsets: vec![0], validity: NullBufferBuilder::new(0) }
    }

    /// Closes a list of this many elements.
    pub(super) fn close(&mut self, elements: usize) -> Result<(), Problem> {
        let start = self.offsets.last().copied().unwrap_or_default();
        let end = i32::try_from(elements).ok().and_then(|elements| start.checked_add(elements));
        self.offsets.push(end.ok_or(Problem::Range)?);
        self.validity.append_non_null();
        Ok(())
    }

    fn append_null(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or_default());
        self.validity.append_null();
    }

    fn finish(&mut self, rows: usize) -> (OffsetBuffer<i32>, usize, Option<NullBuffer>) {
        let mut offsets = std::mem::replace(&mut self.offsets, vec![0]);
        offsets.truncate(rows + 1);
        let elements = usize::try_from(offsets.last().copied().unwrap_or_default()).unwrap_or_default();
        (OffsetBuffer::new(offsets.into()), elements, finish_validity(&mut self.validity, rows))
    }
}

fn finish_validity(validity: &mut NullBufferBuilder, rows: usize) -> Option<NullBuffer> {
    validity.finish().map(|nulls| nulls.slice(0, rows))
}

impl Column {
    /// A builder for the type, or the type inside it that no builder is for.
    pub(super) fn new(data_type: &DataType) -> Result<Column, DataType> {
        Ok(match data_type {
            DataType::Boolean => Column::Boolean(BooleanBuilder::new()),
            DataType::Int8 => Column::Byte(Int8Builder::new()),
            DataType::Int16 => Column::Short(Int16Builder::new()),
            DataType::Int32 => Column::Int(Int32Builder::new()),
            DataType::Int64 => Column::Long(Int64Builder::new()),
            DataType::Float32 => Column::Float(Float32Builder::new()),
            DataType::Float64 => Column::Double(Float64Builder::new()),
            DataType::Date32 => Column::Date(Date32Builder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Column::Timestamp(TimestampMicrosecondBuilder::new().with_timezone_opt(zone.clone()))
            }
            DataType::Decimal128(precision, scale) => Column::Decimal {
                values: Decimal128Builder::new().with_data_type(data_type.clone()),
                precision: *precision,
                scale: u8::try_from(*scale).map_err(|_| data_type.clone())?,
            },
            DataType::Utf8 => Column::Text(StringBuilder::new()),
            DataType::Binary => Column::Binary(BinaryBuilder::new()),
            DataType::Struct(fields) => Column::Struct {
                fields: fields.clone(),
                columns: fields
                    .iter()
                    .map(|field| Column::new(field.data_type()))
                    .collect::<Result<_, _>>()?,
                validity: NullBufferBuilder::new(0),
            },
            DataType::List(element) => Column::List {
                element: Arc::clone(element),
                values: Box::new(Column::new(element.data_type())?),
                ends: Ends::new(),
            },
            DataType::Map(entries, false) => match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => Column::Map {
                    entries: Arc::clone(entries),
                    keys: Box::new(Column::new(fields[0].data_type())?),
                    values: Box::new(Column::new(fields[1].data_type())?),
                    ends: Ends::new(),
                },
                _ => return Err(data_type.clone()),
            },
            _ => return Err(data_type.clone()),
        })
    }

    pub(super) fn append_null(&mut self) {
        match self {
            Column::Boolean(values) => values.append_null(),
            Column::Byte(values) => values.append_null(),
            Column::Short(values) => values.append_null(),
            Column::Int(values) => values.append_null(),
            Column::Long(values) => values.append_null(),
            Column::Float(values) => values.append_null(),
            Column::Double(values) => values.append_null(),
            Column::Date(values) => values.append_null(),
            Column::Timestamp(values) => values.append_null(),
            Column::Decimal { values, .. } => values.append_null(),
            Column::Text(values) => values.append_null(),
            Column::Binary(values) => values.append_null(),
            Column::Struct { columns, validity, .. } => {
                columns.iter_mut().for_each(Column::append_null);
                validity.append_null();
            }
            Column::List { ends, .. } | Column::Map { ends, .. } => ends.append_null(),
        }
    }

    /// The first `rows` rows as an array; what stands behind them belongs to a record that was refused.
    fn finish(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        let whole: ArrayRef = match self {
            Column::Boolean(values) => Arc::new(values.finish()),
            Column::Byte(values) => Arc::new(values.finish()),
            Column::Short(values) => Arc::new(values.finish()),
            Column::Int(values) => Arc::new(values.finish()),
            Column::Long(values) => Arc::new(values.finish()),
            Column::Float(values) => Arc::new(values.finish()),
            Column::Double(values) => Arc::new(values.finish()),
            Column::Date(values) => Arc::new(values.finish()),
            Column::Timestamp(values) => Arc::new(values.finish()),
            Column::Decimal { values, .. } => Arc::new(values.finish()),
            Column::Text(values) => Arc::new(values.finish()),
            Column::Binary(values) => Arc::new(values.finish()),
            Column::Struct { fields, columns, validity } => {
                let arrays =
                    columns.iter_mut().map(|column| column.finish(rows)).collect::<Result<_, _>>()?;
                let nulls = finish_validity(validity, rows);
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, rows)?)
            }
            Column::List { element, values, ends } => {
                let (offsets, elements, nulls) = ends.finish(rows);
                Arc::new(ListArray::try_new(Arc::clone(element), offsets, values.finish(elements)?, nulls)?)
            }
            Column::Map { entries, keys, values, ends } => {
                let (offsets, elements, nulls) = ends.finish(rows);
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(ArrowError::SchemaError("the entries of a map are no struct".to_owned()));
                };
                let pairs = vec![keys.finish(elements)?, values.finish(elements)?];
                let pairs = StructArray::try_new(fields.clone(), pairs, None)?;
                Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, false)?)
            }
        };
        Ok(if whole.len() > rows { whole.slice(0, rows) } else { whole })
    }
}

/// Rows of one table, column by column.
pub(super) struct Rows {
    schema: SchemaRef,
    columns: Vec<Column>,
    count: usize,
}

impl Rows {
    /// No rows yet, or the type that cannot be written.
    pub(super) fn new(schema: SchemaRef) -> Result<Rows, DataType> {
        let columns =
            schema.fields().iter().map(|field| Column::new(field.data_type())).collect::<Result<_, _>>()?;
        Ok(Rows { schema, columns, count: 0 })
    }

    /// How many whole rows there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds the row that `append` puts into every column. After an error the columns hold a part of it,
    /// and the next call must be [`Rows::finish`].
    pub(super) fn append(
        &mut self,
        append: impl FnOnce(&mut [Column]) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        append(&mut self.columns)?;
        self.count += 1;
        Ok(())
    }

    /// The first `rows` rows; all others are gone and the next row is the first.
    pub(super) fn finish(&mut self, rows: usize) -> Result<RecordBatch, ArrowError> {
        self.count = 0;
        let arrays = self.columns.iter_mut().map(|column| column.finish(rows)).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
    }
}

/// Reads `-?digits[.digits]` as an exact number of the column's scale.
pub(super) fn parse_decimal(text: &str, precision: u8, scale: u8) -> Result<i128, Problem> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let kept = fraction.trim_end_matches('0');
    if whole.len() + fraction.len() == 0 || kept.len() > usize::from(scale) {
        return Err(Problem::Decimal);
    }
    let mut number: i128 = 0;
    let padding = std::iter::repeat_n(b'0', usize::from(scale) - kept.len());
    for digit in whole.bytes().chain(kept.bytes()).chain(padding) {
        let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0')).ok_or(Problem::Decimal)?;
        let next = number.checked_mul(10).and_then(|number| number.checked_add(digit));
        number = next.ok_or(Problem::Decimal)?;
    }
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) || number >= 10i128.pow(u32::from(precision)) {
        return Err(Problem::Decimal);
    }
    Ok(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_text_becomes_the_exact_number_or_an_error() {
        for (text, number) in [
            ("0", 0),
            ("-1.5", -150),
            ("+2", 200),
            (".25", 25),
            ("7.", 700),
            ("00012.30", 1230),
            ("1.2300000", 123),
            ("99999999.99", 9_999_999_999),
        ] {
            assert_eq!(parse_decimal(text, 10, 2), Ok(number), "{text}");
        }
        for text in ["", "-", ".", "1.234", "100000000", "1e3", "1,5", "NaN", " 1", "1.0x", "--1", "1.2.0"] {
            assert_eq!(parse_decimal(text, 10, 2), Err(Problem::Decimal), "{text:?}");
        }
        assert_eq!(parse_decimal(&"9".repeat(38), 38, 0), Ok(10i128.pow(38) - 1));
        assert_eq!(parse_decimal(&"9".repeat(60), 38, 0), Err(Problem::Decimal));
    }
}
