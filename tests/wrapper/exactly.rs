//! `delivery = "exactly_once"`: whatever fails, and whoever goes on, each row is in the table once.

use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_zerobus_sdk_wrapper::emulator::Emulator;
use arrow_zerobus_sdk_wrapper::emulator::faults::{Condition, Fault, Refusal, Rule};
use arrow_zerobus_sdk_wrapper::error::chain;
use arrow_zerobus_sdk_wrapper::{
    DeliveryGuarantee, OnFull, Status, TransportKind, WrapperConfiguration, ZerobusWrapper, admin,
};
use tonic::Code;

use crate::quarantine::{REQUIRED, batch_without, good, kept, told};
use crate::site::{Site, TABLE, assert_conserved, batch, once, wait_until};

pub(crate) fn exactly(configuration: &mut WrapperConfiguration) {
    configuration.delivery = DeliveryGuarantee::ExactlyOnce;
    configuration.retry_max_attempts = u32::MAX;
}

/// Small requests, and no wait at the end.
pub(crate) fn impatient(configuration: &mut WrapperConfiguration) {
    exactly(configuration);
    configuration.request_max_bytes = 1024;
    configuration.shutdown_timeout = Duration::ZERO;
}

pub(crate) async fn send(wrapper: &ZerobusWrapper, ids: std::ops::Range<i64>) {
    for start in ids.step_by(10) {
        wrapper.send_batch(batch(start..start + 10)).await.unwrap();
    }
}

pub(crate) async fn drained(wrapper: &ZerobusWrapper) -> Status {
    let status = wait_until(wrapper, "the end", |it| it.rows.waiting == 0).await;
    assert_conserved(&status);
    status
}

/// Delivers some rows, and from then on what is committed is not acknowledged any more.
pub(crate) async fn silenced(emulator: &Emulator, wrapper: &ZerobusWrapper, ids: std::ops::Range<i64>) {
    send(wrapper, ids).await;
    drained(wrapper).await;
    emulator.faults().add([Rule::new(Fault::WithholdAcks {})]).unwrap();
}

