//! How spans wait for their export: in a queue with a limit, in which nobody waits. What does not fit, or is not taken by
//! the receiver, is lost and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter as OtlpExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
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

/// What waits, and what was lost.
#[derive(Debug, Default)]
pub(super) struct SpanCounts {
    waiting: AtomicUsize,
    lost: AtomicU64,
}

impl SpanCounts {
    /// Spans that no receiver has got.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Makes room for a span, if there is some.
    fn enter(&self) -> bool {
        let enter = |waiting: usize| (waiting < SPANS_MAX).then_some(waiting + 1);
        let has_room = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok();
        if !has_room {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }
}

/// The queue: that of the SDK, whose thread exports, behind a count.
#[derive(Debug)]
pub(super) struct SpanQueue {
    batches: BatchSpanProcessor,
    counts: Arc<SpanCounts>,
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

    pub(super) fn counts(&self) -> &Arc<SpanCounts> {
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

/// Exports, counts, and says in the log that exports fail and that they work again, once each.
#[derive(Debug)]
pub(super) struct SpanReporting {
    exporter: OtlpExporter,
    counts: Arc<SpanCounts>,
    is_failing: AtomicBool,
}

impl SpanReporting {
    pub(super) fn new(exporter: OtlpExporter) -> SpanReporting {
        SpanReporting { exporter, counts: Arc::default(), is_failing: AtomicBool::new(false) }
    }
}

impl SpanExporter for SpanReporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.counts.waiting.fetch_sub(count, Ordering::Relaxed);
        let exported = self.exporter.export(batch).await;
        if exported.is_err() {
            self.counts.lost.fetch_add(count as u64, Ordering::Relaxed);
        }
        match (&exported, self.is_failing.swap(exported.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(
                reason = chain(error),
                "spans cannot be exported and are lost; delivery goes on"
            ),
            (Ok(()), true) => tracing::info!("spans are exported again"),
            (Ok(()), false) | (Err(_), true) => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_the_queue_is_counted() {
        let counts = SpanCounts::default();
        let entered = (0..SPANS_MAX + 7).filter(|_| counts.enter()).count();
        assert_eq!((entered, counts.lost()), (SPANS_MAX, 7));
        counts.waiting.fetch_sub(3, Ordering::Relaxed);
        assert_eq!((0..5).filter(|_| counts.enter()).count(), 3);
        assert_eq!(counts.lost(), 9);
    }
}
