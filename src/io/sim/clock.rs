//! A clock that stands still until it is told otherwise.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use crate::io::Clock;

/// The time of day when a world begins: some day in 2026.
const EPOCH_UNIX_MICROS: i64 = 1_795_000_000_000_000;

/// A simulated clock. Each look at it takes a microsecond, so that no two moments are the same.
#[derive(Debug, Default)]
pub struct SimClock {
    passed_micros: AtomicU64,
    set_by_micros: AtomicI64,
}

impl SimClock {
    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.passed_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Sets the time of day forward, or back; the time that passes does not know of it.
    pub fn jump(&self, micros: i64) {
        self.set_by_micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn tick(&self) -> u64 {
        self.passed_micros.fetch_add(1, Ordering::Relaxed)
    }
}

impl Clock for SimClock {
    fn unix_micros(&self) -> i64 {
        let passed = i64::try_from(self.tick()).unwrap_or(i64::MAX);
        let set_by = self.set_by_micros.load(Ordering::Relaxed);
        EPOCH_UNIX_MICROS.saturating_add(set_by).saturating_add(passed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.tick())
    }
}
