//! How fast a log fills and empties, by what the last minute saw, and what follows if that goes on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::append::Stored;
use crate::drain::SettlerStatus;
use crate::io::Clock;

/// How far back a pace is measured.
const WINDOW: Duration = Duration::from_secs(60);
/// How often a sample is taken.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
/// Less than this says nothing: acknowledgements are settled in groups.
const SPAN_MIN: Duration = Duration::from_secs(2);

/// What has gone into a log and out of it, at one moment. The numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    stored_rows: u64,
    /// What that took of the disk.
    written_bytes: u64,
    /// Delivered, in quarantine, or dropped.
    settled_rows: u64,
}

/// The samples of the last minute.
#[derive(Debug, Default)]
struct Samples(VecDeque<(Duration, Sample)>);

/// Rows and bytes per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    stored_rows: f64,
    written_bytes: f64,
    settled_rows: f64,
}

/// The pace of one log. It keeps no part of the wrapper alive that has to be closed.
#[derive(Debug)]
pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    stored: Arc<Stored>,
    written_bytes: Arc<AtomicU64>,
    settler: watch::Receiver<SettlerStatus>,
    samples: Mutex<Samples>,
}

impl Pace {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        stored: Arc<Stored>,
        written_bytes: Arc<AtomicU64>,
        settler: watch::Receiver<SettlerStatus>,
    ) -> Pace {
        let pace = Pace { clock, stored, written_bytes, settler, samples: Mutex::default() };
        // What was before this process says nothing of its pace; what comes before the first tick does.
        pace.lock().add(pace.clock.monotonic(), pace.sample());
        pace
    }

    /// Takes samples until the wrapper stops or is gone.
    pub(super) async fn keep(self: Arc<Pace>, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => self.lock().add(self.clock.monotonic(), self.sample()),
            }
        }
    }

    /// The rates until now; none while there is too little to go by.
    pub(super) fn rates(&self) -> Option<Rates> {
        self.lock().until(self.clock.monotonic(), self.sample())
    }

    fn sample(&self) -> Sample {
        let settled = self.settler.borrow().settled;
        Sample {
            stored_rows: self.stored.rows(),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            settled_rows: settled.delivered_rows + settled.quarantined.rows + settled.dropped.rows,
        }
    }

    /// Nothing panics while it holds this lock.
    fn lock(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Samples {
    /// Remembers a sample, and forgets those that are too old.
    fn add(&mut self, now: Duration, sample: Sample) {
        self.0.push_back((now, sample));
        while self.0.front().is_some_and(|(at, _)| now.saturating_sub(*at) > WINDOW) {
            self.0.pop_front();
        }
    }

    /// The rates from the oldest sample until this one.
    fn until(&self, now: Duration, sample: Sample) -> Option<Rates> {
        let (at, first) = self.0.iter().find(|(at, _)| now.saturating_sub(*at) <= WINDOW)?;
        let span = now.saturating_sub(*at);
        let per_sec = |first: u64, last: u64| last.saturating_sub(first) as f64 / span.as_secs_f64();
        (span >= SPAN_MIN).then(|| Rates {
            stored_rows: per_sec(first.stored_rows, sample.stored_rows),
            written_bytes: per_sec(first.written_bytes, sample.written_bytes),
            settled_rows: per_sec(first.settled_rows, sample.settled_rows),
        })
    }
}

impl Rates {
    /// Seconds until so many bytes are filled; none if the log does not grow.
    pub(super) fn full_in_secs(self, room_bytes: u64) -> Option<f64> {
        let growing = 1.0 - self.settled_rows / self.stored_rows;
        let rate = self.written_bytes * growing;
        // Neither is true of what is no number.
        (rate > 0.0).then(|| room_bytes as f64 / rate)
    }

    /// Seconds until so many rows are settled, those that come meanwhile included; none if they do not become fewer.
    pub(super) fn drained_in_secs(self, waiting_rows: u64) -> Option<f64> {
        let rate = self.settled_rows - self.stored_rows;
        (rate > 0.0).then(|| waiting_rows as f64 / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Duration {
        Duration::from_secs(1000 + secs)
    }

    fn sample(stored_rows: u64, settled_rows: u64) -> Sample {
        Sample { stored_rows, written_bytes: stored_rows * 10, settled_rows }
    }

    #[test]
    fn nothing_is_known_before_there_is_a_span() {
        let mut pace = Samples::default();
        assert_eq!(pace.until(at(0), sample(0, 0)), None);
        pace.add(at(0), sample(0, 0));
        assert_eq!(pace.until(at(1), sample(5, 0)), None);
        assert!(pace.until(at(2), sample(5, 0)).is_some());
    }

    #[test]
    fn a_log_that_fills_is_full_when_its_room_is_used_at_that_pace() {
        let mut pace = Samples::default();
        pace.add(at(0), sample(0, 0));
        // 30 rows a second come, 20 go, each of 10 bytes.
        let rates = pace.until(at(10), sample(300, 200)).unwrap();
        assert_eq!(rates.full_in_secs(1000).map(f64::round), Some(10.0));
        assert_eq!(rates.drained_in_secs(100), None);
    }

    #[test]
    fn a_log_that_empties_is_empty_when_what_waits_is_gone_at_that_pace() {
        let mut pace = Samples::default();
        pace.add(at(0), sample(1000, 0));
        let rates = pace.until(at(10), sample(1100, 300)).unwrap();
        assert_eq!(rates.drained_in_secs(800), Some(40.0));
        assert_eq!(rates.full_in_secs(1000), None);
    }

    #[test]
    fn a_log_that_stands_still_will_be_neither() {
        let mut pace = Samples::default();
        pace.add(at(0), sample(1000, 500));
        let rates = pace.until(at(10), sample(1000, 500)).unwrap();
        assert_eq!((rates.full_in_secs(1000), rates.drained_in_secs(500)), (None, None));
    }

    #[test]
    fn what_was_more_than_a_minute_ago_does_not_count() {
        let mut pace = Samples::default();
        (0..=50).for_each(|n| pace.add(at(n * 2), sample(1000, 10 * n)));
        pace.add(at(120), sample(1000, 500));
        assert!(pace.0.len() <= 31);
        let rates = pace.until(at(120), sample(1000, 500)).unwrap();
        assert!((rates.settled_rows - 200.0 / 60.0).abs() < 1e-9, "{rates:?}");
        // After a pause of the whole process the old samples say nothing.
        assert_eq!(pace.until(at(500), sample(1000, 500)), None);
    }

    #[test]
    fn what_is_written_is_counted_in_blocks_of_the_disk() {
        use crate::wal::{PreparedFrame, testing};

        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = testing::open(dir.path(), 64 * 1024);
        let ids: arrow_array::ArrayRef = Arc::new(arrow_array::Int64Array::from(vec![1, 2, 3]));
        let batch = arrow_array::RecordBatch::try_from_iter([("id", ids)]).unwrap();
        let (before, mut bodies) = (wal.bytes(), 0);
        // More than one segment.
        for _ in 0..40 {
            bodies += wal.append_blocking(PreparedFrame::new(&batch).unwrap()).unwrap().frame_bytes;
        }
        let written = wal.written_bytes().load(Ordering::Relaxed);
        assert!(written >= 40 * 4096 && written > 3 * bodies, "{written} for {bodies}");
        let headers = 4 * 4096;
        assert!(written.abs_diff(wal.bytes() - before) <= headers, "{written}, {}", wal.bytes() - before);
        wal.close();
    }
}
