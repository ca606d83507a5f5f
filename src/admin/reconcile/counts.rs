//! How many rows a file says that the service has committed.
//!
//! The file is the result of a query, saved: of the service's system table `system.lakeflow.zerobus_ingest` with its columns
//! `table_name`, `commit_time` and `committed_records`, or of a `count(*)`.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_csv::ReaderBuilder;
use arrow_csv::reader::Format;
use arrow_schema::{DataType, Field, Schema};
use serde_json::Value;

use super::ReconcileError;
use crate::admin::select::{Moment, Selection};
use crate::types::TableName;

const TABLE: &[&str] = &["table_name"];
const TIME: &[&str] = &["commit_time", "event_time"];
const ROWS: &[&str] = &["committed_records", "rows", "count", "count(1)", "count(*)"];

/// The rows of the table in the time that is meant.
pub(super) fn of_file(path: &Path, table: &TableName, selection: &Selection) -> Result<u64, ReconcileError> {
    let failed = |reason: String| ReconcileError::Target { path: path.to_owned(), reason };
    let mut sum = Sum { table, selection, rows: 0, lines: 0 };
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    if is_csv { csv(path, &mut sum) } else { json(path, &mut sum) }.map_err(failed)?;
    match sum.lines {
        0 => Err(failed(
            "it holds no row; save the result of the query with its names, as CSV or JSON".to_owned(),
        )),
        _ => Ok(sum.rows),
    }
}

struct Sum<'s> {
    table: &'s TableName,
    selection: &'s Selection,
    rows: u64,
    lines: u64,
}

impl Sum<'_> {
    /// Takes one row of the file, whose values these are by name.
    fn add(&mut self, value: impl Fn(&[&str]) -> Option<String>, names: &str) -> Result<(), String> {
        self.lines += 1;
        let line = self.lines;
        let rows = value(ROWS).ok_or_else(|| {
            format!("row {line} has none of the columns {}; it has {names}", ROWS.join(", "))
        })?;
        let rows: u64 =
            rows.trim().parse().map_err(|_| format!("row {line} counts {rows:?}, which is no number"))?;
        // Without the column it is about the table that was asked for.
        if value(TABLE).is_some_and(|name| !name.eq_ignore_ascii_case(self.table.as_str())) {
            return Ok(());
        }
        if self.selection.since.is_some() || self.selection.until.is_some() {
            let time = value(TIME).ok_or_else(|| {
                format!("row {line} has no column commit_time, which a time is compared with; it has {names}")
            })?;
            let moment: Moment =
                time.parse().map_err(|_| format!("row {line} has the time {time:?}, which is none"))?;
            if !self.selection.has_time(moment.unix_micros(0)) {
                return Ok(());
            }
        }
        self.rows += rows;
        Ok(())
    }
}

fn csv(path: &Path, sum: &mut Sum<'_>) -> Result<(), String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let format = Format::default().with_header(true);
    let (inferred, _) = format.infer_schema(&mut file, Some(1)).map_err(|error| error.to_string())?;
    file.rewind().map_err(|error| error.to_string())?;
    let fields: Vec<Field> =
        inferred.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let reader =
        ReaderBuilder::new(schema).with_header(true).build(file).map_err(|error| error.to_string())?;
    for batch in reader {
        let batch: RecordBatch = batch.map_err(|error| error.to_string())?;
        let schema = batch.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let names = names.join(", ");
        for row in 0..batch.num_rows() {
            let value = |wanted: &[&str]| {
                let at = schema.fields().iter().position(|field| is_one(field.name(), wanted))?;
                let column = batch.column(at).as_string::<i32>();
                arrow_array::Array::is_valid(column, row).then(|| column.value(row).to_owned())
            };
            sum.add(value, &names)?;
        }
    }
    Ok(())
}

fn json(path: &Path, sum: &mut Sum<'_>) -> Result<(), String> {
    /// A result of a query is small; this is read as a whole.
    const BYTES_MAX: u64 = 256 * 1024 * 1024;
    let file = File::open(path).map_err(|error| error.to_string())?;
    let reader = BufReader::new(file.take(BYTES_MAX));
    for value in serde_json::Deserializer::from_reader(reader).into_iter::<Value>() {
        match value.map_err(|error| error.to_string())? {
            Value::Array(rows) => rows.iter().try_for_each(|row| object(row, sum))?,
            row => object(&row, sum)?,
        }
    }
    Ok(())
}

fn object(row: &Value, sum: &mut Sum<'_>) -> Result<(), String> {
    let Value::Object(row) = row else { return Err(format!("{row:.40} is no object")) };
    let names: Vec<&str> = row.keys().map(String::as_str).collect();
    let value = |wanted: &[&str]| {
        let (_, value) = row.iter().find(|(name, _)| is_one(name, wanted))?;
        match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    };
    sum.add(value, &names.join(", "))
}

fn is_one(name: &str, wanted: &[&str]) -> bool {
    wanted.iter().any(|wanted| name.trim().eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::select::RowState;

    const CSV: &str = "account_id,table_name,commit_time,committed_records\n\
                       a,main.default.events,2026-11-28T10:00:00.000Z,100\n\
                       a,main.default.other,2026-11-28T10:00:00.000Z,7\n\
                       a,MAIN.default.events,2026-11-28T11:00:00.000+00:00,20\n";

    fn counted(name: &str, text: &str, since: Option<&str>) -> Result<u64, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        let since = since.map(|since| since.parse().unwrap());
        let selection = Selection { since, ..Selection::of([RowState::Delivered]) };
        of_file(&path, &"main.default.events".parse().unwrap(), &selection).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_of_the_table_in_the_time_are_counted_whatever_the_form() {
        assert_eq!(counted("a.csv", CSV, None), Ok(120));
        assert_eq!(counted("a.CSV", CSV, Some("2026-11-28T10:30:00Z")), Ok(20));
        let line = r#"{"table_name": "main.default.events", "commit_time": "2026-11-28T10:00:00Z", "committed_records": 5}"#;
        assert_eq!(counted("a.json", &format!("[{line}, {line}]"), None), Ok(10));
        assert_eq!(counted("a.jsonl", &format!("{line}\n{line}\n"), Some("2026-11-28")), Ok(10));
        assert_eq!(counted("a.csv", "count(1)\n42\n", None), Ok(42));
    }

    #[test]
    fn what_is_no_count_is_refused_with_what_is_missing() {
        for (name, text, since, said) in [
            ("a.csv", "table_name\nmain.default.events\n", None, "committed_records"),
            ("a.csv", "rows\nmany\n", None, "\"many\""),
            ("a.csv", "rows\n5\n", Some("2026-11-28"), "commit_time"),
            ("a.json", "[]", None, "no row"),
            ("a.json", "[5]", None, "no object"),
        ] {
            let error = counted(name, text, since).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
