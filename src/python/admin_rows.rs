//! The operations of `arrow_zerobus_sdk_wrapper.admin` that take rows out of logs, and send them again.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_arrow::PyRecordBatch;

use super::admin::{answer, root};
use super::failure::Failure;
use super::settings;
use crate::admin::export::{ExportOptions, Target};
use crate::admin::kept::QuarantineError;
use crate::admin::reconcile::{ReconcileOptions, ReconcileTarget};
use crate::admin::replay::ReplayOptions;
use crate::admin::{self, Selection};
use crate::config::{ConfigError, Setting, Value, WrapperConfiguration, invalid};
use crate::error::Coded;
use crate::wal::Destination;

/// What a selection says, as text for each part.
type Given = (Option<String>, Option<String>, Option<String>, Option<String>, Vec<String>, Vec<String>);

/// Table, numbers, since, until, states and reasons.
fn selection(py: Python<'_>, given: Given) -> PyResult<Selection> {
    fn parsed<T: std::str::FromStr>(py: Python<'_>, text: Option<String>) -> PyResult<Option<T>>
    where
        T::Err: Coded + 'static,
    {
        text.map(|text| text.parse().map_err(|error| Failure::of(&error).raise(py))).transpose()
    }
    let (table, lsns, since, until, states, reasons) = given;
    let name = |text: String| {
        let wrong = |_| invalid("table", &text, "three parts, catalog.schema.table");
        text.parse().map_err(wrong).map_err(|error: ConfigError| Failure::of(&error).raise(py))
    };
    Ok(Selection {
        table: table.map(name).transpose()?,
        lsns: parsed(py, lsns)?,
        since: parsed(py, since)?,
        until: parsed(py, until)?,
        states: states
            .into_iter()
            .map(|state| state.parse().map_err(|error: admin::SelectionError| Failure::of(&error).raise(py)))
            .collect::<PyResult<_>>()?,
        reasons,
    })
}

#[pyfunction]
pub(super) fn admin_export(
    py: Python<'_>,
    directory: Option<PathBuf>,
    rows: Given,
    output: PathBuf,
    to: &str,
    force: bool,
    with_position: bool,
) -> PyResult<String> {
    let options = ExportOptions {
        root: root(py, directory)?,
        selection: selection(py, rows)?,
        format: to.parse().map_err(|error: admin::export::UnknownFormat| Failure::of(&error).raise(py))?,
        target: Target::File(output),
        force,
        with_position,
    };
    answer(py, |progress| admin::export(options, progress))
}

#[pyfunction]
pub(super) fn admin_quarantine_ls(
    py: Python<'_>,
    directory: Option<PathBuf>,
    rows: Given,
) -> PyResult<String> {
    let (root, selection) = (root(py, directory)?, selection(py, rows)?);
    answer(py, |_| admin::quarantine_list(&root, selection))
}

#[pyfunction]
pub(super) fn admin_quarantine_show(
    py: Python<'_>,
    directory: Option<PathBuf>,
    rows: Given,
    limit: usize,
) -> PyResult<Vec<PyRecordBatch>> {
    let (root, selection) = (root(py, directory)?, selection(py, rows)?);
    let found: Mutex<Vec<RecordBatch>> = Mutex::default();
    answer(py, |_| {
        let batches = admin::quarantine_batches(&root, selection, limit)?;
        *found.lock().unwrap_or_else(PoisonError::into_inner) = batches;
        Ok::<(), QuarantineError>(())
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(found.into_iter().map(PyRecordBatch::new).collect())
}

#[pyfunction]
pub(super) fn admin_quarantine_drop(
    py: Python<'_>,
    directory: Option<PathBuf>,
    rows: Given,
    all: bool,
    execute: bool,
) -> PyResult<String> {
    let (root, selection) = (root(py, directory)?, selection(py, rows)?);
    answer(py, |_| admin::quarantine_drop(&root, selection, all, execute))
}

/// What a replay is, besides its rows and settings: the other table, where its log is kept, the rate, whether duplicates
/// are allowed, whether it is done anew, how long it is waited for.
type How = (Option<String>, Option<PathBuf>, Option<u64>, bool, bool, Option<f64>);

fn with_replay<T>(
    py: Python<'_>,
    directory: Option<PathBuf>,
    rows: Given,
    how: How,
    given: &Bound<'_, PyDict>,
    run: impl FnOnce(&ReplayOptions<'_>) -> PyResult<T>,
) -> PyResult<T> {
    let given: Vec<(&'static Setting, Value)> = settings::some(given)?;
    let configure = |home: &Destination| {
        let mut configuration = WrapperConfiguration::new(home.endpoint.clone(), home.table.as_str());
        configuration.unity_catalog_url = home.unity_catalog_url.clone();
        configuration.wal_dir = Some(PathBuf::from("."));
        for (setting, value) in &given {
            // They are of the kind that the setting has: `some` has made them so.
            let _ = setting.put(&mut configuration, value.clone());
        }
        configuration
    };
    let (to_table, wal_dir, rows_per_sec, execute, again, timeout) = how;
    let name = |text: String| {
        let wrong = |_| invalid("to_table", &text, "three parts, catalog.schema.table");
        text.parse().map_err(wrong).map_err(|error: ConfigError| Failure::of(&error).raise(py))
    };
    let wrong = |_| invalid("timeout", &format!("{timeout:?}"), "seconds, 0 or more");
    let timeout = timeout.map(Duration::try_from_secs_f64).transpose().map_err(wrong);
    run(&ReplayOptions {
        root: root(py, directory)?,
        selection: selection(py, rows)?,
        to_table: to_table.map(name).transpose()?,
        wal_dir,
        configure: &configure,
        rows_per_sec,
        execute,
        again,
        timeout: timeout.map_err(|error| Failure::of(&error).raise(py))?,
    })
}

#[pyfunction]
pub(super) fn admin_replay(
    py: Python<'_>,
    directory: Option<PathBuf>,
    rows: Given,
    how: How,
    given: &Bound<'_, PyDict>,
) -> PyResult<String> {
    with_replay(py, directory, rows, how, given, |options| {
        answer(py, |progress| admin::replay(options, progress))
    })
}

#[pyfunction]
pub(super) fn admin_replay_dry_run(
    py: Python<'_>,
    directory: Option<PathBuf>,
    rows: Given,
    how: How,
    given: &Bound<'_, PyDict>,
) -> PyResult<String> {
    with_replay(py, directory, rows, how, given, |options| {
        answer(py, |progress| admin::replay_dry_run(options, progress))
    })
}

#[pyfunction]
pub(super) fn admin_reconcile(
    py: Python<'_>,
    directory: Option<PathBuf>,
    rows: Given,
    delta: Option<PathBuf>,
    counts: Option<PathBuf>,
    keys: Vec<String>,
) -> PyResult<String> {
    let target = match (delta, counts) {
        (Some(directory), None) => ReconcileTarget::Delta(directory),
        (None, Some(file)) => ReconcileTarget::Counts(file),
        (delta, _) => {
            let given = if delta.is_some() { "delta and counts" } else { "nothing" };
            let error = invalid("the target", given, "delta or counts, one of them");
            return Err(Failure::of(&error).raise(py));
        }
    };
    let options =
        ReconcileOptions { root: root(py, directory)?, selection: selection(py, rows)?, target, keys };
    answer(py, |progress| admin::reconcile(&options, progress))
}
