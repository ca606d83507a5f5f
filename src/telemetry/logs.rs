//! How what this crate logs becomes log records of OTLP.
//!
//! An event belongs to the process and to none of its wrappers. So there is one export for each place that wrappers name,
//! however many of them name it, and each place gets an event once. The last wrapper that leaves ends it.
//!
//! What telemetry itself says is not exported, nor is anything that is said on a thread that exports: it would be a reason
//! for the next export. Events of other crates are not either: nobody has looked through them for secrets \[I9\].

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use serde_json::Value;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level};

use super::event::{Seen, area};
use super::names;
use super::otlp::{LOGS, Way};
use super::queue::{Counts, LogQueue, LogReporting};
use crate::config::{ConfigError, OtlpProtocol, WrapperConfiguration};
use crate::io::{Clock, OsClock};

/// The area whose events are not exported.
const OWN_AREA: &str = "telemetry";

/// The exports of this process.
static EXPORTS: RwLock<Vec<Entry>> = RwLock::new(Vec::new());
/// The process that they are of: a forked child has not their threads, and may find the lock held for ever. 0 before there
/// is one.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// The most verbose level that one of them wants, an index of [`LEVELS`].
static WANTED: AtomicU8 = AtomicU8::new(0);

const LEVELS: [LevelFilter; 5] =
    [LevelFilter::OFF, LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG];

struct Entry {
    export: Arc<Export>,
    owners: usize,
    /// The most verbose of its owners.
    level: Level,
}

/// The way to one place.
struct Export {
    destination: Destination,
    provider: SdkLoggerProvider,
    logger: SdkLogger,
    counts: Arc<Counts>,
}

/// A place, how it is reached, and as whom.
#[derive(PartialEq)]
pub(super) struct Destination {
    endpoint: Option<String>,
    protocol: OtlpProtocol,
    headers: Vec<(HeaderName, HeaderValue)>,
    resource: Resource,
    files: [Option<PathBuf>; 3],
    proxy: Option<String>,
}

impl Destination {
    pub(super) fn of(way: &Way<'_>, configuration: &WrapperConfiguration, resource: Resource) -> Destination {
        Destination {
            endpoint: LOGS.endpoint(configuration),
            protocol: way.protocol(),
            headers: way.headers().to_vec(),
            resource,
            files: [
                configuration.ca_certificate_file.clone(),
                configuration.client_certificate_file.clone(),
                configuration.client_key_file.clone(),
            ],
            proxy: configuration.proxy.clone(),
        }
    }
}

/// One wrapper's part in an export.
pub(super) struct LogHandle {
    export: Arc<Export>,
    has_left: AtomicBool,
    pid: u32,
}

/// Takes part in the export to this place, which is begun if there is none. From now on events go there.
///
/// # Errors
///
/// [`ConfigError`] if there is none and the exporter cannot be made.
pub(super) fn join(
    destination: Destination,
    level: Level,
    exporter: impl FnOnce() -> Result<LogReporting, ConfigError>,
) -> Result<LogHandle, ConfigError> {
    let pid = std::process::id();
    let mut exports = EXPORTS.write().unwrap_or_else(PoisonError::into_inner);
    let shared = exports.iter_mut().find(|entry| entry.export.destination == destination);
    let export = if let Some(entry) = shared {
        entry.owners += 1;
        entry.level = entry.level.max(level);
        Arc::clone(&entry.export)
    } else {
        let queue = LogQueue::new(exporter()?);
        let counts = Arc::clone(queue.counts());
        let resource = destination.resource.clone();
        let provider = SdkLoggerProvider::builder().with_log_processor(queue).with_resource(resource).build();
        let logger = provider.logger(names::SCOPE);
        let export = Arc::new(Export { destination, provider, logger, counts });
        exports.push(Entry { export: Arc::clone(&export), owners: 1, level });
        export
    };
    OWNER.store(pid, Ordering::Release);
    let is_other = want(&exports);
    // Whoever is asked for his interest may log.
    drop(exports);
    if is_other {
        tracing::callsite::rebuild_interest_cache();
    }
    Ok(LogHandle { export, has_left: AtomicBool::new(false), pid })
}

/// Notes what is wanted, and says whether that is new.
fn want(exports: &[Entry]) -> bool {
    let level = exports.iter().map(|entry| LevelFilter::from_level(entry.level)).max();
    let level = level.unwrap_or(LevelFilter::OFF);
    let wanted = LEVELS.iter().position(|other| *other == level).unwrap_or_default();
    let wanted = u8::try_from(wanted).unwrap_or_default();
    WANTED.swap(wanted, Ordering::Relaxed) != wanted
}

/// The most verbose level that is exported.
pub(crate) fn exported_level() -> LevelFilter {
    LEVELS.get(usize::from(WANTED.load(Ordering::Relaxed))).copied().unwrap_or(LevelFilter::OFF)
}

