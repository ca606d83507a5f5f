//! Where metrics, spans and log records are sent: OTLP exporters over gRPC or HTTP, made of the settings and, where they are silent, of
//! the variables of the environment that OpenTelemetry defines.
//!
//! A thread of the SDK's own for each of these exports, one export at a time; what it waits for holds up nobody else.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_LOGS_ENDPOINT, OTEL_EXPORTER_OTLP_LOGS_PROTOCOL, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use tokio::runtime::Handle;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::queue::{Complaint, LogReporting, SpanReporting};
use crate::config::{ConfigError, OtlpProtocol, WrapperConfiguration, headers, invalid};
use crate::http as limited;
use crate::trust::Trust;

/// For one export, with whatever is tried again in it.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer to an export has no reason to be longer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What is exported, each on a way of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signal {
    path: &'static str,
    endpoint_variable: &'static str,
    protocol_variable: &'static str,
}

pub(super) const METRICS: Signal = Signal {
    path: "/v1/metrics",
    endpoint_variable: OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    protocol_variable: OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
};
pub(super) const TRACES: Signal = Signal {
    path: "/v1/traces",
    endpoint_variable: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    protocol_variable: OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
};
pub(super) const LOGS: Signal = Signal {
    path: "/v1/logs",
    endpoint_variable: OTEL_EXPORTER_OTLP_LOGS_ENDPOINT,
    protocol_variable: OTEL_EXPORTER_OTLP_LOGS_PROTOCOL,
};

/// The first of these variables that is set, and its value.
fn variable(names: [&'static str; 2]) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some((name, value))
    })
}

impl Signal {
    /// Where the settings or the environment say that it goes.
    pub(super) fn endpoint(&self, configuration: &WrapperConfiguration) -> Option<String> {
        let of_environment = || variable([self.endpoint_variable, OTEL_EXPORTER_OTLP_ENDPOINT]);
        let given = configuration.observability_endpoint.clone();
        given.or_else(|| of_environment().map(|(_, endpoint)| endpoint))
    }

    /// Whether they say so.
    pub(super) fn has_endpoint(&self, configuration: &WrapperConfiguration) -> bool {
        self.endpoint(configuration).is_some()
    }

    /// A collector is named by its address alone, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it.
    fn http_endpoint(&self, endpoint: &str) -> String {
        let endpoint = endpoint.trim_end_matches('/');
        let paths = [METRICS.path, TRACES.path, LOGS.path];
        let address = paths.into_iter().find_map(|path| endpoint.strip_suffix(path)).unwrap_or(endpoint);
        format!("{address}{}", self.path)
    }

    fn protocol(&self, configuration: &WrapperConfiguration) -> Result<OtlpProtocol, ConfigError> {
        if let Some(protocol) = configuration.observability_protocol {
            return Ok(protocol);
        }
        let given = variable([self.protocol_variable, OTEL_EXPORTER_OTLP_PROTOCOL]);
        let Some((name, value)) = given else { return Ok(OtlpProtocol::Grpc) };
        let known = [OtlpProtocol::Grpc, OtlpProtocol::Http];
        known.into_iter().find(|protocol| protocol.as_str() == value).ok_or_else(|| {
            invalid(
                "observability_protocol",
                &value,
                &format!("grpc or http/protobuf (it is that of {name})"),
            )
        })
    }
}

/// The way of one signal to its receiver.
pub(super) struct Way<'a> {
    signal: Signal,
    configuration: &'a WrapperConfiguration,
    protocol: OtlpProtocol,
    headers: Vec<(HeaderName, HeaderValue)>,
    trust: &'a Trust,
    client: reqwest::Client,
    runtime: &'a Handle,
}

