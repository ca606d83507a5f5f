//! The extension module `_core`: what the typed Python package stands on.
//!
//! No thread but Python's own ever takes the GIL here: outcomes of work wait in a [`CompletionQueue`]
//! until the thread of an event loop takes them out. Whatever can block releases the GIL.

mod admin;
mod admin_rows;
mod call;
mod completions;
mod exported;
mod failure;
mod flat;
mod input;
mod log;
mod metrics;
mod results;
mod rows;
mod schemas;
mod sends;
mod settings;
mod wrapper;

use std::ffi::OsString;
use std::io::Write;

use pyo3::prelude::*;

use completions::CompletionQueue;
use exported::ExportedArray;
use rows::Rows;
use wrapper::{Job, Wrapper};

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<CompletionQueue>()?;
    module.add_class::<ExportedArray>()?;
    module.add_class::<Job>()?;
    module.add_class::<Rows>()?;
    module.add_class::<Wrapper>()?;
    module.add_function(wrap_pyfunction!(log::start_log, module)?)?;
    module.add_function(wrap_pyfunction!(log::set_log_level, module)?)?;
    module.add_function(wrap_pyfunction!(log::wake_log, module)?)?;
    module.add_function(wrap_pyfunction!(log::take_log, module)?)?;
    module.add_function(wrap_pyfunction!(settings::resolve_settings, module)?)?;
    module.add_function(wrap_pyfunction!(settings::registry, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_find_logs, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_status, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_check, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_ls, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_inspect_segment, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_inspect_frame, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_inspect_ledger, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_inspect_schema, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_verify, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_config_show, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_config_check, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_pause, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_resume, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_reclaim, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_adopt, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_doctor, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_repair, module)?)?;
    module.add_function(wrap_pyfunction!(admin::admin_remap, module)?)?;
    module.add_function(wrap_pyfunction!(admin_rows::admin_export, module)?)?;
    module.add_function(wrap_pyfunction!(admin_rows::admin_quarantine_ls, module)?)?;
    module.add_function(wrap_pyfunction!(admin_rows::admin_quarantine_show, module)?)?;
    module.add_function(wrap_pyfunction!(admin_rows::admin_quarantine_drop, module)?)?;
    module.add_function(wrap_pyfunction!(admin_rows::admin_replay, module)?)?;
    module.add_function(wrap_pyfunction!(admin_rows::admin_replay_dry_run, module)?)?;
    module.add_function(wrap_pyfunction!(admin_rows::admin_reconcile, module)?)?;
    module.add_function(wrap_pyfunction!(metrics::metric_table, module)?)?;
    module.add_function(wrap_pyfunction!(run_cli, module)?)
}

/// Runs the command `zerobus-wal` with these arguments, its name first; returns its exit code.
#[pyfunction]
fn run_cli(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| {
        let code = crate::cli::run(args);
        // Nobody flushes Rust's buffer when Python ends the process. A reader that has gone is no error.
        let _ = std::io::stdout().flush();
        code
    })
}
