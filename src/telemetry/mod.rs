//! What the world sees of a log in numbers, traces and log records: over OTLP, for Prometheus, and through the program's own providers.
//!
//! ```text
//!  names (the table) ─► instruments of a meter ◄── read when somebody exports: status, recorder
//!                          ├► OTLP, gRPC or HTTP: a thread of the SDK          ▲
//!                          ├► /metrics: whoever asks the port                  │
//!                          └► the global meter provider                 data path: counts, histograms
//! ```
//!
//! Nothing of it is on the way of a batch but a few counters, and histograms while somebody wants them; whatever becomes
//! of a receiver, sending and delivery do not notice.

mod context;
pub(crate) mod event;
mod health;
mod instruments;
mod logs;
pub mod names;
mod otlp;
mod prometheus;
mod queue;
mod reading;
mod recorder;
mod server;
mod spans;
#[cfg(test)]
mod page;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::global::BoxedTracer;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, PeriodicReader, Pipeline, SdkMeterProvider, Temporality,
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

pub(crate) use context::Contexts;
pub use context::TraceContext;
pub use health::STALLED_AFTER;
pub(crate) use instruments::Read;
pub use logs::export_event;
#[cfg(feature = "cli")]
pub(crate) use logs::exported_level;
#[cfg(feature = "python")]
pub(crate) use reading::Sample;
pub(crate) use reading::{Opened, Reading};
pub(crate) use recorder::Recorder;
pub(crate) use spans::{Fate, Sending, SentRequest, Spans};

use self::health::{LogHealth, Progress};
use self::logs::{Destination, LogHandle};
use self::otlp::{Reporting, Way};
use self::prometheus::Page;
use self::queue::{SpanQueue, SpanReporting};
use self::server::Server;
use crate::config::{ConfigError, WrapperConfiguration, invalid, resource_attributes};
use crate::drain::LaneState;
use crate::io::Clock;
use crate::trust::Trust;
use crate::types::TableName;

/// How long a shutdown waits for the last export; a receiver that takes longer goes without it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// `service.name`, if neither the settings nor the environment have one.
const SERVICE_NAME: &str = "arrow-zerobus";

/// Who exports the metrics that the settings ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsExport {
    /// The core, or the global provider.
    Ours,
    /// A provider of Python's, which reads them itself.
    #[cfg(feature = "python")]
    OfPython,
}

/// The ways out of the process that the settings ask for. Nothing is sent or read before there is a log, but for what is
/// said of its opening.
#[derive(Default)]
pub(crate) struct Outlets {
    otlp: Option<(Reporting, Duration)>,
    is_global: bool,
    spans: Option<(SpanReporting, Duration)>,
    has_global_spans: bool,
    /// It exports what is said while the log is opened, too.
    logs: Option<LogHandle>,
    server: Option<Arc<Server>>,
    resource: Option<Resource>,
}

impl Outlets {
    /// Opens them, the port included.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting that is wrong, also if that is a port that somebody else has.
    pub(crate) fn open(
        configuration: &WrapperConfiguration,
        metrics: MetricsExport,
        trust: &Trust,
        client: reqwest::Client,
        runtime: &Handle,
    ) -> Result<Outlets, ConfigError> {
        let mut outlets = Outlets::default();
        if configuration.observability_enabled {
            // Without an endpoint of ours the program's own provider has its say.
            let interval = configuration.observability_interval;
            let way = |signal| Way::of(signal, configuration, trust, client.clone(), runtime);
            let (is_ours, has_endpoint) =
                (metrics == MetricsExport::Ours, otlp::METRICS.has_endpoint(configuration));
            outlets.is_global = is_ours && !has_endpoint;
            if is_ours && has_endpoint {
                outlets.otlp = Some((way(otlp::METRICS)?.metrics()?, interval));
            }
            outlets.has_global_spans = !otlp::TRACES.has_endpoint(configuration);
            if !outlets.has_global_spans {
                outlets.spans = Some((way(otlp::TRACES)?.spans()?, interval));
            }
            // Without an endpoint the program's own log is the way, as it always is.
            if let Some(level) = configuration.observability_logs.level()
                && otlp::LOGS.has_endpoint(configuration)
            {
                let way = way(otlp::LOGS)?;
                let destination = Destination::of(&way, configuration, resource(configuration)?);
                outlets.logs = Some(logs::join(destination, level, || way.logs())?);
            }
        }
        if let Some(port) = configuration.metrics_port {
            let address = SocketAddr::new(configuration.metrics_ip()?, port);
            let taken = |error: std::io::Error| {
                let allowed = format!("a port that this process can have at {} ({error})", address.ip());
                invalid("metrics_port", &port.to_string(), &allowed)
            };
            outlets.server = Some(Server::at(address, runtime).map_err(taken)?);
        }
        if outlets.otlp.is_some() || outlets.spans.is_some() || outlets.server.is_some() {
            outlets.resource = Some(resource(configuration)?);
        }
        Ok(outlets)
    }
}

