//! Metrics as Prometheus reads them: the text format, version 0.0.4, with the names that the OpenTelemetry specification of
//! that translation gives.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics};

/// The media type of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All samples of one name, which have to stand together whichever log they are of.
struct Family {
    kind: &'static str,
    help: String,
    lines: String,
}

/// The metrics of several logs as one page.
#[derive(Default)]
pub(super) struct Page {
    families: BTreeMap<String, Family>,
}

impl Page {
    /// Adds what a reader has collected.
    pub(super) fn add(&mut self, collected: &ResourceMetrics) {
        let resource: Vec<KeyValue> = collected
            .resource()
            .iter()
            .map(|(key, value)| KeyValue::new(key.clone(), value.clone()))
            .collect();
        let help = "What is told about this process with every export";
        let info = self.family("target_info".to_owned(), "gauge", help);
        let line = format!("target_info{} 1\n", labels(resource.iter(), None));
        // Logs of one process have one resource, as a rule.
        if !info.lines.contains(&line) {
            info.lines.push_str(&line);
        }
        for metric in collected.scope_metrics().flat_map(|scope| scope.metrics()) {
            match metric.data() {
                AggregatedMetrics::F64(data) => self.add_metric(metric, data),
                AggregatedMetrics::U64(data) => self.add_metric(metric, data),
                AggregatedMetrics::I64(data) => self.add_metric(metric, data),
            }
        }
    }

    fn family(&mut self, name: String, kind: &'static str, help: &str) -> &mut Family {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.families.entry(name).or_insert_with(|| Family { kind, help, lines: String::new() })
    }

    fn add_metric<T: Copy + std::fmt::Display>(&mut self, metric: &Metric, data: &MetricData<T>) {
        let (kind, is_total) = match data {
            MetricData::Sum(sum) if sum.is_monotonic() => ("counter", true),
            MetricData::Histogram(_) => ("histogram", false),
            // The table has no exponential histograms.
            MetricData::Sum(_) | MetricData::Gauge(_) | MetricData::ExponentialHistogram(_) => {
                ("gauge", false)
            }
        };
        let name = prometheus_name(metric.name(), metric.unit(), is_total);
        let family = self.family(name.clone(), kind, metric.description());
        let lines = &mut family.lines;
        let mut add = |suffix: &str, labels: String, value: &dyn std::fmt::Display| {
            // Writing into a string cannot fail.
            let _ = writeln!(lines, "{name}{suffix}{labels} {value}");
        };
        match data {
            MetricData::Sum(sum) => {
                for point in sum.data_points() {
                    add("", labels(point.attributes(), None), &point.value());
                }
            }
            MetricData::Gauge(gauge) => {
                for point in gauge.data_points() {
                    add("", labels(point.attributes(), None), &point.value());
                }
            }
            MetricData::Histogram(histogram) => {
                for point in histogram.data_points() {
                    let mut below = 0;
                    let bounds = point.bounds().map(|bound| bound.to_string()).chain(["+Inf".to_owned()]);
                    for (bound, count) in bounds.zip(point.bucket_counts()) {
                        below += count;
                        add("_bucket", labels(point.attributes(), Some(("le", &bound))), &below);
                    }
                    add("_sum", labels(point.attributes(), None), &point.sum());
                    add("_count", labels(point.attributes(), None), &point.count());
                }
            }
            MetricData::ExponentialHistogram(_) => {}
        }
    }

    /// The text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, Family { kind, help, lines }) in &self.families {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
        }
        text
    }
}

/// `zerobus.log.size` in bytes is `zerobus_log_size_bytes`; a counter ends in `_total`.
pub(crate) fn prometheus_name(name: &str, unit: &str, is_total: bool) -> String {
    let mut name = label_name(name);
    let unit = match unit {
        "s" => "_seconds",
        "By" => "_bytes",
        // What stands in braces says what is counted; a ratio of ours is a yes or no.
        _ => "",
    };
    if !unit.is_empty() && !name.ends_with(unit) {
        name.push_str(unit);
    }
    if is_total {
        name.push_str("_total");
    }
    name
}

fn label_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>, more: Option<(&str, &str)>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let own = attributes.map(|it| (label_name(it.key.as_str()), it.value.as_str().into_owned()));
    let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut pairs: Vec<_> = own.chain(more).collect();
    pairs.sort();
    pairs.dedup_by(|a, b| a.0 == b.0);
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_those_of_the_specification() {
        assert_eq!(prometheus_name("zerobus.rows.stored", "{row}", true), "zerobus_rows_stored_total");
        assert_eq!(prometheus_name("zerobus.log.size", "By", false), "zerobus_log_size_bytes");
        assert_eq!(prometheus_name("zerobus.sync.duration", "s", false), "zerobus_sync_duration_seconds");
        let attributes = [KeyValue::new("zerobus.table", "a\"b\\c\nd")];
        let text = labels(attributes.iter(), Some(("le", "+Inf")));
        assert_eq!(text, r#"{le="+Inf",zerobus_table="a\"b\\c\nd"}"#);
        assert_eq!(labels([].iter(), None), "");
    }
}
