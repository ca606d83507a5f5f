//! Persistent streams of the client: created or resumed. Then they are streams of records as others are.

use databricks_zerobus_ingest_sdk::{PersistentStreamBuilder, ZerobusError, ZerobusResult};
use prost_types::DescriptorProto;
use tonic::{Code, Status};

use super::records::RecordStream;
use super::{NEVER_MS, OPEN_TIMEOUT};
use crate::transport::{PersistentStream, TransportError};
use crate::types::StreamOffset;

/// Creates a stream, or resumes the one of this name.
///
/// The service permits a persistent stream to be retired, which the client cannot ask for. One that is not used any
/// more is left to the service.
pub(super) async fn open(
    builder: PersistentStreamBuilder<'_>,
    descriptor: &DescriptorProto,
    resume: Option<&str>,
) -> ZerobusResult<PersistentStream> {
    let builder = builder
        .compiled_proto(descriptor.clone())
        .recovery(false)
        .recovery_timeout_ms(OPEN_TIMEOUT.as_millis() as u64)
        .server_lack_of_ack_timeout_ms(NEVER_MS)
        .flush_timeout_ms(NEVER_MS);
    let stream = match resume {
        Some(id) => builder.resume(id).await?,
        None => builder.build().await?,
    };
    let id = stream.stream_id().map(str::to_owned).ok_or_else(|| {
        ZerobusError::CreateStreamError(Status::internal("a persistent stream without a name"))
    })?;
    let committed = stream.resume_watermark().map(StreamOffset::new);
    Ok(PersistentStream { id, committed, stream: Box::new(RecordStream { stream }) })
}

/// Says what to do about a service that has no such streams.
pub(super) fn explained(mut error: TransportError) -> TransportError {
    if error.is_grpc(Code::Unimplemented) {
        error.message = format!(
            "the service does not know persistent streams, which delivery=\"exactly_once\" needs; \
             delivery=\"at_least_once\" does without them ({})",
            error.message
        );
    }
    error
}
