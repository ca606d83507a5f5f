//! What the metrics of one log are at this moment: `status`, and what the recorder has counted, as values of the table of
//! names.

use std::time::Duration;

use super::names::{self, Metric};
use super::recorder::Counted;
use crate::drain::LaneState;
use crate::wrapper::{Counts, Status};

/// What is read of a wrapper at once.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) status: Status,
    pub(crate) counted: Counted,
    pub(crate) opened: Opened,
    pub(crate) poisoned: Option<String>,
}

/// What was found when the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) duration: Duration,
    pub(crate) frames: u64,
    pub(crate) torn_bytes: u64,
    pub(crate) damage: usize,
}

/// A value of a metric, with one more attribute if the metric has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(super) metric: &'static Metric,
    pub(super) attribute: Option<&'static str>,
    pub(super) value: f64,
}

#[cfg(feature = "python")]
impl Sample {
    /// The name of the metric, the value of its own attribute, and its value.
    pub(crate) fn parts(&self) -> (&'static str, Option<&'static str>, f64) {
        (self.metric.name, self.attribute, self.value)
    }
}

impl Reading {
    /// Every value that is known; the order is that of the table.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let Reading { status, counted, opened, poisoned } = self;
        let mut samples = Vec::with_capacity(64);
        let mut add = |metric: &'static Metric, value: f64| {
            samples.push(Sample { metric, attribute: None, value });
        };
        let of_rows = [
            &names::ROWS_STORED,
            &names::ROWS_DELIVERED,
            &names::ROWS_QUARANTINED,
            &names::ROWS_DROPPED,
            &names::ROWS_WAITING,
        ];
        let of_frames = [
            &names::FRAMES_STORED,
            &names::FRAMES_DELIVERED,
            &names::FRAMES_QUARANTINED,
            &names::FRAMES_DROPPED,
            &names::FRAMES_WAITING,
        ];
        for (metrics, counts) in [(of_rows, status.rows), (of_frames, status.frames)] {
            let Counts { stored, delivered, quarantined, dropped, waiting } = counts;
            for (metric, count) in metrics.into_iter().zip([stored, delivered, quarantined, dropped, waiting])
            {
                add(metric, count as f64);
            }
        }
        add(&names::FRAMES_DAMAGED, status.damaged_frames as f64);
        add(&names::ROWS_DOUBTFUL, status.doubtful_rows as f64);
        add(&names::TIMESTAMPS_FLOORED, status.floored_timestamps as f64);
        add(&names::LISTS_EMPTIED, status.emptied_lists as f64);

        add(&names::LOG_SIZE, status.log_bytes as f64);
        add(&names::LOG_WAITING_SIZE, status.waiting_bytes as f64);
        add(&names::LOG_RETAINED_SIZE, status.retained_bytes as f64);
        let known = [
            (&names::LOG_LIMIT, status.wal_max_bytes.map(|bytes| bytes as f64)),
            (&names::LOG_FREE, status.free_bytes.map(|bytes| bytes as f64)),
            (&names::TIME_UNTIL_FULL, status.full_in_secs),
            (&names::TIME_UNTIL_DRAINED, status.drained_in_secs),
            (&names::QUARANTINE_LIMIT, status.quarantine.max_bytes.map(|bytes| bytes as f64)),
        ];
        for (metric, value) in known {
            if let Some(value) = value {
                add(metric, value);
            }
        }
        add(&names::LOG_FULL, f64::from(status.full.is_some()));
        add(&names::LOG_POISONED, f64::from(poisoned.is_some()));
        add(&names::OLDEST_WAITING, status.oldest_waiting_secs.unwrap_or(0.0));
        add(&names::QUARANTINE_FILES, status.quarantine.files as f64);
        add(&names::QUARANTINE_SIZE, status.quarantine.bytes as f64);

        add(&names::REQUESTS_SENT, counted.requests_sent as f64);
        add(&names::REQUESTS_ACKNOWLEDGED, counted.requests_acknowledged as f64);
        add(&names::ADOPTED_ROWS, status.adoption.delivered_rows as f64);
        add(&names::ADOPTED_LOGS, status.adoption.drained_logs as f64);
        add(&names::ADOPTION_LEFT, status.adoption.left.len() as f64);
        add(&names::SPANS_LOST, counted.spans_lost as f64);
        add(&names::LOG_RECORDS_LOST, counted.log_records_lost as f64);
        add(&names::RECOVERY_DURATION, opened.duration.as_secs_f64());
        add(&names::RECOVERY_FRAMES, opened.frames as f64);
        add(&names::RECOVERY_TORN, opened.torn_bytes as f64);
        add(&names::RECOVERY_DAMAGE, opened.damage as f64);
        if let Some(lane) = &status.lane {
            add(&names::ROWS_RESENT, lane.resent_rows as f64);
            add(&names::STREAMS_OPENED, lane.streams_opened as f64);
            add(&names::FAILURES_IN_A_ROW, lane.failures_in_a_row.into());
            samples.extend(LaneState::ALL.iter().map(|state| Sample {
                metric: &names::LANE_STATE,
                attribute: Some(state.as_str()),
                value: f64::from(*state == lane.state),
            }));
        }
        samples.extend(counted.attempts_failed.iter().map(|(class, count)| Sample {
            metric: &names::ATTEMPTS_FAILED,
            attribute: Some(class),
            value: *count as f64,
        }));
        samples
    }
}
