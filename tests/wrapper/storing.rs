//! The side of the caller: what is stored, what is refused, and what stops a wrapper from opening.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{DurationSecondArray, RecordBatch, TimestampNanosecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode, chain};
use arrow_zerobus_sdk_wrapper::{BatchState, ZerobusWrapper, admin};
use futures::FutureExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::site::{Site, assert_conserved, batch, once, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_does_not_convert_is_refused_by_name_before_anything_is_stored() {
    let site = Site::new();
    let wrapper = site.open();
    let schema = Schema::new(vec![Field::new("long", DataType::Duration(TimeUnit::Second), true)]);
    let seconds = DurationSecondArray::from(vec![1]);
    let refused = RecordBatch::try_new(schema.into(), vec![Arc::new(seconds)]).unwrap();
    let error = wrapper.send_batch(refused.clone()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conversion);
    let text = chain(&error);
    assert!(text.contains("long") && text.contains("Duration"), "{text}");
    assert_eq!(error.into_batch(), Some(refused));
    assert_eq!(wrapper.status().frames.stored, 0);
    drop(wrapper);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_rows_is_a_success_that_stores_nothing() {
    let site = Site::new();
    let wrapper = site.open();
    let result = wrapper.send_batch(batch(0..0)).await.unwrap();
    assert_eq!((result.success, result.state, result.lsn), (true, BatchState::Empty, None));
    assert_eq!(wrapper.status().frames.stored, 0);
    drop(wrapper);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_a_segment_is_refused_with_both_sizes() {
    let site = Site::new();
    let wrapper = site.open_with(|c| c.segment_bytes = 64 * 1024);
    let error = wrapper.send_batch(batch(0..100_000)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BatchTooLarge);
    assert!(chain(&error).contains("65536"), "{}", chain(&error));
    assert_eq!(error.into_batch().map(|it| it.num_rows()), Some(100_000));
    drop(wrapper);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_is_refused_and_nothing_is_created() {
    let site = Site::new();
    let mut configuration = site.configuration();
    configuration.table_name = "only.two".to_owned();
    let error = ZerobusWrapper::open(configuration).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Configuration);
    assert!(chain(&error).contains("table_name"), "{}", chain(&error));
    assert!(!site.wal_dir().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_makes_senders_wait_until_delivery_has_made_room() {
    let site = Site::new();
    let wrapper = site.open_with(|c| c.wal_max_bytes = 1 << 20);
    let sender = {
        let wrapper = wrapper.clone();
        tokio::spawn(async move {
            for start in (0..100_000).step_by(1_000) {
                wrapper.send_batch(batch(start..start + 1_000)).await.unwrap();
            }
        })
    };
    let full = wait_until(&wrapper, "a full log", |it| it.log_bytes > 900 * 1024).await;
    assert!(full.log_bytes <= 1 << 20, "the quota is {} and {} are used", 1 << 20, full.log_bytes);
    assert!(!sender.is_finished());

    let emulator = site.serve();
    sender.await.unwrap();
    wrapper.flush(None).await.unwrap();
    assert_conserved(&wrapper.status());
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..100_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_is_cancelled_before_a_full_log_stored_nothing() {
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        c.wal_max_bytes = 1 << 20;
        c.shutdown_timeout = Duration::ZERO;
    });
    let mut sent = 0;
    let patience = Duration::from_millis(300);
    while let Ok(stored) = tokio::time::timeout(patience, wrapper.send_batch(batch(sent..sent + 1_000))).await
    {
        stored.unwrap();
        sent += 1_000;
    }
    let status = wrapper.status();
    assert_eq!(status.rows.stored as i64, sent, "the cancelled batch is not in the log");
    assert_conserved(&status);
    wrapper.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_sends_are_stored_whole_or_not_at_all_and_counted() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    let mut attempts = 0;
    for round in 0..300_i64 {
        let send = wrapper.send_batch(batch(round * 10..round * 10 + 10));
        // Cancelled at ever other moments of the way.
        let _ = tokio::time::timeout(Duration::from_micros(round as u64 * 3), send).await;
        attempts += 1;
    }
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let landed = site.landed();
    assert!(landed.values().all(|times| *times == 1), "nothing lands twice");
    for round in 0..300_i64 {
        let rows = landed.range(round * 10..round * 10 + 10).count();
        assert!(rows == 0 || rows == 10, "batch {round} landed with {rows} rows");
    }
    println!("{attempts} sends cancelled at different moments, {} stored", landed.len() / 10);
    let status = wrapper.status();
    assert_eq!(status.rows.stored, landed.len() as u64, "what is stored is counted, waited for or not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_senders_cancelled_at_random_leave_whole_batches_or_none() {
    const SENDERS: i64 = 1_000;
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    let mut random = StdRng::seed_from_u64(1_000);
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let send = wrapper.send_batch(batch(sender * 10..sender * 10 + 10));
            let after = Duration::from_micros(random.random_range(0..20_000));
            tokio::spawn(async move {
                tokio::select! {
                    biased;
                    sent = send => Some(sent.unwrap()),
                    () = tokio::time::sleep(after) => None,
                }
            })
        })
        .collect();
    let mut stored = Vec::new();
    for (sender, task) in senders.into_iter().enumerate() {
        if task.await.unwrap().is_some() {
            stored.push(sender as i64);
        }
    }
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let landed = site.landed();
    assert!(landed.values().all(|times| *times == 1), "nothing lands twice");
    for sender in 0..SENDERS {
        let rows = landed.range(sender * 10..sender * 10 + 10).count();
        assert!(rows == 0 || rows == 10, "batch {sender} landed with {rows} rows");
        assert!(rows == 10 || !stored.contains(&sender), "batch {sender} was promised and is not there");
    }
    println!("{SENDERS} senders, {} were told that it is stored, {} landed", stored.len(), landed.len() / 10);
    let status = wrapper.status();
    assert_eq!(status.rows.stored, landed.len() as u64);
    assert_conserved(&status);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_delivers_what_is_on_its_way_into_the_log_though_nobody_waits_for_it() {
    const ROWS: i64 = 200_000;
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    // The schema is checked by this one; the next are handed to the log by their first poll.
    wrapper.send_batch(batch(0..1)).await.unwrap();
    let large: Vec<_> = (0..4).map(|number| batch(1 + number * ROWS..1 + (number + 1) * ROWS)).collect();
    for batch in large {
        assert!(wrapper.send_batch(batch).now_or_never().is_none(), "a sync takes longer than a poll");
    }
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let status = wrapper.status();
    assert_eq!((status.rows.stored, status.rows.waiting), (1 + 4 * ROWS as u64, 0));
    assert_eq!(site.landed(), once(0..1 + 4 * ROWS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_and_a_dead_log_tell_the_same_story() {
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    wrapper.send_batch(batch(0..25)).await.unwrap();
    wrapper.send_batch(batch(25..30)).await.unwrap();
    assert_eq!(admin::find_logs(&site.wal_dir()).unwrap(), [site.writer_directory()]);

    let live = admin::status(&site.writer_directory()).unwrap();
    assert_eq!(live.owner_pid, Some(std::process::id()));
    assert!(live.lane.is_some());
    wrapper.shutdown().await.unwrap();
    let dead = admin::status(&site.writer_directory()).unwrap();
    assert_eq!((dead.owner_pid, dead.lane), (None, None));
    assert_eq!((dead.rows, dead.frames), (live.rows, live.frames));
    assert_eq!((dead.rows.stored, dead.rows.waiting), (30, 30));
    assert!(dead.oldest_waiting_secs.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_fits_into_no_table_is_in_quarantine_before_anybody_is_reached() {
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    let field = Field::new("at", DataType::Timestamp(TimeUnit::Second, None), true);
    let seconds = arrow_array::TimestampSecondArray::from(vec![0, i64::MAX]);
    let bad = RecordBatch::try_new(Schema::new(vec![field]).into(), vec![Arc::new(seconds)]).unwrap();
    wrapper.send_batch(bad).await.unwrap();
    let status = wait_until(&wrapper, "the file", |it| it.quarantine.files == 1).await;
    assert_eq!((status.rows.waiting, status.rows.quarantined), (2, 0), "the good row before it waits");
    wrapper.shutdown().await.unwrap();

    // Nanoseconds are floored to the microseconds of the service, which is no error.
    let field = Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, None), true);
    let nanos = TimestampNanosecondArray::from(vec![1_999]);
    let good = RecordBatch::try_new(Schema::new(vec![field]).into(), vec![Arc::new(nanos)]).unwrap();
    assert!(
        arrow_zerobus_sdk_wrapper::convert::Plan::new(good.schema_ref(), None, Default::default()).is_ok()
    );
}
