//! How the table of names becomes instruments of a meter, whoever reads it.
//!
//! All of them are observed from one reading, which the first of them takes anew: so the numbers of one export belong
//! together, and nothing is read while nobody exports.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use super::names::{METRICS, Metric, MetricKind};
use super::reading::{Reading, Sample};

/// Where readings come from: none once the wrapper is gone.
pub(crate) type Read = dyn Fn() -> Option<Reading> + Send + Sync;

/// The samples that the instruments of one meter observe.
struct Observed {
    read: Arc<Read>,
    attributes: Vec<KeyValue>,
    samples: Mutex<Arc<[Sample]>>,
}

impl Observed {
    /// What this metric is now. The first of the table has everything read anew.
    fn values(&self, metric: &'static Metric) -> Vec<(f64, Vec<KeyValue>)> {
        let mut held = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if std::ptr::eq(metric, METRICS[0]) {
            *held = (self.read)().map_or_else(|| Arc::from([]), |reading| reading.samples().into());
        }
        let samples = Arc::clone(&held);
        drop(held);
        let of_metric = samples.iter().filter(|sample| std::ptr::eq(sample.metric, metric));
        let value = |sample: &Sample| {
            let own = metric.attributes.first().copied().zip(sample.attribute);
            let own = own.map(|(name, value)| KeyValue::new(name, value));
            (sample.value, self.attributes.iter().cloned().chain(own).collect())
        };
        of_metric.map(value).collect()
    }
}

/// Makes every instrument that is observed.
pub(super) fn register(meter: &Meter, read: Arc<Read>, attributes: Vec<KeyValue>) {
    let observed = Arc::new(Observed { read, attributes, samples: Mutex::new(Arc::from([])) });
    for metric in METRICS.iter().copied() {
        let observed = Arc::clone(&observed);
        match metric.kind {
            MetricKind::Counter => drop(
                meter
                    .u64_observable_counter(metric.name)
                    .with_unit(metric.unit)
                    .with_description(metric.description)
                    .with_callback(move |observer| observe(&observed, metric, observer, |value| value as u64))
                    .build(),
            ),
            MetricKind::UpDownCounter => drop(
                meter
                    .i64_observable_up_down_counter(metric.name)
                    .with_unit(metric.unit)
                    .with_description(metric.description)
                    .with_callback(move |observer| observe(&observed, metric, observer, |value| value as i64))
                    .build(),
            ),
            MetricKind::Gauge => drop(
                meter
                    .f64_observable_gauge(metric.name)
                    .with_unit(metric.unit)
                    .with_description(metric.description)
                    .with_callback(move |observer| observe(&observed, metric, observer, |value| value))
                    .build(),
            ),
            // Recorded where it happens.
            MetricKind::Histogram => {}
        }
    }
}

fn observe<T>(
    observed: &Observed,
    metric: &'static Metric,
    observer: &dyn AsyncInstrument<T>,
    as_number: impl Fn(f64) -> T,
) {
    for (value, attributes) in observed.values(metric) {
        observer.observe(as_number(value), &attributes);
    }
}
