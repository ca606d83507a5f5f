//! How the outcome of work reaches the thread of an event loop without that work touching Python.
//!
//! Each event loop has one queue. A finished call puts its outcome in and, if the queue was empty, one
//! byte into a socket that the loop watches. So at most one byte is under way, and the write cannot block.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyType};

use super::failure::Failure;
use super::results;
use super::sends::Sends;
use crate::error::ErrorCode;
use crate::platform::wake::{self, Socket};
use crate::wrapper::TransmissionResult;

/// Queues that were closed with calls under way, until these have ended.
///
/// Only locked with the GIL held, so no fork ever finds it locked.
static ORPHANS: Mutex<Vec<Orphan>> = Mutex::new(Vec::new());

type Orphan = (Outcomes, Sends);

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
}

#[derive(Default)]
struct State {
    /// The end that calls write to and the end that the loop watches; none once closed.
    sockets: Option<(Socket, Socket)>,
    completions: VecDeque<Completion>,
}

/// Where the outcomes of all calls of one event loop come together.
#[derive(Clone)]
pub(super) struct Outcomes(Arc<Mutex<State>>);

impl Outcomes {
    /// Promises an outcome under this token.
    pub(super) fn promise(&self, token: u64) -> Promise {
        Promise { outcomes: self.clone(), token, outcome: None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

/// The completion queue of one event loop.
#[pyclass(frozen, module = "arrow_zerobus_sdk_wrapper._core")]
pub(super) struct CompletionQueue {
    outcomes: Outcomes,
    sends: Mutex<Sends>,
    result_class: Py<PyType>,
    pid: u32,
}

#[pymethods]
impl CompletionQueue {
    /// `result_class` is the Python class `TransmissionResult`.
    #[new]
    fn new(result_class: Py<PyType>) -> io::Result<CompletionQueue> {
        free_orphans();
        let state = State { sockets: Some(wake::pair()?), completions: VecDeque::new() };
        Ok(CompletionQueue {
            outcomes: Outcomes(Arc::new(Mutex::new(state))),
            sends: Mutex::default(),
            result_class,
            pid: std::process::id(),
        })
    }

    /// The descriptor that becomes readable when there are outcomes; -1 once closed.
    fn fileno(&self) -> i64 {
        self.outcomes.lock().sockets.as_ref().map_or(-1, |(_, reader)| wake::descriptor(reader))
    }

    /// Tells the next outcomes, at most so many, to the futures of asyncio that wait for them under their tokens. While there are
    /// more, the descriptor stays readable.
    fn settle(&self, waiting: &Bound<'_, PyDict>, limit: usize) -> PyResult<()> {
        let result_class = self.result_class.bind(waiting.py());
        for Completion { token, outcome } in self.taken(limit) {
            if let Some(future) = waiting.get_item(token)? {
                waiting.del_item(token)?;
                outcome.tell(&future, result_class);
            }
            let _given = self.sends().ended(token);
        }
        Ok(())
    }

    /// The next outcomes, at most so many: each a token, and after it a result, None or an exception. While there
    /// are more, the descriptor stays readable.
    fn take<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let (told, result_class) = (PyList::empty(py), self.result_class.bind(py));
        for Completion { token, outcome } in self.taken(limit) {
            told.append(token)?;
            let outcome = outcome.into_python(result_class);
            told.append(outcome.unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any()))?;
            let _given = self.sends().ended(token);
        }
        Ok(told)
    }

    /// Starts the sends that waited for the end of this turn of the loop.
    fn start(&self) {
        self.sends().start();
    }

    /// Stops a send that has not ended. What it has handed to the log is finished all the same.
    fn cancel(&self, token: u64) {
        self.sends().cancel(token);
    }

    /// Closes the sockets. Calls that are under way end as they would.
    fn close(&self) {
        self.outcomes.lock().sockets = None;
    }
}

impl CompletionQueue {
    fn taken(&self, limit: usize) -> Vec<Completion> {
        let mut state = self.outcomes.lock();
        let taken = limit.min(state.completions.len());
        if let (true, Some((_, reader))) = (taken == state.completions.len(), &mut state.sockets) {
            // Nothing to read is fine: the outcomes are in the queue, the byte only wakes the loop.
            let _ = reader.read(&mut [0; 8]);
        }
        state.completions.drain(..taken).collect()
    }

    pub(super) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// The process whose loop it serves: none outlives a fork. Asking the system at each call would cost more than
    /// much else.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn sends(&self) -> MutexGuard<'_, Sends> {
        lock(&self.sends)
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        self.close();
        // What has not begun never will.
        let mut sends = std::mem::take(&mut *self.sends());
        sends.give_up();
        lock(&ORPHANS).push((self.outcomes.clone(), sends));
    }
}

/// Frees what the sends of queues that nobody reads any more were given, once all calls have ended.
fn free_orphans() {
    // Dropped after the lock is gone: to free a buffer of Python may run any Python code.
    let _ended: Vec<Orphan> =
        lock(&ORPHANS).extract_if(.., |(outcomes, _)| Arc::strong_count(&outcomes.0) == 1).collect();
}

impl Outcome {
    /// The outcome as Python knows it: a result or None, or what is raised, as for one that cannot be told.
    fn into_python<'py>(self, result_class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
        let py = result_class.py();
        match self {
            Outcome::Done => Ok(py.None().into_bound(py)),
            Outcome::Failed(failure) => Err(failure.raise(py)),
            Outcome::Result(result) => results::instance(result_class, result),
        }
    }

    /// Tells it to a future of asyncio.
    fn tell(self, future: &Bound<'_, PyAny>, result_class: &Bound<'_, PyType>) {
        let py = future.py();
        let told = match self.into_python(result_class) {
            Ok(result) => future.call_method1(intern!(py, "set_result"), (result,)),
            Err(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),)),
        };
        if let Err(error) = told {
            // One that was cancelled is done, and wants to hear nothing more.
            let is_done = future.call_method0(intern!(py, "done")).and_then(|done| done.is_truthy());
            if !is_done.unwrap_or(false) {
                error.write_unraisable(py, Some(future));
            }
        }
    }
}

/// An outcome that the queue gets in any case: at the latest when this is dropped.
pub(super) struct Promise {
    outcomes: Outcomes,
    token: u64,
    outcome: Option<Outcome>,
}

impl Promise {
    pub(super) fn settle(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            let reason = "the wrapper was shut down while the call was under way";
            Outcome::Failed(Failure::new(ErrorCode::Closed, reason))
        });
        let mut state = self.outcomes.lock();
        let was_empty = state.completions.is_empty();
        state.completions.push_back(Completion { token: self.token, outcome });
        if let (true, Some((writer, _))) = (was_empty, &mut state.sockets) {
            // Both ends are ours and open and no byte is under way, so this neither fails nor blocks.
            let _ = writer.write(&[1]);
        }
    }
}

/// Nothing panics while it holds one of these locks, so a poisoned one is as good as any.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
