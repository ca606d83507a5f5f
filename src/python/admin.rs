//! `arrow_zerobus_sdk_wrapper.admin`: each operation of [`crate::admin`] as a function that returns JSON, of which the
//! Python side makes dataclasses.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use pyo3::prelude::*;
use serde::Serialize;

use super::failure::Failure;
use crate::admin::{self, Progress};
use crate::config::default_wal_dir;
use crate::error::{Coded, ErrorCode};

/// How often a call looks whether Ctrl-C was pressed.
const SIGNALS_INTERVAL: Duration = Duration::from_millis(50);

/// Runs an operation without the GIL, and gives what it found as JSON.
///
/// On Ctrl-C the operation is asked to stop; the call raises `KeyboardInterrupt` once it has.
pub(super) fn answer<T, E>(
    py: Python<'_>,
    operation: impl FnOnce(&Progress) -> Result<T, E> + Send,
) -> PyResult<String>
where
    T: Serialize,
    E: Coded + 'static,
{
    let progress = Progress::new();
    let found = py.detach(|| {
        std::thread::scope(|scope| {
            let (ended, end) = sync_channel(1);
            let progress = &progress;
            scope.spawn(move || {
                let found = operation(progress).map_err(|error| Failure::of(&error)).and_then(|found| {
                    serde_json::to_string(&found)
                        .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))
                });
                // The receiver lives until this has arrived.
                let _ = ended.send(found);
            });
            let mut interrupted = None;
            loop {
                match end.recv_timeout(SIGNALS_INTERVAL) {
                    Ok(found) => break interrupted.map_or(Ok(found), Err),
                    Err(RecvTimeoutError::Disconnected) => {
                        break Ok(Err(Failure::new(ErrorCode::Internal, "the operation panicked")));
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        if let Err(raised) = Python::attach(|py| py.check_signals()) {
                            progress.stop();
                            interrupted.get_or_insert(raised);
                        }
                    }
                }
            }
        })
    })?;
    found.map_err(|failure| failure.raise(py))
}

/// Where to look when nobody says where.
pub(super) fn root(py: Python<'_>, given: Option<PathBuf>) -> PyResult<PathBuf> {
    given.map_or_else(default_wal_dir, Ok).map_err(|error| Failure::of(&error).raise(py))
}

#[pyfunction]
pub(super) fn admin_find_logs(py: Python<'_>, directory: Option<PathBuf>) -> PyResult<String> {
    let root = root(py, directory)?;
    answer(py, |_| admin::find_logs(&root))
}
