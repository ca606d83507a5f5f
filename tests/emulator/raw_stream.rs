//! A stream without the client crate's checks, to send what it would not.

use databricks_zerobus_ingest_sdk::databricks::zerobus as api;
use futures::SinkExt as _;
use futures::channel::mpsc;
use prost::Message as _;
use prost_types::DescriptorProto;
use tonic::Status;

use crate::site::{DEADLINE, EVENTS, Service, bearer};

/// A stream without the client crate's checks, to send what it would not.
pub(crate) struct RawStream {
    pub(crate) requests: mpsc::Sender<api::EphemeralStreamRequest>,
    pub(crate) responses: tonic::Streaming<api::EphemeralStreamResponse>,
}

impl RawStream {
    /// Opens the call; the stream is not created yet.
    pub(crate) async fn call(endpoint: &str, authorization: &str, table: &str) -> Result<RawStream, Status> {
        let (requests, receiver) = mpsc::channel(64);
        let mut call = tonic::Request::new(receiver);
        call.metadata_mut().insert("authorization", authorization.parse().unwrap());
        call.metadata_mut().insert("x-databricks-zerobus-table-name", table.parse().unwrap());
        let channel = tonic::transport::Endpoint::from_shared(endpoint.to_owned()).unwrap().connect().await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut client = api::zerobus_client::ZerobusClient::new(channel);
        let responses = client.ephemeral_stream(call).await?.into_inner();
        Ok(RawStream { requests, responses })
    }

    pub(crate) async fn create(&mut self, table: &str, descriptor: &DescriptorProto) -> Result<(), Status> {
        let create = api::CreateIngestStreamRequest {
            table_name: Some(table.to_owned()),
            descriptor_proto: Some(descriptor.encode_to_vec()),
            record_type: Some(api::RecordType::Proto as i32),
            ..Default::default()
        };
        let payload = api::ephemeral_stream_request::Payload::CreateStream(create);
        let request = api::EphemeralStreamRequest { payload: Some(payload) };
        self.requests.send(request).await.map_err(|_| Status::cancelled("closed"))?;
        match self.next().await? {
            Some(api::ephemeral_stream_response::Payload::CreateStreamResponse(_)) => Ok(()),
            other => panic!("unexpected answer {other:?}"),
        }
    }

    pub(crate) async fn ingest(&mut self, offset: i64, records: Vec<Vec<u8>>) -> Result<(), Status> {
        self.requests.send(ingest(offset, records)).await.map_err(|_| Status::cancelled("closed"))
    }

    pub(crate) async fn next(&mut self) -> Result<Option<api::ephemeral_stream_response::Payload>, Status> {
        let next = tokio::time::timeout(DEADLINE, self.responses.message()).await.unwrap();
        Ok(next?.and_then(|response| response.payload))
    }

    /// The acknowledgements up to the end of the stream, and how it ended.
    pub(crate) async fn acknowledged(&mut self) -> (i64, Result<(), Status>) {
        let mut last = -1;
        loop {
            match self.next().await {
                Ok(Some(api::ephemeral_stream_response::Payload::IngestRecordResponse(ack))) => {
                    assert!(ack.durability_ack_up_to_offset() > last, "acknowledgements go forward");
                    last = ack.durability_ack_up_to_offset();
                }
                Ok(Some(other)) => panic!("unexpected answer {other:?}"),
                Ok(None) => return (last, Ok(())),
                Err(status) => return (last, Err(status)),
            }
        }
    }
}

pub(crate) fn ingest(offset: i64, records: Vec<Vec<u8>>) -> api::EphemeralStreamRequest {
    let batch = api::ProtoEncodedRecordBatch { records };
    let request = api::IngestRecordBatchRequest {
        offset_id: Some(offset),
        batch: Some(api::ingest_record_batch_request::Batch::ProtoEncodedBatch(batch)),
    };
    let payload = api::ephemeral_stream_request::Payload::IngestRecordBatch(request);
    api::EphemeralStreamRequest { payload: Some(payload) }
}

pub(crate) async fn raw(service: &Service, table: &str) -> RawStream {
    let authorization = bearer(service.emulator.unity_catalog_url());
    RawStream::call(service.emulator.endpoint(), &authorization, table).await.unwrap()
}

pub(crate) async fn raw_events(service: &Service) -> RawStream {
    let mut stream = raw(service, EVENTS).await;
    stream.create(EVENTS, &service.descriptor(EVENTS)).await.unwrap();
    stream
}
