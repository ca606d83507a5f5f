//! How spans and log records wait for their export: in queues with a limit, at which nobody waits. What does not fit, or is
//! not taken by the receiver, is lost and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_otlp::{LogExporter as OtlpLogExporter, SpanExporter as OtlpSpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{
    BatchConfigBuilder as LogConfigBuilder, BatchLogProcessor, LogBatch, LogExporter, LogProcessor,
    SdkLogRecord,
};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};

use crate::error::chain;

/// So many spans wait at most. One has 32 links at most, so that is some megabytes.
const SPANS_MAX: usize = 2048;
/// So many are exported at once.
const EXPORT_SPANS_MAX: usize = 512;
/// A span waits so long for others at most.
const EXPORT_DELAY: Duration = Duration::from_secs(5);
/// So many log records wait at most.
const RECORDS_MAX: usize = 2048;
/// So many are exported at once.
const EXPORT_RECORDS_MAX: usize = 512;
/// A record waits so long for others at most: whoever reads a log wants to see what happens now.
const RECORD_DELAY: Duration = Duration::from_secs(1);

/// What waits, and what was lost.
#[derive(Debug)]
pub(super) struct Counts {
    waiting: AtomicUsize,
    waiting_max: usize,
    lost: AtomicU64,
}

impl Counts {
    fn new(waiting_max: usize) -> Counts {
        Counts { waiting: AtomicUsize::new(0), waiting_max, lost: AtomicU64::new(0) }
    }

    /// What no receiver has got.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Makes room for one more, if there is some.
    fn enter(&self) -> bool {
        let enter = |waiting: usize| (waiting < self.waiting_max).then_some(waiting + 1);
        let has_room = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok();
        if !has_room {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// So many are being exported, and make room.
    fn leave(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }

    /// So many were exported, or not.
    fn ended(&self, count: usize, exported: &OTelSdkResult) {
        if exported.is_err() {
            self.lost.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

/// Says in the log that exports fail and that they work again, once each.
#[derive(Debug)]
pub(super) struct Complaint {
    what: &'static str,
    consequence: &'static str,
    is_failing: AtomicBool,
}

impl Complaint {
    pub(super) fn about(what: &'static str, consequence: &'static str) -> Complaint {
        Complaint { what, consequence, is_failing: AtomicBool::new(false) }
    }

    /// An export ended so.
    pub(super) fn hear(&self, exported: &OTelSdkResult) {
        let Complaint { what, consequence, is_failing } = self;
        match (exported, is_failing.swap(exported.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => {
                tracing::warn!(reason = chain(error), "{what} cannot be exported{consequence}");
            }
            (Ok(()), true) => tracing::info!("{what} are exported again"),
            (Ok(()), false) | (Err(_), true) => {}
        }
    }
}

/// The queue: that of the SDK, whose thread exports, behind a count.
#[derive(Debug)]
pub(super) struct SpanQueue {
    batches: BatchSpanProcessor,
    counts: Arc<Counts>,
}

impl SpanQueue {
    /// Exports at least as often as this.
    pub(super) fn new(exporter: SpanReporting, interval: Duration) -> SpanQueue {
        let counts = Arc::clone(&exporter.counts);
        let config = BatchConfigBuilder::default()
            // It is never full, because ours is before it.
            .with_max_queue_size(2 * SPANS_MAX)
            .with_max_export_batch_size(EXPORT_SPANS_MAX)
            .with_scheduled_delay(interval.min(EXPORT_DELAY))
            .build();
        SpanQueue { batches: BatchSpanProcessor::builder(exporter).with_batch_config(config).build(), counts }
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.counts.enter() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Exports, counts, and tells of failures.
#[derive(Debug)]
pub(super) struct SpanReporting {
    exporter: OtlpSpanExporter,
    counts: Arc<Counts>,
    complaint: Complaint,
}

impl SpanReporting {
    pub(super) fn new(exporter: OtlpSpanExporter) -> SpanReporting {
        let complaint = Complaint::about("spans", " and are lost; delivery goes on");
        SpanReporting { exporter, counts: Arc::new(Counts::new(SPANS_MAX)), complaint }
    }
}

impl SpanExporter for SpanReporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.counts.leave(count);
        let exported = self.exporter.export(batch).await;
        self.counts.ended(count, &exported);
        self.complaint.hear(&exported);
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The queue of log records: as that of spans.
#[derive(Debug)]
pub(super) struct LogQueue {
    batches: BatchLogProcessor,
    counts: Arc<Counts>,
}

impl LogQueue {
    pub(super) fn new(exporter: LogReporting) -> LogQueue {
        let counts = Arc::clone(&exporter.counts);
        let config = LogConfigBuilder::default()
            // It is never full, because ours is before it.
            .with_max_queue_size(2 * RECORDS_MAX)
            .with_max_export_batch_size(EXPORT_RECORDS_MAX)
            .with_scheduled_delay(RECORD_DELAY)
            .build();
        LogQueue { batches: BatchLogProcessor::builder(exporter).with_batch_config(config).build(), counts }
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}

impl LogProcessor for LogQueue {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.counts.enter() {
            self.batches.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// As [`SpanReporting`].
#[derive(Debug)]
pub(super) struct LogReporting {
    exporter: OtlpLogExporter,
    counts: Arc<Counts>,
    complaint: Complaint,
}

impl LogReporting {
    pub(super) fn new(exporter: OtlpLogExporter) -> LogReporting {
        let complaint = Complaint::about("log records", " and are lost there; delivery goes on");
        LogReporting { exporter, counts: Arc::new(Counts::new(RECORDS_MAX)), complaint }
    }
}

impl LogExporter for LogReporting {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        self.counts.leave(count);
        let exported = self.exporter.export(batch).await;
        self.counts.ended(count, &exported);
        self.complaint.hear(&exported);
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_the_queue_is_counted() {
        let counts = Counts::new(SPANS_MAX);
        let entered = (0..SPANS_MAX + 7).filter(|_| counts.enter()).count();
        assert_eq!((entered, counts.lost()), (SPANS_MAX, 7));
        counts.leave(3);
        assert_eq!((0..5).filter(|_| counts.enter()).count(), 3);
        assert_eq!(counts.lost(), 9);
    }
}
