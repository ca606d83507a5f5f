//! `arrow_zerobus_sdk_wrapper.admin`: each operation of [`crate::admin`] as a function that returns JSON, of which the
//! Python side makes dataclasses.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Serialize;

use super::failure::Failure;
use super::rows::Rows;
use super::settings;
use crate::admin::check::Limits;
use crate::admin::doctor::{self, DoctorOptions};
use crate::admin::remap::{RemapOptions, remap};
use crate::admin::repair::{RepairOptions, repair};
use crate::admin::{self, Progress, inspect};
use crate::config::{ConfigError, default_wal_dir};
use crate::error::{Coded, ErrorCode};
use crate::types::{InvalidTableName, Lsn, TableName};
use crate::wrapper::writer_name;

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
    attended(py, |progress| {
        let found = operation(progress).map_err(|error| Failure::of(&error))?;
        to_json(&found)
    })
}

fn to_json(found: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(found).map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))
}

/// The same, with what the operation made of it.
fn attended<T: Send>(
    py: Python<'_>,
    operation: impl FnOnce(&Progress) -> Result<T, Failure> + Send,
) -> PyResult<T> {
    let progress = Progress::new();
    let found = py.detach(|| {
        std::thread::scope(|scope| {
            let (ended, end) = sync_channel(1);
            let progress = &progress;
            scope.spawn(move || {
                // The receiver lives until this has arrived.
                let _ = ended.send(operation(progress));
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

#[pyfunction]
pub(super) fn admin_status(py: Python<'_>, directory: Option<PathBuf>) -> PyResult<String> {
    let root = root(py, directory)?;
    answer(py, |_| admin::statuses(&root))
}

#[pyfunction]
pub(super) fn admin_check(
    py: Python<'_>,
    directory: Option<PathBuf>,
    max_age_secs: Option<f64>,
    max_depth: Option<u64>,
    max_quarantine: Option<u64>,
) -> PyResult<String> {
    let age_max = max_age_secs.map(Duration::try_from_secs_f64).transpose();
    let limits = Limits {
        age_max: age_max.map_err(|error| PyValueError::new_err(error.to_string()))?,
        waiting_rows_max: max_depth,
        quarantine_files_max: max_quarantine,
    };
    let root = root(py, directory)?;
    answer(py, |_| admin::check::check(&root, &limits))
}

#[pyfunction]
pub(super) fn admin_ls(py: Python<'_>, directory: Option<PathBuf>) -> PyResult<String> {
    let root = root(py, directory)?;
    answer(py, |_| admin::list::list(&root))
}

#[pyfunction]
pub(super) fn admin_inspect_segment(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    answer(py, |_| inspect::inspect_segment(&path))
}

#[pyfunction]
pub(super) fn admin_inspect_frame(
    py: Python<'_>,
    lsn: u64,
    directory: Option<PathBuf>,
) -> PyResult<(String, Rows)> {
    let root = root(py, directory)?;
    let (report, batch) = attended(py, |_| {
        let found = inspect::one_log(&root).and_then(|log| inspect::inspect_frame(&log, Lsn::new(lsn)));
        let found = found.map_err(|error| Failure::of(&error))?;
        Ok((to_json(&found.report)?, found.batch))
    })?;
    Ok((report, Rows::new(batch)))
}

#[pyfunction]
pub(super) fn admin_inspect_ledger(py: Python<'_>, directory: Option<PathBuf>) -> PyResult<String> {
    let root = root(py, directory)?;
    answer(py, |_| inspect::one_log(&root).and_then(|log| inspect::inspect_ledger(&log)))
}

#[pyfunction]
pub(super) fn admin_inspect_schema(py: Python<'_>, directory: Option<PathBuf>) -> PyResult<String> {
    let root = root(py, directory)?;
    answer(py, |_| inspect::one_log(&root).and_then(|log| inspect::inspect_schema(&log)))
}

#[pyfunction]
pub(super) fn admin_verify(py: Python<'_>, directory: Option<PathBuf>) -> PyResult<String> {
    let root = root(py, directory)?;
    answer(py, |progress| admin::verify::verify_all(&root, progress))
}

#[pyfunction]
pub(super) fn admin_config_show(
    py: Python<'_>,
    environment: HashMap<OsString, OsString>,
    file: Option<PathBuf>,
) -> PyResult<String> {
    answer(py, |_| admin::settings::show(environment, file.as_deref()))
}

#[pyfunction]
pub(super) fn admin_config_check(
    py: Python<'_>,
    environment: HashMap<OsString, OsString>,
    file: Option<PathBuf>,
) -> PyResult<()> {
    answer(py, |_| admin::settings::check(environment, file.as_deref())).map(drop)
}

#[pyfunction]
pub(super) fn admin_pause(py: Python<'_>, directory: PathBuf, reason: Option<String>) -> PyResult<String> {
    answer(py, |_| admin::pause(&directory, reason.as_deref()))
}

#[pyfunction]
pub(super) fn admin_resume(py: Python<'_>, directory: PathBuf) -> PyResult<String> {
    answer(py, |_| admin::resume(&directory))
}

#[pyfunction]
pub(super) fn admin_reclaim(py: Python<'_>, directory: PathBuf, executes: bool) -> PyResult<String> {
    answer(py, |_| admin::reclaim(&directory, executes))
}

#[pyfunction]
pub(super) fn admin_adopt(py: Python<'_>, directory: Option<PathBuf>) -> PyResult<String> {
    let root = root(py, directory)?;
    answer(py, |_| admin::adopt(&root))
}

/// What the settings do not say is taken from the log in this directory, if there is one.
#[pyfunction]
pub(super) fn admin_doctor(
    py: Python<'_>,
    directory: Option<PathBuf>,
    settings: &Bound<'_, PyDict>,
    offline: bool,
) -> PyResult<String> {
    let mut configuration = settings::given(settings)?;
    let directory = match directory {
        Some(directory) => directory,
        None => {
            let wal_dir = root(py, configuration.wal_dir.clone())?;
            wal_dir.join(&configuration.table_name).join(writer_name(1))
        }
    };
    answer(py, |progress| -> Result<_, ConfigError> {
        if let Ok(log) = admin::status(&directory) {
            if configuration.endpoint.is_empty() {
                configuration.endpoint = log.endpoint;
            }
            if configuration.table_name.is_empty() {
                configuration.table_name = log.table.to_string();
            }
            configuration.unity_catalog_url = configuration.unity_catalog_url.or(log.unity_catalog_url);
        }
        // It is known already; a program without a home has no other.
        configuration.wal_dir.get_or_insert_with(|| directory.clone());
        Ok(doctor::examine(&directory, &configuration, DoctorOptions { offline }, progress))
    })
}

#[pyfunction]
pub(super) fn admin_repair(
    py: Python<'_>,
    directory: PathBuf,
    executes: bool,
    endpoint: Option<String>,
    unity_catalog_url: Option<String>,
    backup: Option<PathBuf>,
) -> PyResult<String> {
    let options = RepairOptions { endpoint, unity_catalog_url, backup };
    answer(py, |progress| repair(&directory, &options, executes, progress))
}

#[pyfunction]
pub(super) fn admin_remap(
    py: Python<'_>,
    directory: Option<PathBuf>,
    old: &str,
    new: &str,
    endpoint: Option<String>,
    unity_catalog_url: Option<String>,
    executes: bool,
) -> PyResult<String> {
    let root = root(py, directory)?;
    let table = |name: &str| {
        let wrong =
            |error: InvalidTableName| Failure::new(ErrorCode::Configuration, error.to_string()).raise(py);
        name.parse::<TableName>().map_err(wrong)
    };
    let (old, new) = (table(old)?, table(new)?);
    let options = RemapOptions { endpoint, unity_catalog_url };
    answer(py, |_| remap(&root, &old, &new, &options, executes))
}
