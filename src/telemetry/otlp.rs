//! Where metrics are sent: an OTLP exporter over gRPC or HTTP, made of the settings and, where they are silent, of the
//! variables of the environment that OpenTelemetry defines.
//!
//! A thread of the SDK's own collects and exports, one export at a time; what it waits for holds up nobody else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    MetricExporter, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL, WithExportConfig as _,
    WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use tokio::runtime::Handle;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::config::{ConfigError, OtlpProtocol, WrapperConfiguration, headers, invalid};
use crate::error::chain;
use crate::http;
use crate::trust::Trust;

/// For one export, with whatever is tried again in it.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer to an export has no reason to be longer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const METRICS_PATH: &str = "/v1/metrics";

/// Whether the settings or the environment say where metrics go.
pub(super) fn has_endpoint(configuration: &WrapperConfiguration) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    configuration.observability_endpoint.is_some()
        || is_set(OTEL_EXPORTER_OTLP_METRICS_ENDPOINT)
        || is_set(OTEL_EXPORTER_OTLP_ENDPOINT)
}

/// The exporter that the settings describe; nothing is sent.
///
/// # Errors
///
/// [`ConfigError`] if a variable of the environment, which nobody has checked yet, is wrong.
pub(super) fn exporter(
    configuration: &WrapperConfiguration,
    trust: &Trust,
    client: reqwest::Client,
    runtime: &Handle,
) -> Result<Reporting, ConfigError> {
    let headers = headers(configuration.observability_headers.as_ref())?;
    let endpoint = configuration.observability_endpoint.as_deref();
    // The channel is given its tasks by the runtime that it is made in.
    let _entered = runtime.enter();
    let exporter = match protocol(configuration)? {
        OtlpProtocol::Grpc => {
            let mut builder = MetricExporter::builder()
                .with_tonic()
                .with_timeout(EXPORT_TIMEOUT)
                .with_metadata(MetadataMap::from_headers(headers.into_iter().collect()));
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if is_https(endpoint) {
                builder = builder.with_tls_config(tls(trust));
            }
            builder.build()
        }
        OtlpProtocol::Http => {
            let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
            let headers: HashMap<_, _> =
                headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
            let client = Client { client, runtime: runtime.clone() };
            let mut builder = MetricExporter::builder()
                .with_http()
                .with_timeout(EXPORT_TIMEOUT)
                .with_headers(headers)
                .with_http_client(client);
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(http_endpoint(endpoint));
            }
            builder.build()
        }
    };
    let allowed = |error: &dyn std::fmt::Display| {
        invalid("observability_endpoint", endpoint.unwrap_or("(of the environment)"), &error.to_string())
    };
    let exporter = exporter.map_err(|error| allowed(&error))?;
    Ok(Reporting { exporter, is_failing: AtomicBool::new(false) })
}

/// A collector is named by its address alone, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it.
fn http_endpoint(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.ends_with(METRICS_PATH) { endpoint.to_owned() } else { format!("{endpoint}{METRICS_PATH}") }
}

fn protocol(configuration: &WrapperConfiguration) -> Result<OtlpProtocol, ConfigError> {
    if let Some(protocol) = configuration.observability_protocol {
        return Ok(protocol);
    }
    let names = [OTEL_EXPORTER_OTLP_METRICS_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL];
    let given = names.into_iter().find_map(|name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    let Some((name, value)) = given else { return Ok(OtlpProtocol::Grpc) };
    let known = [OtlpProtocol::Grpc, OtlpProtocol::Http];
    known.into_iter().find(|protocol| protocol.as_str() == value).ok_or_else(|| {
        invalid("observability_protocol", &value, &format!("grpc or http/protobuf (it is that of {name})"))
    })
}

fn is_https(endpoint: Option<&str>) -> bool {
    let of_environment = || {
        let names = [OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT];
        names.into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    };
    let endpoint = endpoint.map(str::to_owned).or_else(of_environment);
    endpoint.is_some_and(|endpoint| endpoint.starts_with("https://"))
}

fn tls(trust: &Trust) -> ClientTlsConfig {
    let mut config = ClientTlsConfig::new().with_native_roots();
    if let Some(pem) = &trust.ca_pem {
        config = config.ca_certificate(Certificate::from_pem(pem));
    }
    if let Some(identity) = &trust.identity {
        config = config.identity(Identity::from_pem(&identity.certificate_pem, &identity.key_pem));
    }
    config
}

/// Our HTTP client for the thread of the SDK, which has no runtime.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move {
            let mut request = reqwest::Request::try_from(request)?;
            *request.timeout_mut() = Some(EXPORT_TIMEOUT);
            let answer = client.execute(request).await.map_err(http::unreachable)?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let body = http::body(answer, ANSWER_BYTES_MAX).await?;
            let mut response = Response::new(Bytes::from(body));
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            Ok(response)
        });
        sending.await?
    }
}

/// Says in the log that exports fail, and that they work again, once each.
#[derive(Debug)]
pub(super) struct Reporting {
    exporter: MetricExporter,
    is_failing: AtomicBool,
}

impl PushMetricExporter for Reporting {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let exported = self.exporter.export(metrics).await;
        match (&exported, self.is_failing.swap(exported.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(
                reason = chain(error),
                "metrics cannot be exported; delivery goes on, and the next export has all of them"
            ),
            (Ok(()), true) => tracing::info!("metrics are exported again"),
            (Ok(()), false) | (Err(_), true) => {}
        }
        exported
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
