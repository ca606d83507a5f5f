//! Is the log of a wrapper making progress? What `/healthz` answers, and why.
//!
//! Healthy is who stores and delivers, who has nothing to deliver, who is not to deliver because somebody paused it or
//! switched it off, and who retries an outage that is young. Not healthy is a log that refuses appends or is full, a
//! destination that refuses us, and one that took nothing for [`STALLED_AFTER`] although something waits so long.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::reading::Reading;
use crate::drain::LaneState;
use crate::types::{Lsn, TableName};

/// An acknowledgement takes half a second, and a stream without one is given up after a minute; the second try should have
/// worked by now.
pub const STALLED_AFTER: Duration = Duration::from_secs(120);

/// What is told of one log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LogHealth {
    pub(super) table: TableName,
    pub(super) writer: String,
    pub(super) healthy: bool,
    pub(super) reason: Option<String>,
    pub(super) lane: &'static str,
    pub(super) waiting_rows: u64,
    pub(super) oldest_waiting_secs: Option<f64>,
}

/// When something was settled last, as far as anybody has looked.
#[derive(Debug)]
pub(super) struct Progress(Mutex<(Settled, Duration)>);

/// What changes whenever something is settled.
type Settled = (Lsn, u64);

impl Progress {
    /// Begins now, by the monotonic clock, with what is settled.
    pub(super) fn new(settled: Settled, now: Duration) -> Progress {
        Progress(Mutex::new((settled, now)))
    }

    /// For how long nothing was settled.
    fn stalled(&self, settled: Settled, now: Duration) -> Duration {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != settled {
            *seen = (settled, now);
        }
        now.saturating_sub(seen.1)
    }

    /// What is to be told of a log that is like this, at this time of the monotonic clock.
    pub(super) fn health(&self, reading: &Reading, now: Duration) -> LogHealth {
        let status = &reading.status;
        let stalled = self.stalled(settled(reading), now);
        let lane = status.lane.as_ref();
        let state = lane.map_or(LaneState::Stopped, |lane| lane.state);
        let lane_reason = || lane.and_then(|lane| lane.reason.clone()).unwrap_or_default();
        let oldest = status.oldest_waiting_secs.unwrap_or(0.0);
        let is_stalled = stalled >= STALLED_AFTER && oldest >= STALLED_AFTER.as_secs_f64();
        let reason = if let Some(reason) = &reading.poisoned {
            Some(format!("the log refuses appends: {reason}"))
        } else if let Some(full) = &status.full {
            Some(format!("the log is full: {full}"))
        } else if matches!(state, LaneState::Blocked | LaneState::Poison | LaneState::Unreadable) {
            Some(format!("delivery is {}: {}", state.as_str(), lane_reason()))
        } else if let Some(failure) = &status.settling_failure {
            Some(format!("what is delivered cannot be recorded: {failure}"))
        } else if is_stalled && !matches!(state, LaneState::Paused | LaneState::Disabled) {
            let secs = stalled.as_secs();
            Some(format!("nothing was settled for {secs} s while rows wait: {}", lane_reason()))
        } else {
            None
        };
        LogHealth {
            table: status.table.clone(),
            writer: status.writer().into_owned(),
            healthy: reason.is_none(),
            reason,
            lane: state.as_str(),
            waiting_rows: status.rows.waiting,
            oldest_waiting_secs: status.oldest_waiting_secs,
        }
    }
}

