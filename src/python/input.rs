//! What Python gives as a batch: whatever exports a record batch over the Arrow C data interface.

use std::future::poll_fn;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use arrow_array::ffi::{FFI_ArrowArray, from_ffi_and_data_type};
use arrow_array::{Array, RecordBatch, RecordBatchOptions, StructArray, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType, SchemaRef};
use futures::task::AtomicWaker;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use pyo3_arrow::PyRecordBatch;

use super::exported::Place;
use super::failure::Failure;
use super::flat;
use super::schemas::{KnownSchemas, StructSchema};
use crate::error::ErrorCode;
use crate::wal::PreparedFrame;

const EXPECTED: &str = "expected a pyarrow.RecordBatch or another object with __arrow_c_array__ that is a record batch, \
     or with __arrow_c_stream__ that is a stream of them";

/// What a caller gave, until the outcome is told. Who drops it last frees its buffers, which only Python's thread may.
#[derive(Debug)]
pub(super) struct Given {
    /// The object itself.
    _object: Py<PyAny>,
    rows: usize,
    form: Mutex<Form>,
    is_cancelled: AtomicBool,
    sender: AtomicWaker,
}

#[derive(Debug)]
enum Form {
    /// As it came. Its schema is a known one.
    Exported(FFI_ArrowArray, Arc<StructSchema>, Keeper),
    Imported(RecordBatch),
    /// One of the buffers, each of which keeps the whole export. The arrays around them are Rust's.
    Held {
        _buffer: Buffer,
    },
}

/// Who has the buffers of an export besides it.
#[derive(Clone, Copy, Debug)]
enum Keeper {
    /// The object that was given, so that any thread may free the export.
    Object,
    /// Perhaps nobody.
    Unknown,
}

impl Given {
    /// The record batch that `given` is, without a copy of its buffers; `exported` is what its `__arrow_c_array__`
    /// returned, if it has one, `known` what schemas were imported before, and `table` the one that an error is about.
    ///
    /// # Errors
    ///
    /// `ArgumentTypeError` that names what was given and what is expected.
    pub(super) fn new(
        given: &Bound<'_, PyAny>,
        exported: Option<&Bound<'_, PyAny>>,
        known: &KnownSchemas,
        table: &str,
    ) -> PyResult<Given> {
        let refused = |why: &str| match given.get_type().fully_qualified_name() {
            Ok(name) => {
                let message = format!("{EXPECTED}, got {name}{why}");
                Failure::new(ErrorCode::ArgumentType, message).about(table).raise(given.py())
            }
            Err(error) => error,
        };
        let Some(exported) = exported else { return Err(refused("")) };
        let other = || refused(" whose __arrow_c_array__ returns something else than two capsules");
        let Ok((schema, array)) = exported.extract::<(Bound<'_, PyCapsule>, Bound<'_, PyAny>)>() else {
            return Err(other());
        };
        let mut array = Place::of(array).map_err(|_| other())?;
        let described = match known.find(&schema).map_err(|_| other())? {
            Err(described) => Some(described),
            Ok(schema) => match array.take_batch() {
                Some(export) => {
                    let keeper = if array.is_of_pyarrow() { Keeper::Object } else { Keeper::Unknown };
                    return Ok(Given::of(given, export.len(), Form::Exported(export, schema, keeper)));
                }
                None => None,
            },
        };
        let array = array.into_capsule()?;
        // The import panics on an array that somebody has imported before: its capsule is empty then.
        let imported = AssertUnwindSafe(|| PyRecordBatch::from_arrow_pycapsule(&schema, &array));
        match panic::catch_unwind(imported).map_err(|_| refused(" whose data were taken before"))? {
            Ok(batch) => {
                let batch = batch.into_inner();
                if let Some(described) = described {
                    known.add(described, batch.schema());
                }
                Ok(Given::of(given, batch.num_rows(), Form::Imported(batch)))
            }
            // An array that is not a struct, or has null rows, or a type that Arrow for Rust does not know.
            Err(error) if is_refusal(&error, given.py()) => {
                Err(refused(&format!(": {}", error.value(given.py()))))
            }
            Err(error) => Err(error),
        }
    }

    fn of(object: &Bound<'_, PyAny>, rows: usize, form: Form) -> Given {
        let (is_cancelled, sender) = (AtomicBool::new(false), AtomicWaker::new());
        Given { _object: object.clone().unbind(), rows, form: Mutex::new(form), is_cancelled, sender }
    }

