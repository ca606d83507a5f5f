//! What Python gives as a batch: whatever exports a record batch over the Arrow C data interface.

use std::panic::{self, AssertUnwindSafe};

use arrow_array::{Array, RecordBatch};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use pyo3_arrow::PyRecordBatch;

use super::failure::Failure;
use crate::error::ErrorCode;

const EXPECTED: &str =
    "expected a pyarrow.RecordBatch or another object with __arrow_c_array__ that is a record batch";

/// The record batch that `given` is, without a copy of its buffers; `exported` is what its `__arrow_c_array__`
/// returned, if it has one.
///
/// # Errors
///
/// `TypeError` that names what was given and what is expected.
pub(super) fn record_batch(
    given: &Bound<'_, PyAny>,
    exported: Option<&Bound<'_, PyAny>>,
) -> PyResult<RecordBatch> {
    let refused = |why: &str| match given.get_type().fully_qualified_name() {
        Ok(name) => PyTypeError::new_err(format!("{EXPECTED}, got {name}{why}")),
        Err(error) => error,
    };
    let Some(exported) = exported else {
        let hint = if given.hasattr("to_batches")? {
            "; send each batch of its to_batches()"
        } else if given.hasattr("__arrow_c_stream__")? {
            "; send each batch of pyarrow.RecordBatchReader.from_stream(…)"
        } else {
            ""
        };
        return Err(refused(hint));
    };
    let Ok((schema, array)) = exported.extract::<(Bound<'_, PyCapsule>, Bound<'_, PyCapsule>)>() else {
        return Err(refused(" whose __arrow_c_array__ returns something else than two capsules"));
    };
    // The import panics on an array that somebody has imported before: its capsule is empty then.
    let imported = AssertUnwindSafe(|| PyRecordBatch::from_arrow_pycapsule(&schema, &array));
    match panic::catch_unwind(imported).map_err(|_| refused(" whose data were taken before"))? {
        Ok(batch) => Ok(batch.into_inner()),
        // An array that is not a struct, or has null rows, or a type that Arrow for Rust does not know.
        Err(error) if is_refusal(&error, given.py()) => {
            Err(refused(&format!(": {}", error.value(given.py()))))
        }
        Err(error) => Err(error),
    }
}

fn is_refusal(error: &PyErr, py: Python<'_>) -> bool {
    error.is_instance_of::<PyValueError>(py) || error.is_instance_of::<PyTypeError>(py)
}

/// Checks that the buffers keep what their types promise, which the C data interface does not.
///
/// # Errors
///
/// A conversion failure that names the column: text that is not UTF-8, an offset out of range.
pub(super) fn check(batch: &RecordBatch) -> Result<(), Failure> {
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        column.to_data().validate_full().map_err(|error| {
            let message = format!("column {:?} is not valid Arrow data: {error}", field.name());
            Failure::new(ErrorCode::Conversion, message)
        })?;
    }
    Ok(())
}
