//! A receiver of metrics, spans and log records as they run in the world: OTLP over gRPC and over HTTP on real sockets; and receivers that fail,
//! say nothing, or are not there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_zerobus_sdk_wrapper::OtlpProtocol;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

use crate::site::free_port;

/// What a receiver does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    Takes,
    Refuses,
    /// Accepts connections and never says a word.
    Hangs,
}

pub(crate) struct Receiver {
    pub(crate) endpoint: String,
    exports: Exports,
    traces: Traces,
    logs: Logs,
    server: JoinHandle<()>,
}

type Exports = Arc<Mutex<Vec<Export>>>;
type Traces = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;
type Logs = Arc<Mutex<Vec<ExportLogsServiceRequest>>>;

/// One export, with the header that our tests give.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) authorization: Option<String>,
    request: ExportMetricsServiceRequest,
}

impl Receiver {
    /// One with these manners and where it is; without manners nobody is there.
    pub(crate) async fn with(manners: Option<Manners>, protocol: OtlpProtocol) -> (Option<Receiver>, String) {
        let receiver = match (manners, protocol) {
            (Some(manners), OtlpProtocol::Grpc) => Receiver::grpc(manners).await,
            (Some(manners), OtlpProtocol::Http) => Receiver::http(manners).await,
            (None, _) => return (None, format!("http://127.0.0.1:{}", free_port())),
        };
        let endpoint = receiver.endpoint.clone();
        (Some(receiver), endpoint)
    }

    pub(crate) async fn grpc(manners: Manners) -> Receiver {
        let (listener, endpoint) = listener().await;
        let exports = Exports::default();
        let (traces, logs) = (Traces::default(), Logs::default());
        let grpc = Grpc {
            exports: Arc::clone(&exports),
            traces: Arc::clone(&traces),
            logs: Arc::clone(&logs),
            manners,
        };
        let service = MetricsServiceServer::new(grpc.clone());
        let trace_service = TraceServiceServer::new(grpc.clone());
        let log_service = LogsServiceServer::new(grpc);
        let server = tokio::spawn(async move {
            let incoming = futures::stream::unfold(listener, |listener| async move {
                let accepted = listener.accept().await.map(|(socket, _)| socket);
                Some((accepted, listener))
            });
            if manners == Manners::Hangs {
                return hang(incoming).await;
            }
            tonic::transport::Server::builder()
                .add_service(service)
                .add_service(trace_service)
                .add_service(log_service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Receiver { endpoint, exports, traces, logs, server }
    }

    pub(crate) async fn http(manners: Manners) -> Receiver {
        let (listener, endpoint) = listener().await;
        let exports = Exports::default();
        let (traces, logs) = (Traces::default(), Logs::default());
        let of_logs =
            Router::new().route("/v1/logs", post(take_http_logs)).with_state((Arc::clone(&logs), manners));
        let of_traces = Router::new()
            .route("/v1/traces", post(take_http_traces))
            .with_state((Arc::clone(&traces), manners));
        let routes = Router::new()
            .route("/v1/metrics", post(take_http))
            .with_state((Arc::clone(&exports), manners))
            .merge(of_traces)
            .merge(of_logs);
        let server = tokio::spawn(async move {
            if manners == Manners::Hangs {
                let incoming = futures::stream::unfold(listener, |listener| async move {
                    Some((listener.accept().await.map(|(socket, _)| socket), listener))
                });
                return hang(incoming).await;
            }
            axum::serve(listener, routes).await.unwrap();
        });
        Receiver { endpoint, exports, traces, logs, server }
    }

    pub(crate) fn exports(&self) -> Vec<Export> {
        self.exports.lock().unwrap().clone()
    }

    /// Every span that came, in the order of their exports.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let traces = self.traces.lock().unwrap();
        let resources = traces.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|it| &it.scope_spans).flat_map(|it| it.spans.clone()).collect()
    }

    /// Every export of log records that came.
    pub(crate) fn logs(&self) -> Vec<ExportLogsServiceRequest> {
        self.logs.lock().unwrap().clone()
    }

    /// Everything that came of spans as text.
    pub(crate) fn traces_text(&self) -> String {
        format!("{:?}", self.traces.lock().unwrap())
    }

    pub(crate) fn last(&self) -> Option<Export> {
        self.exports().pop()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

async fn hang<S>(incoming: S)
where
    S: futures::Stream<Item = std::io::Result<tokio::net::TcpStream>>,
{
    use futures::StreamExt as _;
    let mut held = Vec::new();
    let mut incoming = std::pin::pin!(incoming);
    while let Some(socket) = incoming.next().await {
        held.push(socket);
    }
}

#[derive(Clone)]
struct Grpc {
    exports: Exports,
    traces: Traces,
    logs: Logs,
    manners: Manners,
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let authorization =
            request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.exports.lock().unwrap().push(Export { authorization, request: request.into_inner() });
        match self.manners {
            Manners::Refuses => Err(Status::permission_denied("not you")),
            Manners::Takes | Manners::Hangs => Ok(Response::new(ExportMetricsServiceResponse::default())),
        }
    }
}

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.traces.lock().unwrap().push(request.into_inner());
        match self.manners {
            Manners::Refuses => Err(Status::permission_denied("not you")),
            Manners::Takes | Manners::Hangs => Ok(Response::new(ExportTraceServiceResponse::default())),
        }
    }
}

