//! Arrow Flight streams of the client.

use std::sync::atomic::{AtomicU64, Ordering};

use arrow_ipc::CompressionType;
use async_trait::async_trait;
use databricks_zerobus_ingest_sdk::ZerobusArrowStream;

use super::CLOSE_TIMEOUT;
use super::classify::classify;
use crate::config::Compression;
use crate::error::ErrorCode;
use crate::transport::{Payload, Stream, TransportError};
use crate::types::StreamOffset;

/// How the bodies of the batches are compressed.
pub(super) fn ipc_compression(compression: Compression) -> Option<CompressionType> {
    match compression {
        Compression::None => None,
        Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
        Compression::Zstd => Some(CompressionType::ZSTD),
    }
}

/// A stream of batches. The service acknowledges rows, the client makes stream offsets of them: one for each batch.
pub(super) struct FlightStream {
    stream: ZerobusArrowStream,
    /// Rows that were handed over.
    rows: AtomicU64,
}

impl FlightStream {
    pub(super) fn new(stream: ZerobusArrowStream) -> FlightStream {
        FlightStream { stream, rows: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Stream for FlightStream {
    async fn send(&self, payload: Payload) -> Result<StreamOffset, TransportError> {
        let Payload::Batch(batch) = payload else {
            return Err(TransportError::poison(ErrorCode::Internal, "records on a stream of Arrow batches"));
        };
        let rows = batch.num_rows() as u64;
        match self.stream.ingest_batch(batch).await {
            Ok(offset) => {
                self.rows.fetch_add(rows, Ordering::Relaxed);
                Ok(StreamOffset::new(offset))
            }
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

    async fn durable_rows(&self) -> Option<u64> {
        // What the client gives back begins behind the last acknowledged row.
        let back = self.stream.get_unacked_batches().await.ok()?;
        let open: u64 = back.iter().map(|batch| batch.num_rows() as u64).sum();
        self.rows.load(Ordering::Relaxed).checked_sub(open)
    }

    async fn close(mut self: Box<Self>) {
        // What it returns acknowledges nothing [I7]; an unfinished close is ended by the drop.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.stream.close()).await;
    }
}
