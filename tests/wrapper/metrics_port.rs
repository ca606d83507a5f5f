//! The port of metrics: what Prometheus and a probe get there, and who may have it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use arrow_zerobus_sdk_wrapper::telemetry::names::METRICS;
use arrow_zerobus_sdk_wrapper::{OnFull, ZerobusWrapper};
use serde_json::Value;

use crate::site::{Site, TABLE, batch, free_port, wait_until};

async fn get(port: u16, path: &str) -> (u16, String, String) {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}{path}")).await.unwrap();
    let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (answer.status().as_u16(), content_type, answer.text().await.unwrap())
}

async fn health_of(port: u16) -> (u16, Value) {
    let (code, content_type, text) = get(port, "/healthz").await;
    assert_eq!(content_type, "application/json");
    (code, serde_json::from_str(&text).unwrap())
}

/// Waits for an answer with this code, and returns what it says.
async fn healthz(port: u16, code: u16) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (answered, health) = health_of(port).await;
        if answered == code {
            return health;
        }
        assert!(Instant::now() < deadline, "{code} did not come: {health:#}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The value of a line with this name and these labels.
fn value(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let is_it = |line: &&str| {
        line.starts_with(&format!("{name}{{"))
            && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
    };
    page.lines().find(is_it)?.rsplit(' ').next()?.parse().ok()
}

fn open(site: &Site, port: u16) -> ZerobusWrapper {
    site.open_with(|c| c.metrics_port = Some(port))
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_gets_every_metric_as_status_has_it() {
    let (site, port) = (Site::new(), free_port());
    let emulator = site.serve();
    let wrapper = open(&site, port);
    for start in [0, 10] {
        wrapper.send_batch(batch(start..start + 10)).await.unwrap();
    }
    wrapper.flush(None).await.unwrap();
    let status = wrapper.status();
    let (code, content_type, page) = get(port, "/metrics").await;
    assert_eq!((code, content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let own = [("zerobus_table", TABLE), ("zerobus_writer", "writer-001")];
    let expected = [
        ("zerobus_rows_stored_total", status.rows.stored as f64),
        ("zerobus_rows_delivered_total", 20.0),
        ("zerobus_rows_waiting", 0.0),
        ("zerobus_frames_stored_total", 2.0),
        ("zerobus_log_limit_bytes", status.wal_max_bytes.unwrap() as f64),
        ("zerobus_append_duration_seconds_count", 2.0),
        ("zerobus_sync_frames_sum", 2.0),
    ];
    for (name, expected) in expected {
        assert_eq!(value(&page, name, &own), Some(expected), "{name} in {page}");
    }
    let bucket = "zerobus_append_duration_seconds_bucket";
    assert_eq!(value(&page, bucket, &[("le", "+Inf")]), Some(2.0), "buckets add up");
    assert_eq!(value(&page, "target_info", &[("service_name", "arrow-zerobus")]), Some(1.0));
    for metric in METRICS {
        let name = metric.name.replace('.', "_");
        let may_be_unknown = metric.name.starts_with("zerobus.log.time_until");
        assert!(page.contains(&format!("# TYPE {name}")) || may_be_unknown, "{name} in {page}");
    }
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrappers_of_one_process_share_a_port_that_goes_with_the_last_of_them() {
    let (site, port) = (Site::new(), free_port());
    let emulator = site.serve();
    let (first, second) = (open(&site, port), open(&site, port));
    second.send_batch(batch(0..5)).await.unwrap();
    second.flush(None).await.unwrap();
    let (_, _, page) = get(port, "/metrics").await;
    let delivered = "zerobus_rows_delivered_total";
    assert_eq!(value(&page, delivered, &[("zerobus_writer", "writer-001")]), Some(0.0));
    assert_eq!(value(&page, delivered, &[("zerobus_writer", "writer-002")]), Some(5.0));
    assert_eq!(page.matches("# TYPE zerobus_rows_delivered_total counter").count(), 1, "{page}");
    let (code, health) = health_of(port).await;
    assert_eq!((code, health["logs"].as_array().unwrap().len()), (200, 2));

    first.shutdown().await.unwrap();
    let (_, health) = health_of(port).await;
    assert_eq!(health["logs"].as_array().unwrap().len(), 1, "what is shut down is not looked at");
    let (code, _, page) = get(port, "/metrics").await;
    assert_eq!((code, value(&page, delivered, &[("zerobus_writer", "writer-001")])), (200, None));
    assert_eq!(value(&page, delivered, &[("zerobus_writer", "writer-002")]), Some(5.0));
    drop(first);
    assert_eq!(get(port, "/metrics").await.0, 200, "one of them still lives");
    second.shutdown().await.unwrap();
    drop(second);
    // At once, although the last server has only just gone.
    let third = open(&site, port);
    assert_eq!(get(port, "/healthz").await.0, 200);
    third.shutdown().await.unwrap();
    drop(third);
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpListener::bind(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "the port is still taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_somebody_else_has_is_a_wrong_setting_and_nothing_is_created() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut configuration = site.configuration();
    let port = taken.local_addr().unwrap().port();
    configuration.metrics_port = Some(port);
    let error = ZerobusWrapper::open(configuration).map(drop).unwrap_err();
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains(&format!("metrics_port is \"{port}\"")) && text.contains("in use"), "{text}");
    assert!(!site.wal_dir().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_and_methods_are_answered_with_what_there_is() {
    let (site, port) = (Site::new(), free_port());
    let wrapper = site.open_with(|c| {
        c.metrics_port = Some(port);
        c.shutdown_timeout = Duration::ZERO;
    });
    let (code, _, text) = get(port, "/").await;
    assert!(code == 404 && text.contains("/metrics") && text.contains("/healthz"), "{text}");
    let client = reqwest::Client::new();
    let refused = client.post(format!("http://127.0.0.1:{port}/metrics")).send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["allow"]),
        (405, &"GET, HEAD".parse().unwrap())
    );
    let head = client.head(format!("http://127.0.0.1:{port}/metrics")).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.text().await.unwrap()), (200, String::new()));
    wrapper.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_progress_and_says_what_is_in_its_way() {
    let (site, port) = (Site::new(), free_port());
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        c.metrics_port = Some(port);
        c.client_secret = Some("wrong".into());
        c.shutdown_timeout = Duration::ZERO;
        c.on_full = OnFull::Reject;
        c.wal_max_bytes = 4 << 20;
    });
    let health = healthz(port, 200).await;
    assert_eq!(health["status"], "ok");
    assert_eq!(health["logs"][0]["lane"], "idle", "nothing waits");

    wrapper.send_batch(batch(0..10)).await.unwrap();
    let health = healthz(port, 503).await;
    let log = &health["logs"][0];
    assert_eq!(
        (&health["status"], &log["table"], &log["waiting_rows"]),
        (&"unhealthy".into(), &TABLE.into(), &10.into())
    );
    let reason = log["reason"].as_str().unwrap();
    assert!(reason.starts_with("delivery is blocked: "), "{reason}");

    let mut sent = 10;
    while wrapper.send_batch(batch(sent..sent + 10_000)).await.is_ok() {
        sent += 10_000;
    }
    let health = healthz(port, 503).await;
    let reason = health["logs"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("the log is full: "), "{reason}");

    wrapper.update_credentials(None, crate::site::secret().into()).unwrap();
    wrapper.flush(None).await.unwrap();
    wait_until(&wrapper, "room", |status| status.full.is_none()).await;
    let health = healthz(port, 200).await;
    assert_eq!(health["logs"][0]["reason"], Value::Null);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_is_young_is_healthy() {
    let (site, port) = (Site::new(), free_port());
    let wrapper = site.open_with(|c| {
        c.metrics_port = Some(port);
        c.shutdown_timeout = Duration::ZERO;
    });
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wait_until(&wrapper, "a failure", |status| status.lane.as_ref().unwrap().failures > 0).await;
    let (code, health) = health_of(port).await;
    assert_eq!((code, &health["logs"][0]["waiting_rows"]), (200, &10.into()));
    wrapper.shutdown().await.unwrap();
    assert_eq!(PathBuf::from(&wrapper.status().directory), site.writer_directory());
}
