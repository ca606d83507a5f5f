//! A stream belongs to the connection that has resumed it last.
//!
//! Goal: nothing that an older connection has sent and that is not committed when the stream is resumed is committed
//! afterwards, and the offset that the new one is told leaves nothing out. Method: each connection writes its own name
//! into its rows, so a row behind a fence shows who wrote it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_zerobus_sdk_wrapper::emulator::Sink;
use arrow_zerobus_sdk_wrapper::emulator::faults::{Fault, Rule};
use tonic::Code;

use crate::persistent_call::{Payload, PersistentCall, resumption};
use crate::site::{DEADLINE, EVENTS, Service, serve};

/// Who wrote each row, with how often it is there.
fn authors(service: &Service) -> BTreeMap<(i64, String), usize> {
    let rows = service.read(EVENTS);
    let mut authors = BTreeMap::new();
    if rows.num_columns() > 0 {
        let (ids, names) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(1).as_string::<i32>());
        for row in 0..rows.num_rows() {
            *authors.entry((ids.value(row), names.value(row).to_owned())).or_default() += 1;
        }
    }
    authors
}

fn once(rows: &[(i64, &str)]) -> BTreeMap<(i64, String), usize> {
    rows.iter().map(|(id, name)| ((*id, (*name).to_owned()), 1)).collect()
}

/// A rule that does nothing but count the requests that are taken.
fn count_requests(service: &Service) {
    service.emulator.faults().add([Rule::new(Fault::HangStream {}).after(u64::MAX)]).unwrap();
}

async fn requests_are_taken(service: &Service, count: u64) {
    let deadline = Instant::now() + DEADLINE;
    while service.emulator.faults().list()[0].occasions < count {
        assert!(Instant::now() < deadline, "the requests did not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_connection_has_sent_and_is_not_committed_never_is() {
    // Nothing is committed on its own in the time of the test.
    let service = serve(|options| options.commit_interval = Duration::from_secs(3600));
    count_requests(&service);
    let (mut older, id) = PersistentCall::create(&service).await;
    assert!(older.ingest(0, [0, 1], "older").await);
    assert!(older.ingest(1, [2, 3], "older").await);
    requests_are_taken(&service, 2).await;
    let (mut newer, committed) = PersistentCall::resume(&service, &id).await.unwrap();
    assert_eq!(committed, None);
    let (last, end) = older.acknowledged().await;
    assert_eq!((last, end.unwrap_err().code()), (-1, Code::Aborted));
    assert!(newer.ingest(0, [0, 1], "newer").await);
    assert_eq!(newer.end().await.0, 0);
    assert_eq!(authors(&service), once(&[(0, "newer"), (1, "newer")]));
    let (mut last, committed) = PersistentCall::resume(&service, &id).await.unwrap();
    assert_eq!(committed, Some(0));
    // The end of a connection commits what it has sent, if the stream is still its own.
    assert!(last.ingest(1, [2], "last").await);
    requests_are_taken(&service, 4).await;
    drop(PersistentCall::resume(&service, &id).await.unwrap());
    assert_eq!(last.end().await.1.unwrap_err().code(), Code::Aborted);
    assert_eq!(authors(&service), once(&[(0, "newer"), (1, "newer")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_hears_that_it_is_fenced_and_can_write_no_more() {
    for sink in [Sink::Delta, Sink::Discard] {
        let service = serve(|options| options.sink = sink);
        let (mut older, id) = PersistentCall::create(&service).await;
        assert!(older.ingest(0, [0], "older").await);
        assert!(matches!(older.next().await, Ok(Some(_))));
        let (mut newer, committed) = PersistentCall::resume(&service, &id).await.unwrap();
        assert_eq!(committed, Some(0), "{sink:?}");
        older.ingest(1, [1], "older").await;
        assert_eq!(older.acknowledged().await.1.unwrap_err().code(), Code::Aborted);
        assert!(newer.ingest(1, [1], "newer").await);
        assert_eq!(newer.end().await.0, 1, "{sink:?}");
        if sink == Sink::Delta {
            assert_eq!(authors(&service), once(&[(0, "older"), (1, "newer")]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_every_offset_is_committed_once_by_the_connection_that_had_the_stream() {
    const TAKEOVERS: usize = 40;
    let service = serve(|options| options.commit_interval = Duration::from_millis(3));
    let (first, id) = PersistentCall::create(&service).await;
    let mut begins = vec![0];
    let mut writers = Vec::new();
    let mut next = Some(first);
    let all_are_fenced = Arc::new(AtomicBool::new(false));
    for connection in 0..=TAKEOVERS {
        let (mut call, begin) = (next.take().unwrap(), *begins.last().unwrap());
        let (name, all_are_fenced) = (connection.to_string(), Arc::clone(&all_are_fenced));
        writers.push(tokio::spawn(async move {
            let mut offset = begin;
            let goes_on = |offset| match connection {
                TAKEOVERS => offset < begin + 5,
                _ => !all_are_fenced.load(Ordering::Relaxed),
            };
            // One offset is one row.
            while goes_on(offset) && call.ingest(offset, [offset], &name).await {
                offset += 1;
                tokio::task::yield_now().await;
            }
            let end = if connection == TAKEOVERS { call.end().await } else { call.acknowledged().await };
            (offset, end)
        }));
        if connection < TAKEOVERS {
            tokio::time::sleep(Duration::from_millis(rand::random::<u64>() % 20)).await;
            let (call, committed) = PersistentCall::resume(&service, &id).await.unwrap();
            begins.push(committed.map_or(0, |committed| committed + 1));
            next = Some(call);
        }
    }
    all_are_fenced.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for (connection, writer) in writers.into_iter().enumerate() {
        let (offset, (acknowledged, end)) = writer.await.unwrap();
        sent += offset - begins[connection];
        match begins.get(connection + 1) {
            Some(begin) => {
                assert_eq!(end.unwrap_err().code(), Code::Aborted, "connection {connection}");
                assert!(acknowledged < *begin, "what was acknowledged is told at the next resume");
            }
            None => assert_eq!((acknowledged, end.is_ok()), (offset - 1, true)),
        }
    }
    let mut expected = BTreeMap::new();
    let end = begins[TAKEOVERS] + 5;
    for offset in 0..end {
        let connection = begins.iter().rposition(|begin| *begin <= offset).unwrap();
        expected.insert((offset, connection.to_string()), 1);
    }
    println!("{TAKEOVERS} takeovers, {sent} requests sent, {end} committed");
    assert!(sent > end, "no connection had anything on its way when it was fenced");
    assert_eq!(authors(&service), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_that_is_refused_takes_the_stream_from_nobody() {
    let service = serve(|_| {});
    let (mut call, id) = PersistentCall::create(&service).await;
    let mut wrong = resumption(&service, &id);
    wrong.descriptor_proto = Some(Vec::new());
    let first = Payload::ResumeStream(wrong);
    let refused = PersistentCall::open(&service, EVENTS, first).await;
    assert_eq!(refused.err().map(|status| status.code()), Some(Code::InvalidArgument));
    assert!(call.ingest(0, [0], "the only one").await);
    assert_eq!(call.end().await.0, 0);
    assert_eq!(authors(&service), once(&[(0, "the only one")]));
}
