//! The official Zerobus client as a transport: gRPC streams of protobuf records, which the service remembers or does not, and
//! Arrow Flight streams of batches.
//!
//! This folder is the only user of the client crate. Its own recovery is off: retries have one owner, the
//! drainer.

mod classify;
mod flight;
mod persistent;
mod records;
mod tls;
mod token;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use databricks_zerobus_ingest_sdk::{StreamBuilder, ZerobusResult, ZerobusSdk};
use futures::future::BoxFuture;
use prost_types::DescriptorProto;

use self::classify::classify;
use self::flight::FlightStream;
use self::records::RecordStream;
use self::token::TokenProvider;
use super::{Format, PersistentStream, Stream, Symptom, Transport, TransportError};
use crate::config::{Compression, REQUEST_BYTES_MAX};
use crate::principal::Principal;
use crate::trust::Trust;
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

    /// Waits for an opening, for as long as one may take.
    async fn opened<T>(&self, opening: impl Future<Output = ZerobusResult<T>>) -> Result<T, TransportError> {
        // A failure of an earlier opening that was given up says nothing about this one.
        self.tokens.take_failure();
        match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(opened)) => Ok(opened),
            // The provider knows more about a failed token than the client's error can carry.
            Ok(Err(error)) => Err(self.tokens.take_failure().unwrap_or_else(|| classify(error))),
            Err(_) => Err(TransportError::of(
                Symptom::NoConnection,
                format!("no stream was opened within {} s", OPEN_TIMEOUT.as_secs()),
            )),
        }
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
                Box::pin(async { Ok(Box::new(RecordStream { stream: building.await? }) as _) })
            }
            Format::Arrow(schema) => {
                let building = common(builder.arrow(Arc::clone(schema)))
                    .max_inflight_batches(window)
                    .ipc_compression(flight::ipc_compression(self.compression))
                    .build_arrow();
                Box::pin(async { Ok(Box::new(FlightStream::new(building.await?)) as _) })
            }
        };
        self.opened(opening).await
    }

    async fn open_persistent(
        &self,
        descriptor: &Arc<DescriptorProto>,
        resume: Option<&str>,
    ) -> Result<PersistentStream, TransportError> {
        let window = self.max_inflight_requests + 1;
        let builder = self
            .sdk
            .persistent_stream_builder()
            .table(&self.table)
            .headers_provider(Arc::clone(&self.tokens) as _)
            .max_inflight_requests(window)
            .max_ingest_payload_bytes(REQUEST_BYTES_MAX);
        self.opened(persistent::open(builder, descriptor, resume)).await.map_err(persistent::explained)
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
