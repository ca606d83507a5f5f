//! What the service does not take: descriptors, records, offsets, first messages.

use databricks_zerobus_ingest_sdk::JsonString;
use prost::Message as _;
use prost_types::DescriptorProto;
use tonic::Code;

use crate::raw_stream::{raw, raw_events};
use crate::site::{EVENTS, Event, by_id, event, refusal, serve};

#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_that_does_not_fit_the_table_is_refused_by_column() {
    let service = serve(|_| {});
    let open = async |change: fn(&mut DescriptorProto)| {
        let mut descriptor = service.descriptor(EVENTS);
        change(&mut descriptor);
        let sdk = service.sdk();
        let builder = sdk.stream_builder().table(EVENTS).oauth("me", "secret");
        builder.compiled_proto(descriptor).build().await.map(drop).map_err(refusal)
    };
    use prost_types::field_descriptor_proto::{Label, Type};
    let refused = |end: Result<(), (Code, String)>, words: &[&str]| {
        let (code, message) = end.unwrap_err();
        assert_eq!(code, Code::InvalidArgument, "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    assert_eq!(open(|_| {}).await, Ok(()));
    assert_eq!(open(|d| drop(d.field.remove(1))).await, Ok(()), "a nullable column may be left out");
    refused(open(|d| drop(d.field.remove(0))).await, &["\"id\"", "NOT NULL"]);
    refused(open(|d| d.field[1].name = Some("other".to_owned())).await, &["\"other\" is not in the table"]);
    refused(
        open(|d| {
            d.field[0].set_type(Type::String);
            d.field[1].set_type(Type::Int32);
        })
        .await,
        &["\"id\"", "must be int64 and is string", "\"name\"", "must be string and is int32"],
    );
    refused(open(|d| d.field[1].set_label(Label::Repeated)).await, &["\"name\"", "repeated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_ends_the_stream_without_being_named_and_what_came_before_is_acknowledged() {
    let service = serve(|_| {});
    let bad: [(&str, Vec<u8>); 4] = [
        ("missing", Event { id: None, name: Some("x".to_owned()) }.encode_to_vec()),
        ("truncated", vec![0x12, 0x7f, b'x']),
        ("not UTF-8", vec![0x08, 1, 0x12, 1, 0xff]),
        ("wire type", vec![0x0a, 1, b'1', 0x12, 1, b'x']),
    ];
    for (round, (what, bad)) in (0i64..).zip(bad) {
        let good = |n: i64| event(100 * round + n, "good").encode_to_vec();
        let mut stream = raw_events(&service).await;
        stream.ingest(0, vec![good(0), good(1)]).await.unwrap();
        stream.ingest(1, vec![good(2), good(3), bad, good(4)]).await.unwrap();
        let (last, end) = stream.acknowledged().await;
        let status = end.unwrap_err();
        assert_eq!((last, status.code()), (0, Code::InvalidArgument), "{what}");
        assert!(!status.message().contains("203"), "{what}: {}", status.message());
        let landed: Vec<i64> =
            by_id(&service.read(EVENTS)).into_keys().filter(|id| id / 100 == round).collect();
        assert_eq!(landed, [100 * round, 100 * round + 1], "{what}: a request is all or nothing");
    }
    let sdk = service.sdk();
    for bad in ["{\"name\": \"x\"}", "{\"id\": \"1\"}", "{\"id\": 1, \"extra\": 2}", "[1]", "{\"id\": 1"] {
        let builder = sdk.stream_builder().table(EVENTS).oauth("me", "secret").json().recovery(false);
        let stream = builder.build().await.unwrap();
        stream.ingest_record_offset(JsonString(bad.to_owned())).await.unwrap();
        let (code, message) = refusal(stream.flush().await.unwrap_err());
        assert_eq!(code, Code::InvalidArgument, "{bad}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_must_be_consecutive_and_requests_within_the_limit() {
    let service = serve(|_| {});
    let record = |id| vec![event(id, "x").encode_to_vec()];
    for offsets in [vec![1], vec![0, 2], vec![0, 0], vec![-1]] {
        let mut stream = raw_events(&service).await;
        for offset in &offsets {
            stream.ingest(*offset, record(rand::random())).await.unwrap();
        }
        let (_, end) = stream.acknowledged().await;
        assert_eq!(end.unwrap_err().code(), Code::InvalidArgument, "{offsets:?}");
    }
    const LIMIT: usize = 10 * 1024 * 1024;
    // The id takes two bytes, the tag and length of the name five.
    for (name_bytes, fits) in [(LIMIT - 7, true), (LIMIT - 6, false)] {
        let mut stream = raw_events(&service).await;
        let large = event(1, &"n".repeat(name_bytes)).encode_to_vec();
        assert_eq!(large.len() <= LIMIT, fits);
        stream.ingest(0, vec![large]).await.unwrap();
        stream.requests.close_channel();
        let (last, end) = stream.acknowledged().await;
        assert_eq!(
            (last, end.err().map(|status| status.code())),
            match fits {
                true => (0, None),
                false => (-1, Some(Code::InvalidArgument)),
            }
        );
    }
    // Many tiny records: the framing is as large as the records.
    let mut stream = raw_events(&service).await;
    let tiny: Vec<Vec<u8>> = (0..1_000_000).map(|id| event(id + 10, "x").encode_to_vec()).collect();
    assert!(tiny.iter().map(Vec::len).sum::<usize>() < LIMIT);
    stream.ingest(0, tiny).await.unwrap();
    stream.requests.close_channel();
    let (last, end) = stream.acknowledged().await;
    assert_eq!((last, end.map_err(|status| status.code())), (0, Ok(())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_its_creation_for_the_table_of_its_header() {
    let service = serve(|_| {});
    let mut stream = raw(&service, EVENTS).await;
    stream.ingest(0, vec![]).await.unwrap();
    assert_eq!(stream.acknowledged().await.1.unwrap_err().code(), Code::InvalidArgument);
    let mut stream = raw(&service, "main.default.other").await;
    let end = stream.create(EVENTS, &service.descriptor(EVENTS)).await;
    assert_eq!(end.unwrap_err().code(), Code::InvalidArgument);
}