    /// The caller waits no longer.
    pub(super) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        self.sender.wake();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Returns when the caller waits no longer. Only one may wait for that.
    pub(super) fn cancelled(&self) -> impl Future<Output = ()> {
        poll_fn(|context| {
            self.sender.register(context.waker());
            match self.is_cancelled() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The frame of a batch of plain columns that keep what their types promise, and its schema; what it is made of stays.
    pub(super) fn frame(&self) -> Option<(SchemaRef, PreparedFrame)> {
        let form = self.form.lock().unwrap_or_else(PoisonError::into_inner);
        let Form::Exported(array, schema, _) = &*form else { return None };
        Some((schema.schema.clone(), flat::frame(array, schema)?))
    }

    /// The batch, whose buffers keep what their types promise, which the C data interface does not.
    ///
    /// # Errors
    ///
    /// A conversion failure that names the column: text that is not UTF-8, an offset out of range.
    pub(super) fn checked(&self) -> Result<RecordBatch, Failure> {
        let mut form = self.form.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = match std::mem::replace(&mut *form, Form::Held { _buffer: Buffer::default() }) {
            Form::Imported(batch) => {
                *form = Form::Imported(batch.clone());
                batch
            }
            Form::Exported(array, schema, Keeper::Object) => import(array, &schema).map_err(invalid)?,
            Form::Exported(array, schema, Keeper::Unknown) => {
                let (batch, held) = import_held(array, &schema).map_err(invalid)?;
                *form = match held {
                    Some(buffer) => Form::Held { _buffer: buffer },
                    None => Form::Imported(batch.clone()),
                };
                batch
            }
            Form::Held { .. } => {
                return Err(Failure::new(ErrorCode::Internal, "a batch was asked for twice"));
            }
        };
        check(batch)
    }
}

fn invalid(reason: String) -> Failure {
    Failure::new(ErrorCode::Conversion, format!("the batch is not valid Arrow data: {reason}"))
}

/// The batch, and one of the exporter's own buffers, if one is easily found.
fn import_held(
    array: FFI_ArrowArray,
    schema: &StructSchema,
) -> Result<(RecordBatch, Option<Buffer>), String> {
    // After the validity, which may be missing. A buffer that is empty or not aligned is replaced by one of Rust's.
    let values = |column: usize| {
        let column = array.child(column);
        if column.num_buffers() > 1 { column.buffer(1).addr() } else { 0 }
    };
    let columns = array.num_children().min(schema.schema.fields().len());
    let foreign = (0..columns).map(values).find(|address| *address != 0);
    let batch = import(array, schema)?;
    let is_foreign = |buffer: &&Buffer| Some(buffer.data_ptr().addr().get()) == foreign;
    let held =
        batch.columns().iter().find_map(|column| column.to_data().buffers().iter().find(is_foreign).cloned());
    Ok((batch, held))
}

fn import(array: FFI_ArrowArray, schema: &StructSchema) -> Result<RecordBatch, String> {
    // SAFETY: the exporter says that the array is of this type.
    #[expect(unsafe_code, reason = "the interface is one of pointers")]
    let data = unsafe { from_ffi_and_data_type(array, schema.data_type.clone()) };
    let rows = StructArray::from(data.map_err(|error| error.to_string())?);
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.schema.clone(), rows.into_parts().1, &options)
        .map_err(|error| error.to_string())
}

fn is_refusal(error: &PyErr, py: Python<'_>) -> bool {
    error.is_instance_of::<PyValueError>(py) || error.is_instance_of::<PyTypeError>(py)
}

/// The batch, whose values are what their types promise.
fn check(batch: RecordBatch) -> Result<RecordBatch, Failure> {
    let schema = batch.schema();
    let mut mended = Vec::new();
    for (index, (field, column)) in schema.fields().iter().zip(batch.columns()).enumerate() {
        // Any bits are a value of these, and their buffers are as long as the import has found.
        if column.data_type().is_primitive() {
            continue;
        }
        let refused = |error: ArrowError| {
            let message = format!("column {:?} is not valid Arrow data: {error}", field.name());
            Failure::new(ErrorCode::Conversion, message)
        };
        let data = column.to_data();
        match mend_empties(&data).map_err(refused)? {
            Some(whole) => {
                whole.validate_full().map_err(refused)?;
                mended.push((index, make_array(whole)));
            }
            None => data.validate_full().map_err(refused)?,
        }
    }
    if mended.is_empty() {
        return Ok(batch);
    }
    let (schema, mut columns, rows) = batch.into_parts();
    for (index, column) in mended {
        columns[index] = column;
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
        .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))
}

/// The same array, if some of its arrays have to be made anew: of a text without values the import takes no bytes,
/// and so calls its offset wrong where the exporter had cut the values off.
fn mend_empties(data: &ArrayData) -> Result<Option<ArrayData>, ArrowError> {
    use DataType::{Binary, LargeBinary, LargeUtf8, Utf8};
    if data.is_empty() && matches!(data.data_type(), Utf8 | LargeUtf8 | Binary | LargeBinary) {
        return Ok(Some(ArrayData::new_empty(data.data_type())));
    }
    let mended: Vec<Option<ArrayData>> =
        data.child_data().iter().map(mend_empties).collect::<Result<_, _>>()?;
    if mended.iter().all(Option::is_none) {
        return Ok(None);
    }
    let children = mended.into_iter().zip(data.child_data());
    let children = children.map(|(whole, child)| whole.unwrap_or_else(|| child.clone())).collect();
    data.clone().into_builder().child_data(children).build().map(Some)
}
