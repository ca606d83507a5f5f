//! `_core.Wrapper`: the calls of the Python class, each a task on the wrapper's own runtime.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::task::AbortHandle;

use super::call::Call;
use super::completions::{CompletionQueue, Outcome};
use super::failure::Failure;
use super::input::Given;
use super::schemas::KnownSchemas;
use super::sends::{Waiting, Way};
use super::settings;
use crate::error::{Coded, ErrorCode};
use crate::telemetry::{MetricsExport, Sample, TraceContext};
use crate::types::Lsn;
use crate::wrapper::{Counts, ZerobusWrapper};

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// A call under way.
#[pyclass(frozen, module = "arrow_zerobus_sdk_wrapper._core")]
pub(super) struct Job {
    task: AbortHandle,
}

#[pymethods]
impl Job {
    /// Stops the call if it has not ended. What it has handed to the log is finished all the same.
    fn cancel(&self) {
        self.task.abort();
    }
}

/// A wrapper of this process.
#[pyclass(frozen, module = "arrow_zerobus_sdk_wrapper._core")]
pub(super) struct Wrapper {
    /// Always there until this is dropped.
    wrapper: Option<ZerobusWrapper>,
    table: Arc<str>,
    schemas: KnownSchemas,
    pid: u32,
}

#[pymethods]
impl Wrapper {
    #[new]
    fn new(py: Python<'_>, settings: &Bound<'_, PyDict>, exports_metrics: bool) -> PyResult<Wrapper> {
        let configuration = settings::configuration(settings)?;
        let metrics = if exports_metrics { MetricsExport::Ours } else { MetricsExport::OfPython };
        let table: Arc<str> = configuration.table_name.as_str().into();
        let opened = py.detach(|| {
            ZerobusWrapper::open_exporting(configuration, metrics)
                .map_err(|error| Failure::of(&error).about(&table))
        });
        match opened {
            Ok(wrapper) => {
                let schemas = KnownSchemas::new();
                Ok(Wrapper { wrapper: Some(wrapper), table, schemas, pid: std::process::id() })
            }
            Err(failure) => Err(failure.raise(py)),
        }
    }

    /// Says whether this is the first send of this turn of the loop, at whose end `queue.start()` is to be called. The trace
    /// of the caller is a `traceparent`; anything else is none.
    #[pyo3(signature = (batch, exported, queue, token, traceparent = None))]
    fn send_batch(
        &self,
        py: Python<'_>,
        batch: &Bound<'_, PyAny>,
        exported: Option<&Bound<'_, PyAny>>,
        queue: &CompletionQueue,
        token: u64,
        traceparent: Option<&str>,
    ) -> PyResult<bool> {
        let wrapper = self.wrapper_in(py, queue.pid())?;
        let given = Arc::new(Given::new(batch, exported, &self.schemas, &self.table)?);
        let context = traceparent.and_then(TraceContext::parse);
        let way = Way { wrapper, table: &self.table, outcomes: queue.outcomes() };
        Ok(queue.sends().add(way, Waiting { token, given, context }))
    }

    fn wait_delivered(
        &self,
        py: Python<'_>,
        lsn: u64,
        timeout: Option<f64>,
        queue: &CompletionQueue,
        token: u64,
    ) -> PyResult<Job> {
        let wrapper = self.wrapper(py)?;
        let lsn = Lsn::new(lsn);
        let waiting = wrapper.wait_delivered(lsn, timeout.map(duration).transpose()?);
        let table = Arc::clone(&self.table);
        let future = async move {
            match outcome(waiting.await, Outcome::Result, &table) {
                // A number that no frame has names none.
                Outcome::Failed(failure) if failure.code() != ErrorCode::Configuration => {
                    Outcome::Failed(failure.of_frame(lsn))
                }
                good => good,
            }
        };
        Ok(spawn(wrapper, Call::new(queue.outcomes().promise(token), future)))
    }

