//! JSON records of a stream into the columns of the table, by column name.
//!
//! Dates and timestamps are numbers as in protobuf records (days, microseconds) or ISO 8601 text,
//! binary values are base64, decimals are text or numbers.

use arrow_schema::{DataType, Field, Fields};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::{Map, Number, Value};

use super::columns::{Column, Problem, RecordError, Rows, parse_decimal};

/// `f64` carries this many decimal digits for certain; a longer number has lost some on the way.
const EXACT_DIGITS: usize = 15;

/// Appends one record as one row.
pub(super) fn read(record: &str, rows: &mut Rows) -> Result<(), RecordError> {
    let not_an_object = || RecordError::new("", Problem::Json { expected: "an object" });
    let Ok(Value::Object(object)) = serde_json::from_str(record) else {
        return Err(not_an_object());
    };
    let schema = rows.schema().clone();
    rows.append(|columns| append_object(&object, schema.fields(), columns))
}

fn append_object(
    object: &Map<String, Value>,
    fields: &Fields,
    columns: &mut [Column],
) -> Result<(), RecordError> {
    if let Some(unknown) = object.keys().find(|key| !fields.iter().any(|field| field.name() == *key)) {
        return Err(RecordError::new(unknown, Problem::UnknownColumn));
    }
    for (field, column) in fields.iter().zip(columns) {
        append(object.get(field.name()), field, column).map_err(|error| error.within(field.name()))?;
    }
    Ok(())
}

fn append(value: Option<&Value>, field: &Field, column: &mut Column) -> Result<(), RecordError> {
    let plain = |problem| RecordError::new("", problem);
    let expected = |expected| RecordError::new("", Problem::Json { expected });
    let value = match value {
        Some(value) if !value.is_null() => value,
        _ if field.is_nullable() => {
            column.append_null();
            return Ok(());
        }
        _ => return Err(plain(Problem::Missing)),
    };
    match column {
        Column::Struct { fields, columns, validity } => {
            let object = value.as_object().ok_or_else(|| expected("an object"))?;
            append_object(object, fields, columns)?;
            validity.append_non_null();
            Ok(())
        }
        Column::List { element, values, ends } => {
            let list = value.as_array().ok_or_else(|| expected("an array"))?;
            for value in list {
                append(Some(value), element, values)?;
            }
            ends.close(list.len()).map_err(plain)
        }
        Column::Map { entries, keys, values, ends } => {
            let object = value.as_object().ok_or_else(|| expected("an object"))?;
            let DataType::Struct(pair) = entries.data_type() else {
                return Err(expected("an object"));
            };
            for (key, value) in object {
                append_key(key, keys).map_err(plain).map_err(|error| error.within("key"))?;
                append(Some(value), &pair[1], values).map_err(|error| error.within("value"))?;
            }
            ends.close(object.len()).map_err(plain)
        }
        column => scalar(value, column).map_err(plain),
    }
}

/// Keys of an object are text, whatever the type of the map's keys.
fn append_key(key: &str, column: &mut Column) -> Result<(), Problem> {
    let value = match column {
        Column::Text(_) | Column::Decimal { .. } | Column::Date(_) | Column::Timestamp(_) => {
            Value::String(key.to_owned())
        }
        _ => serde_json::from_str(key).map_err(|_| Problem::Json { expected: "a key of the map's type" })?,
    };
    scalar(&value, column)
}

fn scalar(value: &Value, column: &mut Column) -> Result<(), Problem> {
    match column {
        Column::Boolean(values) => {
            values.append_value(value.as_bool().ok_or(Problem::Json { expected: "true or false" })?);
        }
        Column::Byte(values) => values.append_value(integer(value)?),
        Column::Short(values) => values.append_value(integer(value)?),
        Column::Int(values) => values.append_value(integer(value)?),
        Column::Long(values) => values.append_value(integer(value)?),
        Column::Float(values) => values.append_value(float(value)? as f32),
        Column::Double(values) => values.append_value(float(value)?),
        Column::Date(values) => values.append_value(match value {
            Value::String(text) => date(text)?,
            _ => integer(value)?,
        }),
        Column::Timestamp(values) => values.append_value(match value {
            Value::String(text) => timestamp(text)?,
            _ => integer(value)?,
        }),
        Column::Decimal { values, precision, scale } => {
            let number = match value {
                Value::String(text) => parse_decimal(text, *precision, *scale)?,
                Value::Number(number) => parse_decimal(&exact(number)?, *precision, *scale)?,
                _ => return Err(Problem::Decimal),
            };
            values.append_value(number);
        }
        Column::Text(values) => values.append_value(text(value)?),
        Column::Binary(values) => {
            let bytes = STANDARD.decode(text(value)?);
            values.append_value(bytes.map_err(|_| Problem::Json { expected: "base64 text" })?);
        }
        Column::Struct { .. } | Column::List { .. } | Column::Map { .. } => {
            return Err(Problem::Json { expected: "a value of a flat type" });
        }
    }
    Ok(())
}

fn text(value: &Value) -> Result<&str, Problem> {
    value.as_str().ok_or(Problem::Json { expected: "text" })
}

fn integer<T: TryFrom<i64>>(value: &Value) -> Result<T, Problem> {
    let number = match value {
        Value::Number(number) if number.is_u64() || number.is_i64() => number,
        _ => return Err(Problem::Json { expected: "a whole number" }),
    };
    number.as_i64().and_then(|number| T::try_from(number).ok()).ok_or(Problem::Range)
}

/// JSON has no infinities; they come as text, as protobuf's own JSON writes them.
fn float(value: &Value) -> Result<f64, Problem> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
    .ok_or(Problem::Json { expected: "a number" })
}

fn exact(number: &Number) -> Result<String, Problem> {
    let text = number.to_string();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if number.is_f64() && digits > EXACT_DIGITS {
        return Err(Problem::Json { expected: "a decimal of more than 15 digits as text" });
    }
    Ok(text)
}

fn date(text: &str) -> Result<i32, Problem> {
    let date: NaiveDate = text.parse().map_err(|_| Problem::Json { expected: "a date, YYYY-MM-DD" })?;
    i32::try_from((date - NaiveDate::default()).num_days()).map_err(|_| Problem::Range)
}

fn timestamp(text: &str) -> Result<i64, Problem> {
    let zoned = DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_micros());
    let plain =
        || text.replacen(' ', "T", 1).parse::<NaiveDateTime>().map(|time| time.and_utc().timestamp_micros());
    zoned.or_else(|_| plain()).map_err(|_| Problem::Json { expected: "a timestamp as in RFC 3339" })
}