fn resource(configuration: &WrapperConfiguration) -> Result<Resource, ConfigError> {
    let attributes = resource_attributes(configuration.observability_resource_attributes.as_deref())?;
    let is_named = |name: &str| {
        std::env::var(name).is_ok_and(|value| match name {
            "OTEL_SERVICE_NAME" => !value.is_empty(),
            _ => value.split(',').any(|pair| pair.trim().starts_with("service.name=")),
        })
    };
    let of_environment = is_named("OTEL_SERVICE_NAME") || is_named("OTEL_RESOURCE_ATTRIBUTES");
    let mut builder = Resource::builder();
    if !of_environment {
        builder = builder.with_service_name(SERVICE_NAME);
    }
    builder = builder
        .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())))
        .with_attributes(attributes.into_iter().map(|(name, value)| KeyValue::new(name, value)));
    if let Some(name) = &configuration.observability_service_name {
        builder = builder.with_service_name(name.clone());
    }
    Ok(builder.build())
}

/// The telemetry of one log.
pub(crate) struct Telemetry {
    recorder: Arc<Recorder>,
    meters: Vec<Meter>,
    attributes: Vec<KeyValue>,
    provider: Option<SdkMeterProvider>,
    tracer_provider: Option<SdkTracerProvider>,
    logs: Option<Arc<LogHandle>>,
    /// The port, and what is served there of this log.
    served: Option<(Arc<Server>, OnDemand)>,
    scraped: OnceLock<Arc<Scraped>>,
    pid: u32,
}

impl Telemetry {
    /// Makes the meters and the tracer that these ways out need; without any it only counts.
    pub(crate) fn new(
        outlets: Outlets,
        table: &TableName,
        directory: &Path,
        clock: &Arc<dyn Clock>,
    ) -> Telemetry {
        let writer = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let attributes = vec![
            KeyValue::new(names::TABLE, table.as_str().to_owned()),
            KeyValue::new(names::WRITER, writer),
        ];
        let Outlets { otlp, is_global, spans, has_global_spans, logs, server, resource } = outlets;
        let log_counts = logs.as_ref().map(|logs| Arc::clone(logs.counts()));
        let served = server.map(|server| (server, OnDemand::default()));
        let queue = spans.map(|(exporter, interval)| SpanQueue::new(exporter, interval));
        let span_counts = queue.as_ref().map(|queue| Arc::clone(queue.counts()));
        let tracer_provider = queue.map(|queue| {
            let builder = SdkTracerProvider::builder().with_span_processor(queue);
            builder
                .with_resource(resource.clone().unwrap_or_else(|| Resource::builder_empty().build()))
                .build()
        });
        let own_tracer = tracer_provider
            .as_ref()
            .map(|provider| BoxedTracer::new(Box::new(provider.tracer(names::SCOPE))));
        let global_tracer = || has_global_spans.then(|| opentelemetry::global::tracer(names::SCOPE));
        let tracer = own_tracer.or_else(global_tracer);
        let spans = tracer.map(|tracer| Spans::new(tracer, table, attributes[1].clone(), clock));
        let is_measured = otlp.is_some() || served.is_some();
        let provider = resource.filter(|_| is_measured).map(|resource| {
            let mut builder = SdkMeterProvider::builder().with_resource(resource);
            if let Some((exporter, interval)) = otlp {
                builder =
                    builder.with_reader(PeriodicReader::builder(exporter).with_interval(interval).build());
            }
            if let Some((_, reader)) = &served {
                builder = builder.with_reader(reader.clone());
            }
            builder.build()
        });
        let own = provider.as_ref().map(|provider| provider.meter(names::SCOPE));
        let global = is_global.then(|| opentelemetry::global::meter(names::SCOPE));
        let meters: Vec<Meter> = own.into_iter().chain(global).collect();
        let recorder = Arc::new(Recorder::new(&meters, attributes.clone(), spans, span_counts, log_counts));
        let (scraped, pid) = (OnceLock::new(), std::process::id());
        let logs = logs.map(Arc::new);
        Telemetry { recorder, meters, attributes, provider, tracer_provider, logs, served, scraped, pid }
    }

