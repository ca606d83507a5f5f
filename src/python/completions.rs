//! How the outcome of work reaches the thread of an event loop without that work touching Python.
//!
//! Each event loop has one queue. A finished call puts its outcome in and, if the queue was empty, one
//! byte into a socket that the loop watches. So at most one byte is under way, and the write cannot block.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use pyo3::prelude::*;

use super::failure::Failure;
use crate::error::ErrorCode;
use crate::types::Lsn;
use crate::wrapper::TransmissionResult;

/// Queues that were closed with calls under way, until these have ended.
///
/// Only locked with the GIL held, so no fork ever finds it locked.
static ORPHANS: Mutex<Vec<Arc<Mutex<State>>>> = Mutex::new(Vec::new());

/// How a call ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Result(TransmissionResult),
    Done,
    Failed(Failure),
}

struct Completion {
    token: u64,
    outcome: Outcome,
    /// What the caller gave. It is freed on Python's thread: to free a buffer that Python owns takes the GIL.
    _batch: Option<RecordBatch>,
}

#[derive(Default)]
struct State {
    /// The end that calls write to and the end that the loop watches; none once closed.
    sockets: Option<(UnixStream, UnixStream)>,
    completions: VecDeque<Completion>,
}

/// The completion queue of one event loop.
#[pyclass(frozen, module = "arrow_zerobus_sdk_wrapper._core")]
pub(super) struct CompletionQueue {
    state: Arc<Mutex<State>>,
}

#[pymethods]
impl CompletionQueue {
    #[new]
    fn new() -> io::Result<CompletionQueue> {
        free_orphans();
        let (writer, reader) = UnixStream::pair()?;
        writer.set_nonblocking(true)?;
        reader.set_nonblocking(true)?;
        let state = State { sockets: Some((writer, reader)), completions: VecDeque::new() };
        Ok(CompletionQueue { state: Arc::new(Mutex::new(state)) })
    }

    /// The descriptor that becomes readable when there are outcomes; -1 once closed.
    fn fileno(&self) -> i32 {
        lock(&self.state).sockets.as_ref().map_or(-1, |(_, reader)| reader.as_raw_fd())
    }

    /// The outcomes since the last call: pairs of a token and a result tuple, None or an exception.
    fn take<'py>(&self, py: Python<'py>) -> Vec<(u64, Bound<'py, PyAny>)> {
        let completions = {
            let mut state = lock(&self.state);
            if let Some((_, reader)) = &mut state.sockets {
                // Nothing to read is fine: the outcomes are in the queue, the byte only wakes the loop.
                let _ = reader.read(&mut [0; 8]);
            }
            std::mem::take(&mut state.completions)
        };
        completions.into_iter().map(|done| (done.token, done.outcome.into_python(py))).collect()
    }

    /// Closes the sockets. Calls that are under way end as they would.
    fn close(&self) {
        lock(&self.state).sockets = None;
    }
}

impl CompletionQueue {
    /// Promises an outcome under this token.
    pub(super) fn promise(&self, token: u64, batch: Option<RecordBatch>) -> Promise {
        let state = Arc::clone(&self.state);
        Promise { state, token, batch, outcome: None, is_polled: false }
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        self.close();
        lock(&ORPHANS).push(Arc::clone(&self.state));
    }
}

/// Frees what ended calls have left in queues that nobody reads any more.
fn free_orphans() {
    // Dropped after the locks are gone: to free a buffer of Python may run any Python code.
    let mut ended = Vec::new();
    lock(&ORPHANS).retain(|state| {
        // Count first: a call that ends in between leaves its batch for the next round.
        let has_calls = Arc::strong_count(state) > 1;
        ended.push(std::mem::take(&mut lock(state).completions));
        has_calls
    });
}

impl Outcome {
    /// The outcome as Python knows it; one that cannot be told is the error that says why.
    fn into_python(self, py: Python<'_>) -> Bound<'_, PyAny> {
        let told = match self {
            Outcome::Done => Ok(py.None().into_bound(py)),
            Outcome::Failed(failure) => failure.exception(py),
            Outcome::Result(result) => fields(result, py),
        };
        told.unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any())
    }
}

/// The arguments of the Python class `TransmissionResult`.
fn fields(result: TransmissionResult, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let lsn = result.lsn.map(Lsn::get);
    let fields = (
        result.success,
        result.error,
        result.attempts,
        result.latency_ms,
        result.batch_size_bytes,
        result.state.as_str(),
        lsn,
        result.durable,
    );
    Ok(fields.into_pyobject(py)?.into_any())
}

/// An outcome that the queue gets in any case: at the latest when this is dropped.
pub(super) struct Promise {
    state: Arc<Mutex<State>>,
    token: u64,
    batch: Option<RecordBatch>,
    outcome: Option<Outcome>,
    /// True while the call runs, so that a drop in this state is a panic.
    pub(super) is_polled: bool,
}

impl Promise {
    pub(super) fn settle(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            Outcome::Failed(if self.is_polled {
                Failure::new(ErrorCode::Internal, "the call panicked, which is a bug")
            } else {
                Failure::new(ErrorCode::Closed, "the wrapper was shut down while the call was under way")
            })
        });
        let mut state = lock(&self.state);
        let was_empty = state.completions.is_empty();
        let completion = Completion { token: self.token, outcome, _batch: self.batch.take() };
        state.completions.push_back(completion);
        if let (true, Some((writer, _))) = (was_empty, &mut state.sockets) {
            // Both ends are ours and open and no byte is under way, so this neither fails nor blocks.
            let _ = writer.write(&[1]);
        }
    }
}

/// Nothing panics while it holds one of these locks, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
