//! `_core.Wrapper`: the calls of the Python class, each a task on the wrapper's own runtime.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use secrecy::SecretString;
use tokio::task::AbortHandle;

use super::call::Call;
use super::completions::{CompletionQueue, Outcome};
use super::failure::Failure;
use super::input::Given;
use super::schemas::KnownSchemas;
use super::sends::Send;
use crate::config::{WaitFor, WrapperConfiguration};
use crate::error::{Coded, ErrorCode};
use crate::types::Lsn;
use crate::wal::Durability;
use crate::wrapper::ZerobusWrapper;

/// How long a blocking call may leave a signal unnoticed.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// The settings, under their public names; the Python class has checked their types.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Settings {
    endpoint: String,
    table_name: String,
    client_id: Option<String>,
    client_secret: Option<String>,
    client_secret_file: Option<PathBuf>,
    ca_certificate_file: Option<PathBuf>,
    client_certificate_file: Option<PathBuf>,
    client_key_file: Option<PathBuf>,
    proxy: Option<String>,
    unity_catalog_url: Option<String>,
    wal_dir: Option<PathBuf>,
    durability: String,
    sync_interval_ms: u64,
    wait_for: String,
    validate: String,
    timestamp_ns: String,
    null_list: String,
    segment_bytes: u64,
    wal_max_bytes: u64,
    wal_min_free_bytes: u64,
    on_full: String,
    block_timeout_secs: Option<f64>,
    retain_delivered_secs: f64,
    retain_delivered_bytes: u64,
    schema_grace_secs: f64,
    quarantine_max_bytes: u64,
    transport: String,
    delivery: String,
    compression: Option<String>,
    request_max_bytes: usize,
    max_inflight_requests: usize,
    streams: usize,
    stream_max_age_secs: f64,
    retry_max_attempts: u32,
    retry_base_delay_ms: u64,
    retry_max_delay_ms: u64,
    shutdown_timeout_secs: f64,
}

impl Settings {
    fn configuration(self) -> PyResult<WrapperConfiguration> {
        let mut configuration = WrapperConfiguration::new(self.endpoint, self.table_name);
        configuration.client_id = self.client_id;
        configuration.client_secret = self.client_secret.map(SecretString::from);
        configuration.client_secret_file = self.client_secret_file;
        configuration.ca_certificate_file = self.ca_certificate_file;
        configuration.client_certificate_file = self.client_certificate_file;
        configuration.client_key_file = self.client_key_file;
        configuration.proxy = self.proxy;
        configuration.unity_catalog_url = self.unity_catalog_url;
        configuration.wal_dir = self.wal_dir;
        configuration.durability = match self.durability.as_str() {
            "sync" => Durability::Sync,
            "interval" => Durability::Interval(Duration::from_millis(self.sync_interval_ms)),
            "os" => Durability::Os,
            other => return Err(PyValueError::new_err(format!("durability is {other:?}"))),
        };
        configuration.wait_for = match self.wait_for.as_str() {
            "stored" => WaitFor::Stored,
            "delivered" => WaitFor::Delivered,
            other => return Err(PyValueError::new_err(format!("wait_for is {other:?}"))),
        };
        configuration.validate = named(&self.validate)?;
        configuration.timestamp_ns = named(&self.timestamp_ns)?;
        configuration.null_list = named(&self.null_list)?;
        configuration.segment_bytes = self.segment_bytes;
        configuration.wal_max_bytes = self.wal_max_bytes;
        configuration.wal_min_free_bytes = self.wal_min_free_bytes;
        configuration.on_full = named(&self.on_full)?;
        configuration.block_timeout = self.block_timeout_secs.map(duration).transpose()?;
        configuration.retain_delivered = duration(self.retain_delivered_secs)?;
        configuration.retain_delivered_bytes = self.retain_delivered_bytes;
        configuration.schema_grace = duration(self.schema_grace_secs)?;
        configuration.quarantine_max_bytes = self.quarantine_max_bytes;
        configuration.transport = named(&self.transport)?;
        configuration.delivery = named(&self.delivery)?;
        configuration.compression = self.compression.as_deref().map(named).transpose()?;
        configuration.request_max_bytes = self.request_max_bytes;
        configuration.max_inflight_requests = self.max_inflight_requests;
        configuration.streams = self.streams;
        configuration.stream_max_age = duration(self.stream_max_age_secs)?;
        configuration.retry_max_attempts = self.retry_max_attempts;
        configuration.retry_base_delay = Duration::from_millis(self.retry_base_delay_ms);
        configuration.retry_max_delay = Duration::from_millis(self.retry_max_delay_ms);
        configuration.shutdown_timeout = duration(self.shutdown_timeout_secs)?;
        Ok(configuration)
    }
}

