//! Rows of a log for Python, over the Arrow C data interface.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch, StructArray};
use arrow_schema::Field;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};
use pyo3_arrow::error::PyArrowResult;
use pyo3_arrow::ffi::to_array_pycapsules;

/// A record batch that every Arrow library takes.
#[pyclass(frozen, module = "arrow_zerobus_sdk_wrapper._core")]
pub(super) struct Rows {
    batch: RecordBatch,
}

impl Rows {
    pub(super) fn new(batch: RecordBatch) -> Rows {
        Rows { batch }
    }
}

#[pymethods]
impl Rows {
    fn __len__(&self) -> usize {
        self.batch.num_rows()
    }

    /// Schema and array, as often as somebody asks.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyArrowResult<Bound<'py, PyTuple>> {
        let schema = self.batch.schema();
        let field =
            Field::new_struct("", schema.fields().clone(), false).with_metadata(schema.metadata().clone());
        let rows = StructArray::from(self.batch.clone());
        to_array_pycapsules(py, Arc::new(field), &rows as &dyn Array, requested_schema)
    }
}