    fn flush(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        queue: &CompletionQueue,
        token: u64,
    ) -> PyResult<Job> {
        let wrapper = self.wrapper(py)?;
        let flushing = wrapper.flush(timeout.map(duration).transpose()?);
        let table = Arc::clone(&self.table);
        let future = async move { outcome(flushing.await, |()| Outcome::Done, &table) };
        Ok(spawn(wrapper, Call::new(queue.outcomes().promise(token), future)))
    }

    fn shutdown(&self, py: Python<'_>, queue: &CompletionQueue, token: u64) -> PyResult<Job> {
        let wrapper = self.wrapper(py)?;
        let closing = wrapper.shutdown();
        let table = Arc::clone(&self.table);
        let future = async move { outcome(closing.await, |()| Outcome::Done, &table) };
        Ok(spawn(wrapper, Call::new(queue.outcomes().promise(token), future)))
    }

    /// Changes the credentials; the types were checked.
    fn update_credentials(
        &self,
        py: Python<'_>,
        client_id: Option<String>,
        client_secret: String,
    ) -> PyResult<()> {
        let updated = self.wrapper(py)?.update_credentials(client_id, client_secret.into());
        updated.map_err(|error| Failure::of(&error).about(&self.table).raise(py))
    }

    /// State of the lane and rows stored, delivered, in quarantine, dropped and waiting, without a look at the disk.
    fn glance(&self, py: Python<'_>) -> PyResult<(&'static str, u64, u64, u64, u64, u64)> {
        let (state, rows) = self.wrapper(py)?.glance();
        let Counts { stored, delivered, quarantined, dropped, waiting } = rows;
        Ok((state.as_str(), stored, delivered, quarantined, dropped, waiting))
    }

    /// What the metrics of the table are now, each as name, value of its own attribute, value.
    fn metrics(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, Option<&'static str>, f64)>> {
        let wrapper = self.wrapper(py)?;
        Ok(py.detach(|| wrapper.samples().iter().map(Sample::parts).collect()))
    }

    /// The status as JSON.
    fn status_json(&self, py: Python<'_>) -> PyResult<String> {
        let wrapper = self.wrapper(py)?;
        py.detach(|| serde_json::to_string(&wrapper.status()))
            .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()).raise(py))
    }
}

impl Wrapper {
    /// The wrapper, if it belongs to this process: a forked child has none of its threads.
    fn wrapper(&self, py: Python<'_>) -> PyResult<&ZerobusWrapper> {
        self.wrapper_in(py, std::process::id())
    }

    /// The same, where it is known which process this is.
    fn wrapper_in(&self, py: Python<'_>, pid: u32) -> PyResult<&ZerobusWrapper> {
        let own = self.wrapper.as_ref().filter(|_| self.pid == pid);
        own.ok_or_else(|| {
            let message = format!(
                "this wrapper belongs to process {} and cannot be used in its forked child {pid}; make one there",
                self.pid,
            );
            Failure::new(ErrorCode::Forked, message).about(&self.table).raise(py)
        })
    }
}

impl Drop for Wrapper {
    fn drop(&mut self) {
        let wrapper = self.wrapper.take();
        if self.pid != std::process::id() {
            // Its threads, which a drop would wait for, run only in the parent.
            std::mem::forget(wrapper);
        } else {
            // Python drops its objects attached; what the wrapper still writes needs no GIL.
            Python::attach(|py| py.detach(|| drop(wrapper)));
        }
    }
}

fn spawn(wrapper: &ZerobusWrapper, call: Call) -> Job {
    Job { task: wrapper.runtime().spawn(call).abort_handle() }
}

pub(super) fn outcome<T, E: Coded + 'static>(
    ended: Result<T, E>,
    good: impl FnOnce(T) -> Outcome,
    table: &str,
) -> Outcome {
    ended.map_or_else(|error| Outcome::Failed(Failure::of(&error).about(table)), good)
}
