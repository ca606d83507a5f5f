//! How the core's log reaches Python's `logging` without any thread of the core touching Python.
//!
//! Events go into a bounded queue, and the first one of a group puts a byte into a socket. A thread of Python's waits there
//! and takes them out as JSON: bytes need no garbage collection, in which other code of Python's could run, so that thread
//! never gives the GIL away in here and cannot be ended here when the interpreter exits.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::Serialize;
use serde_json::Value;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::io::{Clock, OsClock};
use crate::platform::wake::{self, Socket};
use crate::telemetry::event::{Seen, area};
use crate::telemetry::{export_event, exported_level};

/// Records that wait for Python; those that come when it is full are counted and not kept.
const RECORDS_MAX: usize = 1000;

/// The queue of this process; null before somebody listens.
static QUEUE: AtomicPtr<Queue> = AtomicPtr::new(ptr::null_mut());
/// The most verbose level that Python wants, an index of [`LEVELS`].
static WANTED: AtomicU8 = AtomicU8::new(0);

const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// What waits for Python.
struct Queue {
    /// The process whose threads use it: a forked child may find its lock held for ever.
    pid: u32,
    state: Mutex<State>,
}

struct State {
    /// The end that wakes, and the end that Python waits at.
    sockets: (Socket, Socket),
    records: VecDeque<Record>,
    /// Records that found no place since the last ones were taken.
    dropped: u64,
}

/// One event, as Python gets it.
#[derive(Serialize)]
struct Record {
    level: u8,
    area: &'static str,
    message: String,
    /// In their order.
    fields: Vec<(&'static str, Value)>,
    file: &'static str,
    line: u32,
    unix_micros: i64,
}

/// What Python takes at once.
#[derive(Serialize)]
struct Taken {
    records: Vec<Record>,
    /// Records that were not kept behind these.
    dropped: u64,
}

/// The queue, if it is of this process.
fn queue() -> Option<&'static Queue> {
    // SAFETY: the pointer is null or comes from `Box::leak` in `start_log`; what it points at is never freed or changed.
    let queue = unsafe { QUEUE.load(Ordering::Acquire).as_ref() };
    queue.filter(|queue| queue.pid == std::process::id())
}

impl Queue {
    fn new() -> io::Result<Queue> {
        let state = State { sockets: wake::pair()?, records: VecDeque::new(), dropped: 0 };
        Ok(Queue { pid: std::process::id(), state: Mutex::new(state) })
    }

    /// Nothing panics while it holds this lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, record: Record) {
        let mut state = self.lock();
        if state.records.len() >= RECORDS_MAX {
            state.dropped += 1;
            return;
        }
        if state.records.is_empty() {
            state.wake();
        }
        state.records.push_back(record);
    }

    fn take(&self, limit: usize) -> Taken {
        let mut state = self.lock();
        let taken = limit.min(state.records.len());
        if taken == state.records.len() {
            // Nothing to read is fine: the records are in the queue, the bytes only wake.
            let _ = state.sockets.1.read(&mut [0; 64]);
        }
        let records = state.records.drain(..taken).collect();
        let dropped = if state.records.is_empty() { std::mem::take(&mut state.dropped) } else { 0 };
        Taken { records, dropped }
    }
}

impl State {
    fn wake(&mut self) {
        // A socket that is full wakes too.
        let _ = self.sockets.0.write(&[1]);
    }
}

/// Puts the events of this crate into the queue, and hands them to those that export them. Those of others stay where they are: nobody has looked through them for
/// secrets \[I9\].
struct Forwarder;

impl Subscriber for Forwarder {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match area(metadata.target()) {
            Some(_) if metadata.is_event() => Interest::sometimes(),
            _ => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= wanted() && area(metadata.target()).is_some()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(wanted())
    }

    fn event(&self, event: &Event<'_>) {
        export_event(event);
        let metadata = event.metadata();
        if *metadata.level() > wanted_by_python() {
            return;
        }
        let Some(queue) = queue() else { return };
        let mut seen = Seen::default();
        event.record(&mut seen);
        queue.push(Record {
            level: python_level(*metadata.level()),
            area: area(metadata.target()).unwrap_or_default(),
            message: seen.message,
            fields: seen.fields,
            file: metadata.file().unwrap_or_default(),
            line: metadata.line().unwrap_or_default(),
            unix_micros: OsClock.unix_micros(),
        });
    }

    // There are no spans: they are never enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What somebody wants, here or elsewhere.
fn wanted() -> LevelFilter {
    wanted_by_python().max(exported_level())
}

fn wanted_by_python() -> LevelFilter {
    LEVELS.get(usize::from(WANTED.load(Ordering::Relaxed))).copied().unwrap_or(LevelFilter::OFF)
}

fn python_level(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

/// Has events wait for Python from now on, and returns the descriptor that becomes readable when there are some. A forked
/// child begins anew.
#[pyfunction]
pub(super) fn start_log() -> io::Result<i64> {
    static INSTALLED: Once = Once::new();
    let queue = Queue::new()?;
    let descriptor = wake::descriptor(&queue.lock().sockets.1);
    // The one of a parent may be in use by nobody, and locked.
    QUEUE.store(Box::leak(Box::new(queue)), Ordering::Release);
    INSTALLED.call_once(|| {
        // Nobody else in this library has one, so this cannot fail.
        let _ = tracing::subscriber::set_global_default(Forwarder);
    });
    Ok(descriptor)
}

/// Says which levels somebody wants: those of Python from this one on; above them all nothing is wanted.
#[pyfunction]
pub(super) fn set_log_level(least: u32) -> PyResult<()> {
    let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let count = levels.into_iter().take_while(|level| u32::from(python_level(*level)) >= least).count();
    let wanted = u8::try_from(count).map_err(|error| PyValueError::new_err(error.to_string()))?;
    if WANTED.swap(wanted, Ordering::Relaxed) != wanted {
        tracing::callsite::rebuild_interest_cache();
    }
    Ok(())
}

/// Wakes who waits at the descriptor.
#[pyfunction]
pub(super) fn wake_log() {
    if let Some(queue) = queue() {
        queue.lock().wake();
    }
}

/// The next records, at most so many, as JSON. While there are more, the descriptor stays readable.
#[pyfunction]
pub(super) fn take_log(py: Python<'_>, limit: usize) -> PyResult<Bound<'_, PyBytes>> {
    let taken = queue().map(|queue| queue.take(limit)).unwrap_or(Taken { records: Vec::new(), dropped: 0 });
    let json = serde_json::to_vec(&taken).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(PyBytes::new(py, &json))
}
