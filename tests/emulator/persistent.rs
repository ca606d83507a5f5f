//! Persistent streams: what is told at a resume is in the table and nothing else, whatever has happened between.

use std::time::Duration;

use api::retire_stream_request::Identifier;
use arrow_zerobus_sdk_wrapper::emulator::faults::{Condition, Fault, Refusal, Rule};
use arrow_zerobus_sdk_wrapper::emulator::{Emulator, EmulatorOptions, Sink};
use databricks_zerobus_ingest_sdk::databricks::zerobus as api;
use databricks_zerobus_ingest_sdk::{JsonString, PersistentStream, ProtoMessage, ZerobusResult};
use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use tonic::{Code, Status};

use crate::persistent_call::{Payload, PersistentCall, authorised, client, creation, resumption};
use crate::process::Process;
use crate::site::{EVENT_COLUMNS, EVENTS, Event, Service, by_id, event, refusal, sdk, serve};

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

#[tokio::test(flavor = "multi_thread")]
async fn json_streams_are_persistent_too_and_the_client_crate_recovers_one_by_itself() {
    let service = serve(|_| {});
    let sdk = service.sdk();
    let builder = || sdk.persistent_stream_builder().table(EVENTS).oauth("me", "secret").json();
    let record = |id: i64| JsonString(format!("{{\"id\": {id}}}"));
    let mut stream = builder().recovery_backoff_ms(10).build().await.unwrap();
    let id = stream.stream_id().unwrap().to_owned();
    let rule = Rule::new(Fault::DropAck { reset: true }).after(3).times(3);
    service.emulator.faults().add([rule]).unwrap();
    for offset in 0..20 {
        assert_eq!(stream.ingest_record_offset(record(offset)).await.unwrap(), offset);
    }
    stream.flush().await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(service.emulator.faults().list()[0].fired, 3);
    assert_eq!(builder().resume(&id).await.unwrap().resume_watermark(), Some(19));
    assert_eq!(ids(&service), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_what_is_committed_of_them_outlive_the_emulator() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = EmulatorOptions::new(dir.path());
    // Every request is a commit of its own.
    options.commit_interval = Duration::ZERO;
    options.tables.push((EVENTS.to_owned(), EVENT_COLUMNS.to_owned()));
    let mut service = Service { emulator: Emulator::start(options.clone()).unwrap(), _dir: dir };
    let (_, untouched) = PersistentCall::create(&service).await;
    let (_, retired) = PersistentCall::create(&service).await;
    retire(&service, EVENTS, &retired).await.unwrap();
    let (mut call, id) = PersistentCall::create(&service).await;
    // More commits than a checkpoint covers, over several lives of the emulator.
    let mut next = 0;
    for life in 0..5 {
        for _ in 0..30 {
            assert!(call.ingest(next, [next], "x").await);
            assert!(matches!(call.next().await, Ok(Some(_))), "offset {next}");
            next += 1;
        }
        let Service { emulator, _dir } = service;
        tokio::task::spawn_blocking(move || emulator.stop()).await.unwrap().unwrap();
        service = Service { emulator: Emulator::start(options.clone()).unwrap(), _dir };
        let (resumed, committed) = PersistentCall::resume(&service, &id).await.unwrap();
        assert_eq!(committed, Some(next - 1), "life {life}");
        call = resumed;
    }
    assert_eq!(ids(&service), (0..next).collect::<Vec<_>>());
    assert_eq!(PersistentCall::resume(&service, &untouched).await.unwrap().1, None);
    assert_eq!(code(PersistentCall::resume(&service, &retired).await), Some(Code::NotFound));
    retire(&service, EVENTS, &retired).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_offset_behind_what_is_committed_is_taken() {
    let service = serve(|_| {});
    let (mut call, id) = PersistentCall::create(&service).await;
    for offset in 0..3 {
        call.ingest(offset, [offset], "first").await;
    }
    assert_eq!(call.end().await.0, 2);
    // What was committed comes again, or something is left out.
    for offset in [2, 0, 4, -1] {
        let (mut call, committed) = PersistentCall::resume(&service, &id).await.unwrap();
        assert_eq!(committed, Some(2));
        call.ingest(offset, [100 + offset], "again").await;
        assert_eq!(code(call.acknowledged().await.1), Some(Code::InvalidArgument), "{offset}");
    }
    let (mut call, committed) = PersistentCall::resume(&service, &id).await.unwrap();
    assert_eq!(committed, Some(2));
    call.ingest(3, [3], "first").await;
    assert_eq!(call.end().await.0, 3);
    assert_eq!(ids(&service), [0, 1, 2, 3]);
    let (mut call, _) = PersistentCall::create(&service).await;
    call.ingest(1, [101], "a new stream begins with 0").await;
    assert_eq!(code(call.acknowledged().await.1), Some(Code::InvalidArgument));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_resumed_as_it_was_created_and_by_its_own_table_only() {
    let other = "main.default.other";
    let service = serve(|options| options.tables.push((other.to_owned(), EVENT_COLUMNS.to_owned())));
    let (mut call, id) = PersistentCall::create(&service).await;
    let right = || resumption(&service, &id);
    let resume = async |table: &str, first: api::ResumeIngestStreamRequest| {
        code(PersistentCall::open(&service, table, Payload::ResumeStream(first)).await)
    };
    let unknown = format!("{:032x}", 7);
    let path = format!("../_zerobus_streams/{id}");
    for wrong in [unknown.as_str(), "", path.as_str(), &id[1..], "../_delta_log/00000000000000000000"] {
        assert_eq!(resume(EVENTS, resumption(&service, wrong)).await, Some(Code::NotFound), "{wrong:?}");
    }
    assert_eq!(resume(other, right()).await, Some(Code::NotFound), "it belongs to another table");
    assert_eq!(resume("main.default.missing", right()).await, Some(Code::NotFound));
    let mut json = right();
    json.record_type = Some(api::RecordType::Json as i32);
    assert_eq!(resume(EVENTS, json).await, Some(Code::InvalidArgument));
    let mut nameless = right();
    nameless.identifier = None;
    assert_eq!(resume(EVENTS, nameless).await, Some(Code::InvalidArgument));
    let mut unfit = right();
    let mut descriptor = service.descriptor(EVENTS);
    descriptor.field[0].set_type(Type::String);
    unfit.descriptor_proto = Some(descriptor.encode_to_vec());
    assert_eq!(resume(EVENTS, unfit).await, Some(Code::InvalidArgument));
    // All that has taken the stream from nobody.
    assert!(call.ingest(0, [0], "x").await);
    assert_eq!(call.end().await.0, 0);
    let sdk = service.sdk();
    let builder = sdk.persistent_stream_builder().table(EVENTS).oauth("me", "secret").json();
    let (code, text) = refusal(builder.resume(&id).await.err().unwrap());
    assert_eq!(code, Code::InvalidArgument, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_creates_or_resumes_for_the_table_of_the_header() {
    let service = serve(|_| {});
    let nothing = Payload::CreateStream(api::CreatePersistentStreamRequest { create_stream: None });
    let record = Payload::IngestRecord(api::IngestRecordRequest::default());
    for (table, first) in [
        ("main.default.other", creation(&service)),
        (EVENTS, nothing),
        (EVENTS, record),
        ("a.b", creation(&service)),
    ] {
        let end = PersistentCall::open(&service, table, first).await;
        assert_eq!(code(end), Some(Code::InvalidArgument));
    }
    let (mut call, id) = PersistentCall::create(&service).await;
    call.send(Payload::ResumeStream(resumption(&service, &id))).await;
    assert_eq!(code(call.acknowledged().await.1), Some(Code::InvalidArgument), "it is open already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_stream_ends_for_good_and_once_more_does_nothing() {
    for sink in [Sink::Delta, Sink::Discard] {
        let service = serve(|options| options.sink = sink);
        let (mut call, id) = PersistentCall::create(&service).await;
        assert!(call.ingest(0, [0], "x").await);
        assert!(matches!(call.next().await, Ok(Some(_))));
        retire(&service, EVENTS, &id).await.unwrap();
        retire(&service, EVENTS, &id).await.unwrap();
        call.ingest(1, [1], "x").await;
        assert_eq!(code(call.acknowledged().await.1), Some(Code::Aborted));
        assert_eq!(code(PersistentCall::resume(&service, &id).await), Some(Code::NotFound), "{sink:?}");
        assert_eq!(code(retire(&service, EVENTS, &format!("{:032x}", 7)).await), Some(Code::NotFound));
        if sink == Sink::Delta {
            assert_eq!(ids(&service), [0], "what was committed stays");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_open_a_stream_may_retire_one_and_nobody_else() {
    let service = serve(|_| {});
    let (_, id) = PersistentCall::create(&service).await;
    let request = || api::RetireStreamRequest {
        table_name: Some(EVENTS.to_owned()),
        identifier: Some(Identifier::StreamId(id.clone())),
    };
    let mut client = client(&service).await;
    assert_eq!(code(client.retire_stream(request()).await), Some(Code::Unauthenticated));
    let no_requests = futures::stream::empty::<api::PersistentStreamRequest>();
    assert_eq!(code(client.persistent_stream(no_requests).await), Some(Code::Unauthenticated));
    let other = authorised(&service, "main.default.other", request());
    assert_eq!(code(client.retire_stream(other).await), Some(Code::InvalidArgument));
    let nameless = api::RetireStreamRequest { identifier: None, ..request() };
    let nameless = authorised(&service, EVENTS, nameless);
    assert_eq!(code(client.retire_stream(nameless).await), Some(Code::InvalidArgument));
    assert_eq!(code(retire(&service, "main.default.missing", &id).await), Some(Code::NotFound));
    let (mut open, _) = PersistentCall::resume(&service, &id).await.unwrap();
    service.emulator.sql(&format!("REVOKE MODIFY ON TABLE {EVENTS} FROM me")).unwrap();
    assert_eq!(code(retire(&service, EVENTS, &id).await), Some(Code::PermissionDenied));
    assert_eq!(code(PersistentCall::resume(&service, &id).await), Some(Code::PermissionDenied));
    let created = PersistentCall::open(&service, EVENTS, creation(&service)).await;
    assert_eq!(code(created), Some(Code::PermissionDenied));
    open.ingest(0, [0], "x").await;
    assert_eq!(code(open.acknowledged().await.1), Some(Code::PermissionDenied));
    service.emulator.sql(&format!("GRANT MODIFY ON TABLE {EVENTS} TO me")).unwrap();
    assert_eq!(PersistentCall::resume(&service, &id).await.unwrap().1, None);
    retire(&service, EVENTS, &id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_persistent_streams_answers_unimplemented_and_serves_the_others() {
    let service = serve(|options| options.persistent_streams = false);
    let (code_of_create, text) = refusal(open(&service, None).await.err().unwrap());
    assert_eq!(code_of_create, Code::Unimplemented, "{text}");
    let id = format!("{:032x}", 7);
    assert_eq!(refusal(open(&service, Some(&id)).await.err().unwrap()).0, Code::Unimplemented);
    assert_eq!(code(retire(&service, EVENTS, &id).await), Some(Code::Unimplemented));
    let mut client = client(&service).await;
    let unknown = client.retire_stream(api::RetireStreamRequest::default()).await;
    assert_eq!(code(unknown), Some(Code::Unimplemented), "it does not look at tokens either");
    let sdk = service.sdk();
    let mut stream = sdk.stream_builder().table(EVENTS).oauth("me", "secret").json().build().await.unwrap();
    stream.ingest_record_offset(JsonString("{\"id\": 1}".to_owned())).await.unwrap();
    stream.close().await.unwrap();
    assert_eq!(ids(&service), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_has_the_same_switch() {
    for (options, end) in [(&[][..], None), (&["--no-persistent-streams"][..], Some(Code::Unimplemented))] {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start_with(dir.path(), ("0", "0"), options);
        let sdk = sdk(&process.endpoint, &process.unity_catalog_url);
        let builder = sdk.persistent_stream_builder().table(EVENTS).oauth("me", "secret").json();
        let opened = builder.recovery(false).build().await;
        process.signal(rustix::process::Signal::TERM);
        assert_eq!(opened.err().map(|error| refusal(error).0), end, "{options:?}");
        process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_made_anew_has_none_of_the_streams_of_the_old_one() {
    let service = serve(|options| options.auto_create = true);
    let (mut call, id) = PersistentCall::create(&service).await;
    assert!(call.ingest(0, [0], "x").await);
    assert!(matches!(call.next().await, Ok(Some(_))));
    let columns = service.descriptor(EVENTS);
    service.emulator.sql(&format!("DROP TABLE {EVENTS}")).unwrap();
    assert_eq!(code(call.acknowledged().await.1), Some(Code::Aborted));
    let resume = api::ResumeIngestStreamRequest {
        identifier: Some(api::resume_ingest_stream_request::Identifier::StreamId(id.clone())),
        descriptor_proto: Some(columns.encode_to_vec()),
        record_type: Some(api::RecordType::Proto as i32),
    };
    let resumed = PersistentCall::open(&service, EVENTS, Payload::ResumeStream(resume)).await;
    assert_eq!(code(resumed), Some(Code::NotFound), "a resume makes no table");
    service.emulator.sql(&format!("CREATE TABLE {EVENTS} ({EVENT_COLUMNS})")).unwrap();
    assert_eq!(code(PersistentCall::resume(&service, &id).await), Some(Code::NotFound));
    assert_eq!(code(retire(&service, EVENTS, &id).await), Some(Code::NotFound));
    let (mut call, _) = PersistentCall::create(&service).await;
    assert!(call.ingest(0, [5], "x").await);
    assert_eq!(call.end().await.0, 0);
    assert_eq!(ids(&service), [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_altered_keeps_its_streams_and_what_is_committed_of_them() {
    for sink in [Sink::Delta, Sink::Discard] {
        let service = serve(|options| options.sink = sink);
        let (mut call, id) = PersistentCall::create(&service).await;
        assert!(call.ingest(0, [0], "x").await);
        assert!(matches!(call.next().await, Ok(Some(_))));
        service.emulator.sql(&format!("ALTER TABLE {EVENTS} ADD COLUMNS (extra INT)")).unwrap();
        let (mut newer, committed) = PersistentCall::resume(&service, &id).await.unwrap();
        assert_eq!(committed, Some(0), "{sink:?}");
        assert_eq!(code(call.acknowledged().await.1), Some(Code::Aborted));
        assert!(newer.ingest(1, [1], "x").await);
        assert_eq!(newer.end().await.0, 1);
        if sink == Sink::Delta {
            assert_eq!(ids(&service), [0, 1]);
        }
    }
}

/// Sends three requests of one row each under a rule, then what is not committed again; how the first connection ended,
/// and what was committed by then.
async fn send_under(rule: Rule) -> (Result<(), Status>, Option<i64>) {
    let service = serve(|_| {});
    let (mut call, id) = PersistentCall::create(&service).await;
    let is_hanging = matches!(rule.fault, Fault::HangStream {});
    service.emulator.faults().add([rule.clone()]).unwrap();
    for offset in 0..3 {
        call.ingest(offset, [offset], "x").await;
    }
    let end = match is_hanging {
        false => {
            let (acknowledged, end) = call.end().await;
            assert!(acknowledged <= 2);
            end
        }
        true => {
            while service.emulator.faults().list()[0].fired == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        }
    };
    drop(call);
    assert!(service.emulator.faults().list()[0].fired > 0, "{rule:?}");
    service.emulator.faults().clear();
    let (mut call, committed) = PersistentCall::resume(&service, &id).await.unwrap();
    for offset in committed.map_or(0, |committed| committed + 1)..3 {
        call.ingest(offset, [offset], "x").await;
    }
    assert!(call.end().await.1.is_ok(), "{rule:?}");
    assert_eq!(ids(&service), [0, 1, 2], "{rule:?}");
    (end, committed)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_rule_ends_a_connection_a_resume_tells_what_is_committed() {
    let second = |fault| Rule::new(fault).after(1).times(1);
    let ends_with = |code| Fault::FailStream { refusal: Refusal::new(code) };
    for (rule, code_of_end, committed) in [
        (second(ends_with(Code::Unavailable)), Some(Code::Unavailable), Some(0)),
        (second(ends_with(Code::Internal)), Some(Code::Internal), Some(0)),
        (second(ends_with(Code::Ok)), None, Some(0)),
        (second(Fault::DropAck { reset: false }), Some(Code::Unavailable), Some(1)),
        (second(Fault::CloseSignal { grace_ms: 20 }), None, Some(2)),
        (
            second(Fault::RejectRecords { condition: Condition::equals("id", 1) }).after(0),
            Some(Code::InvalidArgument),
            Some(0),
        ),
        (Rule::new(Fault::WithholdAcks {}), None, Some(2)),
        (Rule::new(Fault::DelayAcks { delay_ms: 20 }), None, Some(2)),
    ] {
        let (end, told) = send_under(rule.clone()).await;
        assert_eq!((code(end), told), (code_of_end, committed), "{rule:?}");
    }
    // The reset may overtake the answers, and the client that leaves a stream that hangs may be overtaken by its resume.
    let (end, committed) = send_under(second(Fault::DropAck { reset: true })).await;
    assert_eq!((end.is_err(), committed), (true, Some(1)));
    let (_, committed) = send_under(second(Fault::HangStream {})).await;
    assert!(committed <= Some(0), "{committed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_for_streams_that_are_asked_for_are_for_creating_and_for_resuming() {
    let service = serve(|_| {});
    let (mut call, id) = PersistentCall::create(&service).await;
    let refusal = Refusal { error_code: Some(6006), ..Refusal::new(Code::ResourceExhausted) };
    service.emulator.faults().add([Rule::new(Fault::FailOpen { refusal }).times(2)]).unwrap();
    let created = PersistentCall::open(&service, EVENTS, creation(&service)).await;
    assert_eq!(code(created), Some(Code::ResourceExhausted));
    assert_eq!(code(PersistentCall::resume(&service, &id).await), Some(Code::ResourceExhausted));
    assert!(call.ingest(0, [0], "it is not fenced by a resume that was refused").await);
    assert_eq!(call.end().await.0, 0);
    service.emulator.faults().add([Rule::new(Fault::HangOpen {}).times(1)]).unwrap();
    let resume = PersistentCall::resume(&service, &id);
    assert!(tokio::time::timeout(Duration::from_millis(100), resume).await.is_err());
    assert_eq!(PersistentCall::resume(&service, &id).await.unwrap().1, Some(0));
}
