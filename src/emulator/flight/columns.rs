//! Does the Arrow schema of a stream fit the table, and how do its batches become rows of it?

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{
    Array, ArrayRef, Decimal128Array, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
    new_null_array,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, Fields, SchemaRef, TimeUnit};

use crate::emulator::columns::parse_decimal;

/// A reason for which the service refuses a schema, by the name that it has for clients.
pub(super) type Cause = &'static str;

const NOT_IN_TABLE: Cause = "FIELD_NOT_IN_TABLE";
const MISSING: Cause = "MISSING_REQUIRED_COLUMN";
const OUT_OF_ORDER: Cause = "FIELD_OUT_OF_ORDER";
const TYPE: Cause = "TYPE_INCOMPATIBLE";
const COUNT: Cause = "FIELD_COUNT_MISMATCH";

/// What does not fit: causes, and a sentence for each. Columns that may be null may be missing, all others stand in the
/// order of the table.
pub(super) fn check(sent: &Fields, table: &Fields) -> Vec<(Cause, String)> {
    let mut problems = Vec::new();
    let mut last = None;
    for field in sent {
        let Some((position, column)) = table.find(field.name()) else {
            problems.push((NOT_IN_TABLE, format!("field {:?} is not in the table", field.name())));
            continue;
        };
        if last.is_some_and(|last| position <= last) {
            problems.push((
                OUT_OF_ORDER,
                format!("field {:?} does not stand where the table has it", field.name()),
            ));
        }
        last = Some(position);
        check_type(field.name(), field.data_type(), column.data_type(), &mut problems);
    }
    for column in table.iter().filter(|column| !column.is_nullable() && sent.find(column.name()).is_none()) {
        problems.push((MISSING, format!("column {:?} is NOT NULL and not there", column.name())));
    }
    problems
}

fn check_type(path: &str, sent: &DataType, column: &DataType, problems: &mut Vec<(Cause, String)>) {
    use DataType as A;
    use TimeUnit::Microsecond;

    match (sent, column) {
        (A::Struct(sent), A::Struct(columns)) => {
            if sent.len() != columns.len() {
                let text =
                    format!("field {path:?} has {} fields, and {} in the table", sent.len(), columns.len());
                problems.push((COUNT, text));
            }
            for (field, column) in sent.iter().zip(columns) {
                if field.name() != column.name() {
                    let text = format!(
                        "field {:?} stands where the table has {path}.{}",
                        field.name(),
                        column.name()
                    );
                    problems.push((OUT_OF_ORDER, text));
                }
                check_type(
                    &format!("{path}.{}", column.name()),
                    field.data_type(),
                    column.data_type(),
                    problems,
                );
            }
        }
        (A::List(sent), A::List(column)) => {
            check_type(&format!("{path}.element"), sent.data_type(), column.data_type(), problems);
        }
        (A::Map(sent, _), A::Map(column, _)) => match (sent.data_type(), column.data_type()) {
            (A::Struct(sent), A::Struct(column)) => {
                for (n, part) in ["key", "value"].into_iter().enumerate() {
                    let (sent, column) = (sent[n].data_type(), column[n].data_type());
                    check_type(&format!("{path}.{part}"), sent, column, problems);
                }
            }
            _ => problems.push((TYPE, format!("field {path:?} is no map"))),
        },
        (A::LargeUtf8 | A::Utf8, A::Utf8 | A::Decimal128(..)) => {}
        (A::LargeBinary | A::Binary, A::Binary) => {}
        (A::Timestamp(Microsecond, Some(_)), A::Timestamp(Microsecond, Some(_))) => {}
        (sent, column) if sent == column => {}
        (sent, column) => problems.push((TYPE, format!("field {path:?} is {sent}, the table has {column}"))),
    }
}

/// The batch as rows of the table.
pub(super) fn fit(batch: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, String> {
    let rows = batch.num_rows();
    let column = |column: &Arc<Field>| match batch.column_by_name(column.name()) {
        Some(array) => fit_array(array, column),
        None => Ok(new_null_array(column.data_type(), rows)),
    };
    let arrays = columns.fields().iter().map(column).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(columns), arrays, &options)
        .map_err(|error| error.to_string())
}