    /// Where the data path puts its counts.
    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// From now on there is something to read.
    pub(crate) fn observe(&self, read: &Arc<Read>, clock: &Arc<dyn Clock>) {
        for meter in &self.meters {
            instruments::register(meter, Arc::clone(read), self.attributes.clone());
        }
        if let Some((server, reader)) = &self.served
            && let Some(reading) = read()
        {
            let progress = Progress::new(health::settled(&reading), clock.monotonic());
            let (read, clock) = (Arc::clone(read), Arc::clone(clock));
            let scraped = self
                .scraped
                .get_or_init(|| Arc::new(Scraped { reader: reader.clone(), read, progress, clock }));
            server.add(scraped);
        }
    }

    /// Exports a last time, as far as the receiver takes it soon, and ends.
    pub(crate) async fn close(&self) {
        let (metrics, spans) = (self.provider.clone(), self.tracer_provider.clone());
        let logs = self.logs.clone();
        tokio::join!(
            closed("metrics", metrics.map(|provider| move || provider.shutdown())),
            closed("spans", spans.map(|provider| move || provider.shutdown())),
            closed("log records", logs.map(|logs| move || logs.close())),
        );
    }
}

/// Returns when the export of this has ended, or takes too long.
async fn closed(what: &'static str, close: Option<impl FnOnce() -> OTelSdkResult + Send + 'static>) {
    let Some(close) = close else { return };
    match tokio::time::timeout(CLOSE_TIMEOUT, spawn_blocking(close)).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::debug!(%error, "the last {what} were not exported"),
        Ok(Err(error)) => tracing::error!(%error, "the export of {what} did not end"),
        Err(_) => tracing::warn!(
            secs = CLOSE_TIMEOUT.as_secs(),
            "the receiver of {what} does not answer, the last ones are not exported"
        ),
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let providers = (self.provider.take(), self.tracer_provider.take());
        if let (None, None) = &providers {
            return;
        }
        if self.pid != std::process::id() {
            // A forked child has not the threads that the end would wait for. The recorder keeps a provider of spans
            // too, and is not ended before its last owner is.
            std::mem::forget((providers, Arc::clone(&self.recorder)));
            return;
        }
        // Not here: this may be the very thread that exports, or one that must not wait.
        let ended = std::thread::Builder::new().name("zerobus-metrics".to_owned()).spawn(move || {
            // One that was closed before says so.
            let (metrics, spans) = providers;
            let _ = metrics.map(|provider| provider.shutdown());
            let _ = spans.map(|provider| provider.shutdown());
        });
        if let Err(error) = ended {
            tracing::debug!(%error, "the export of telemetry ends with the process");
        }
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("attributes", &self.attributes).finish_non_exhaustive()
    }
}

/// What is served of one log.
pub(crate) struct Scraped {
    reader: OnDemand,
    read: Arc<Read>,
    progress: Progress,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Scraped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scraped").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl Scraped {
    fn add_to(&self, page: &mut Page) {
        let mut collected = ResourceMetrics::default();
        match self.reader.collect(&mut collected) {
            Ok(()) => page.add(&collected),
            // The log was closed a moment ago.
            Err(error) => tracing::debug!(%error, "the metrics of a log cannot be read"),
        }
    }

    fn health(&self) -> Option<LogHealth> {
        let reading = (self.read)()?;
        let lane = reading.status.lane.as_ref();
        if lane.is_some_and(|lane| lane.state == LaneState::Stopped) {
            // Shut down: nobody expects anything of it any more.
            return None;
        }
        Some(self.progress.health(&reading, self.clock.monotonic()))
    }
}

/// A reader that collects when it is asked to; the provider has one handle of it and the port another.
#[derive(Clone, Debug, Default)]
struct OnDemand(Arc<ManualReader>);

impl MetricReader for OnDemand {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
