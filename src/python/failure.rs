//! From an error of the crate to an exception of the Python package.

use pyo3::prelude::*;

use crate::error::{Coded, ErrorCode, Misfit, chain};
use crate::types::Lsn;

/// What an exception is made of. Made on any thread; the exception itself on Python's.
#[derive(Debug)]
pub(super) struct Failure {
    code: ErrorCode,
    message: String,
    lsn: Option<Lsn>,
    table: Option<String>,
    /// The setting that is wrong, if it is about one.
    setting: Option<&'static str>,
    /// Few failures have it, and it is large.
    misfit: Option<Box<Misfit>>,
    /// The rows that were refused for good, if it is about such.
    rows: Option<Vec<u32>>,
}

impl Failure {
    /// A failure without an error of the crate behind it.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
            lsn: None,
            table: None,
            setting: None,
            misfit: None,
            rows: None,
        }
    }

    /// The failure that this error is, with the texts of its sources.
    pub(super) fn of(error: &(impl Coded + 'static)) -> Failure {
        let (lsn, misfit) = (error.lsn(), error.misfit().map(Box::new));
        let rows = error.refused_rows().map(<[u32]>::to_vec);
        let (code, message, setting) = (error.code(), chain(error), error.setting());
        Failure { code, message, lsn, table: None, setting, misfit, rows }
    }

    /// Its row in the table of errors.
    pub(super) fn code(&self) -> ErrorCode {
        self.code
    }

    /// The same failure, of this table.
    #[must_use]
    pub(super) fn about(self, table: &str) -> Failure {
        Failure { table: Some(table.to_owned()), ..self }
    }

    /// The same failure, of this frame, unless it names one itself.
    #[must_use]
    pub(super) fn of_frame(self, lsn: Lsn) -> Failure {
        Failure { lsn: self.lsn.or(Some(lsn)), ..self }
    }

    /// The exception as a value.
    pub(super) fn exception(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let info = self.code.info();
        py.import("arrow_zerobus_sdk_wrapper._errors")?.getattr("make_error")?.call1((
            info.python_class,
            info.name,
            self.message,
            info.retryable,
            self.lsn.map(Lsn::get),
            self.table,
            self.misfit.map(|misfit| (misfit.column, misfit.arrow_type, misfit.delta_type)),
            self.rows,
            self.setting,
        ))
    }

    /// The exception to raise.
    pub(super) fn raise(self, py: Python<'_>) -> PyErr {
        self.exception(py).map_or_else(|error| error, PyErr::from_value)
    }
}