#[tonic::async_trait]
impl LogsService for Grpc {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs.lock().unwrap().push(request.into_inner());
        match self.manners {
            Manners::Refuses => Err(Status::permission_denied("not you")),
            Manners::Takes | Manners::Hangs => Ok(Response::new(ExportLogsServiceResponse::default())),
        }
    }
}

async fn take_http_logs(
    State((logs, manners)): State<(Logs, Manners)>,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    logs.lock().unwrap().push(ExportLogsServiceRequest::decode(body).unwrap());
    match manners {
        Manners::Refuses => (StatusCode::FORBIDDEN, Vec::new()),
        Manners::Takes | Manners::Hangs => {
            (StatusCode::OK, ExportLogsServiceResponse::default().encode_to_vec())
        }
    }
}

async fn take_http_traces(
    State((traces, manners)): State<(Traces, Manners)>,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    traces.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
    match manners {
        Manners::Refuses => (StatusCode::FORBIDDEN, Vec::new()),
        Manners::Takes | Manners::Hangs => {
            (StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec())
        }
    }
}

async fn take_http(
    State((exports, manners)): State<(Exports, Manners)>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    exports.lock().unwrap().push(Export { authorization, request });
    match manners {
        Manners::Refuses => (StatusCode::FORBIDDEN, Vec::new()),
        Manners::Takes | Manners::Hangs => {
            (StatusCode::OK, ExportMetricsServiceResponse::default().encode_to_vec())
        }
    }
}

impl Export {
    /// The attributes of the resource.
    pub(crate) fn resource(&self) -> BTreeMap<String, String> {
        let resources = self.request.resource_metrics.iter().filter_map(|it| it.resource.as_ref());
        resources.flat_map(|resource| pairs(&resource.attributes)).collect()
    }

    /// Every metric, by name.
    pub(crate) fn metrics(&self) -> BTreeMap<String, Metric> {
        let scopes = self.request.resource_metrics.iter().flat_map(|it| &it.scope_metrics);
        scopes.flat_map(|scope| &scope.metrics).map(|it| (it.name.clone(), it.clone())).collect()
    }

    /// The value of a metric with this attribute, or the only one that it has.
    pub(crate) fn value(&self, name: &str, attribute: Option<(&str, &str)>) -> Option<f64> {
        let metric = self.metrics().remove(name)?;
        let points = match metric.data? {
            metric::Data::Gauge(gauge) => gauge.data_points,
            metric::Data::Sum(sum) => sum.data_points,
            _ => return None,
        };
        let mut points = points.into_iter().filter(|point| {
            let pairs: BTreeMap<_, _> = pairs(&point.attributes).collect();
            attribute.is_none_or(|(name, value)| pairs.get(name).is_some_and(|it| it == value))
        });
        match points.next()?.value? {
            number_data_point::Value::AsInt(value) => Some(value as f64),
            number_data_point::Value::AsDouble(value) => Some(value),
        }
    }

    /// How many values a histogram has, and their sum.
    pub(crate) fn histogram(&self, name: &str) -> Option<(u64, f64)> {
        match self.metrics().remove(name)?.data? {
            metric::Data::Histogram(histogram) => {
                let point = histogram.data_points.into_iter().next()?;
                Some((point.count, point.sum.unwrap_or(f64::NAN)))
            }
            _ => None,
        }
    }

    /// Everything in it as text.
    pub(crate) fn text(&self) -> String {
        format!("{:?}", self.request)
    }
}

/// Attributes as text.
pub(crate) fn pairs(attributes: &[KeyValue]) -> impl Iterator<Item = (String, String)> {
    attributes.iter().map(|pair| {
        let value = match &pair.value {
            Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) => text.clone(),
            other => format!("{other:?}"),
        };
        (pair.key.clone(), value)
    })
}