/// What of a reading changes whenever something is settled.
pub(super) fn settled(reading: &Reading) -> Settled {
    let rows = reading.status.rows;
    (reading.status.settled_lsn, rows.delivered + rows.quarantined + rows.dropped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::reading::Opened;
    use crate::wrapper::{LaneReport, Status, TableReport};

    fn status() -> Status {
        let lane = LaneReport {
            state: LaneState::BackingOff,
            reason: Some("nobody listens".into()),
            code: None,
            failures_in_a_row: 3,
            failures: 3,
            streams_opened: 0,
            resent_rows: 0,
            stream_id: None,
        };
        Status {
            version: 1,
            table: "a.b.c".parse().unwrap(),
            endpoint: String::new(),
            unity_catalog_url: None,
            directory: "/w/a.b.c/writer-001".into(),
            epoch: crate::types::Epoch::new(1),
            owner_pid: None,
            settled_lsn: Lsn::ZERO,
            durable_lsn: Lsn::FIRST,
            rows: Default::default(),
            frames: Default::default(),
            damaged_frames: 0,
            floored_timestamps: 0,
            emptied_lists: 0,
            doubtful_rows: 0,
            quarantine: Default::default(),
            log_bytes: 0,
            waiting_bytes: 0,
            retained_bytes: 0,
            wal_max_bytes: None,
            wal_min_free_bytes: None,
            free_bytes: None,
            on_full: None,
            full: None,
            oldest_waiting_secs: Some(1000.0),
            full_in_secs: None,
            drained_in_secs: None,
            lane: Some(lane),
            paused: None,
            table_schema: TableReport { columns: None, age_secs: None, reason: None },
            adoption: Default::default(),
            settling_failure: None,
            poisoned: None,
            damage: Vec::new(),
        }
    }

    fn reading(change: impl FnOnce(&mut Reading)) -> Reading {
        let mut reading = Reading {
            status: status(),
            counted: Default::default(),
            opened: Opened::default(),
            poisoned: None,
        };
        change(&mut reading);
        reading
    }

    fn lane(reading: &mut Reading, state: LaneState) {
        if let Some(lane) = &mut reading.status.lane {
            lane.state = state;
        }
    }

    #[test]
    fn an_outage_is_healthy_until_nothing_was_settled_for_the_time_that_is_documented() {
        let began = Duration::from_secs(5000);
        let waiting = reading(|_| {});
        let progress = Progress::new(settled(&waiting), began);
        let just_before = began + STALLED_AFTER - Duration::from_millis(1);
        assert_eq!(progress.health(&waiting, just_before).reason, None);
        let reason = progress.health(&waiting, began + STALLED_AFTER).reason.unwrap();
        assert_eq!(reason, "nothing was settled for 120 s while rows wait: nobody listens");

        // What came a moment ago has not waited for long, however long nothing was there to settle.
        let young = reading(|it| it.status.oldest_waiting_secs = Some(1.0));
        assert!(progress.health(&young, began + 10 * STALLED_AFTER).healthy);
        let empty = reading(|it| it.status.oldest_waiting_secs = None);
        assert!(progress.health(&empty, began + 10 * STALLED_AFTER).healthy);
        // Whatever is settled begins the time anew.
        let moved = reading(|it| it.status.rows.delivered = 1);
        assert!(progress.health(&moved, began + 20 * STALLED_AFTER).healthy);
        assert!(!progress.health(&moved, began + 21 * STALLED_AFTER).healthy);
    }

    #[test]
    fn whatever_keeps_a_log_from_its_work_is_told_at_once_with_its_reason() {
        type Change = fn(&mut Reading);
        let cases: [(&str, Change); 6] = [
            ("the log refuses appends: a sync failed", |it| it.poisoned = Some("a sync failed".into())),
            ("the log is full: so many bytes", |it| it.status.full = Some("so many bytes".into())),
            ("delivery is blocked: nobody listens", |it| lane(it, LaneState::Blocked)),
            ("delivery is poison: nobody listens", |it| lane(it, LaneState::Poison)),
            ("delivery is unreadable: nobody listens", |it| lane(it, LaneState::Unreadable)),
            ("what is delivered cannot be recorded: no room", |it| {
                it.status.settling_failure = Some("no room".into());
            }),
        ];
        for (reason, change) in cases {
            let reading = reading(change);
            let health = Progress::new(settled(&reading), Duration::ZERO).health(&reading, Duration::ZERO);
            assert_eq!((health.healthy, health.reason.as_deref()), (false, Some(reason)));
        }
        for state in [LaneState::Paused, LaneState::Disabled] {
            let at_rest = reading(|it| lane(it, state));
            let progress = Progress::new(settled(&at_rest), Duration::ZERO);
            assert!(progress.health(&at_rest, 10 * STALLED_AFTER).healthy, "nobody expects it to deliver");
        }
    }
}
