//! The table of metrics for Python, which registers them with the meter provider of a program that has one.

use pyo3::prelude::*;

use crate::telemetry::names::{METRICS, MetricKind, TABLE, WRITER};

/// Name, kind, unit, description and own attribute of a metric.
type Row = (&'static str, &'static str, &'static str, &'static str, Option<&'static str>);

/// The attributes that every metric has, and each metric that is observed.
#[pyfunction]
pub(super) fn metric_table() -> ((&'static str, &'static str), Vec<Row>) {
    let observed = METRICS.iter().filter_map(|metric| {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::UpDownCounter => "up_down_counter",
            MetricKind::Gauge => "gauge",
            // Recorded by the core where it happens.
            MetricKind::Histogram => return None,
        };
        Some((metric.name, kind, metric.unit, metric.description, metric.attributes.first().copied()))
    });
    ((TABLE, WRITER), observed.collect())
}
