//! Where tables come from and go to: made from a descriptor, kept nowhere, there again after a stop.

use std::time::Duration;

use arrow_zerobus_sdk_wrapper::emulator::{Emulator, EmulatorError, EmulatorOptions, Sink};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};
use prost::Message as _;
use tonic::Code;

use crate::raw_stream::{RawStream, raw, raw_events};
use crate::site::{EVENT_COLUMNS, EVENTS, Service, bearer, by_id, event, serve};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_made_from_the_first_descriptor_if_asked_for() {
    let table = "made.by.descriptor";
    let service = serve(|options| options.auto_create = true);
    let mut descriptor = service.descriptor(EVENTS);
    descriptor.field[0].number = Some(5000);
    let streams = futures::future::join_all((0..4).map(|n| {
        let (service, descriptor) = (&service, &descriptor);
        async move {
            let mut stream = raw(service, table).await;
            stream.create(table, descriptor).await.unwrap();
            // Field 5000, so that numbers beyond the dense table are looked up as well.
            stream.ingest(0, vec![vec![0xc0, 0xb8, 0x02, n, 0x12, 1, b'x']]).await.unwrap();
            stream.requests.close_channel();
            stream.acknowledged().await
        }
    }))
    .await;
    assert!(streams.iter().all(|(last, end)| *last == 0 && end.is_ok()), "{streams:?}");
    let rows = service.read(table);
    assert_eq!(by_id(&rows).into_keys().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(!rows.schema().field(0).is_nullable() && rows.schema().field(1).is_nullable());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_discard_sink_checks_and_acknowledges_and_keeps_nothing() {
    let service = serve(|options| options.sink = Sink::Discard);
    let mut stream = raw_events(&service).await;
    stream.ingest(0, vec![event(1, "x").encode_to_vec()]).await.unwrap();
    stream.ingest(1, vec![event(2, "x").encode_to_vec()]).await.unwrap();
    stream.ingest(3, vec![event(3, "x").encode_to_vec()]).await.unwrap();
    let (last, end) = stream.acknowledged().await;
    assert_eq!((last, end.unwrap_err().code()), (1, Code::InvalidArgument));
    assert_eq!(service.read(EVENTS).num_rows(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_commits_and_acknowledges_what_came_and_a_new_start_serves_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = EmulatorOptions::new(dir.path());
    // Nothing is committed on its own in the time of the test.
    options.commit_interval = Duration::from_secs(3600);
    options.tables.push((EVENTS.to_owned(), EVENT_COLUMNS.to_owned()));
    let mut service = Service { emulator: Emulator::start(options.clone()).unwrap(), _dir: dir };
    let mut acknowledged = 0;
    // The stop may come before the request has been taken from the socket; then nothing is promised.
    for attempt in 0..50 {
        let authorization = bearer(service.emulator.unity_catalog_url());
        let mut stream = raw_events(&service).await;
        stream.ingest(0, vec![event(attempt, "x").encode_to_vec()]).await.unwrap();
        drop(raw_events(&service).await);
        let Service { emulator, _dir } = service;
        let stopped = tokio::task::spawn_blocking(move || emulator.stop());
        let (last, end) = stream.acknowledged().await;
        stopped.await.unwrap().unwrap();
        assert_eq!(end.unwrap_err().code(), Code::Unavailable);
        service = Service { emulator: Emulator::start(options.clone()).unwrap(), _dir };
        acknowledged += last + 1;
        let landed = by_id(&service.read(EVENTS)).len();
        assert_eq!(i64::try_from(landed).unwrap(), acknowledged, "acknowledged and landed agree");
        let again = RawStream::call(service.emulator.endpoint(), &authorization, EVENTS).await;
        assert!(again.is_ok(), "a token outlives a restart");
        if acknowledged > 0 {
            return;
        }
    }
    panic!("no request was taken in before a stop");
}

#[test]
fn settings_that_do_not_work_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let running = Emulator::start(EmulatorOptions::new(dir.path())).unwrap();
    let port = running.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    let start = |change: &dyn Fn(&mut EmulatorOptions)| {
        let other = tempfile::tempdir().unwrap();
        let mut options = EmulatorOptions::new(other.path());
        change(&mut options);
        let error = Emulator::start(options).map(drop).unwrap_err();
        (error.code(), arrow_zerobus_sdk_wrapper::error::chain(&error), error)
    };
    let (code, text, _) = start(&|options| options.data_dir = dir.path().to_owned());
    assert_eq!(code, ErrorCode::Locked, "{text}");
    let (code, text, _) = start(&|options| options.port = port);
    assert!(code == ErrorCode::Configuration && text.contains(&port.to_string()), "{text}");
    let (code, text, _) = start(&|options| options.data_dir = "/proc/nothing/here".into());
    assert!(code == ErrorCode::Configuration && text.contains("/proc/nothing/here"), "{text}");
    let table = |name: &str, columns: &str| (name.to_owned(), columns.to_owned());
    let (code, text, _) = start(&|options| options.tables = vec![table("a.b", "id INT")]);
    assert!(code == ErrorCode::Configuration && text.contains("\"a.b\""), "{text}");
    let (code, text, _) = start(&|options| options.tables = vec![table("a.b.c", "id BIGNIT")]);
    assert!(code == ErrorCode::Configuration, "{text}");
    assert!(text.contains("position 4") && text.contains("BIGNIT"), "{text}");
    let (code, text, error) =
        start(&|options| options.tables = vec![table("a.b.c", "id INT"), table("a.b.c", "id BIGINT")]);
    assert!(code == ErrorCode::Configuration && text.contains("id int"), "{text}");
    assert!(matches!(error, EmulatorError::Table { .. }));
}
