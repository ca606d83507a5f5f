//! What happens at the bounds of a log: who waits, who is turned away, what is dropped, what is kept; and that
//! every row is counted in one place.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::error::{Coded, ErrorCode, chain};
use arrow_zerobus_sdk_wrapper::types::Lsn;
use arrow_zerobus_sdk_wrapper::{
    LaneState, OnFull, SendError, Status, WaitFor, WrapperConfiguration, ZerobusWrapper, admin,
};

use crate::site::{Site, assert_conserved, batch, once, wait_until};

const MIB: u64 = 1 << 20;
/// About 25 KiB.
const ROWS: i64 = 1_000;
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(30));

/// A log of one megabyte, which is full after about 40 batches.
fn small(configuration: &mut WrapperConfiguration, on_full: OnFull) {
    configuration.wal_max_bytes = MIB;
    configuration.wal_min_free_bytes = 0;
    configuration.on_full = on_full;
    configuration.shutdown_timeout = Duration::ZERO;
}

async fn send(wrapper: &ZerobusWrapper, number: i64) -> Result<Lsn, SendError> {
    let sent = wrapper.send_batch(batch(number * ROWS..(number + 1) * ROWS)).await;
    sent.map(|result| result.lsn.unwrap())
}

/// Sends batches until one does not get in; how many did.
async fn fill(wrapper: &ZerobusWrapper) -> (i64, SendError) {
    for number in 0..1_000 {
        if let Err(error) = send(wrapper, number).await {
            return (number, error);
        }
    }
    panic!("the log is not full: {:#?}", wrapper.status());
}

