//! How fast rows are sent again, if somebody set a limit.

use std::time::Duration;

/// A limit in rows per second, from a moment on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    rows_per_sec: Option<u64>,
    started: Duration,
    rows: u64,
}

impl Pace {
    /// None is no limit, and so is 0.
    pub(super) fn new(rows_per_sec: Option<u64>, now: Duration) -> Pace {
        Pace { rows_per_sec: rows_per_sec.filter(|rate| *rate > 0), started: now, rows: 0 }
    }

    /// How many rows are sent at once: a tenth of a second's, so that the rate is one within a second too.
    pub(super) fn rows_at_once(&self) -> usize {
        self.rows_per_sec.map_or(usize::MAX, |rate| usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1))
    }

    /// How long to wait before so many more rows are sent.
    pub(super) fn wait(&mut self, rows: u64, now: Duration) -> Duration {
        let Some(rate) = self.rows_per_sec else { return Duration::ZERO };
        let due = self.started + Duration::from_secs_f64(self.rows as f64 / rate as f64);
        if now > due + Duration::from_secs(1) {
            // Time that was lost is not made up for: the rate is a limit, not a mean.
            *self = Pace { started: now, rows: 0, ..*self };
        }
        self.rows += rows;
        due.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of so many batches is sent, in milliseconds, by a clock that only waiting moves.
    fn sent_at(pace: &mut Pace, batches: usize, rows: u64) -> Vec<u128> {
        let mut now = pace.started;
        let mut times = Vec::new();
        for _ in 0..batches {
            now += pace.wait(rows, now);
            times.push((now - Duration::from_secs(5)).as_millis());
        }
        times
    }

    #[test]
    fn rows_are_sent_at_the_rate_and_never_faster() {
        let mut pace = Pace::new(Some(1_000), Duration::from_secs(5));
        assert_eq!(pace.rows_at_once(), 100);
        let times = sent_at(&mut pace, 11, 100);
        assert_eq!(times, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]);
    }

    #[test]
    fn what_a_pause_has_cost_is_not_sent_in_a_rush() {
        let mut pace = Pace::new(Some(10), Duration::ZERO);
        assert_eq!(pace.wait(1, Duration::ZERO), Duration::ZERO);
        let late = Duration::from_secs(60);
        assert_eq!(pace.wait(1, late), Duration::ZERO);
        assert_eq!(pace.wait(1, late), Duration::from_millis(100));
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        for rate in [None, Some(0)] {
            let mut pace = Pace::new(rate, Duration::ZERO);
            assert_eq!(
                (pace.rows_at_once(), pace.wait(u64::MAX, Duration::ZERO)),
                (usize::MAX, Duration::ZERO)
            );
        }
    }
}
