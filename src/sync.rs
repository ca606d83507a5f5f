//! Locks, threads and waiting, in one place, so that a test can run the log under a scheduler of its own.
//!
//! With the feature `shuttle` every lock, condition and thread of the log is one that shuttle schedules;
//! `tests/concurrency.rs` then goes through thousands of interleavings of the same code.

#[cfg(not(feature = "shuttle"))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
};

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle},
};
#[cfg(feature = "shuttle")]
pub(crate) use std::sync::PoisonError;

/// Waits for a future on this thread, which must not be one that drives a runtime.
#[cfg(not(feature = "shuttle"))]
pub(crate) use futures::executor::block_on;

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::future::block_on;

/// Where a simulated disk lets another thread go first.
#[cfg(all(feature = "sim", not(feature = "shuttle")))]
pub(crate) fn interleave() {}

#[cfg(all(feature = "sim", feature = "shuttle"))]
pub(crate) use shuttle::thread::yield_now as interleave;
