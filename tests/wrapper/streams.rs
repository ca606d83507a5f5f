//! `streams = 4`: rows arrive in no order and all arrive, whichever stream fails or says nothing; and what is sent again is
//! what was in flight.

use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_zerobus_sdk_wrapper::emulator::Emulator;
use arrow_zerobus_sdk_wrapper::emulator::faults::{Fault, Refusal, Rule};
use arrow_zerobus_sdk_wrapper::ledger::{Ledger, Settled, SettledRange};
use arrow_zerobus_sdk_wrapper::types::Lsn;
use arrow_zerobus_sdk_wrapper::{
    LaneState, OnFull, Status, TransportKind, WaitFor, WrapperConfiguration, ZerobusWrapper, admin,
};
use tonic::Code;

use crate::exactly::exactly;
use crate::isolation::unseen;
use crate::quarantine::{bad, batch_without, good, kept, told};
use crate::site::{Site, TABLE, assert_conserved, batch, files_with, once, wait_until};

const STREAMS: usize = 4;
const WINDOW: usize = 2;
/// Fewer rows than a request of a kilobyte has, and more.
const ROWS_OF_REQUEST_MIN: usize = 50;
const ROWS_OF_REQUEST_MAX: usize = 80;
const ROWS_OF_FRAME: i64 = 50;

/// Four streams with small windows and small requests.
fn several(configuration: &mut WrapperConfiguration) {
    configuration.streams = STREAMS;
    configuration.max_inflight_requests = WINDOW;
    configuration.request_max_bytes = 1024;
    configuration.retry_max_attempts = u32::MAX;
}

async fn send(wrapper: &ZerobusWrapper, ids: std::ops::Range<i64>) {
    for start in ids.clone().step_by(ROWS_OF_FRAME as usize) {
        wrapper.send_batch(batch(start..(start + ROWS_OF_FRAME).min(ids.end))).await.unwrap();
    }
}

async fn drained(wrapper: &ZerobusWrapper) -> Status {
    let status = wait_until(wrapper, "the end", |it| it.rows.waiting == 0).await;
    assert_conserved(&status);
    status
}

