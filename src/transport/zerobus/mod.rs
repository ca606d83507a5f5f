//! The official Zerobus client as a transport: gRPC streams of protobuf records, Arrow Flight streams of batches.
//!
//! This folder is the only user of the client crate. Its own recovery is off: retries have one owner, the
//! drainer.

mod classify;
mod flight;
mod tls;
mod token;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use databricks_zerobus_ingest_sdk::{ProtoBytes, StreamBuilder, ZerobusResult, ZerobusSdk, ZerobusStream};
use futures::future::BoxFuture;
use prost_types::DescriptorProto;

use self::classify::classify;
use self::flight::FlightStream;
use self::token::TokenProvider;
use super::{Format, Payload, Stream, Symptom, Transport, TransportError};
use crate::config::{Compression, REQUEST_BYTES_MAX};
use crate::error::ErrorCode;
use crate::principal::Principal;
use crate::trust::Trust;
use crate::types::StreamOffset;
use crate::wal::Destination;

/// An opening that takes longer has failed: neither the client's connection nor the token request
/// have an end of their own.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// A stream with nothing in flight closes at once; if it does not, dropping it is as good.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The client's own timers are set out of the way, since they also fire on idle streams; the drainer
/// times its oldest request instead.
const NEVER_MS: u64 = 365 * 24 * 3600 * 1000;

/// Opens streams to one table through the official client.
pub struct ZerobusTransport {
    sdk: ZerobusSdk,
    table: String,
    tokens: Arc<TokenProvider>,
    max_inflight_requests: usize,
    compression: Compression,
}

impl ZerobusTransport {
    /// Prepares the client; nothing is sent.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if the client refuses the endpoint or the proxy.
    pub(crate) fn new(
        http: reqwest::Client,
        destination: &Destination,
        principal: Option<Arc<Principal>>,
        trust: &Trust,
        max_inflight_requests: usize,
        compression: Compression,
    ) -> Result<ZerobusTransport, TransportError> {
        // Fails if the application has chosen a provider already, and then that one serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = ZerobusSdk::builder()
            .endpoint(&destination.endpoint)
            .unity_catalog_url(destination.unity_catalog_url.clone().unwrap_or_default())
            .application_name(concat!("arrow-zerobus-sdk-wrapper/", env!("CARGO_PKG_VERSION")));
        if destination.endpoint.starts_with("http://") {
            builder = builder.no_tls();
        }
        let sdk = tls::apply(trust, builder).and_then(|builder| builder.build()).map_err(classify)?;
        let tokens = Arc::new(TokenProvider::new(http, destination, principal));
        Ok(ZerobusTransport {
            sdk,
            table: destination.table.to_string(),
            tokens,
            max_inflight_requests,
            compression,
        })
    }
}

#[async_trait]
impl Transport for ZerobusTransport {
    async fn open(&self, format: &Format) -> Result<Box<dyn Stream>, TransportError> {
        let builder =
            self.sdk.stream_builder().table(&self.table).headers_provider(Arc::clone(&self.tokens) as _);
        // The drainer's window is the smaller one, so that handing over a request never waits.
        let window = self.max_inflight_requests + 1;
        let opening: BoxFuture<'_, ZerobusResult<Box<dyn Stream>>> = match format {
            Format::Protobuf(descriptor) => {
                let building = common(builder.compiled_proto(DescriptorProto::clone(descriptor)))
                    .max_inflight_requests(window)
                    .max_ingest_payload_bytes(REQUEST_BYTES_MAX)
                    .build();
                Box::pin(async { Ok(Box::new(ProtobufStream { stream: building.await? }) as _) })
            }
            Format::Arrow(schema) => {
                let building = common(builder.arrow(Arc::clone(schema)))
                    .max_inflight_batches(window)
                    .ipc_compression(flight::ipc_compression(self.compression))
                    .build_arrow();
                Box::pin(async { Ok(Box::new(FlightStream::new(building.await?)) as _) })
            }
        };
        // A failure of an earlier opening that was given up says nothing about this one.
        self.tokens.take_failure();
        match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(stream)) => Ok(stream),
            // The provider knows more about a failed token than the client's error can carry.
            Ok(Err(error)) => Err(self.tokens.take_failure().unwrap_or_else(|| classify(error))),
            Err(_) => Err(TransportError::of(
                Symptom::NoConnection,
                format!("no stream was opened within {} s", OPEN_TIMEOUT.as_secs()),
            )),
        }
    }

    fn forget_token(&self) {
        self.tokens.forget();
    }
}

/// What holds for both kinds of streams.
fn common(builder: StreamBuilder<'_>) -> StreamBuilder<'_> {
    builder
        .recovery(false)
        .recovery_timeout_ms(OPEN_TIMEOUT.as_millis() as u64)
        .server_lack_of_ack_timeout_ms(NEVER_MS)
        .flush_timeout_ms(NEVER_MS)
}

struct ProtobufStream {
    stream: ZerobusStream,
}

#[async_trait]
impl Stream for ProtobufStream {
    async fn send(&self, payload: Payload) -> Result<StreamOffset, TransportError> {
        let Payload::Records(records) = payload else {
            return Err(TransportError::poison(ErrorCode::Internal, "an Arrow batch on a stream of records"));
        };
        match self.stream.ingest_records_offset(records.into_iter().map(ProtoBytes)).await {
            Ok(Some(offset)) => Ok(StreamOffset::new(offset)),
            Ok(None) => Err(TransportError::poison(ErrorCode::Internal, "a request without records")),
            // A stream that ended earlier says only that it is closed; its flush has the cause.
            Err(error) => Err(match self.stream.flush().await {
                Err(cause) if self.stream.is_closed() => classify(cause),
                _ => classify(error),
            }),
        }
    }

    async fn acknowledged(&self, offset: StreamOffset) -> Result<(), TransportError> {
        self.stream.wait_for_offset(offset.get()).await.map_err(classify)
    }

    async fn close(mut self: Box<Self>) {
        // What it returns acknowledges nothing [I7]; an unfinished close is ended by the drop.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.stream.close()).await;
    }
}