fn assert_full(error: &SendError, parts: &[&str]) {
    assert_eq!(error.code(), ErrorCode::BufferFull);
    assert!(error.code().info().retryable && error.lsn().is_none(), "nothing was stored");
    let text = chain(error);
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// [I6] The rows that landed are those that count as delivered, once each.
fn assert_landed(site: &Site, status: &Status) -> BTreeMap<i64, usize> {
    let landed = site.landed();
    assert_eq!(landed.len() as u64, status.rows.delivered, "{status:#?}");
    assert!(landed.values().all(|times| *times == 1), "nothing landed twice");
    landed
}

async fn drained(wrapper: &ZerobusWrapper) -> Status {
    let status = wait_until(wrapper, "delivery", |it| it.rows.waiting == 0).await;
    assert_conserved(&status);
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_that_rejects_names_its_quota_and_why_nothing_makes_room() {
    let site = Site::new();
    let wrapper = site.open_with(|c| small(c, OnFull::Reject));
    send(&wrapper, 0).await.unwrap();
    wait_until(&wrapper, "the reason", |it| it.lane.as_ref().unwrap().reason.is_some()).await;
    let (_, error) = fill(&wrapper).await;
    let status = wrapper.status();
    let quota = MIB.to_string();
    assert_full(&error, &["wal_max_bytes", &quota, "on_full = reject", "delivery is "]);
    let reason = status.lane.as_ref().unwrap().reason.clone().unwrap();
    assert!(chain(&error).contains(&reason), "{} does not say {reason}", chain(&error));
    assert_eq!(error.into_batch().map(|it| it.num_rows() as i64), Some(ROWS), "the batch comes back");
    assert!(status.full.as_ref().is_some_and(|full| full.contains("wal_max_bytes")), "{status:#?}");
    assert_eq!((status.on_full, status.wal_max_bytes), (Some(OnFull::Reject), Some(MIB)));
    assert!(status.log_bytes <= MIB);
    assert_conserved(&status);

    let emulator = site.serve();
    drained(&wrapper).await;
    send(&wrapper, 500).await.unwrap();
    let status = drained(&wrapper).await;
    assert_eq!((status.full, status.rows.dropped), (None, 0));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_has_a_limit_ends_with_it_and_stores_nothing() {
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        small(c, OnFull::Block);
        c.block_timeout = Some(Duration::from_millis(20));
    });
    let (stored, error) = fill(&wrapper).await;
    assert_full(&error, &["no room was made within 0.02 s (block_timeout_secs)", "wal_max_bytes"]);
    let status = wrapper.status();
    assert_eq!(status.frames.stored as i64, stored);
    assert_conserved(&status);

    let emulator = site.serve();
    drained(&wrapper).await;
    // What is delivered is freed a moment later, which on a busy machine is more than 20 ms.
    wait_until(&wrapper, "room", |it| it.log_bytes < MIB / 2).await;
    send(&wrapper, stored).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_that_wait_enter_in_the_order_in_which_they_came() {
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        small(c, OnFull::Block);
        c.block_timeout = None;
    });
    let patience = Duration::from_millis(200);
    let mut sent = 0;
    while let Ok(stored) = tokio::time::timeout(patience, send(&wrapper, sent)).await {
        stored.unwrap();
        sent += 1;
    }
    let mut waiting: Vec<_> = (0..60).map(|number| Box::pin(send(&wrapper, sent + number))).collect();
    for sender in &mut waiting {
        assert!(futures::poll!(sender.as_mut()).is_pending(), "the log is full");
    }
    let emulator = site.serve();
    let lsns: Vec<Lsn> =
        futures::future::join_all(waiting).await.into_iter().map(|stored| stored.unwrap()).collect();
    assert!(lsns.is_sorted(), "{lsns:?}");
    drained(&wrapper).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[test]
fn a_sender_needs_no_runtime_of_its_own_even_to_wait() {
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        small(c, OnFull::Block);
        c.block_timeout = Some(Duration::from_millis(20));
    });
    let (_, error) = futures::executor::block_on(fill(&wrapper));
    assert_full(&error, &["block_timeout_secs"]);
    let late = futures::executor::block_on(wrapper.flush(Some(Duration::from_millis(20)))).unwrap_err();
    assert_eq!(late.code(), ErrorCode::FlushTimeout);
    drop(wrapper);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_longest_is_dropped_counted_and_reported_and_stays_so_after_a_crash() {
    const SENT: i64 = 200;
    let site = Site::new();
    let change = |c: &mut WrapperConfiguration| small(c, OnFull::DropOldest);
    let wrapper = site.open_with(change);
    for number in 0..SENT {
        send(&wrapper, number).await.unwrap();
    }
    let before = wrapper.status();
    assert_conserved(&before);
    assert!(before.rows.dropped > 0 && before.log_bytes <= MIB, "{before:#?}");
    assert_eq!(before.rows.stored as i64, SENT * ROWS);
    let error = wrapper.wait_delivered(Lsn::FIRST, None).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Transmission);
    assert!(chain(&error).contains("frame 1 was dropped"), "{}", chain(&error));

    // Without a shutdown: what was dropped is in the ledger, or is not dropped.
    drop(wrapper);
    let dead = admin::status(&site.writer_directory()).unwrap();
    assert_conserved(&dead);
    assert_eq!((dead.rows, dead.frames), (before.rows, before.frames));
    let wrapper = site.open_with(change);
    let after = wrapper.status();
    assert_eq!((after.rows, after.frames), (before.rows, before.frames), "[I6]");
    assert_eq!(wrapper.wait_delivered(Lsn::FIRST, None).await.unwrap_err().code(), ErrorCode::Transmission);

    let emulator = site.serve();
    wrapper.flush(TIMEOUT).await.unwrap();
    let status = drained(&wrapper).await;
    assert_eq!(status.rows.dropped, before.rows.dropped, "with a service nothing more is dropped");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let expected = once(before.rows.dropped as i64..SENT * ROWS);
    assert_eq!(assert_landed(&site, &status), expected, "the newest rows land, once, and no other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_tells_once_what_was_dropped_and_claims_no_delivery() {
    let site = Site::new();
    let wrapper = site.open_with(|c| small(c, OnFull::DropOldest));
    for number in 0..100 {
        send(&wrapper, number).await.unwrap();
    }
    let emulator = site.serve();
    let error = wrapper.flush(TIMEOUT).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Transmission);
    assert!(chain(&error).contains("frames 1 to "), "{}", chain(&error));
    wrapper.flush(TIMEOUT).await.unwrap();
    send(&wrapper, 100).await.unwrap();
    wrapper.flush(TIMEOUT).await.unwrap();
    let last = wrapper.status().durable_lsn;
    wrapper.wait_delivered(last, TIMEOUT).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_waits_for_delivery_is_told_that_its_batch_was_dropped() {
    const SENT: i64 = 100;
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        small(c, OnFull::DropOldest);
        c.wait_for = WaitFor::Delivered;
        c.retry_max_attempts = u32::MAX;
    });
    let senders: Vec<_> = (0..SENT)
        .map(|number| {
            let wrapper = wrapper.clone();
            tokio::spawn(async move { send(&wrapper, number).await })
        })
        .collect();
    wait_until(&wrapper, "all of them", |it| it.frames.stored as i64 == SENT).await;
    let emulator = site.serve();
    let mut dropped = 0;
    for sender in senders {
        if let Err(error) = sender.await.unwrap() {
            assert_eq!(error.code(), ErrorCode::Transmission);
            let text = chain(&error);
            assert!(text.contains("and is not any more") && text.contains("was dropped"), "{text}");
            assert!(error.lsn().is_some(), "the error names the frame");
            dropped += 1;
        }
    }
    let status = drained(&wrapper).await;
    assert!(dropped > 0);
    assert_eq!(status.frames.dropped, dropped, "each of them was told, and nobody else");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_landed(&site, &status);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_either_delivered_or_dropped() {
    const SENT: i64 = 400;
    let site = Site::new();
    // Slower than the senders, so that the log is full again and again while it delivers.
    let emulator = site.serve_with(|options| options.commit_interval = Duration::from_millis(150));
    let wrapper = site.open_with(|c| {
        small(c, OnFull::DropOldest);
        c.request_max_bytes = 64 * 1024;
    });
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let wrapper = wrapper.clone();
            tokio::spawn(async move {
                for number in 0..SENT / 4 {
                    send(&wrapper, number * 4 + sender).await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let status = drained(&wrapper).await;
    assert_eq!(status.rows.stored as i64, SENT * ROWS);
    assert!(status.rows.dropped > 0 && status.rows.delivered > 0, "{status:#?}");
    assert_eq!(status.lane.as_ref().unwrap().failures, 0, "dropping is no failure");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_landed(&site, &status);
    println!("{} of {} rows were dropped while delivering", status.rows.dropped, status.rows.stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_acknowledges_nothing_does_not_hold_up_dropping() {
    let site = Site::new();
    let silent = site.serve_with(|options| options.commit_interval = Duration::from_secs(3600));
    let wrapper = site.open_with(|c| small(c, OnFull::DropOldest));
    for number in 0..100 {
        send(&wrapper, number).await.unwrap();
    }
    let status = wrapper.status();
    assert_conserved(&status);
    assert_eq!((status.rows.stored as i64, status.rows.delivered), (100 * ROWS, 0));
    assert!(status.rows.dropped > 0);
    drop(wrapper);
    silent.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_refused_does_not_hold_up_dropping() {
    use arrow_array::RecordBatch;
    use arrow_schema::{DataType, Field, Schema};
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        small(c, OnFull::DropOldest);
        // The columns may be known by then, or not.
        c.validate = arrow_zerobus_sdk_wrapper::Validate::Off;
    });
    let field = Field::new("id", DataType::Timestamp(arrow_schema::TimeUnit::Second, None), true);
    let seconds = arrow_array::TimestampSecondArray::from(vec![i64::MAX]);
    let bad = RecordBatch::try_new(Schema::new(vec![field]).into(), vec![std::sync::Arc::new(seconds)]);
    wrapper.send_batch(bad.unwrap()).await.unwrap();
    wait_until(&wrapper, "the refusal", |it| it.lane.as_ref().unwrap().state == LaneState::Poison).await;
    for number in 0..200 {
        send(&wrapper, number).await.unwrap();
    }
    let status = drained(&wrapper).await;
    assert_eq!(status.rows.stored as i64, 200 * ROWS + 1);
    assert!(status.rows.dropped > 0 && status.rows.delivered > 0, "{status:#?}");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_landed(&site, &status);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_below_its_floor_is_a_full_log_and_says_which_number_to_change() {
    const FLOOR: u64 = 1 << 62;
    for on_full in OnFull::ALL {
        let site = Site::new();
        let wrapper = site.open_with(|c| {
            small(c, on_full);
            c.wal_min_free_bytes = FLOOR;
            c.block_timeout = (on_full == OnFull::Block).then_some(Duration::from_millis(20));
        });
        let error = send(&wrapper, 0).await.unwrap_err();
        let free = wrapper.status().free_bytes.unwrap();
        assert!(free < FLOOR);
        assert_full(&error, &["wal_min_free_bytes", &FLOOR.to_string(), "set wal_min_free_bytes lower"]);
        let status = wrapper.status();
        assert!(status.full.is_some_and(|full| full.contains("wal_min_free_bytes")));
        assert_eq!((status.frames.stored, status.frames.dropped), (0, 0), "nothing is dropped in vain");
        drop(wrapper);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_can_never_fit_is_refused_with_the_setting_that_limits_it() {
    let site = Site::new();
    let wrapper = site.open_with(|c| small(c, OnFull::Block));
    let error = wrapper.send_batch(batch(0..50_000)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BatchTooLarge);
    let text = chain(&error);
    assert!(text.contains("wal_max_bytes = 1048576") && text.contains("262144"), "{text}");
    assert_eq!(error.into_batch().map(|it| it.num_rows()), Some(50_000));
    assert_eq!(
        (wrapper.status().frames.stored, wrapper.status().log_bytes),
        (0, 0),
        "not a byte was written"
    );
    drop(wrapper);

    let wrapper = site.open_with(|c| c.segment_bytes = 64 * 1024);
    let text = chain(&wrapper.send_batch(batch(0..50_000)).await.unwrap_err());
    assert!(text.contains("segment_bytes = 65536"), "{text}");
    drop(wrapper);
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_segments_are_there_after_a_restart_and_are_not_delivered_again() {
    let site = Site::new();
    let emulator = site.serve();
    let keep = |c: &mut WrapperConfiguration| {
        c.segment_bytes = 64 * 1024;
        c.retain_delivered_bytes = 64 * MIB;
    };
    let wrapper = site.open_with(keep);
    for number in 0..40 {
        send(&wrapper, number).await.unwrap();
    }
    wrapper.flush(TIMEOUT).await.unwrap();
    let kept = wrapper.status();
    assert!(kept.retained_bytes > 900 * 1024, "{kept:#?}");
    wrapper.shutdown().await.unwrap();

    let wrapper = site.open_with(keep);
    let status = wrapper.status();
    assert_eq!((status.rows, status.frames), (kept.rows, kept.frames));
    send(&wrapper, 40).await.unwrap();
    wrapper.flush(TIMEOUT).await.unwrap();
    let status = drained(&wrapper).await;
    assert_eq!(status.rows.delivered as i64, 41 * ROWS);
    assert!(status.retained_bytes >= kept.retained_bytes, "{status:#?}");
    wrapper.shutdown().await.unwrap();
    let dead = admin::status(&site.writer_directory()).unwrap();
    assert_eq!(dead.rows, status.rows);
    assert!(dead.retained_bytes >= kept.retained_bytes);

    // What an earlier owner retained is freed by one that retains nothing.
    let wrapper = site.open();
    wait_until(&wrapper, "the reclaim", |it| it.log_bytes < 256 * 1024).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..41 * ROWS));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_retained_goes_before_anybody_is_turned_away_or_anything_is_dropped() {
    for on_full in OnFull::ALL {
        let site = Site::new();
        let emulator = site.serve();
        let wrapper = site.open_with(|c| {
            small(c, on_full);
            c.retain_delivered = Duration::from_secs(1_000_000);
        });
        let mut retained_most = 0;
        for number in 0..120 {
            send(&wrapper, number).await.unwrap();
            if number % 10 == 9 {
                wrapper.flush(TIMEOUT).await.unwrap();
                retained_most = retained_most.max(wrapper.status().retained_bytes);
            }
        }
        let status = drained(&wrapper).await;
        assert_eq!((status.rows.dropped, status.rows.delivered as i64), (0, 120 * ROWS), "{on_full:?}");
        assert!(retained_most > MIB / 2, "{retained_most} bytes were retained at most");
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_landed(&site, &status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_segments_are_freed_when_they_are_old_enough_though_nothing_else_happens() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        c.segment_bytes = 64 * 1024;
        c.retain_delivered = Duration::from_secs(2);
    });
    for number in 0..40 {
        send(&wrapper, number).await.unwrap();
    }
    wrapper.flush(TIMEOUT).await.unwrap();
    wait_until(&wrapper, "the end of the retention", |it| it.log_bytes < 256 * 1024).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}