/// The choice with this name.
fn named<T: FromStr<Err: std::fmt::Display>>(name: &str) -> PyResult<T> {
    name.parse().map_err(|error: T::Err| PyValueError::new_err(error.to_string()))
}

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
    fn new(py: Python<'_>, settings: Settings) -> PyResult<Wrapper> {
        let table: Arc<str> = settings.table_name.as_str().into();
        let configuration = settings.configuration()?;
        let opened = py.detach(|| {
            ZerobusWrapper::open(configuration).map_err(|error| Failure::of(&error).about(&table))
        });
        match opened {
            Ok(wrapper) => {
                let schemas = KnownSchemas::new();
                Ok(Wrapper { wrapper: Some(wrapper), table, schemas, pid: std::process::id() })
            }
            Err(failure) => Err(failure.raise(py)),
        }
    }

    /// Says whether this is the first send of this turn of the loop, at whose end `queue.start()` is to be called.
    fn send_batch(
        &self,
        py: Python<'_>,
        batch: &Bound<'_, PyAny>,
        exported: Option<&Bound<'_, PyAny>>,
        queue: &CompletionQueue,
        token: u64,
    ) -> PyResult<bool> {
        let wrapper = self.wrapper_in(py, queue.pid())?.clone();
        let given = Arc::new(Given::new(batch, exported, &self.schemas)?);
        let promise = queue.promise(token);
        let send = Send { wrapper, table: Arc::clone(&self.table), given, promise };
        Ok(queue.sends().add(token, send))
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
        Ok(spawn(wrapper, Call::new(queue.promise(token), future)))
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
        Ok(spawn(wrapper, Call::new(queue.promise(token), future)))
    }

    fn shutdown(&self, py: Python<'_>, queue: &CompletionQueue, token: u64) -> PyResult<Job> {
        let wrapper = self.wrapper(py)?;
        let closing = wrapper.shutdown();
        let table = Arc::clone(&self.table);
        let future = async move { outcome(closing.await, |()| Outcome::Done, &table) };
        Ok(spawn(wrapper, Call::new(queue.promise(token), future)))
    }

    /// Shuts down and waits for it. A signal that raises ends the wait; the shutdown goes on.
    fn shutdown_blocking(&self, py: Python<'_>) -> PyResult<()> {
        let wrapper = self.wrapper(py)?;
        let closing = wrapper.shutdown();
        let (sender, mut receiver) = mpsc::channel();
        wrapper.runtime().spawn(async move {
            let ended = closing.await.map_err(|error| Failure::of(&error));
            // Nobody receives when a signal has ended the wait.
            let _ = sender.send(ended);
        });
        loop {
            let (received, returned) = py.detach(move || (receiver.recv_timeout(SIGNAL_INTERVAL), receiver));
            receiver = returned;
            match received {
                Ok(ended) => return ended.map_err(|failure| failure.about(&self.table).raise(py)),
                Err(RecvTimeoutError::Timeout) => py.check_signals()?,
                Err(RecvTimeoutError::Disconnected) => {
                    let failure = Failure::new(ErrorCode::Internal, "the shutdown panicked, which is a bug");
                    return Err(failure.about(&self.table).raise(py));
                }
            }
        }
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
