//! What the data path tells telemetry: a few counts, which are always kept, and durations and spans, which there are only
//! while somebody wants them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

use super::Spans;
use super::names::{ACKNOWLEDGEMENT_DURATION, APPEND_DURATION, Metric, SYNC_DURATION, SYNC_FRAMES};
use super::queue::Counts;
use crate::transport::ErrorClass;

/// The counts of one wrapper, and its histograms if telemetry is on.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    requests_sent: AtomicU64,
    requests_acknowledged: AtomicU64,
    attempts_failed: [AtomicU64; ERROR_CLASSES.len()],
    /// Since the last acknowledgement.
    failures_in_a_row: AtomicU32,
    histograms: Option<Histograms>,
    spans: Option<Spans>,
    span_counts: Option<Arc<Counts>>,
    log_counts: Option<Arc<Counts>>,
}

/// Every class with the name that the attribute has for it.
const ERROR_CLASSES: [(ErrorClass, &str); 3] =
    [(ErrorClass::Transient, "transient"), (ErrorClass::Blocked, "blocked"), (ErrorClass::Poison, "poison")];

/// What was counted since the wrapper was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(super) requests_sent: u64,
    pub(super) requests_acknowledged: u64,
    pub(super) attempts_failed: Vec<(&'static str, u64)>,
    pub(super) spans_lost: u64,
    pub(super) log_records_lost: u64,
}

/// One instrument of each kind for each meter.
#[derive(Debug)]
struct Histograms {
    append: Vec<Histogram<f64>>,
    sync: Vec<Histogram<f64>>,
    sync_frames: Vec<Histogram<f64>>,
    acknowledgement: Vec<Histogram<f64>>,
    attributes: Vec<KeyValue>,
}

impl Recorder {
    /// Measures for these meters too, and makes these spans; without any it only counts.
    pub(super) fn new(
        meters: &[Meter],
        attributes: Vec<KeyValue>,
        spans: Option<Spans>,
        span_counts: Option<Arc<Counts>>,
        log_counts: Option<Arc<Counts>>,
    ) -> Recorder {
        let histogram = |metric: &Metric| {
            let made = meters.iter().map(|meter| {
                meter
                    .f64_histogram(metric.name)
                    .with_unit(metric.unit)
                    .with_description(metric.description)
                    .with_boundaries(metric.bounds.to_vec())
                    .build()
            });
            made.collect()
        };
        let histograms = (!meters.is_empty()).then(|| Histograms {
            append: histogram(&APPEND_DURATION),
            sync: histogram(&SYNC_DURATION),
            sync_frames: histogram(&SYNC_FRAMES),
            acknowledgement: histogram(&ACKNOWLEDGEMENT_DURATION),
            attributes,
        });
        Recorder { histograms, spans, span_counts, log_counts, ..Recorder::default() }
    }

    /// Who makes spans, if somebody wants any.
    pub(crate) fn spans(&self) -> Option<&Spans> {
        self.spans.as_ref()
    }

    /// Which attempt in a row a request is that is sent now.
    pub(crate) fn attempt(&self) -> u32 {
        self.failures_in_a_row.load(Ordering::Relaxed).saturating_add(1)
    }

    /// Whether durations are wanted, so that nobody looks at the clock for nothing.
    pub(crate) fn is_measuring(&self) -> bool {
        self.histograms.is_some()
    }

    /// A batch was stored, so long after its sender came.
    pub(crate) fn appended(&self, duration: Duration) {
        if let Some(histograms) = &self.histograms {
            histograms.record(&histograms.append, duration.as_secs_f64());
        }
    }

    /// A sync took so long and made so many frames durable.
    pub(crate) fn synced(&self, duration: Duration, frames: usize) {
        if let Some(histograms) = &self.histograms {
            histograms.record(&histograms.sync, duration.as_secs_f64());
            histograms.record(&histograms.sync_frames, frames as f64);
        }
    }

    /// A request was handed to a stream.
    pub(crate) fn sent(&self) {
        self.requests_sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was acknowledged so long after it was sent.
    pub(crate) fn acknowledged(&self, duration: Duration) {
        self.requests_acknowledged.fetch_add(1, Ordering::Relaxed);
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        if let Some(histograms) = &self.histograms {
            histograms.record(&histograms.acknowledgement, duration.as_secs_f64());
        }
    }

    /// An attempt failed.
    pub(crate) fn failed(&self, class: ErrorClass) {
        self.failures_in_a_row.fetch_add(1, Ordering::Relaxed);
        for ((other, _), count) in ERROR_CLASSES.iter().zip(&self.attempts_failed) {
            if *other == class {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn counted(&self) -> Counted {
        let failed = ERROR_CLASSES.iter().zip(&self.attempts_failed);
        Counted {
            requests_acknowledged: self.requests_acknowledged.load(Ordering::Relaxed),
            requests_sent: self.requests_sent.load(Ordering::Relaxed),
            attempts_failed: failed
                .map(|((_, name), count)| (*name, count.load(Ordering::Relaxed)))
                .collect(),
            log_records_lost: self.log_counts.as_ref().map_or(0, |counts| counts.lost()),
            spans_lost: self.span_counts.as_ref().map_or(0, |counts| counts.lost()),
        }
    }
}

impl Histograms {
    fn record(&self, of_meters: &[Histogram<f64>], value: f64) {
        for histogram in of_meters {
            histogram.record(value, &self.attributes);
        }
    }
}
