//! `writer_disabled`: batches are stored and shown as files, and nothing goes anywhere.

use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_zerobus_sdk_wrapper::{DeliveryError, OnFull, WrapperConfiguration};

use crate::site::{Site, TABLE, assert_conserved, batch, once};

fn disabled(site: &Site) -> impl FnOnce(&mut WrapperConfiguration) {
    let output = site.directory.path().join("out");
    move |c: &mut WrapperConfiguration| {
        c.writer_disabled = true;
        c.debug_enabled = true;
        c.debug_output_dir = Some(output);
        c.debug_flush_interval = Duration::from_secs(3600);
        (c.client_id, c.client_secret) = (None, None);
    }
}

fn shown(site: &Site) -> usize {
    let path = site.directory.path().join("out/zerobus/arrow").join(format!("{TABLE}.arrows"));
    let batches: Vec<RecordBatch> = StreamReader::try_new(std::fs::File::open(path).unwrap(), None)
        .unwrap()
        .map_while(Result::ok)
        .collect();
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_stored_and_shown_without_a_network_or_credentials_and_delivered_by_nobody() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(disabled(&site));
    let result = wrapper.send_batch(batch(0..10)).await.unwrap();
    assert!(result.success && result.durable);
    // `flush` waits for the files, which would not be written for an hour.
    wrapper.flush(Some(Duration::from_secs(30))).await.unwrap();
    assert_eq!(shown(&site), 10);

    let status = wrapper.status();
    assert_conserved(&status);
    assert_eq!((status.rows.waiting, status.rows.delivered), (10, 0));
    let lane = status.lane.unwrap();
    assert_eq!((lane.state.as_str(), lane.failures, lane.streams_opened), ("disabled", 0, 0));
    assert!(lane.reason.unwrap().contains("writer_disabled"));
    let refused =
        wrapper.wait_delivered(result.lsn.unwrap(), Some(Duration::from_secs(30))).await.unwrap_err();
    assert!(matches!(&refused, DeliveryError::Disabled) && refused.to_string().contains("writer_disabled"));
    wrapper.shutdown().await.unwrap();
    assert!(site.landed().is_empty());

    // They wait like any other, for a wrapper that delivers.
    let wrapper = site.open();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_drains_keeps_its_bounds() {
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        disabled(&site)(c);
        c.wal_max_bytes = 2 << 20;
        c.on_full = OnFull::DropOldest;
    });
    for start in (0..300_000).step_by(3_000) {
        wrapper.send_batch(batch(start..start + 3_000)).await.unwrap();
    }
    let status = wrapper.status();
    assert_conserved(&status);
    assert!(status.rows.dropped > 0 && status.log_bytes <= 2 << 20);
    wrapper.shutdown().await.unwrap();
}
