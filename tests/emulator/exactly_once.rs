//! Every row once, whenever the emulator is killed.
//!
//! Goal: rows and the offset of their stream are in the table together or not at all. Method: the official client writes to
//! one stream without end, the emulator as a process of its own gets a SIGKILL at random moments, also while it starts the
//! stream or resumes it, and the client goes on behind the offset that it is told. The rows are counted by a reader
//! that shares no code with the emulator.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use databricks_zerobus_ingest_sdk::{AckCallback, OffsetId, PersistentStream, ProtoMessage, ZerobusResult};
use prost_types::DescriptorProto;

use crate::process::{Process, ROWS_PER_REQUEST};
use crate::site::{EVENTS, Event, by_id, descriptor, event, sdk};
use crate::support::read_table;

const KILLS: usize = 30;

/// The highest offset that was acknowledged in any life of the emulator.
struct Acknowledged(AtomicI64);

impl AckCallback for Acknowledged {
    fn on_ack(&self, offset: OffsetId) {
        self.0.fetch_max(offset, Ordering::SeqCst);
    }

    fn on_error(&self, _: OffsetId, _: &str) {}
}

async fn open(
    process: &Process,
    columns: &DescriptorProto,
    id: Option<&str>,
    acknowledged: &Arc<Acknowledged>,
) -> ZerobusResult<PersistentStream> {
    let sdk = sdk(&process.endpoint, &process.unity_catalog_url);
    let builder = sdk.persistent_stream_builder().table(EVENTS).oauth("me", "secret");
    let builder = builder.compiled_proto(columns.clone()).recovery(false).max_inflight_requests(256);
    let builder = builder.ack_callback(Arc::clone(acknowledged) as Arc<dyn AckCallback>);
    match id {
        Some(id) => builder.resume(id).await,
        None => builder.build().await,
    }
}

/// The rows of one request; its offset says which.
fn request(offset: i64) -> impl Iterator<Item = ProtoMessage<Event>> {
    let ids = offset * ROWS_PER_REQUEST..(offset + 1) * ROWS_PER_REQUEST;
    ids.map(|id| ProtoMessage(event(id, &format!("row {id}"))))
}

/// Sends requests from this offset on as fast as they are taken, until the service dies; the last that was sent.
async fn load(stream: PersistentStream, begin: i64) -> i64 {
    let mut next = begin;
    while let Ok(offset) = stream.ingest_records_offset(request(next)).await {
        assert_eq!(offset, Some(next), "the client counts on");
        next += 1;
        tokio::task::yield_now().await;
    }
    // The one that failed may have been sent too.
    next
}

fn kill_after(process: &Process, delay: Duration) -> std::thread::JoinHandle<()> {
    let pid = rustix::process::Pid::from_child(&process.child);
    std::thread::spawn(move || {
        std::thread::sleep(delay);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resumes_lands_every_row_once_when_the_emulator_is_killed_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path(), ("0", "0"));
    let ports = process.ports();
    let columns = descriptor(&process.unity_catalog_url, EVENTS);
    let acknowledged = Arc::new(Acknowledged(AtomicI64::new(-1)));
    let mut id: Option<String> = None;
    let (mut sent, mut committed, mut resumes) = (-1, -1, 0);
    for kill in 0..KILLS {
        let delay = Duration::from_millis(rand::random::<u64>() % 400);
        let killer = kill_after(&process, delay);
        if let Ok(stream) = open(&process, &columns, id.as_deref(), &acknowledged).await {
            if id.is_some() {
                let told = stream.resume_watermark().unwrap_or(-1);
                let promised = acknowledged.0.load(Ordering::SeqCst);
                assert!(told >= promised && told >= committed, "{told} after {promised} and {committed}");
                assert!(told <= sent, "{told} was never sent");
                committed = told;
                resumes += 1;
            }
            id = stream.stream_id().map(str::to_owned);
            sent = load(stream, committed + 1).await.max(sent);
        }
        killer.join().unwrap();
        assert!(!process.wait().success());
        println!(
            "kill {kill} after {delay:?}: {sent} sent, {} acknowledged, {committed} told",
            acknowledged.0.load(Ordering::SeqCst)
        );
        process = Process::start(dir.path(), (&ports.0, &ports.1));
    }
    let mut stream = open(&process, &columns, id.as_deref(), &acknowledged).await.unwrap();
    committed = stream.resume_watermark().unwrap();
    for offset in committed + 1..committed + 4 {
        stream.ingest_records_offset(request(offset)).await.unwrap();
    }
    stream.close().await.unwrap();
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));

    assert!(resumes >= KILLS / 2 && committed > 0, "{resumes} resumes, {committed} committed");
    assert_every_row_is_there_once(dir.path(), (committed + 4) * ROWS_PER_REQUEST);
}

fn assert_every_row_is_there_once(data_dir: &Path, count: i64) {
    let rows = read_table(&data_dir.join("main/default/events"));
    let landed = by_id(&rows);
    assert!(landed.keys().copied().eq(0..count), "{} rows and not {count}", landed.len());
    let names = rows.column(1).as_string::<i32>();
    assert!(landed.iter().all(|(id, row)| names.value(*row) == format!("row {id}")));
    println!("{count} rows, each once");
}
