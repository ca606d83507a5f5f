//! How far a long operation is: told by the one who does it, read by the one who waits, who may end it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Shared between an operation and whoever waits for it. The counts are in a unit that the operation names.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    /// 0 while it is not known.
    total: AtomicU64,
    stopped: AtomicBool,
}

impl Progress {
    /// Nothing is done yet, and how much there is to do is not known.
    pub fn new() -> Progress {
        Progress::default()
    }

    /// Says how much there is to do.
    pub fn set_total(&self, total: u64) {
        self.total.store(total, Relaxed);
    }

    /// Says that so much more is done.
    pub fn add(&self, done: u64) {
        self.done.fetch_add(done, Relaxed);
    }

    /// How much is done.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// How much there is to do, if that is known.
    pub fn total(&self) -> Option<u64> {
        Some(self.total.load(Relaxed)).filter(|total| *total > 0)
    }

    /// Has the operation end after the piece of work that it is at.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// Whether the operation is to end; asked between two pieces of its work.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }
}
