//! A service that works: everything lands, once, in order.

use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int32Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::{BatchState, WaitFor};

use crate::site::{Site, assert_conserved, batch, files_with, once, secret, wait_until};
use crate::support::read_table;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_lands_once_and_in_order() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    for start in (0..5_000).step_by(100) {
        let result = wrapper.send_batch(batch(start..start + 100)).await.unwrap();
        assert!(result.success && result.durable && result.error.is_none());
        assert_eq!((result.state, result.attempts), (BatchState::Stored, 0));
        assert_eq!(result.lsn.unwrap().get() as i64, start / 100 + 1);
        assert!(result.batch_size_bytes > 100 * 8 && result.latency_ms.is_some());
    }
    wrapper.flush(None).await.unwrap();
    let status = wrapper.status();
    assert_conserved(&status);
    assert_eq!((status.rows.stored, status.rows.waiting, status.frames.stored), (5_000, 0, 50));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();

    let rows = read_table(&site.table_path(crate::site::TABLE));
    let ids = rows.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    let names = rows.column_by_name("name").unwrap().as_string::<i32>();
    assert_eq!(site.landed(), once(0..5_000));
    for row in 0..rows.num_rows() {
        assert_eq!(names.value(row), format!("row {}", ids.value(row)));
    }
    assert_eq!(files_with(site.directory.path(), secret()), Vec::<std::path::PathBuf>::new(), "[I9]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_restart_sends_nothing_again_and_lsns_go_on() {
    let site = Site::new();
    let emulator = site.serve();
    for run in 0..5 {
        let wrapper = site.open();
        let result = wrapper.send_batch(batch(run * 10..run * 10 + 10)).await.unwrap();
        assert_eq!(result.lsn.unwrap().get() as i64, run + 1, "an LSN is never used again [I12]");
        let status = wrapper.status();
        assert_eq!(status.rows.stored as i64, run * 10 + 10, "the count survives restarts [I6]");
        wrapper.shutdown().await.unwrap();
    }
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_rotation_makes_no_duplicates() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| c.stream_max_age = Duration::from_secs(1));
    let mut sent = 0;
    // Sends steadily until three streams have been used.
    while wrapper.status().lane.unwrap().streams_opened < 3 {
        wrapper.send_batch(batch(sent..sent + 10)).await.unwrap();
        sent += 10;
    }
    wrapper.flush(None).await.unwrap();
    assert_eq!(wrapper.status().lane.unwrap().failures, 0, "a rotation is no failure");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_another_schema_are_delivered_too() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    let only_ids = |ids: std::ops::Range<i64>| batch(ids).project(&[0]).unwrap();
    let narrow = |ids: std::ops::Range<i32>| {
        let schema = Schema::new(vec![Field::new("id", DataType::Int32, true)]);
        RecordBatch::try_new(schema.into(), vec![std::sync::Arc::new(Int32Array::from_iter_values(ids))])
    };
    for round in 0..10 {
        wrapper.send_batch(batch(round * 10..round * 10 + 5)).await.unwrap();
        wrapper.send_batch(only_ids(round * 10 + 5..round * 10 + 10)).await.unwrap();
    }
    wrapper.flush(None).await.unwrap();
    assert_eq!(site.landed(), once(0..100));

    // A column of another type goes where the table's one holds all of its values.
    wait_until(&wrapper, "the columns", |it| it.table_schema.columns == Some(2)).await;
    wrapper.send_batch(narrow(100..110).unwrap()).await.unwrap();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..110));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapper_that_waits_for_delivery_returns_when_the_rows_have_landed() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| c.wait_for = WaitFor::Delivered);
    let result = wrapper.send_batch(batch(0..10)).await.unwrap();
    assert_eq!((result.state, result.attempts), (BatchState::Delivered, 1));
    assert_eq!(site.landed(), once(0..10));
    wrapper.shutdown().await.unwrap();

    let wrapper = site.open();
    let lsn = wrapper.send_batch(batch(10..20)).await.unwrap().lsn.unwrap();
    let waited = wrapper.wait_delivered(lsn, Some(Duration::from_secs(30))).await.unwrap();
    assert_eq!((waited.state, waited.lsn), (BatchState::Delivered, Some(lsn)));
    assert_eq!(site.landed(), once(0..20));
    assert!(wrapper.wait_delivered(lsn.next(), None).await.is_err(), "there is no such frame");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_a_request_is_cut_and_settled_as_one() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| c.request_max_bytes = 4096);
    wrapper.send_batch(batch(0..10_000)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    let status = wrapper.status();
    assert_eq!((status.frames.delivered, status.rows.delivered), (1, 10_000));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_log_takes_next_to_no_disk() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        c.segment_bytes = 64 * 1024;
        c.wal_max_bytes = 64 << 20;
    });
    for start in (0..100_000).step_by(1_000) {
        wrapper.send_batch(batch(start..start + 1_000)).await.unwrap();
    }
    wrapper.flush(None).await.unwrap();
    let status = wait_until(&wrapper, "the reclaim", |it| it.log_bytes < 256 * 1024).await;
    assert_eq!(status.rows.delivered, 100_000);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..100_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_senders_at_once_lose_and_double_nothing() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    let senders: Vec<_> = (0..32)
        .map(|sender| {
            let wrapper = wrapper.clone();
            tokio::spawn(async move {
                for number in 0..25 {
                    let start = sender * 1_000 + number * 10;
                    wrapper.send_batch(batch(start..start + 10)).await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    wrapper.flush(None).await.unwrap();
    assert_conserved(&wrapper.status());
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let expected: std::collections::BTreeMap<i64, usize> =
        (0..32).flat_map(|sender| once(sender * 1_000..sender * 1_000 + 250)).collect();
    assert_eq!(site.landed(), expected);
}