/// Ends both, with everything delivered. Every row is in the table once.
async fn end(site: &Site, wrapper: ZerobusWrapper, emulator: Emulator, rows: i64) {
    let status = drained(&wrapper).await;
    assert_eq!((status.doubtful_rows, status.rows.delivered as i64), (0, rows), "{status:#?}");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..rows));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_each_row_lands_once() {
    let refusal = || Refusal::new(Code::Unavailable);
    for rule in [
        Rule::new(Fault::DropAck { reset: false }).after(2).times(2),
        Rule::new(Fault::DropAck { reset: true }).after(2).times(2),
        Rule::new(Fault::ResetConnection { after_bytes: 4_000 }).times(4),
        Rule::new(Fault::FailOpen { refusal: refusal() }).times(3),
        Rule::new(Fault::FailStream { refusal: refusal() }).after(3).times(3),
        Rule::new(Fault::FailStream { refusal: Refusal::new(Code::Ok) }).after(2).times(1),
        Rule::new(Fault::DelayAcks { delay_ms: 50 }).times(5),
        Rule::new(Fault::CloseSignal { grace_ms: 30 }).after(2).times(2),
        Rule::new(Fault::RejectRecords { condition: Condition::equals("id", 125) }).times(1),
    ] {
        let site = Site::new();
        let emulator = site.serve();
        emulator.faults().add([rule.clone()]).unwrap();
        let wrapper = site.open_with(|c| {
            exactly(c);
            c.request_max_bytes = 1024;
        });
        send(&wrapper, 0..500).await;
        let status = drained(&wrapper).await;
        let lane = status.lane.as_ref().unwrap();
        assert!(lane.stream_id.is_some() && lane.resent_rows == 0, "{rule:?}: {lane:?}");
        println!("{rule:?}: {} streams", lane.streams_opened);
        end(&site, wrapper, emulator, 500).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_and_never_acknowledged_is_settled_by_the_next_owner() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(impatient);
    silenced(&emulator, &wrapper, 0..50).await;
    send(&wrapper, 50..300).await;
    // All of the window is in the table by then, or will never be.
    tokio::time::sleep(Duration::from_millis(200)).await;
    wrapper.shutdown().await.unwrap();
    assert_eq!(wrapper.status().rows.waiting, 250);
    drop(wrapper);
    emulator.faults().clear();
    let wrapper = site.open_with(exactly);
    end(&site, wrapper, emulator, 300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_committed_is_sent_again_with_the_boundaries_that_it_had() {
    let site = Site::new();
    let silent = site.serve_with(|options| options.commit_interval = Duration::from_secs(3600));
    let wrapper = site.open_with(impatient);
    send(&wrapper, 0..400).await;
    wait_until(&wrapper, "a stream", |it| it.lane.as_ref().unwrap().stream_id.is_some()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(wrapper);
    silent.stop().unwrap();
    let emulator = site.serve();
    // Other limits than before change nothing of what was recorded.
    let wrapper = site.open_with(|c| {
        exactly(c);
        c.max_inflight_requests = 2;
    });
    end(&site, wrapper, emulator, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_resumes_the_same_stream() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        exactly(c);
        c.stream_max_age = Duration::from_secs(1);
    });
    let mut sent = 0;
    let mut ids = std::collections::BTreeSet::new();
    while wrapper.status().lane.unwrap().streams_opened < 3 {
        send(&wrapper, sent..sent + 10).await;
        sent += 10;
        ids.extend(wrapper.status().lane.unwrap().stream_id);
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(wrapper.status().lane.unwrap().failures, 0, "a rotation is no failure");
    end(&site, wrapper, emulator, sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_restart_goes_on_with_the_same_stream() {
    let site = Site::new();
    let emulator = site.serve();
    let mut ids = std::collections::BTreeSet::new();
    for run in 0..3 {
        let wrapper = site.open_with(exactly);
        send(&wrapper, run * 20..run * 20 + 20).await;
        let status = drained(&wrapper).await;
        ids.extend(status.lane.unwrap().stream_id);
        wrapper.shutdown().await.unwrap();
    }
    emulator.stop().unwrap();
    assert_eq!((ids.len(), site.landed()), (1, once(0..60)));
}

fn narrow(ids: std::ops::Range<i64>) -> RecordBatch {
    batch(ids).project(&[0]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_schema_begins_another_stream_and_a_restart_in_between_changes_nothing() {
    let site = Site::new();
    for stop_early in [false, true] {
        let emulator = site.serve();
        // Without the table's columns each schema makes messages of its own.
        emulator.sql(&format!("REVOKE SELECT ON TABLE {TABLE} FROM edge_box")).unwrap();
        let wrapper = site.open_with(impatient);
        let mut first = 0;
        if stop_early {
            silenced(&emulator, &wrapper, 400..440).await;
            first = 440;
        }
        let mut ids = std::collections::BTreeSet::new();
        for start in (first..first + 400).step_by(20) {
            wrapper.send_batch(batch(start..start + 10)).await.unwrap();
            wrapper.send_batch(narrow(start + 10..start + 20)).await.unwrap();
            ids.extend(wrapper.status().lane.unwrap().stream_id);
        }
        if stop_early {
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(wrapper);
            emulator.faults().clear();
            end(&site, site.open_with(impatient), emulator, 840).await;
        } else {
            let status = drained(&wrapper).await;
            ids.extend(status.lane.unwrap().stream_id);
            assert!(ids.len() > 1, "{ids:?}");
            end(&site, wrapper, emulator, 400).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_altered_while_the_outcome_is_unknown_begins_another_stream() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(impatient);
    silenced(&emulator, &wrapper, 0..50).await;
    send(&wrapper, 50..300).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = wrapper.status().lane.unwrap().stream_id;
    drop(wrapper);
    emulator.sql(&format!("ALTER TABLE {TABLE} ADD COLUMNS (more STRING)")).unwrap();
    emulator.faults().clear();
    let wrapper = site.open_with(exactly);
    send(&wrapper, 300..310).await;
    let status = drained(&wrapper).await;
    assert_ne!(status.lane.unwrap().stream_id, before);
    end(&site, wrapper, emulator, 310).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_service_refuses_are_found_and_the_others_land_once() {
    let is_bad = |id: i64| [37, 38, 400, 799].contains(&id);
    let site = Site::new();
    let emulator = site.serve_with(|options| options.tables = vec![(TABLE.to_owned(), REQUIRED.to_owned())]);
    emulator.sql(&format!("REVOKE SELECT ON TABLE {TABLE} FROM edge_box")).unwrap();
    emulator.faults().add([Rule::new(Fault::DropAck { reset: true }).after(5).times(3)]).unwrap();
    let wrapper = site.open_with(|c| {
        exactly(c);
        c.request_max_bytes = 1024;
    });
    for start in (0..800).step_by(40) {
        wrapper.send_batch(batch_without(start..start + 40, is_bad)).await.unwrap();
    }
    assert_eq!(told(&wrapper).await, 4);
    let status = drained(&wrapper).await;
    assert_eq!((status.rows.quarantined, status.doubtful_rows), (4, 0));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(kept(&site).keys().copied().collect::<Vec<_>>(), [37, 38, 400, 799]);
    assert_eq!(site.landed(), good(0..800, is_bad));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_quarantine_are_left_out_of_a_request_that_is_made_again() {
    let is_bad = |id: i64| id % 7 == 3;
    let site = Site::new();
    let silent = site.serve_with(|options| {
        options.tables = vec![(TABLE.to_owned(), REQUIRED.to_owned())];
        options.commit_interval = Duration::from_secs(3600);
    });
    let wrapper = site.open_with(|c| {
        impatient(c);
        c.validate = arrow_zerobus_sdk_wrapper::Validate::Off;
    });
    for start in (0..400).step_by(20) {
        wrapper.send_batch(batch_without(start..start + 20, is_bad)).await.unwrap();
    }
    wait_until(&wrapper, "bad rows", |it| it.quarantine.files >= 20).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(wrapper);
    silent.stop().unwrap();
    let emulator = site.serve_with(|options| options.tables.clear());
    emulator.faults().add([Rule::new(Fault::DropAck { reset: false }).after(1).times(1)]).unwrap();
    let wrapper = site.open_with(exactly);
    let status = drained(&wrapper).await;
    let bad = (0..400).filter(|id| is_bad(*id)).count() as u64;
    assert_eq!((status.rows.quarantined, status.doubtful_rows), (bad, 0));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), good(0..400, is_bad));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_counted_and_what_is_not_lands_once() {
    let site = Site::new();
    let emulator = site.serve_with(|options| options.commit_interval = Duration::from_millis(150));
    emulator.faults().add([Rule::new(Fault::DropAck { reset: true }).probability(0.05, 7)]).unwrap();
    let wrapper = site.open_with(|c| {
        exactly(c);
        c.wal_max_bytes = 1 << 20;
        c.segment_bytes = 128 * 1024;
        c.on_full = OnFull::DropOldest;
        c.request_max_bytes = 64 * 1024;
    });
    let mut sent = 0;
    for _ in 0..150 {
        wrapper.send_batch(batch(sent..sent + 1_000)).await.unwrap();
        sent += 1_000;
    }
    emulator.faults().clear();
    let status = drained(&wrapper).await;
    assert!(status.rows.dropped > 0 && status.rows.delivered > 0, "{status:#?}");
    assert_eq!((status.rows.stored as i64, status.doubtful_rows), (sent, 0));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let landed = site.landed();
    assert!(landed.values().all(|times| *times == 1), "a row landed twice");
    let missing = sent as u64 - landed.len() as u64;
    // What was sent and given up may have landed, and is counted as dropped.
    assert!(missing <= status.rows.dropped, "{missing} are missing");
    println!("{} of {sent} rows were dropped, {missing} are missing", status.rows.dropped);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guarantee_can_be_another_one_at_each_start() {
    let site = Site::new();
    let emulator = site.serve();
    let at_least = |c: &mut WrapperConfiguration| {
        impatient(c);
        c.delivery = DeliveryGuarantee::AtLeastOnce;
    };
    for run in 0..6 {
        let wrapper = site.open_with(if run % 2 == 0 { impatient } else { at_least });
        let first = run * 200;
        if run % 2 == 0 {
            silenced(&emulator, &wrapper, first..first + 50).await;
            send(&wrapper, first + 50..first + 200).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(wrapper);
            emulator.faults().clear();
        } else {
            send(&wrapper, first..first + 200).await;
            let status = drained(&wrapper).await;
            assert_eq!((status.doubtful_rows, status.lane.unwrap().stream_id), (0, None));
            wrapper.shutdown().await.unwrap();
        }
    }
    assert_eq!(admin::status(&site.writer_directory()).unwrap().doubtful_rows, 0);
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..1_200));
}

#[test]
fn a_transport_without_such_streams_is_refused_at_once() {
    let site = Site::new();
    let mut configuration = site.configuration();
    exactly(&mut configuration);
    configuration.transport = TransportKind::ArrowFlight;
    let error = ZerobusWrapper::open(configuration).map(drop).unwrap_err();
    assert!(chain(&error).contains("delivery is \"exactly_once\""), "{}", chain(&error));
    assert!(!site.wal_dir().exists(), "nothing was created");
}
