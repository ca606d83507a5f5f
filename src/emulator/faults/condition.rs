//! Which records a rule is about: a condition on one column.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A condition on one flat column; exactly one of its three forms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// The column, by its name in the table.
    pub column: String,
    /// It has this value: a number, text or a truth value. Dates count days, timestamps microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// It is null, or it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
    /// It is a number above this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greater_than: Option<f64>,
}

impl Condition {
    /// The column has this value.
    pub fn equals(column: &str, value: impl Into<Value>) -> Condition {
        Condition { equals: Some(value.into()), ..Condition::of(column) }
    }

    /// The column is null.
    pub fn is_null(column: &str) -> Condition {
        Condition { is_null: Some(true), ..Condition::of(column) }
    }

    /// The column is a number above this one.
    pub fn greater_than(column: &str, value: f64) -> Condition {
        Condition { greater_than: Some(value), ..Condition::of(column) }
    }

    fn of(column: &str) -> Condition {
        Condition { column: column.to_owned(), equals: None, is_null: None, greater_than: None }
    }

    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        let forms = usize::from(self.equals.is_some())
            + usize::from(self.is_null.is_some())
            + usize::from(self.greater_than.is_some());
        (forms != 1).then(|| "it needs one of equals, is_null and greater_than".to_owned())
    }

    /// Whether one of these rows is meant. A column that is not there is null in all of them.
    pub(in crate::emulator) fn is_met(&self, rows: &RecordBatch) -> bool {
        let column = rows.column_by_name(&self.column);
        if let Some(wanted) = self.is_null {
            let nulls = column.map_or(rows.num_rows(), |column| column.null_count());
            return if wanted { nulls > 0 } else { nulls < rows.num_rows() };
        }
        let Some(column) = column else { return false };
        (0..rows.num_rows()).filter(|row| column.is_valid(*row)).any(|row| {
            let value = value(column.as_ref(), row);
            match (&self.equals, self.greater_than) {
                (Some(wanted), _) => value.is_some_and(|value| is_same(&value, wanted)),
                (_, Some(bound)) => value.and_then(|it| it.as_f64()).is_some_and(|value| value > bound),
                _ => false,
            }
        })
    }
}

fn is_same(value: &Value, wanted: &Value) -> bool {
    value == wanted || value.as_f64().is_some_and(|value| Some(value) == wanted.as_f64())
}

fn value(column: &dyn Array, row: usize) -> Option<Value> {
    Some(match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Date32 => column.as_primitive::<Date32Type>().value(row).into(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().value(row).into()
        }
        DataType::Float32 => column.as_primitive::<Float32Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_condition_finds_its_rows_and_no_others() {
        let rows = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as Arc<dyn Array>),
            ("name", Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]))),
        ])
        .unwrap();
        for (condition, is_met) in [
            (Condition::equals("id", 2), true),
            (Condition::equals("id", 4), false),
            (Condition::equals("id", "2"), false),
            (Condition::equals("name", "c"), true),
            (Condition::greater_than("id", 2.5), true),
            (Condition::greater_than("id", 3.0), false),
            (Condition::greater_than("name", 0.0), false),
            (Condition::is_null("name"), true),
            (Condition::is_null("id"), false),
            (Condition::is_null("other"), true),
            (Condition::equals("other", 1), false),
        ] {
            assert_eq!(condition.is_met(&rows), is_met, "{condition:?}");
        }
    }
}
