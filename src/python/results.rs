//! The Python class `TransmissionResult`, made without running Python code: a program that sends much gets many.

use pyo3::prelude::*;
use pyo3::types::{PyRange, PyString, PyTuple, PyType};
use pyo3::{BoundObject as _, ffi, intern};

use crate::types::Lsn;
use crate::wrapper::{BatchState, TransmissionResult};

/// An instance of this class, a frozen dataclass with the fields that are set here.
///
/// # Errors
///
/// `AttributeError` if it has no such field.
pub(super) fn instance<'py>(
    class: &Bound<'py, PyType>,
    result: TransmissionResult,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    // SAFETY: the class is one of Python's own kind, whose instances are allocated so.
    #[expect(unsafe_code, reason = "the interpreter has no other way past the class's own methods")]
    let made = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_GenericAlloc(class.as_type_ptr(), 0))? };
    let state = match result.state {
        // Nearly all are, and Python need not make that text each time.
        BatchState::Stored => intern!(py, "stored").clone(),
        other => PyString::new(py, other.as_str()),
    };
    set(&made, intern!(py, "success"), result.success)?;
    set(&made, intern!(py, "error"), result.error)?;
    set(&made, intern!(py, "attempts"), result.attempts)?;
    set(&made, intern!(py, "latency_ms"), result.latency_ms)?;
    set(&made, intern!(py, "batch_size_bytes"), result.batch_size_bytes)?;
    set(&made, intern!(py, "state"), state)?;
    set(&made, intern!(py, "lsn"), result.lsn.map(Lsn::get))?;
    set(&made, intern!(py, "durable"), result.durable)?;
    set(&made, intern!(py, "lsns"), lsns(py, result.lsn)?)?;
    Ok(made)
}

/// The numbers of its frames, of which there is one at most, as the runs that a stream has.
fn lsns(py: Python<'_>, lsn: Option<Lsn>) -> PyResult<Bound<'_, PyTuple>> {
    let Some(lsn) = lsn else { return Ok(PyTuple::empty(py)) };
    let run = py.get_type::<PyRange>().call1((lsn.get(), lsn.next().get()))?;
    PyTuple::new(py, [run])
}

/// Sets a field as the constructor of a frozen class does, which its assignment refuses.
fn set<'py>(
    made: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    value: impl IntoPyObject<'py>,
) -> PyResult<()> {
    let value = value.into_pyobject(made.py()).map_err(Into::into)?.into_any().into_bound();
    // SAFETY: three live objects, under the GIL.
    #[expect(unsafe_code, reason = "the interpreter has no other way past the class's own methods")]
    let status = unsafe { ffi::PyObject_GenericSetAttr(made.as_ptr(), name.as_ptr(), value.as_ptr()) };
    if status == 0 { Ok(()) } else { Err(PyErr::fetch(made.py())) }
}
