//! The page of reference, `docs/operations/metrics.md`, as the table of names has it: a test writes it, and compares it; and
//! dashboard and alerts, which may name nothing else.

use super::names::{METRICS, Metric, MetricKind, TABLE, WRITER};
use super::prometheus::prometheus_name;
use crate::generated_page::compare;

const HEAD: &str = "\
# Metrics

What a wrapper tells of itself, over OTLP and for Prometheus alike ([observability.md](observability.md) says how). Each metric has the attributes
`zerobus.table` and `zerobus.writer`, the target table and the writer directory; in Prometheus, `zerobus_table` and `zerobus_writer`. Where a metric has one
more, it stands behind its name.

Counters of rows and frames count since the log began, over restarts; at rest `stored = delivered + quarantined + dropped + waiting`. In
Prometheus a name has its unit and, for a counter, `_total` at its end; a histogram has `_bucket`, `_sum` and `_count`. `target_info` has the attributes of
the resource.

";

const FOOT: &str = "
This page is made from the table in `src/telemetry/names.rs` by
`UPDATE_METRICS_PAGE=1 cargo test --features cli,emulator,sim --lib telemetry::page`.
";

fn in_prometheus(metric: &Metric) -> String {
    prometheus_name(metric.name, metric.unit, metric.kind == MetricKind::Counter)
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| OpenTelemetry | Prometheus | kind | unit | meaning |\n|---|---|---|---|---|\n");
    for metric in METRICS {
        let attributes: String = metric.attributes.iter().map(|name| format!(" (`{name}`)")).collect();
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::UpDownCounter => "up-down counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let name = format!("`{}`{attributes}", metric.name);
        let prometheus = format!("`{}`", in_prometheus(metric));
        let unit = format!("`{}`", metric.unit);
        page.push_str(&format!(
            "| {} |\n",
            [&name, &prometheus, kind, &unit, metric.description].join(" | ")
        ));
    }
    page.push_str(FOOT);
    page
}

#[test]
fn the_page_of_reference_is_what_the_table_says() {
    compare("docs/operations/metrics.md", &page(), "METRICS", "src/telemetry/names.rs", "telemetry::page");
}

#[test]
fn names_are_of_one_form_and_none_is_there_twice_in_either_world() {
    let mut seen = std::collections::BTreeSet::new();
    for metric in METRICS {
        let is_plain = metric.name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_' | b'.'));
        assert!(metric.name.starts_with("zerobus.") && is_plain, "{}", metric.name);
        assert!(seen.insert(in_prometheus(metric)), "{} is there twice", metric.name);
        assert!(!metric.description.is_empty() && !metric.description.ends_with('.'), "{}", metric.name);
        assert_eq!(metric.kind == MetricKind::Histogram, !metric.bounds.is_empty(), "{}", metric.name);
        assert!(metric.bounds.is_sorted(), "{}", metric.name);
    }
    assert!([TABLE, WRITER].iter().all(|name| name.starts_with("zerobus.")));
}

/// Words of a text that look like a metric of ours.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("zerobus_"))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the files are no part of a log")]
fn dashboard_and_alerts_name_only_metrics_that_there_are() {
    let mut known: Vec<String> = vec!["zerobus_table".into(), "zerobus_writer".into()];
    for metric in METRICS {
        let name = in_prometheus(metric);
        known.extend(metric.attributes.iter().map(|attribute| attribute.replace('.', "_")));
        match metric.kind {
            MetricKind::Histogram => {
                known.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")))
            }
            _ => known.push(name),
        }
    }
    for file in ["grafana-dashboard.json", "alerts.yml"] {
        let path = format!("{}/docs/operations/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        let names: Vec<&str> = named(&text).collect();
        assert!(names.len() >= 5, "{path} names next to nothing");
        for name in names {
            assert!(known.iter().any(|known| known == name), "{path} names {name}, which there is not");
        }
    }
    assert!(named("rate(zerobus_rows_lost_total[5m])").all(|name| !known.iter().any(|known| known == name)));
}