/// Exports an event of this crate, if a wrapper of the process exports logs over OTLP. Other events are left alone, and
/// nobody waits.
///
/// The Python package and its log do this by themselves. A Rust program does it where it gets its events: in the
/// `on_event` of a layer of `tracing-subscriber`, or the `event` of a [`tracing::Subscriber`] of its own.
pub fn export_event(event: &Event<'_>) {
    let metadata = event.metadata();
    if *metadata.level() > exported_level() || Context::is_current_telemetry_suppressed() {
        return;
    }
    if area(metadata.target()).is_none_or(|area| area == OWN_AREA) {
        return;
    }
    if OWNER.load(Ordering::Acquire) != std::process::id() {
        return;
    }
    let mut seen = Seen::default();
    event.record(&mut seen);
    let now = SystemTime::UNIX_EPOCH + Duration::from_micros(OsClock.unix_micros().try_into().unwrap_or(0));
    // Nothing of ours is logged while it is held.
    let exports = EXPORTS.read().unwrap_or_else(PoisonError::into_inner);
    for entry in exports.iter().filter(|entry| *metadata.level() <= entry.level) {
        let mut record = entry.export.logger.create_log_record();
        let (severity, text) = severity(*metadata.level());
        record.set_target(metadata.target());
        record.set_timestamp(now);
        record.set_observed_timestamp(now);
        record.set_severity_number(severity);
        record.set_severity_text(text);
        record.set_body(seen.message.clone().into());
        record.add_attributes(seen.fields.iter().map(|(name, value)| (*name, any(value))));
        if let Some(file) = metadata.file() {
            record.add_attribute("code.file.path", file);
        }
        if let Some(line) = metadata.line() {
            record.add_attribute("code.line.number", line);
        }
        // The SDK adds the trace that is current.
        entry.export.logger.emit(record);
    }
}

fn severity(level: Level) -> (Severity, &'static str) {
    match level {
        Level::ERROR => (Severity::Error, "ERROR"),
        Level::WARN => (Severity::Warn, "WARN"),
        Level::INFO => (Severity::Info, "INFO"),
        Level::DEBUG => (Severity::Debug, "DEBUG"),
        Level::TRACE => (Severity::Trace, "TRACE"),
    }
}

fn any(value: &Value) -> AnyValue {
    match value {
        Value::Bool(value) => AnyValue::Boolean(*value),
        // OpenTelemetry has no unsigned numbers.
        Value::Number(number) if number.is_u64() => AnyValue::Int(number.as_i64().unwrap_or(i64::MAX)),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AnyValue::Int(number),
            None => AnyValue::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => AnyValue::String(text.clone().into()),
        other => AnyValue::String(other.to_string().into()),
    }
}

impl LogHandle {
    /// What waits for export, and what was lost.
    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.export.counts
    }

    /// Exports what waits, and ends the export if nobody else takes part in it. Waits for the receiver.
    pub(super) fn close(&self) -> OTelSdkResult {
        match self.leave() {
            Some(last) => last.provider.shutdown(),
            None => self.export.provider.force_flush(),
        }
    }

    /// Takes no part any more; the export, if nobody else does.
    fn leave(&self) -> Option<Arc<Export>> {
        if self.has_left.swap(true, Ordering::AcqRel) {
            return None;
        }
        let mut exports = EXPORTS.write().unwrap_or_else(PoisonError::into_inner);
        let index = exports.iter().position(|entry| Arc::ptr_eq(&entry.export, &self.export))?;
        exports[index].owners -= 1;
        let last = (exports[index].owners == 0).then(|| exports.remove(index).export);
        let is_other = want(&exports);
        drop(exports);
        if is_other {
            tracing::callsite::rebuild_interest_cache();
        }
        last
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            // A forked child has not the thread that the end would wait for.
            std::mem::forget(Arc::clone(&self.export));
            return;
        }
        let Some(last) = self.leave() else { return };
        // Not here: this may be a thread that must not wait.
        let ended = std::thread::Builder::new().name("zerobus-logs".to_owned()).spawn(move || {
            // It tells of itself.
            let _ = last.provider.shutdown();
        });
        if let Err(error) = ended {
            tracing::debug!(%error, "the export of log records ends with the process");
        }
    }
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHandle")
            .field("endpoint", &self.export.destination.endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_an_event_is_one_of_opentelemetry() {
        let cases = [
            (Value::from(true), AnyValue::Boolean(true)),
            (Value::from(-7), AnyValue::Int(-7)),
            (Value::from(7_u64), AnyValue::Int(7)),
            (Value::from(u64::MAX), AnyValue::Int(i64::MAX)),
            (Value::from(0.5), AnyValue::Double(0.5)),
            (Value::from("text"), AnyValue::String("text".into())),
            (Value::Null, AnyValue::String("null".into())),
        ];
        for (value, expected) in cases {
            assert_eq!(any(&value), expected);
        }
    }
}
