//! Persistent streams: what is told at a resume is in the table and nothing else, whatever has happened between.

use std::time::Duration;

use api::persistent_stream_request::Payload;
use api::retire_stream_request::Identifier;
use arrow_zerobus_sdk_wrapper::emulator::{Emulator, EmulatorOptions, Sink};
use databricks_zerobus_ingest_sdk::databricks::zerobus as api;
use databricks_zerobus_ingest_sdk::{JsonString, PersistentStream, ProtoMessage, ZerobusResult};
use prost_types::field_descriptor_proto::Type;
use tonic::{Code, Status};

use crate::persistent_call::{PersistentCall, authorised, client, creation, resumption};
use crate::{EVENT_COLUMNS, EVENTS, Event, Service, by_id, event, refusal, serve};

/// The client crate's own way to a persistent stream of events.
async fn open(service: &Service, stream_id: Option<&str>) -> ZerobusResult<PersistentStream> {
    let sdk = service.sdk();
    let builder = sdk.persistent_stream_builder().table(EVENTS).oauth("me", "secret").recovery(false);
    let builder = builder.compiled_proto(service.descriptor(EVENTS));
    match stream_id {
        Some(stream_id) => builder.resume(stream_id).await,
        None => builder.build().await,
    }
}

fn events(ids: std::ops::Range<i64>) -> Vec<ProtoMessage<Event>> {
    ids.map(|id| ProtoMessage(event(id, "x"))).collect()
}

fn ids(service: &Service) -> Vec<i64> {
    by_id(&service.read(EVENTS)).into_keys().collect()
}

async fn retire(service: &Service, table: &str, id: &str) -> Result<(), Status> {
    let request = api::RetireStreamRequest {
        table_name: Some(table.to_owned()),
        identifier: Some(Identifier::StreamId(id.to_owned())),
    };
    client(service).await.retire_stream(authorised(service, table, request)).await.map(drop)
}

fn code<T>(outcome: Result<T, Status>) -> Option<Code> {
    outcome.err().map(|status| status.code())
}

/// How many requests the emulator has taken since the rule that counts them was added.
fn count_requests(service: &Service) -> impl Fn() -> u64 {
    use arrow_zerobus_sdk_wrapper::emulator::faults::{Fault, Rule};
    service.emulator.faults().add([Rule::new(Fault::HangStream {}).after(u64::MAX)]).unwrap();
    || service.emulator.faults().list()[0].occasions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_behind_what_is_committed() {
    let service = serve(|_| {});
    let mut stream = open(&service, None).await.unwrap();
    let id = stream.stream_id().unwrap().to_owned();
    assert_eq!(stream.resume_watermark(), None);
    stream.close().await.unwrap();
    let mut stream = open(&service, Some(&id)).await.unwrap();
    assert_eq!(stream.resume_watermark(), None, "nothing is committed yet");
    for offset in 0..3 {
        let sent = stream.ingest_records_offset(events(offset * 10..offset * 10 + 10)).await.unwrap();
        assert_eq!(sent, Some(offset));
    }
    stream.flush().await.unwrap();
    stream.close().await.unwrap();

    let mut stream = open(&service, Some(&id)).await.unwrap();
    assert_eq!((stream.stream_id(), stream.resume_watermark()), (Some(id.as_str()), Some(2)));
    assert_eq!(stream.ingest_records_offset(events(30..40)).await.unwrap(), Some(3));
    stream.wait_for_offset(3).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(ids(&service), (0..40).collect::<Vec<_>>());

    let other = open(&service, None).await.unwrap();
    assert_ne!(other.stream_id(), Some(id.as_str()));
    assert_eq!(other.ingest_records_offset(events(40..41)).await.unwrap(), Some(0));
    other.flush().await.unwrap();
    assert_eq!(open(&service, Some(&id)).await.unwrap().resume_watermark(), Some(3), "each has its own");
}