fn fit_array(array: &ArrayRef, column: &Field) -> Result<ArrayRef, String> {
    let failed = |error: arrow_schema::ArrowError| format!("column {:?}: {error}", column.name());
    Ok(match (array.data_type(), column.data_type()) {
        (from, DataType::Decimal128(precision, scale)) if from.is_string() => {
            let texts =
                cast_with_options(array, &DataType::LargeUtf8, &CastOptions::default()).map_err(failed)?;
            let number = |text: &str| {
                parse_decimal(text, *precision, scale.unsigned_abs())
                    .map_err(|problem| format!("column {:?}: {problem}", column.name()))
            };
            let numbers = texts.as_string::<i64>().iter().map(|text| text.map(number).transpose());
            let numbers: Decimal128Array = numbers.collect::<Result<_, String>>()?;
            Arc::new(numbers.with_precision_and_scale(*precision, *scale).map_err(failed)?)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let array = array.as_struct();
            let columns = array.columns().iter().zip(fields).map(|(array, field)| fit_array(array, field));
            let (columns, nulls) = (columns.collect::<Result<_, _>>()?, array.nulls().cloned());
            Arc::new(StructArray::try_new(fields.clone(), columns, nulls).map_err(failed)?)
        }
        (DataType::List(_), DataType::List(element)) => {
            let lists = array.as_list::<i32>();
            let values = fit_array(lists.values(), element)?;
            let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
            Arc::new(ListArray::try_new(Arc::clone(element), offsets, values, nulls).map_err(failed)?)
        }
        (DataType::Map(..), DataType::Map(entries, _)) => {
            let maps = array.as_map();
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(format!("column {:?} is no map", column.name()));
            };
            let parts = vec![fit_array(maps.keys(), &fields[0])?, fit_array(maps.values(), &fields[1])?];
            let pairs = StructArray::try_new(fields.clone(), parts, None).map_err(failed)?;
            let (offsets, nulls) = (maps.offsets().clone(), maps.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, false).map_err(failed)?)
        }
        (_, to) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, to, &options).map_err(failed)?
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow_schema::Schema;

    use super::*;

    fn causes(sent: &[Field], table: &[Field]) -> Vec<Cause> {
        let fields = |fields: &[Field]| Fields::from(fields.to_vec());
        check(&fields(sent), &fields(table)).into_iter().map(|(cause, _)| cause).collect()
    }

    fn field(name: &str, data_type: DataType) -> Field {
        Field::new(name, data_type, true)
    }

    #[test]
    fn a_schema_that_does_not_fit_is_refused_with_its_cause() {
        let required = Field::new("id", DataType::Int64, false);
        let table = [required.clone(), field("name", DataType::Utf8), field("n", DataType::Int32)];
        let name = field("name", DataType::LargeUtf8);
        assert!(causes(&[required.clone(), name.clone(), field("n", DataType::Int32)], &table).is_empty());
        assert!(causes(&[required.clone(), field("n", DataType::Int32)], &table).is_empty(), "nullable");
        assert_eq!(causes(&[required.clone(), field("x", DataType::Int32)], &table), [NOT_IN_TABLE]);
        assert_eq!(causes(std::slice::from_ref(&name), &table), [MISSING]);
        assert_eq!(causes(&[name, required.clone()], &table), [OUT_OF_ORDER]);
        assert_eq!(causes(&[required.clone(), field("n", DataType::Int64)], &table), [TYPE]);
        let pair = |fields: &[Field]| field("s", DataType::Struct(fields.to_vec().into()));
        let (a, b) = (field("a", DataType::Int8), field("b", DataType::Int8));
        assert_eq!(causes(&[pair(std::slice::from_ref(&a))], &[pair(&[a.clone(), b.clone()])]), [COUNT]);
        assert_eq!(causes(&[pair(&[b.clone(), a.clone()])], &[pair(&[a, b])]), [OUT_OF_ORDER, OUT_OF_ORDER]);
    }

    #[test]
    fn texts_become_exact_decimals_or_none() {
        let texts: ArrayRef = Arc::new(arrow_array::LargeStringArray::from(vec![Some("-1.50"), None]));
        let schema = Arc::new(Schema::new(vec![field("d", DataType::Decimal128(4, 2))]));
        let rows = fit(&RecordBatch::try_from_iter([("d", texts)]).unwrap(), &schema).unwrap();
        assert_eq!(rows.column(0).as_primitive::<arrow_array::types::Decimal128Type>().value(0), -150);
        let inexact: ArrayRef = Arc::new(arrow_array::LargeStringArray::from(vec!["1.555"]));
        assert!(fit(&RecordBatch::try_from_iter([("d", inexact)]).unwrap(), &schema).is_err());
    }
}
