//! The calls that carry records: their messages differ in the envelope and not in what is in it.

use super::wire_format::{
    CloseStreamSignal, CreateIngestStreamRequest, CreateIngestStreamResponse, EphemeralStreamRequest,
    EphemeralStreamResponse, IngestRecordBatchRequest, IngestRecordRequest, IngestRecordResponse,
    PersistentStreamRequest, PersistentStreamResponse, ResumeIngestStreamRequest, ephemeral_stream_request,
    ephemeral_stream_response, persistent_stream_request, persistent_stream_response,
};

/// What a client sends.
pub(super) enum Request {
    Create(CreateIngestStreamRequest),
    Resume(ResumeIngestStreamRequest),
    Record(IngestRecordRequest),
    Batch(IngestRecordBatchRequest),
}

/// What a client is told on both calls.
pub(super) enum Answer {
    Created(CreateIngestStreamResponse),
    Ingested(IngestRecordResponse),
    Closing(CloseStreamSignal),
}

/// One of the two calls.
pub(super) trait Call: 'static {
    type Request: Send;
    type Answer: Send;

    /// What is in the envelope, if there is something.
    fn open(request: Self::Request) -> Option<Request>;
    fn seal(answer: Answer) -> Self::Answer;
}

/// `EphemeralStream`: a stream ends with its connection.
pub(super) struct Ephemeral;

impl Call for Ephemeral {
    type Request = EphemeralStreamRequest;
    type Answer = EphemeralStreamResponse;

    fn open(request: EphemeralStreamRequest) -> Option<Request> {
        use ephemeral_stream_request::Payload;
        Some(match request.payload? {
            Payload::CreateStream(create) => Request::Create(create),
            Payload::IngestRecord(record) => Request::Record(record),
            Payload::IngestRecordBatch(batch) => Request::Batch(batch),
        })
    }

    fn seal(answer: Answer) -> EphemeralStreamResponse {
        use ephemeral_stream_response::Payload;
        let payload = match answer {
            Answer::Created(created) => Payload::CreateStreamResponse(created),
            Answer::Ingested(ingested) => Payload::IngestRecordResponse(ingested),
            Answer::Closing(signal) => Payload::CloseStreamSignal(signal),
        };
        EphemeralStreamResponse { payload: Some(payload) }
    }
}

/// `PersistentStream`: a stream outlives its connections.
pub(super) struct Persistent;

impl Call for Persistent {
    type Request = PersistentStreamRequest;
    type Answer = PersistentStreamResponse;

    fn open(request: PersistentStreamRequest) -> Option<Request> {
        use persistent_stream_request::Payload;
        Some(match request.payload? {
            Payload::CreateStream(create) => Request::Create(create.create_stream?),
            Payload::ResumeStream(resume) => Request::Resume(resume),
            Payload::IngestRecord(record) => Request::Record(record),
            Payload::IngestRecordBatch(batch) => Request::Batch(batch),
        })
    }

    fn seal(answer: Answer) -> PersistentStreamResponse {
        use persistent_stream_response::Payload;
        let payload = match answer {
            Answer::Created(created) => Payload::CreateStreamResponse(created),
            Answer::Ingested(ingested) => Payload::IngestRecordResponse(ingested),
            Answer::Closing(signal) => Payload::CloseStreamSignal(signal),
        };
        PersistentStreamResponse { payload: Some(payload) }
    }
}
