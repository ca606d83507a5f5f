//! A service that is away, comes back, restarts: nothing is lost.

use std::time::Duration;

use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};
use arrow_zerobus_sdk_wrapper::ledger::{Ledger, Settled};
use arrow_zerobus_sdk_wrapper::types::Lsn;
use arrow_zerobus_sdk_wrapper::{LaneState, WaitFor};

use crate::site::{Site, assert_conserved, batch, once, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_batches_are_stored_and_delivered_once_there_is_one() {
    let site = Site::new();
    let wrapper = site.open();
    for start in (0..100).step_by(10) {
        wrapper.send_batch(batch(start..start + 10)).await.unwrap();
    }
    let status = wait_until(&wrapper, "the reason", |it| it.lane.as_ref().unwrap().reason.is_some()).await;
    assert_eq!(status.lane.as_ref().unwrap().state, LaneState::BackingOff);
    assert_eq!(status.rows.waiting, 100);
    assert!(status.oldest_waiting_secs.is_some());
    let refused = wrapper.flush(None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::RetryExhausted);
    let late = wrapper.flush(Some(Duration::from_millis(1))).await.unwrap_err();
    assert_eq!(late.code(), ErrorCode::FlushTimeout);

    let emulator = site.serve();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    assert_conserved(&wrapper.status());
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_during_an_outage_leaves_everything_for_the_next_start() {
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::from_millis(100));
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.shutdown().await.unwrap();
    wrapper.shutdown().await.unwrap();
    let closed = wrapper.send_batch(batch(10..20)).await.unwrap_err();
    assert_eq!(closed.code(), ErrorCode::Closed);
    assert_eq!(closed.into_batch(), Some(batch(10..20)), "what was not stored comes back");
    assert_eq!(wrapper.flush(None).await.unwrap_err().code(), ErrorCode::Closed);

    let emulator = site.serve();
    let wrapper = site.open();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0 && it.rows.delivered == 10).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_the_service_under_load_lose_nothing() {
    const RESTARTS: i64 = 10;
    let site = Site::new();
    let wrapper = site.open();
    let mut sent = 0;
    for _ in 0..RESTARTS {
        let emulator = site.serve();
        let delivered_before = wrapper.status().rows.delivered;
        while wrapper.status().rows.delivered == delivered_before {
            wrapper.send_batch(batch(sent..sent + 10)).await.unwrap();
            sent += 10;
        }
        emulator.stop().unwrap();
        wrapper.send_batch(batch(sent..sent + 10)).await.unwrap();
        sent += 10;
    }
    let emulator = site.serve();
    let status = wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let landed = site.landed();
    assert_eq!(landed.keys().copied().collect::<Vec<_>>(), (0..sent).collect::<Vec<_>>());
    let doubled: u64 = landed.values().map(|times| *times as u64 - 1).sum();
    let resent = status.lane.unwrap().resent_rows;
    assert!(doubled <= resent, "{doubled} rows landed again, and {resent} were told");
    println!("{sent} rows over {RESTARTS} restarts: 0 lost, {doubled} landed again, {resent} sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_delivery_ends_after_the_attempts_allowed_and_names_the_frame() {
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        c.wait_for = WaitFor::Delivered;
        c.retry_max_attempts = 2;
    });
    let error = wrapper.send_batch(batch(0..10)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RetryExhausted);
    let lsn = error.lsn().expect("the error names the frame");
    assert!(error.into_batch().is_none(), "it is stored");

    let emulator = site.serve();
    wrapper.wait_delivered(lsn, Some(Duration::from_secs(30))).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_a_power_cut_took_after_a_part_was_delivered_leaves_its_number_unused() {
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.shutdown().await.unwrap();
    // What a log that is left to the operating system can look like then: frame 2 is gone, and the ledger knows
    // that three of its rows were delivered.
    let epoch = wrapper.status().epoch;
    let mut opened = Ledger::open(&site.writer_directory(), epoch).unwrap();
    opened.record.settled = Settled { through: Lsn::new(1), rows_of_next: 3 };
    opened.record.delivered_rows = 13;
    opened.record.delivered_frames = 1;
    opened.ledger.checkpoint(&opened.record).unwrap();
    drop((wrapper, opened));

    let emulator = site.serve();
    let wrapper = site.open();
    let result = wrapper.send_batch(batch(10..20)).await.unwrap();
    assert_eq!(result.lsn, Some(Lsn::new(3)), "an LSN is never used again [I12]");
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(10..20), "the new batch lost rows to the old one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_ledger_costs_duplicates_and_no_row() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    std::fs::write(site.writer_directory().join("ledger/conf"), "not a ledger").unwrap();
    std::fs::remove_file(site.writer_directory().join("ledger.mark")).unwrap();

    let wrapper = site.open();
    let result = wrapper.send_batch(batch(10..20)).await.unwrap();
    assert_eq!(result.lsn.unwrap().get(), 2, "an LSN is never used again [I12]");
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert!(site.writer_directory().join("ledger.set-aside-1/conf").exists());
    assert_eq!(site.landed().into_keys().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}
