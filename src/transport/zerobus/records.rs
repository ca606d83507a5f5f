//! Streams of protobuf records of the client, of either kind.

use async_trait::async_trait;
use databricks_zerobus_ingest_sdk::{PersistentStream, ProtoBytes, ZerobusResult, ZerobusStream};

use super::CLOSE_TIMEOUT;
use super::classify::classify;
use crate::convert::RecordRuns;
use crate::error::ErrorCode;
use crate::transport::{Payload, Stream, TransportError};
use crate::types::StreamOffset;

pub(super) struct RecordStream<S> {
    pub(super) stream: S,
}

/// What the two kinds of streams have in common; the client has no name for it.
#[async_trait]
pub(super) trait Client: Send + Sync {
    async fn ingest(&self, records: RecordRuns) -> ZerobusResult<Option<i64>>;
    async fn wait_for(&self, offset: i64) -> ZerobusResult<()>;
    async fn flush(&self) -> ZerobusResult<()>;
    fn is_closed(&self) -> bool;
    async fn close(&mut self) -> ZerobusResult<()>;
}

macro_rules! client {
    ($stream:ty) => {
        #[async_trait]
        impl Client for $stream {
            async fn ingest(&self, records: RecordRuns) -> ZerobusResult<Option<i64>> {
                // The client wants each in memory of its own and frees it on one of these threads: memory that another
                // thread had allocated would have to go back there.
                let mut each = Vec::with_capacity(records.len());
                each.extend(records.iter().map(|record| ProtoBytes(record.to_vec())));
                drop(records);
                self.ingest_records_offset(each).await
            }

            async fn wait_for(&self, offset: i64) -> ZerobusResult<()> {
                self.wait_for_offset(offset).await
            }

            async fn flush(&self) -> ZerobusResult<()> {
                <$stream>::flush(self).await
            }

            fn is_closed(&self) -> bool {
                <$stream>::is_closed(self)
            }

            async fn close(&mut self) -> ZerobusResult<()> {
                <$stream>::close(self).await
            }
        }
    };
}

client!(ZerobusStream);
client!(PersistentStream);

#[async_trait]
impl<S: Client> Stream for RecordStream<S> {
    async fn send(&self, payload: Payload) -> Result<StreamOffset, TransportError> {
        let Payload::Records(records) = payload else {
            return Err(TransportError::poison(ErrorCode::Internal, "an Arrow batch on a stream of records"));
        };
        match self.stream.ingest(records).await {
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
        self.stream.wait_for(offset.get()).await.map_err(classify)
    }

    async fn close(mut self: Box<Self>) {
        // What it returns acknowledges nothing [I7]; an unfinished close is ended by the drop.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.stream.close()).await;
    }
}
