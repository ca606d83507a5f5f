//! Rows of a batch as a table for people, and as JSON for programs.

use arrow_array::{Array, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_schema::{ArrowError, Schema};
use comfy_table::Cell;
use std::sync::Arc;

use super::output::table;

fn options() -> FormatOptions<'static> {
    FormatOptions::new().with_null("null").with_display_error(true)
}

/// A table with a column for each of the batch.
pub(super) fn table_of_rows(batch: &RecordBatch) -> Result<String, ArrowError> {
    let options = options();
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let mut rows = table([]);
    rows.set_header(
        batch
            .schema()
            .fields()
            .iter()
            .map(|field| format!("{}\n{}", visible(field.name()), field.data_type())),
    );
    for row in 0..batch.num_rows() {
        rows.add_row(columns.iter().map(|column| Cell::new(visible(&column.value(row).to_string()))));
    }
    Ok(rows.to_string())
}

/// A text of somebody else's, of which no character does something to a terminal or to a table.
fn visible(text: &str) -> String {
    let shown = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(shown).collect()
}

/// An object for each row. Columns of a type that JSON has no form for are texts.
pub(super) fn json_rows(batch: &RecordBatch) -> Result<Vec<String>, ArrowError> {
    match write_json(batch) {
        Ok(rows) => Ok(rows),
        Err(_) => write_json(&with_texts(batch)?),
    }
}

fn write_json(batch: &RecordBatch) -> Result<Vec<String>, ArrowError> {
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(batch)?;
    writer.finish()?;
    let text = String::from_utf8(bytes).map_err(|error| ArrowError::JsonError(error.to_string()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The batch, with texts instead of columns that cannot be written as JSON.
fn with_texts(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let options = options();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (index, (field, column)) in batch.schema().fields().iter().zip(batch.columns()).enumerate() {
        if write_json(&batch.project(&[index])?).is_ok() {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
            continue;
        }
        let text = ArrayFormatter::try_new(column, &options)?;
        let texts = (0..column.len()).map(|row| column.is_valid(row).then(|| text.value(row).to_string()));
        columns.push(Arc::new(texts.collect::<arrow_array::StringArray>()));
        fields.push(Arc::new(
            field.as_ref().clone().with_data_type(arrow_schema::DataType::Utf8).with_nullable(true),
        ));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Decimal128Array, Int64Array, IntervalMonthDayNanoArray};
    use arrow_buffer::IntervalMonthDayNano;

    use super::*;

    #[test]
    fn a_text_does_nothing_to_the_terminal_that_it_is_shown_on() {
        let texts: ArrayRef =
            Arc::new(arrow_array::StringArray::from(vec!["\u{1b}[2J", "two\nlines", "grün"]));
        let table = table_of_rows(&RecordBatch::try_from_iter([("a\u{7}b", texts)]).unwrap()).unwrap();
        assert!(!table.contains(['\u{1b}', '\u{7}']), "{table}");
        for shown in ["two\\nlines", "\\u{1b}[2J", "grün"] {
            assert!(table.contains(shown), "{table}");
        }
    }

    #[test]
    fn rows_keep_every_digit_and_nulls_whatever_the_types_are() {
        let big: ArrayRef = Arc::new(Int64Array::from(vec![Some(i64::MAX), None]));
        let decimal =
            Decimal128Array::from(vec![i128::MAX / 10, -5]).with_precision_and_scale(38, 2).unwrap();
        let spans = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3_000_000_000); 2]);
        let decimal: ArrayRef = Arc::new(decimal);
        let spans: ArrayRef = Arc::new(spans);
        let batch =
            RecordBatch::try_from_iter([("big", big), ("decimal", decimal), ("span", spans)]).unwrap();
        let rows = json_rows(&batch).unwrap();
        assert!(rows[0].contains("9223372036854775807"), "{rows:?}");
        assert!(rows[0].contains("170141183460469231731687303715884105.72".get(..30).unwrap()), "{rows:?}");
        assert!(rows[1].contains("\"big\":null"), "{rows:?}");
        assert!(rows[1].contains("\"span\":\"") && rows[1].contains("mons"), "{rows:?}");
        let table = table_of_rows(&batch).unwrap();
        for text in ["9223372036854775807", "null", "-0.05", "Int64"] {
            assert!(table.contains(text), "{text}: {table}");
        }
    }
}
