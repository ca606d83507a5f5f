//! A persistent stream without the client crate's checks, to send what it would not and to see every answer.

pub(crate) use api::persistent_stream_request::Payload;
use api::persistent_stream_response::Payload as Answer;
use databricks_zerobus_ingest_sdk::databricks::zerobus as api;
use futures::SinkExt as _;
use futures::channel::mpsc;
use prost::Message as _;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::site::{DEADLINE, EVENTS, Service, bearer, event};

type Client = api::zerobus_client::ZerobusClient<Channel>;

pub(crate) struct PersistentCall {
    requests: mpsc::Sender<api::PersistentStreamRequest>,
    responses: tonic::Streaming<api::PersistentStreamResponse>,
}

pub(crate) async fn client(service: &Service) -> Client {
    let endpoint = Channel::from_shared(service.emulator.endpoint().to_owned()).unwrap();
    Client::new(endpoint.connect().await.unwrap())
}

/// A message with what every call must come with.
pub(crate) fn authorised<T>(service: &Service, table: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let authorization = bearer(service.emulator.unity_catalog_url());
    request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    request.metadata_mut().insert("x-databricks-zerobus-table-name", table.parse().unwrap());
    request
}

pub(crate) fn creation(service: &Service) -> Payload {
    let create = api::CreateIngestStreamRequest {
        table_name: Some(EVENTS.to_owned()),
        descriptor_proto: Some(service.descriptor(EVENTS).encode_to_vec()),
        record_type: Some(api::RecordType::Proto as i32),
        ..Default::default()
    };
    Payload::CreateStream(api::CreatePersistentStreamRequest { create_stream: Some(create) })
}

pub(crate) fn resumption(service: &Service, id: &str) -> api::ResumeIngestStreamRequest {
    api::ResumeIngestStreamRequest {
        identifier: Some(api::resume_ingest_stream_request::Identifier::StreamId(id.to_owned())),
        descriptor_proto: Some(service.descriptor(EVENTS).encode_to_vec()),
        record_type: Some(api::RecordType::Proto as i32),
    }
}

impl PersistentCall {
    /// Makes the call with this first message, and returns the first answer too.
    pub(crate) async fn open(
        service: &Service,
        table: &str,
        first: Payload,
    ) -> Result<(PersistentCall, Answer), Status> {
        let (mut requests, receiver) = mpsc::channel(64);
        requests.send(api::PersistentStreamRequest { payload: Some(first) }).await.unwrap();
        let call = client(service).await.persistent_stream(authorised(service, table, receiver)).await;
        let mut call = PersistentCall { requests, responses: call?.into_inner() };
        let answer = call.next().await?.unwrap();
        Ok((call, answer))
    }

    pub(crate) async fn create(service: &Service) -> (PersistentCall, String) {
        match PersistentCall::open(service, EVENTS, creation(service)).await.unwrap() {
            (call, Answer::CreateStreamResponse(created)) => (call, created.stream_id.unwrap()),
            (_, other) => panic!("unexpected answer {other:?}"),
        }
    }

    pub(crate) async fn resume(service: &Service, id: &str) -> Result<(PersistentCall, Option<i64>), Status> {
        let first = Payload::ResumeStream(resumption(service, id));
        match PersistentCall::open(service, EVENTS, first).await? {
            (call, Answer::ResumeStreamResponse(resumed)) => Ok((call, resumed.last_committed_offset)),
            (_, other) => panic!("unexpected answer {other:?}"),
        }
    }

    /// Sends one request with rows of these ids; false if nobody takes it any more.
    pub(crate) async fn ingest(
        &mut self,
        offset: i64,
        ids: impl IntoIterator<Item = i64>,
        name: &str,
    ) -> bool {
        let records = ids.into_iter().map(|id| event(id, name).encode_to_vec()).collect();
        let batch = api::ProtoEncodedRecordBatch { records };
        let request = api::IngestRecordBatchRequest {
            offset_id: Some(offset),
            batch: Some(api::ingest_record_batch_request::Batch::ProtoEncodedBatch(batch)),
        };
        self.send(Payload::IngestRecordBatch(request)).await
    }

    pub(crate) async fn send(&mut self, payload: Payload) -> bool {
        self.requests.send(api::PersistentStreamRequest { payload: Some(payload) }).await.is_ok()
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Answer>, Status> {
        let next = tokio::time::timeout(DEADLINE, self.responses.message()).await.unwrap();
        Ok(next?.and_then(|response| response.payload))
    }

    /// Sends nothing any more and waits for the end: the last acknowledgement, −1 for none, and how it ended.
    pub(crate) async fn end(&mut self) -> (i64, Result<(), Status>) {
        self.requests.close_channel();
        self.acknowledged().await
    }

    /// Waits for the end.
    pub(crate) async fn acknowledged(&mut self) -> (i64, Result<(), Status>) {
        let mut last = -1;
        loop {
            match self.next().await {
                Ok(Some(Answer::IngestRecordResponse(ack))) => {
                    assert!(ack.durability_ack_up_to_offset() > last, "acknowledgements go forward");
                    last = ack.durability_ack_up_to_offset();
                }
                Ok(Some(Answer::CloseStreamSignal(_))) => {}
                Ok(Some(other)) => panic!("unexpected answer {other:?}"),
                Ok(None) => return (last, Ok(())),
                Err(status) => return (last, Err(status)),
            }
        }
    }
}