impl<'a> Way<'a> {
    /// The way that the settings describe; nothing is sent.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a variable of the environment, which nobody has checked yet, is wrong.
    pub(super) fn of(
        signal: Signal,
        configuration: &'a WrapperConfiguration,
        trust: &'a Trust,
        client: reqwest::Client,
        runtime: &'a Handle,
    ) -> Result<Way<'a>, ConfigError> {
        let protocol = signal.protocol(configuration)?;
        let headers = headers(configuration.observability_headers.as_ref())?;
        Ok(Way { signal, configuration, protocol, headers, trust, client, runtime })
    }

    /// The exporter of metrics.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as for [`Way::of`].
    pub(super) fn metrics(self) -> Result<Reporting, ConfigError> {
        // The channel is given its tasks by the runtime that it is made in.
        let _entered = self.runtime.enter();
        let exporter = match self.protocol {
            OtlpProtocol::Grpc => self.over_grpc(MetricExporter::builder().with_tonic()).build(),
            OtlpProtocol::Http => self.over_http(MetricExporter::builder().with_http()).build(),
        };
        let complaint =
            Complaint::about("metrics", "; delivery goes on, and the next export has all of them");
        Ok(Reporting { exporter: self.built(exporter)?, complaint })
    }

    /// The exporter of spans.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as for [`Way::of`].
    pub(super) fn spans(self) -> Result<SpanReporting, ConfigError> {
        // As above.
        let _entered = self.runtime.enter();
        let exporter = match self.protocol {
            OtlpProtocol::Grpc => self.over_grpc(SpanExporter::builder().with_tonic()).build(),
            OtlpProtocol::Http => self.over_http(SpanExporter::builder().with_http()).build(),
        };
        Ok(SpanReporting::new(self.built(exporter)?))
    }

    /// The exporter of log records.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] as for [`Way::of`].
    pub(super) fn logs(self) -> Result<LogReporting, ConfigError> {
        // As above.
        let _entered = self.runtime.enter();
        let exporter = match self.protocol {
            OtlpProtocol::Grpc => self.over_grpc(LogExporter::builder().with_tonic()).build(),
            OtlpProtocol::Http => self.over_http(LogExporter::builder().with_http()).build(),
        };
        Ok(LogReporting::new(self.built(exporter)?))
    }

    pub(super) fn protocol(&self) -> OtlpProtocol {
        self.protocol
    }

    pub(super) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    fn over_grpc<B: WithExportConfig + WithTonicConfig>(&self, builder: B) -> B {
        let headers = self.headers.iter().cloned().collect();
        let mut builder =
            builder.with_timeout(EXPORT_TIMEOUT).with_metadata(MetadataMap::from_headers(headers));
        if let Some(endpoint) = &self.configuration.observability_endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let endpoint = self.signal.endpoint(self.configuration);
        match endpoint.is_some_and(|endpoint| endpoint.starts_with("https://")) {
            true => builder.with_tls_config(tls(self.trust)),
            false => builder,
        }
    }

    fn over_http<B: WithExportConfig + WithHttpConfig>(&self, builder: B) -> B {
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers: HashMap<_, _> =
            self.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let client = Client { client: self.client.clone(), runtime: self.runtime.clone() };
        let builder = builder.with_timeout(EXPORT_TIMEOUT).with_headers(headers).with_http_client(client);
        match &self.configuration.observability_endpoint {
            Some(endpoint) => builder.with_endpoint(self.signal.http_endpoint(endpoint)),
            None => builder,
        }
    }

    fn built<E>(&self, exporter: Result<E, ExporterBuildError>) -> Result<E, ConfigError> {
        let given = self.configuration.observability_endpoint.as_deref();
        exporter.map_err(|error| {
            invalid("observability_endpoint", given.unwrap_or("(of the environment)"), &error.to_string())
        })
    }
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
            let answer = client.execute(request).await.map_err(limited::unreachable)?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let body = limited::body(answer, ANSWER_BYTES_MAX).await?;
            let mut response = Response::new(Bytes::from(body));
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            Ok(response)
        });
        sending.await?
    }
}

/// Exports, and tells of failures.
#[derive(Debug)]
pub(super) struct Reporting {
    exporter: MetricExporter,
    complaint: Complaint,
}

impl PushMetricExporter for Reporting {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let exported = self.exporter.export(metrics).await;
        self.complaint.hear(&exported);
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
