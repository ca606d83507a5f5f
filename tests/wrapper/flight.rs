//! Delivery over Arrow Flight: the same promises, kept by batches and acknowledged rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_zerobus_sdk_wrapper::emulator::faults::{Condition, Fault, Faults, Refusal, Rule};
use arrow_zerobus_sdk_wrapper::emulator::{Emulator, Sink};
use arrow_zerobus_sdk_wrapper::{
    Compression, DeliveryError, LaneState, TransportKind, WrapperConfiguration, ZerobusWrapper,
};
use tonic::Code;

use crate::gate::{Catalog, Gate};
use crate::site::{Site, TABLE, assert_conserved, batch, once, wait_until};

pub(crate) fn open(site: &Site, change: impl FnOnce(&mut WrapperConfiguration)) -> ZerobusWrapper {
    site.open_with(|c| {
        c.transport = TransportKind::ArrowFlight;
        c.retry_max_attempts = u32::MAX;
        change(c);
    })
}

/// Waits for everything; rows in quarantine are told and do not come again.
pub(crate) async fn flush(wrapper: &ZerobusWrapper) {
    while let Err(error) = wrapper.flush(Some(Duration::from_secs(60))).await {
        assert!(matches!(error, DeliveryError::Refused(_) | DeliveryError::Quarantined { .. }), "{error:?}");
    }
}

