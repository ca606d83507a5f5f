//! Metrics over OTLP: what arrives is what `status` says, and whatever the receiver does, delivery does not notice.

use std::time::{Duration, Instant};

use arrow_zerobus_sdk_wrapper::telemetry::names::{self, METRICS, MetricKind};
use arrow_zerobus_sdk_wrapper::{OtlpProtocol, Status, WrapperConfiguration};
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric};

use crate::receiver::{Export, Manners, Receiver, pairs};
use crate::site::{Site, TABLE, assert_conserved, batch, files_with, once, secret, wait_until};

pub(crate) fn exporting(endpoint: &str, protocol: OtlpProtocol) -> impl FnOnce(&mut WrapperConfiguration) {
    move |c: &mut WrapperConfiguration| {
        c.observability_enabled = true;
        c.observability_endpoint = Some(endpoint.to_owned());
        c.observability_protocol = Some(protocol);
        c.observability_headers = Some("authorization=Bearer%20hunter2".into());
        c.observability_service_name = Some("edge".to_owned());
        c.observability_resource_attributes = Some("site=north,deployment.environment=test".to_owned());
        c.observability_interval = Duration::from_millis(100);
    }
}

/// Waits for an export that is as wished.
pub(crate) async fn received(receiver: &Receiver, what: &str, is_so: impl Fn(&Export) -> bool) -> Export {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match receiver.last() {
            Some(export) if is_so(&export) => return export,
            last => assert!(Instant::now() < deadline, "{what} did not come: {last:#?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn assert_is_status(export: &Export, status: &Status) {
    let value = |metric: &names::Metric| export.value(metric.name, None);
    let (rows, frames) = (status.rows, status.frames);
    let expected = [
        (&names::ROWS_STORED, rows.stored),
        (&names::ROWS_DELIVERED, rows.delivered),
        (&names::ROWS_QUARANTINED, rows.quarantined),
        (&names::ROWS_DROPPED, rows.dropped),
        (&names::ROWS_WAITING, rows.waiting),
        (&names::FRAMES_STORED, frames.stored),
        (&names::FRAMES_DELIVERED, frames.delivered),
        (&names::FRAMES_QUARANTINED, frames.quarantined),
        (&names::FRAMES_DROPPED, frames.dropped),
        (&names::FRAMES_WAITING, frames.waiting),
        (&names::FRAMES_DAMAGED, status.damaged_frames),
        (&names::LOG_SIZE, status.log_bytes),
        (&names::LOG_LIMIT, status.wal_max_bytes.unwrap()),
        (&names::QUARANTINE_LIMIT, status.quarantine.max_bytes.unwrap()),
        (&names::STREAMS_OPENED, status.lane.as_ref().unwrap().streams_opened),
        (&names::LOG_FULL, 0),
        (&names::LOG_POISONED, 0),
    ];
    for (metric, expected) in expected {
        assert_eq!(value(metric), Some(expected as f64), "{}", metric.name);
    }
    let state = status.lane.as_ref().unwrap().state;
    for other in ["idle", "streaming", "blocked", "disabled"] {
        let is_it = export.value(names::LANE_STATE.name, Some((names::STATE, other)));
        assert_eq!(is_it, Some(f64::from(other == state.as_str())), "{other}");
    }
}

/// Every metric that comes is one of the table, as the table has it.
fn assert_is_of_the_table(export: &Export) {
    let known = |name: &str| METRICS.iter().find(|metric| metric.name == name);
    for (name, came) in export.metrics() {
        let metric = known(&name).unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(
            (came.unit.as_str(), came.description.as_str()),
            (metric.unit, metric.description),
            "{name}"
        );
        let cumulative = AggregationTemporality::Cumulative as i32;
        let points = match came.data.unwrap() {
            metric::Data::Sum(sum) => {
                assert_eq!(sum.is_monotonic, metric.kind == MetricKind::Counter, "{name}");
                assert_eq!(sum.aggregation_temporality, cumulative, "{name}");
                sum.data_points.into_iter().map(|point| point.attributes).collect::<Vec<_>>()
            }
            metric::Data::Gauge(gauge) => {
                assert_eq!(metric.kind, MetricKind::Gauge, "{name}");
                gauge.data_points.into_iter().map(|point| point.attributes).collect()
            }
            metric::Data::Histogram(histogram) => {
                assert_eq!(metric.kind, MetricKind::Histogram, "{name}");
                let bounds: Vec<_> =
                    histogram.data_points.iter().map(|it| it.explicit_bounds.clone()).collect();
                assert_eq!(bounds, [metric.bounds], "{name}");
                histogram.data_points.into_iter().map(|point| point.attributes).collect()
            }
            other => panic!("{name} is a {other:?}"),
        };
        for attributes in points {
            let mut attributes: Vec<_> = pairs(&attributes).collect();
            attributes.sort();
            let of_log = [(names::TABLE, TABLE), (names::WRITER, "writer-001")];
            assert!(
                of_log.iter().all(|(name, value)| attributes.contains(&((*name).into(), (*value).into())))
            );
            assert_eq!(attributes.len(), 2 + metric.attributes.len(), "{name}");
        }
    }
    // What is not known just now is the pace, and nothing else.
    let missing = METRICS.iter().filter(|metric| !export.metrics().contains_key(metric.name));
    let pace = [names::TIME_UNTIL_FULL.name, names::TIME_UNTIL_DRAINED.name];
    assert!(missing.into_iter().all(|metric| pace.contains(&metric.name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_arrive_over_grpc_and_over_http_as_status_has_them() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
        let receiver = match protocol {
            OtlpProtocol::Grpc => Receiver::grpc(Manners::Takes).await,
            OtlpProtocol::Http => Receiver::http(Manners::Takes).await,
        };
        let site = Site::new();
        let emulator = site.serve();
        let wrapper = site.open_with(exporting(&receiver.endpoint, protocol));
        for start in [0, 10, 20] {
            wrapper.send_batch(batch(start..start + 10)).await.unwrap();
        }
        wrapper.flush(None).await.unwrap();
        let status =
            wait_until(&wrapper, "rest", |status| status.lane.as_ref().unwrap().state.as_str() == "idle")
                .await;
        assert_conserved(&status);
        let delivered = names::ROWS_DELIVERED.name;
        let export = received(&receiver, "the last row", |export| {
            export.value(delivered, None) == Some(30.0)
                && export.value(names::LANE_STATE.name, Some((names::STATE, "idle"))) == Some(1.0)
        })
        .await;
        assert_is_status(&export, &status);
        assert_is_of_the_table(&export);

        let requests = export.value(names::REQUESTS_ACKNOWLEDGED.name, None).unwrap();
        assert!((1.0..=3.0).contains(&requests));
        assert_eq!(export.value(names::REQUESTS_SENT.name, None), Some(requests));
        let (count, seconds) = export.histogram(names::APPEND_DURATION.name).unwrap();
        assert!(count == 3 && seconds > 0.0);
        let (syncs, frames) = export.histogram(names::SYNC_FRAMES.name).unwrap();
        assert!((1..=3).contains(&syncs) && frames == 3.0, "each frame is in one sync");
        assert_eq!(export.histogram(names::SYNC_DURATION.name).unwrap().0, syncs);
        assert_eq!(export.histogram(names::ACKNOWLEDGEMENT_DURATION.name).unwrap().0 as f64, requests);

        assert_eq!(export.authorization.as_deref(), Some("Bearer hunter2"));
        let resource = export.resource();
        for (name, value) in [("service.name", "edge"), ("site", "north"), ("deployment.environment", "test")]
        {
            assert_eq!(resource.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!export.text().contains("hunter2") && !export.text().contains(secret()), "[I9]");
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(files_with(site.directory.path(), "hunter2"), Vec::<std::path::PathBuf>::new(), "[I9]");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_exports_the_last_numbers() {
    let receiver = Receiver::grpc(Manners::Takes).await;
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        exporting(&receiver.endpoint, OtlpProtocol::Grpc)(c);
        c.observability_interval = Duration::from_secs(3600);
    });
    wrapper.send_batch(batch(0..7)).await.unwrap();
    wrapper.shutdown().await.unwrap();
    let exports = receiver.exports();
    assert_eq!(exports.len(), 1);
    assert_eq!(exports[0].value(names::ROWS_DELIVERED.name, None), Some(7.0));
    assert_eq!(exports[0].value(names::LANE_STATE.name, Some((names::STATE, "stopped"))), Some(1.0));
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempts_are_counted_by_class() {
    let receiver = Receiver::http(Manners::Takes).await;
    let site = Site::new();
    let wrapper = site.open_with(exporting(&receiver.endpoint, OtlpProtocol::Http));
    wrapper.send_batch(batch(0..5)).await.unwrap();
    let class = |class: &'static str| Some((names::ERROR_CLASS, class));
    let failed = names::ATTEMPTS_FAILED.name;
    let export = received(&receiver, "two failures", |export| {
        export.value(failed, class("transient")).is_some_and(|count| count >= 2.0)
    })
    .await;
    assert_eq!(export.value(failed, class("blocked")), Some(0.0));
    assert_eq!(export.value(names::ROWS_WAITING.name, None), Some(5.0));
    assert!(export.value(names::OLDEST_WAITING.name, None).unwrap() > 0.0);
    assert!(export.value(names::FAILURES_IN_A_ROW.name, None).unwrap() >= 1.0);
    let emulator = site.serve();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_refuses_hangs_or_is_not_there_holds_up_nothing() {
    for protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
        for manners in [Some(Manners::Refuses), Some(Manners::Hangs), None] {
            let (receiver, endpoint) = Receiver::with(manners, protocol).await;
            let site = Site::new();
            let emulator = site.serve();
            let wrapper = site.open_with(exporting(&endpoint, protocol));
            for start in (0..200).step_by(10) {
                wrapper.send_batch(batch(start..start + 10)).await.unwrap();
            }
            wrapper.flush(Some(Duration::from_secs(30))).await.unwrap();
            if manners == Some(Manners::Refuses) {
                received(receiver.as_ref().unwrap(), "an export", |_| true).await;
            }
            let began = Instant::now();
            wrapper.shutdown().await.unwrap();
            let took = began.elapsed();
            assert!(
                took < Duration::from_secs(10),
                "shutdown took {took:?} with {manners:?} over {protocol:?}"
            );
            emulator.stop().unwrap();
            assert_eq!(site.landed(), once(0..200));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_the_meter_provider_of_the_program_has_the_metrics() {
    let receiver = Receiver::http(Manners::Takes).await;
    // What a program does for itself: a provider of its own, exporting where it likes.
    let exporter = opentelemetry_otlp::MetricExporter::builder().with_tonic();
    let grpc = Receiver::grpc(Manners::Takes).await;
    let exporter = opentelemetry_otlp::WithExportConfig::with_endpoint(exporter, grpc.endpoint.clone());
    let reader = opentelemetry_sdk::metrics::PeriodicReader::builder(exporter.build().unwrap())
        .with_interval(Duration::from_millis(100))
        .build();
    let provider = opentelemetry_sdk::metrics::SdkMeterProvider::builder().with_reader(reader).build();
    opentelemetry::global::set_meter_provider(provider.clone());

    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| c.observability_enabled = true);
    wrapper.send_batch(batch(0..9)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    let export =
        received(&grpc, "every row", |export| export.value(names::ROWS_DELIVERED.name, None) == Some(9.0))
            .await;
    assert_eq!(export.histogram(names::APPEND_DURATION.name).unwrap().0, 1);
    assert!(receiver.exports().is_empty());
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    emulator.stop().unwrap();
    let provider = tokio::task::spawn_blocking(move || provider.shutdown());
    provider.await.unwrap().unwrap();
}
