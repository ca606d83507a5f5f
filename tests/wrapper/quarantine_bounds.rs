//! What becomes of refused rows when there is no room for them, and of rows for which there is no room anywhere.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_zerobus_sdk_wrapper::error::Coded as _;
use arrow_zerobus_sdk_wrapper::types::Lsn;
use arrow_zerobus_sdk_wrapper::{DeliveryError, LaneState, OnFull};

use crate::quarantine::{COLUMNS, batch_with, files, good, kept, knows, serve, state, told};
use crate::site::{Site, TABLE, assert_conserved, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quarantine_refused_rows_wait_in_the_log_until_there_is_one() {
    let is_bad = |id: i64| id == 15;
    let site = Site::new();
    let emulator = serve(&site);
    let wrapper = site.open_with(|c| c.quarantine_max_bytes = 0);
    wait_until(&wrapper, "the columns", knows(2)).await;
    wrapper.send_batch(batch_with(0..10, is_bad)).await.unwrap();
    wrapper.send_batch(batch_with(10..20, is_bad)).await.unwrap();
    wrapper.send_batch(batch_with(20..30, is_bad)).await.unwrap();
    let status = wait_until(&wrapper, "the refusal", |it| state(it) == LaneState::Poison).await;
    let reason = status.lane.unwrap().reason.unwrap();
    assert!(reason.contains("quarantine_max_bytes is 0") && reason.contains("row 5 of frame 2"), "{reason}");
    assert!(matches!(wrapper.flush(None).await, Err(DeliveryError::Refused(_))));
    let status = wrapper.status();
    assert_eq!((status.rows.quarantined, files(&site).len()), (0, 0));
    assert!(status.rows.waiting >= 20, "nothing overtakes it");
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let wrapper = site.open();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    assert_eq!(told(&wrapper).await, 1);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), good(0..30, is_bad));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quarantine_parks_the_lane_and_files_that_are_taken_out_make_room() {
    let is_bad = |id: i64| id % 10 == 5;
    let site = Site::new();
    let emulator = serve(&site);
    let wrapper = site.open_with(|c| c.quarantine_max_bytes = 8 * 1024);
    wait_until(&wrapper, "the columns", knows(2)).await;
    for start in (0..30).step_by(10) {
        wrapper.send_batch(batch_with(start..start + 10, is_bad)).await.unwrap();
        wrapper
            .wait_delivered(Lsn::new(start as u64 / 10 + 1), Some(Duration::from_millis(500)))
            .await
            .unwrap_err();
    }
    let status = wait_until(&wrapper, "the full quarantine", |it| state(it) == LaneState::Poison).await;
    let reason = status.lane.unwrap().reason.unwrap();
    assert!(reason.contains("quarantine_max_bytes = 8192"), "{reason}");
    assert_eq!((status.rows.quarantined, files(&site).len()), (2, 2));
    let taken = kept(&site);
    for path in files(&site) {
        std::fs::remove_file(path).unwrap();
    }
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    assert_conserved(&wrapper.status());
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), good(0..30, is_bad));
    let all: Vec<i64> = taken.into_keys().chain(kept(&site).into_keys()).collect();
    assert_eq!(all, [5, 15, 25]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_fits_into_no_request_is_kept_and_its_neighbours_land() {
    let site = Site::new();
    let emulator = site
        .serve_with(|options| options.tables = vec![(TABLE.to_owned(), "id BIGINT, name STRING".to_owned())]);
    let wrapper = site.open();
    let names = (0..10).map(|id| if id == 6 { "x".repeat(11 << 20) } else { format!("row {id}") });
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
    let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).unwrap();
    let sent = wrapper.send_batch(batch).await.unwrap();
    let error = wrapper.wait_delivered(sent.lsn.unwrap(), None).await.unwrap_err();
    assert_eq!(error.refused_rows(), Some(&[6][..]));
    assert_conserved(&wrapper.status());
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), good(0..10, |id| id == 6));
    assert_eq!(kept(&site)[&6].code, "row_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_was_not_in_quarantine_before_and_everything_is_counted_once() {
    let is_bad = |id: i64| id % 10 == 4;
    let site = Site::new();
    // The catalog answers, so rows are refused; the service does not, so the log fills.
    let emulator = site.serve_with(|options| {
        options.tables = vec![(TABLE.to_owned(), COLUMNS.to_owned())];
        options.port = 0;
    });
    let wrapper = site.open_with(|c| {
        c.on_full = OnFull::DropOldest;
        c.wal_max_bytes = 1 << 20;
        c.wal_min_free_bytes = 0;
    });
    wait_until(&wrapper, "the columns", knows(2)).await;
    wrapper.send_batch(batch_with(0..100, is_bad)).await.unwrap();
    wait_until(&wrapper, "a file", |it| it.quarantine.files > 0).await;
    let mut sent = 100;
    while wrapper.status().rows.dropped == 0 {
        wrapper.send_batch(batch_with(sent..sent + 1_000, is_bad)).await.unwrap();
        sent += 1_000;
        assert!(sent < 1_000_000, "{:#?}", wrapper.status());
    }
    let status = wait_until(&wrapper, "rest", |it| it.rows.quarantined > 0).await;
    assert!(status.rows.quarantined >= 10, "{status:#?}");
    assert_conserved(&status);
    emulator.stop().unwrap();
    let emulator = serve(&site);
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    let status = wrapper.status();
    assert_conserved(&status);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let (landed, kept) = (site.landed(), kept(&site));
    assert!(landed.keys().all(|id| !kept.contains_key(id)));
    assert_eq!((landed.len() as u64, kept.len() as u64), (status.rows.delivered, status.rows.quarantined));
    assert_eq!(status.rows.stored as i64, sent);
}