pub(crate) async fn end(wrapper: ZerobusWrapper, emulator: Emulator) {
    assert_conserved(&wrapper.status());
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

/// Counts the batches that come from now on, and does nothing to them.
fn count_batches(faults: &Faults) {
    let refusal = Refusal::new(Code::Internal);
    faults.add([Rule::new(Fault::FailStream { refusal }).after(u64::MAX)]).unwrap();
}

fn batches_counted(faults: &Faults) -> u64 {
    faults.list().iter().find(|it| it.rule.after == u64::MAX).unwrap().occasions
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_land_once_whatever_the_compression() {
    for compression in [None, Some(Compression::None), Some(Compression::Lz4), Some(Compression::Zstd)] {
        let site = Site::new();
        let emulator = site.serve();
        let wrapper = open(&site, |c| c.compression = compression);
        for start in (0..1_000).step_by(100) {
            wrapper.send_batch(batch(start..start + 100)).await.unwrap();
        }
        flush(&wrapper).await;
        assert_eq!(site.landed(), once(0..1_000), "{compression:?}");
        end(wrapper, emulator).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_restarts_in_the_middle_loses_no_row_and_sees_them_in_order() {
    let site = Site::new();
    let mut emulator = site.serve();
    let wrapper = open(&site, |_| {});
    for round in 0..5 {
        for start in (round * 400..(round + 1) * 400).step_by(10) {
            wrapper.send_batch(batch(start..start + 10)).await.unwrap();
        }
        emulator.stop().unwrap();
        let landed = site.landed();
        let end = landed.keys().next_back().map_or(0, |id| id + 1);
        assert_eq!(landed.keys().copied().collect::<Vec<_>>(), (0..end).collect::<Vec<_>>(), "a gap");
        emulator = site.serve();
    }
    flush(&wrapper).await;
    assert_eq!(site.landed().keys().copied().collect::<Vec<_>>(), (0..2_000).collect::<Vec<_>>());
    end(wrapper, emulator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_acknowledged_in_part_is_sent_again_from_the_row_behind() {
    for (frames, rows_cut) in [(1, 3), (5, 33), (5, 40), (5, 49)] {
        let site = Site::new();
        let wrapper = open(&site, |c| c.shutdown_timeout = Duration::ZERO);
        for start in 0..frames {
            wrapper.send_batch(batch(start * 10..(start + 1) * 10)).await.unwrap();
        }
        wrapper.shutdown().await.unwrap();
        drop(wrapper);
        let emulator = site.serve_with(|options| options.auto_create = false);
        emulator.faults().add([Rule::new(Fault::CutRequest { rows: rows_cut }).times(1)]).unwrap();
        // All of them are there before the first request is made, so that it holds all of them; and so is the fault.
        let wrapper = open(&site, |_| {});
        flush(&wrapper).await;
        assert_eq!(emulator.faults().list()[0].fired, 1);
        assert_eq!(site.landed(), once(0..frames * 10), "{frames} frames, cut behind {rows_cut} rows");
        end(wrapper, emulator).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_passes_costs_no_row_and_no_duplicate() {
    let refusal = || Refusal::new(Code::Unavailable);
    for rule in [
        Rule::new(Fault::ResetConnection { after_bytes: 100 }).times(2),
        Rule::new(Fault::FailOpen { refusal: refusal() }).times(3),
        Rule::new(Fault::FailStream { refusal: refusal() }).after(2).times(1),
        Rule::new(Fault::DelayAcks { delay_ms: 150 }).times(2),
        Rule::new(Fault::CloseSignal { grace_ms: 1_000 }).after(2).times(1),
        Rule::new(Fault::RejectRecords { condition: Condition::equals("id", 25) }).times(1),
        Rule::new(Fault::FailToken { status: 503, retry_after_secs: None }).times(2),
    ] {
        let site = Site::new();
        let emulator = site.serve();
        let wrapper = open(&site, |_| {});
        emulator.faults().add([rule.clone()]).unwrap();
        for start in (0..50).step_by(10) {
            wrapper.send_batch(batch(start..start + 10)).await.unwrap();
            flush(&wrapper).await;
        }
        assert_eq!(Some(emulator.faults().list()[0].fired), rule.times, "{rule:?}");
        assert_eq!(site.landed(), once(0..50), "{rule:?}");
        end(wrapper, emulator).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_without_an_acknowledgement_lands_twice_and_nothing_else_does() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = open(&site, |_| {});
    emulator.faults().add([Rule::new(Fault::DropAck { reset: true }).after(2).times(1)]).unwrap();
    for start in (0..50).step_by(10) {
        wrapper.send_batch(batch(start..start + 10)).await.unwrap();
        flush(&wrapper).await;
    }
    let expected: BTreeMap<i64, usize> =
        (0..50).map(|id| (id, if (20..30).contains(&id) { 2 } else { 1 })).collect();
    assert_eq!(site.landed(), expected);
    end(wrapper, emulator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_sent_in_batches_under_two_mebibytes() {
    let site = Site::new();
    let emulator = site.serve();
    count_batches(emulator.faults());
    let wrapper = open(&site, |c| c.request_max_bytes = 8 << 20);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000).map(|id| format!("{id:08000}"))));
    wrapper
        .send_batch(
            RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).unwrap(),
        )
        .await
        .unwrap();
    flush(&wrapper).await;
    // 8 MB; the client makes more batches of those that are larger, and of slices of larger ones.
    assert_eq!(batches_counted(emulator.faults()), 4);
    assert_eq!(site.landed(), once(0..1_000));
    end(wrapper, emulator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_fills_requests_is_sent_in_even_parts_and_smaller_ones_together() {
    // The rows of each frame, of 8 KB each, and the batches that they make of at most 100 KB.
    for (frames, batches) in
        [(vec![33, 33, 33], 9), (vec![10, 11, 12], 3), (vec![3; 12], 3), (vec![30, 3, 3, 4], 4)]
    {
        let site = Site::new();
        let wrapper = open(&site, |c| (c.request_max_bytes, c.shutdown_timeout) = (100_000, Duration::ZERO));
        let mut sent = 0;
        for rows in frames.iter().copied() {
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(sent..sent + rows));
            let names = (sent..sent + rows).map(|id| format!("{id:08000}"));
            let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
            let columns = [("id", ids, true), ("name", names, true)];
            wrapper.send_batch(RecordBatch::try_from_iter_with_nullable(columns).unwrap()).await.unwrap();
            sent += rows;
        }
        wrapper.shutdown().await.unwrap();
        drop(wrapper);
        let emulator = site.serve();
        count_batches(emulator.faults());
        let wrapper = open(&site, |c| c.request_max_bytes = 100_000);
        flush(&wrapper).await;
        assert_eq!(batches_counted(emulator.faults()), batches, "{frames:?}");
        assert_eq!(site.landed(), once(0..sent));
        end(wrapper, emulator).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_with_other_columns_of_the_table_share_a_stream() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = open(&site, |_| {});
    wait_until(&wrapper, "the table", |status| status.table_schema.columns == Some(2)).await;
    for start in (0..100).step_by(10) {
        let whole = batch(start..start + 10);
        let sent = if start % 20 == 0 { whole } else { whole.project(&[0]).unwrap() };
        wrapper.send_batch(sent).await.unwrap();
    }
    flush(&wrapper).await;
    assert_eq!(site.landed(), once(0..100));
    assert_eq!(wrapper.status().lane.unwrap().streams_opened, 1);
    end(wrapper, emulator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_frames_share_a_batch() {
    let site = Site::new();
    let wrapper = open(&site, |_| {});
    for id in 0..300 {
        wrapper.send_batch(batch(id..id + 1)).await.unwrap();
    }
    let emulator = site.serve();
    count_batches(emulator.faults());
    flush(&wrapper).await;
    // What was there when the service was first asked for, and the rest.
    assert!(batches_counted(emulator.faults()) <= 3, "{} batches", batches_counted(emulator.faults()));
    assert_eq!(site.landed(), once(0..300));
    end(wrapper, emulator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_convert_go_into_quarantine_and_the_others_land() {
    const COLUMNS: &str = "id BIGINT NOT NULL, value INT";
    let site = Site::new();
    let emulator = site.serve_with(|options| options.tables[0].1 = COLUMNS.to_owned());
    let wrapper = open(&site, |_| {});
    let is_bad = |id: i64| id % 10 == 7;
    let values = (0..100).map(|id| if is_bad(id) { i64::MAX } else { id });
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter((0..100).map(|id| (id != 50).then_some(id))));
    let sent =
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("value", values, true)]).unwrap();
    wait_until(&wrapper, "the table", |status| status.table_schema.columns == Some(2)).await;
    wrapper.send_batch(sent).await.unwrap();
    flush(&wrapper).await;
    let good: BTreeMap<i64, usize> =
        (0..100).filter(|id| !is_bad(*id) && *id != 50).map(|id| (id, 1)).collect();
    assert_eq!(site.landed(), good);
    assert_eq!(wrapper.status().rows.quarantined, 11);
    end(wrapper, emulator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_service_refuses_is_found_in_halves() {
    let site = Site::new();
    let emulator = site.serve();
    let condition = Condition::equals("id", 77);
    emulator.faults().add([Rule::new(Fault::RejectRecords { condition })]).unwrap();
    count_batches(emulator.faults());
    let wrapper = open(&site, |_| {});
    wrapper.send_batch(batch(0..1_000)).await.unwrap();
    flush(&wrapper).await;
    let mut expected = once(0..1_000);
    expected.remove(&77);
    assert_eq!(site.landed(), expected);
    assert_eq!(wrapper.status().rows.quarantined, 1);
    assert!(batches_counted(emulator.faults()) <= 14, "{} batches", batches_counted(emulator.faults()));
    end(wrapper, emulator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_the_service_refuses_is_waited_for_with_its_causes() {
    let site = Site::new();
    let emulator = site.serve();
    // Nobody knows the table, so the service is the first to say what does not fit.
    let gate = Gate::before(emulator.unity_catalog_url(), Catalog::Away);
    let wrapper = open(&site, |c| c.unity_catalog_url = Some(gate.url.clone()));
    let sent = |ids: std::ops::Range<i64>| {
        let extra: ArrayRef = Arc::new(Int32Array::from_iter_values(ids.clone().map(|_| 5)));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("extra", extra, true)]).unwrap()
    };
    wrapper.send_batch(sent(0..10)).await.unwrap();
    let status = wait_until(&wrapper, "the refusal", |status| {
        status.lane.as_ref().is_some_and(|lane| lane.state == LaneState::Poison)
    })
    .await;
    let reason = status.lane.unwrap().reason.unwrap();
    assert!(reason.contains("a field is not in the table") && reason.contains("extra"), "{reason}");
    emulator.sql(&format!("ALTER TABLE {TABLE} ADD COLUMNS (extra INT)")).unwrap();
    flush(&wrapper).await;
    assert_eq!(site.landed(), once(0..10));
    assert_eq!(wrapper.status().rows.quarantined, 0);
    end(wrapper, emulator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_refused_for_too_long_is_put_into_quarantine() {
    let site = Site::new();
    let emulator = site.serve();
    let gate = Gate::before(emulator.unity_catalog_url(), Catalog::Away);
    let wrapper = open(&site, |c| {
        c.unity_catalog_url = Some(gate.url.clone());
        c.schema_grace = Duration::ZERO;
    });
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["no number"; 4]));
    wrapper.send_batch(RecordBatch::try_from_iter([("id", ids)]).unwrap()).await.unwrap();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    flush(&wrapper).await;
    assert_eq!(site.landed(), once(0..10));
    assert_eq!(wrapper.status().rows.quarantined, 4);
    end(wrapper, emulator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_that_discards_acknowledges_without_a_look() {
    let site = Site::new();
    let emulator = site.serve_with(|options| options.sink = Sink::Discard);
    let wrapper = open(&site, |_| {});
    wrapper.send_batch(batch(0..500)).await.unwrap();
    flush(&wrapper).await;
    assert_eq!(wrapper.status().rows.delivered, 500);
    assert!(site.landed().is_empty());
    end(wrapper, emulator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_from_the_schema_of_a_stream() {
    let site = Site::new();
    let emulator = site.serve_with(|options| {
        options.tables.clear();
        options.auto_create = true;
    });
    let wrapper = open(&site, |_| {});
    wrapper.send_batch(batch(0..20)).await.unwrap();
    flush(&wrapper).await;
    assert_eq!(site.landed(), once(0..20));
    end(wrapper, emulator).await;
}