/// Sends rows whose first stream acknowledges nothing, and waits until the others have gone nearly as far ahead as they may.
async fn stalled(wrapper: &ZerobusWrapper, emulator: &Emulator, rows: i64) -> Status {
    emulator.faults().add([Rule::new(Fault::WithholdAcks {}).times(1)]).unwrap();
    send(wrapper, 0..rows).await;
    let rows = (3 * STREAMS * WINDOW * ROWS_OF_REQUEST_MIN) as u64;
    wait_until(wrapper, "rows of the others", |it| it.rows.delivered >= rows).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_four_streams_land_once_each_with_either_transport() {
    for transport in TransportKind::ALL {
        let site = Site::new();
        let wrapper = site.open_with(|c| {
            several(c);
            c.transport = transport;
        });
        // What has waited is more than a window.
        send(&wrapper, 0..4_000).await;
        let emulator = site.serve();
        let lane = drained(&wrapper).await.lane.unwrap();
        assert_eq!((lane.streams_opened, lane.resent_rows), (STREAMS as u64, 0), "{lane:?}");
        assert_eq!((lane.state, lane.reason), (LaneState::Idle, None));
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(0..4_000), "{transport:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trickle_needs_one_stream_and_keeps_its_order() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(several);
    for start in (0..200).step_by(10) {
        wrapper.send_batch(batch(start..start + 10)).await.unwrap();
        wrapper.flush(None).await.unwrap();
    }
    assert_eq!(wrapper.status().lane.unwrap().streams_opened, 1);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_acknowledges_nothing_holds_up_its_own_window_only_and_the_others_go_so_far_ahead() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(several);
    let status = stalled(&wrapper, &emulator, 8_000).await;
    assert_conserved(&status);
    // The first frame that the silent stream holds. Which one that is depends on when it got its first request.
    let held = status.settled_lsn.next();
    // A frame that is delivered is so whatever came before it; everything up to it is another question.
    wrapper.wait_delivered(Lsn::new(held.get() + 9), Some(Duration::from_secs(30))).await.unwrap();
    assert!(wrapper.wait_delivered(held, Some(Duration::ZERO)).await.is_err());
    assert!(wrapper.flush(Some(Duration::ZERO)).await.is_err());
    let status = wrapper.status();
    assert_eq!(status.settled_lsn, held.previous(), "frame {held} is not acknowledged");
    assert_eq!(status.lane.unwrap().state, LaneState::Streaming);
    let most = (4 * STREAMS * WINDOW * ROWS_OF_REQUEST_MAX) as u64;
    let above = status.rows.delivered - held.previous().get() * ROWS_OF_FRAME as u64;
    assert!(above < most, "{above} rows are settled above the watermark");
    drop(wrapper);
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_only_what_was_in_flight_is_sent_again_by_however_many_streams() {
    let one = |c: &mut WrapperConfiguration| c.request_max_bytes = 1024;
    let flight = |c: &mut WrapperConfiguration| c.transport = TransportKind::ArrowFlight;
    let next: [&dyn Fn(&mut WrapperConfiguration); 4] = [&one, &several, &exactly, &flight];
    for (number, next) in next.into_iter().enumerate() {
        let site = Site::new();
        let emulator = site.serve();
        let wrapper = site.open_with(|c| {
            several(c);
            c.shutdown_timeout = Duration::ZERO;
        });
        stalled(&wrapper, &emulator, 8_000).await;
        wrapper.shutdown().await.unwrap();
        let before = wrapper.status();
        drop(wrapper);
        emulator.faults().clear();
        let between = admin::status(&site.writer_directory()).unwrap();
        assert_eq!((between.rows, between.frames), (before.rows, before.frames));

        let wrapper = site.open_with(next);
        assert_conserved(&wrapper.status());
        let after = drained(&wrapper).await;
        assert_eq!((after.rows.stored, after.rows.delivered), (8_000, 8_000));
        assert_eq!(after.frames.delivered, 160);
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        let landed = site.landed();
        assert!(landed.keys().copied().eq(0..8_000), "{number}: {} rows landed", landed.len());
        let doubled: usize = landed.values().map(|times| times - 1).sum();
        let most = STREAMS * WINDOW * ROWS_OF_REQUEST_MAX;
        assert!((1..=most).contains(&doubled), "{number}: {doubled} rows landed twice");
        assert!(landed.values().all(|times| *times <= 2));
    }
}

/// A batch of more than one request ends where something settled begins, and none of its own requests is.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_rows_of_a_batch_before_one_that_is_settled_are_sent_too() {
    let one = |c: &mut WrapperConfiguration| c.request_max_bytes = 1024;
    let flight = |c: &mut WrapperConfiguration| {
        c.transport = TransportKind::ArrowFlight;
        c.request_max_bytes = 1024;
    };
    let next: [&dyn Fn(&mut WrapperConfiguration); 3] = [&one, &several, &flight];
    for (number, next) in next.into_iter().enumerate() {
        let site = Site::new();
        let emulator = site.serve();
        // The stream that gets the whole first batch keeps nothing of it.
        emulator.faults().add([Rule::new(Fault::HangStream {}).times(1)]).unwrap();
        let wrapper = site.open_with(|c| {
            several(c);
            c.shutdown_timeout = Duration::ZERO;
        });
        let first = 2 * ROWS_OF_REQUEST_MIN as i64;
        wrapper.send_batch(batch(0..first)).await.unwrap();
        send(&wrapper, first..2_000).await;
        wait_until(&wrapper, "rows of the others", |it| it.rows.delivered >= 500).await;
        wrapper.shutdown().await.unwrap();
        drop(wrapper);
        emulator.faults().clear();

        let wrapper = site.open_with(next);
        let after = drained(&wrapper).await;
        assert_eq!((after.rows.stored, after.rows.delivered), (2_000, 2_000), "{number}");
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        let landed = site.landed();
        assert!(landed.keys().copied().eq(0..2_000), "{number}: {} rows landed", landed.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_frames_that_a_power_cut_took_after_they_were_delivered_nothing_waits_and_no_number_is_used_again()
{
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    for start in [0, 10] {
        wrapper.send_batch(batch(start..start + 10)).await.unwrap();
    }
    wrapper.shutdown().await.unwrap();
    // What a log that is left to the operating system can look like then: of five frames two are there. The last rows of the
    // second and all of the others were delivered.
    let epoch = wrapper.status().epoch;
    let mut opened = Ledger::open(&site.writer_directory(), epoch).unwrap();
    let start = Settled { through: Lsn::FIRST, rows_of_next: 4 };
    let end = Settled { through: Lsn::new(5), rows_of_next: 0 };
    opened.record.delivered_rows = 36;
    opened.record.delivered_frames = 4;
    let range = SettledRange { start, end, frames: 4, rows: 36, requests: 1 };
    opened.ranges.settle(&mut opened.record.settled, range);
    opened.ledger.remember_ranges(&opened.ranges);
    opened.ledger.checkpoint(&opened.record).unwrap();
    drop((wrapper, opened));

    let wrapper = site.open_with(several);
    let status = wrapper.status();
    assert_conserved(&status);
    assert_eq!((status.rows.waiting, status.frames.waiting), (14, 1));
    let result = wrapper.send_batch(batch(20..30)).await.unwrap();
    assert_eq!(result.lsn, Some(Lsn::new(6)), "an LSN is never used again [I12]");
    let emulator = site.serve();
    let status = drained(&wrapper).await;
    assert_eq!((status.settled_lsn, status.damaged_frames), (Lsn::new(6), 0));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let mut expected = once(0..14);
    expected.extend(once(20..30));
    assert_eq!(site.landed(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_before_what_is_settled_ends_there_and_what_is_settled_is_neither_damaged_nor_sent_again() {
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    for start in (0..60).step_by(10) {
        wrapper.send_batch(batch(start..start + 10)).await.unwrap();
    }
    wrapper.shutdown().await.unwrap();
    // Frames 3 and 4 were delivered by a stream that was faster than another; then 2 and 3 are damaged.
    let mut opened = Ledger::open(&site.writer_directory(), wrapper.status().epoch).unwrap();
    let end_of = |lsn| Settled { through: Lsn::new(lsn), rows_of_next: 0 };
    let range = SettledRange { start: end_of(2), end: end_of(4), frames: 2, rows: 20, requests: 1 };
    (opened.record.delivered_rows, opened.record.delivered_frames) = (20, 2);
    opened.ranges.settle(&mut opened.record.settled, range);
    opened.ledger.remember_ranges(&opened.ranges);
    opened.ledger.checkpoint(&opened.record).unwrap();
    drop((wrapper, opened));
    for needle in ["row 15row 16", "row 25row 26"] {
        let [path] = &files_with(&site.writer_directory(), needle)[..] else {
            panic!("one segment has {needle}")
        };
        let mut bytes = std::fs::read(path).unwrap();
        let at = bytes.windows(needle.len()).position(|window| window == needle.as_bytes()).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    let emulator = site.serve();
    for configure in [several as fn(&mut WrapperConfiguration), |_| {}] {
        let wrapper = site.open_with(configure);
        let status = wait_until(&wrapper, "the end", |it| it.rows.waiting == 0).await;
        assert_eq!((status.rows.delivered, status.damaged_frames, status.settled_lsn), (50, 1, Lsn::new(6)));
        wrapper.shutdown().await.unwrap();
    }
    emulator.stop().unwrap();
    let mut expected = once(0..10);
    expected.extend(once(40..60));
    assert_eq!(site.landed(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_that_was_taken_in_part_only_the_rest_is_sent_again() {
    let site = Site::new();
    let emulator = site.serve();
    let rule = Rule::new(Fault::CutRequest { rows: 7 }).after(5).probability(0.2, 3).times(4);
    emulator.faults().add([rule]).unwrap();
    let wrapper = site.open_with(|c| {
        several(c);
        c.transport = TransportKind::ArrowFlight;
    });
    send(&wrapper, 0..6_000).await;
    let lane = drained(&wrapper).await.lane.unwrap();
    assert_eq!(emulator.faults().list()[0].fired, 4);
    assert!(lane.resent_rows > 0, "{lane:?}");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..6_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_loses_nothing_and_stops_no_other() {
    let refusal = Refusal::new(Code::Unavailable);
    for transport in TransportKind::ALL {
        let site = Site::new();
        let emulator = site.serve();
        let fault = Fault::FailStream { refusal: refusal.clone() };
        emulator.faults().add([Rule::new(fault).after(9).probability(0.1, 7).times(5)]).unwrap();
        let wrapper = site.open_with(|c| {
            several(c);
            c.transport = transport;
        });
        send(&wrapper, 0..8_000).await;
        let lane = drained(&wrapper).await.lane.unwrap();
        assert_eq!(emulator.faults().list()[0].fired, 5);
        assert!(lane.failures >= 5 && lane.resent_rows > 0, "{lane:?}");
        assert_eq!((lane.state, lane.reason.as_ref()), (LaneState::Idle, None));
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        // What the service acknowledges before it ends a stream may be overtaken by the end.
        let landed = site.landed();
        assert!(landed.keys().copied().eq(0..8_000));
        let doubled = landed.values().map(|times| *times as u64 - 1).sum::<u64>();
        assert!(doubled <= lane.resent_rows, "{doubled} rows landed twice, {lane:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_grants_one_stream_only_gets_everything_on_that_one() {
    let site = Site::new();
    let emulator = site.serve();
    let refusal = Refusal::new(Code::ResourceExhausted);
    emulator.faults().add([Rule::new(Fault::FailOpen { refusal }).after(1)]).unwrap();
    let wrapper = site.open_with(several);
    send(&wrapper, 0..4_000).await;
    wrapper.flush(Some(Duration::from_secs(30))).await.unwrap();
    let status = drained(&wrapper).await;
    let lane = status.lane.unwrap();
    assert_eq!((lane.streams_opened, lane.resent_rows, lane.state), (1, 0, LaneState::Idle));
    assert!(lane.failures > 0 && lane.reason.is_none(), "{lane:?}");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..4_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_while_it_is_idle_costs_the_next_rows_a_new_one_and_no_wait() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(several);
    emulator.faults().add([Rule::new(Fault::CloseSignal { grace_ms: 100 }).times(1)]).unwrap();
    let mut sent = 0;
    while wrapper.status().lane.unwrap().streams_opened < 2 {
        wrapper.send_batch(batch(sent..sent + 10)).await.unwrap();
        wrapper.flush(Some(Duration::from_secs(10))).await.unwrap();
        sent += 10;
    }
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert!(site.landed().into_keys().eq(0..sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_the_service_under_load_lose_nothing() {
    let site = Site::new();
    let wrapper = site.open_with(several);
    let mut sent = 0;
    for _ in 0..6 {
        let emulator = site.serve();
        let delivered_before = wrapper.status().rows.delivered;
        while wrapper.status().rows.delivered < delivered_before + 500 {
            send(&wrapper, sent..sent + 200).await;
            sent += 200;
        }
        emulator.stop().unwrap();
    }
    wait_until(&wrapper, "the reason", |it| it.lane.as_ref().unwrap().reason.is_some()).await;
    let emulator = site.serve();
    let lane = drained(&wrapper).await.lane.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let landed = site.landed();
    assert!(landed.keys().copied().eq(0..sent));
    let doubled: u64 = landed.values().map(|times| *times as u64 - 1).sum();
    assert!(doubled <= lane.resent_rows, "{doubled} rows landed again, {lane:?}");
    println!("{sent} rows over 6 restarts: {doubled} landed again, {} sent again", lane.resent_rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stream_is_replaced_when_it_is_old_and_none_takes_rows_with_it() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        several(c);
        c.stream_max_age = Duration::from_secs(1);
    });
    let mut sent = 0;
    while wrapper.status().lane.unwrap().streams_opened < 3 * STREAMS as u64 {
        send(&wrapper, sent..sent + 1_000).await;
        sent += 1_000;
    }
    let lane = drained(&wrapper).await.lane.unwrap();
    assert_eq!((lane.failures, lane.resent_rows), (0, 0), "{lane:?}");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_service_refuses_are_found_with_four_streams_too_and_the_others_land() {
    let is_bad = |id: i64| [700, 1_999, 2_000, 3_555].contains(&id);
    let site = Site::new();
    let (emulator, wrapper) = unseen(&site, several).await;
    for start in (0..4_000).step_by(100) {
        wrapper.send_batch(batch_without(start..start + 100, is_bad)).await.unwrap();
    }
    assert_eq!(told(&wrapper).await, 4);
    let status = drained(&wrapper).await;
    assert_eq!((status.rows.quarantined, status.rows.delivered), (4, 3_996));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let landed = site.landed();
    assert!(landed.keys().copied().eq(good(0..4_000, is_bad).into_keys()), "{} rows", landed.len());
    assert_eq!(kept(&site).keys().copied().collect::<Vec<_>>(), bad(0..4_000, is_bad));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_convert_and_schemas_that_do_not_fit_are_put_away_and_counted_once() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        several(c);
        c.validate = arrow_zerobus_sdk_wrapper::Validate::Off;
        c.schema_grace = Duration::ZERO;
        c.shutdown_timeout = Duration::ZERO;
    });
    let unfit = || {
        let columns = batch(0..7).project(&[0]).unwrap();
        RecordBatch::try_from_iter([("nobody_has_this", columns.column(0).clone())]).unwrap()
    };
    send(&wrapper, 0..2_000).await;
    wrapper.send_batch(unfit()).await.unwrap();
    send(&wrapper, 2_000..4_000).await;
    let status = drained(&wrapper).await;
    assert_eq!((status.rows.quarantined, status.frames.quarantined), (7, 1));
    assert_eq!(told(&wrapper).await, 7);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..4_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_taken_away_parks_all_streams_and_one_that_is_given_back_wakes_them() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(several);
    send(&wrapper, 0..2_000).await;
    drained(&wrapper).await;
    emulator.sql(&format!("REVOKE MODIFY ON TABLE {TABLE} FROM edge_box")).unwrap();
    let refusal = Refusal::new(Code::Unavailable);
    emulator.faults().add([Rule::new(Fault::FailStream { refusal })]).unwrap();
    send(&wrapper, 2_000..4_000).await;
    let parked =
        wait_until(&wrapper, "the refusal", |it| it.lane.as_ref().unwrap().state == LaneState::Blocked).await;
    assert_eq!(parked.rows.waiting, 2_000);
    assert!(wrapper.flush(None).await.is_err(), "it says why");
    emulator.faults().clear();
    emulator.sql(&format!("GRANT MODIFY ON TABLE {TABLE} TO edge_box")).unwrap();
    drained(&wrapper).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..4_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_longest_is_dropped_beside_what_is_settled_above_it_and_everything_is_counted_once() {
    let site = Site::new();
    let emulator = site.serve();
    emulator.faults().add([Rule::new(Fault::WithholdAcks {}).times(1)]).unwrap();
    let small = |c: &mut WrapperConfiguration| {
        several(c);
        c.wal_max_bytes = 1 << 20;
        c.segment_bytes = 64 * 1024;
        c.on_full = OnFull::DropOldest;
    };
    let wrapper = site.open_with(small);
    let mut sent = 0;
    while wrapper.status().rows.dropped == 0 {
        wrapper.send_batch(batch(sent..sent + 500)).await.unwrap();
        sent += 500;
    }
    let status = drained(&wrapper).await;
    assert_eq!(status.rows.stored as i64, sent);
    assert_eq!(status.rows.delivered + status.rows.dropped, status.rows.stored);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    // Those of the stream that was given up have landed and are dropped.
    let landed = site.landed();
    let missing = sent as usize - landed.len();
    assert!(missing <= status.rows.dropped as usize, "{missing} rows are missing, {status:?}");
    assert!(landed.len() >= status.rows.delivered as usize, "{} rows landed", landed.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_wait_for_delivery_are_answered_by_their_own_rows() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        several(c);
        c.max_inflight_requests = 1;
        c.wait_for = WaitFor::Delivered;
    });
    emulator.faults().add([Rule::new(Fault::WithholdAcks {}).times(1)]).unwrap();
    let unheard = tokio::spawn({
        let wrapper = wrapper.clone();
        async move { wrapper.send_batch(batch(0..10)).await }
    });
    wait_until(&wrapper, "the first rows", |_| emulator.faults().list()[0].fired > 0).await;
    for start in (10..100).step_by(10) {
        wrapper.send_batch(batch(start..start + 10)).await.unwrap();
    }
    assert!(!unheard.is_finished());
    assert_eq!((wrapper.status().settled_lsn, wrapper.status().rows.delivered), (Lsn::ZERO, 90));
    unheard.abort();
    drop(wrapper);
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_wrappers_of_two_tables_share_the_threads_of_a_process_and_both_deliver() {
    const OTHER: &str = "main.default.others";
    let site = Site::new();
    let emulator = site
        .serve_with(|options| options.tables.push((OTHER.to_owned(), "id BIGINT, name STRING".to_owned())));
    // The rows of one of them are not acknowledged, and that is nothing to the other.
    let rule = Rule::new(Fault::WithholdAcks {}).table(TABLE.parse().unwrap());
    emulator.faults().add([rule]).unwrap();
    let wrapper = site.open_with(|c| {
        several(c);
        c.shutdown_timeout = Duration::ZERO;
    });
    let other = site.open_with(|c| {
        several(c);
        c.table_name = OTHER.to_owned();
    });
    assert_eq!(wrapper.runtime().id(), other.runtime().id());
    send(&wrapper, 0..1_000).await;
    send(&other, 1_000..3_000).await;
    drained(&other).await;
    assert_eq!(wrapper.status().rows.delivered, 0);
    emulator.faults().clear();
    wrapper.shutdown().await.unwrap();
    let wrapper = site.open_with(several);
    drained(&wrapper).await;
    wrapper.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert!(site.landed().into_keys().eq(0..1_000));
    assert_eq!(site.landed_in(OTHER), once(1_000..3_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_acknowledgements_are_late_four_streams_deliver_more_than_one_in_the_same_time() {
    let mut seconds = Vec::new();
    for streams in [1, STREAMS] {
        let site = Site::new();
        let emulator = site.serve();
        emulator.faults().add([Rule::new(Fault::DelayAcks { delay_ms: 100 })]).unwrap();
        let wrapper = site.open_with(|c| {
            several(c);
            c.streams = streams;
        });
        let started = Instant::now();
        send(&wrapper, 0..4_000).await;
        drained(&wrapper).await;
        seconds.push(started.elapsed().as_secs_f64());
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(0..4_000));
    }
    println!(
        "4000 rows, acknowledged 100 ms late: {:.2} s with one stream, {:.2} s with four",
        seconds[0], seconds[1]
    );
}
