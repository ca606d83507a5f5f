//! `delivery = "exactly_once"` when service and ledger do not tell the same story: an alarm where a guess could lose or
//! double rows, and a number where nobody can know.

use std::path::Path;
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::emulator::faults::{Fault, Refusal, Rule};
use arrow_zerobus_sdk_wrapper::emulator::{Emulator, EmulatorOptions};
use arrow_zerobus_sdk_wrapper::error::Coded as _;
use arrow_zerobus_sdk_wrapper::{
    DeliveryError, DeliveryGuarantee, LaneState, Status, WrapperConfiguration, ZerobusWrapper,
};

use tonic::Code;

use crate::exactly::{drained, exactly, impatient, send, silenced};
use crate::site::{Site, TABLE, assert_conserved, once, wait_until};

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

/// What was delivered stays in the log, so that a ledger which has forgotten it finds it again.
fn retaining(configuration: &mut WrapperConfiguration) {
    exactly(configuration);
    configuration.request_max_bytes = 1024;
    configuration.retain_delivered = Duration::from_secs(3600);
}

async fn delivered(site: &Site, ids: std::ops::Range<i64>) {
    let wrapper = site.open_with(retaining);
    send(&wrapper, ids).await;
    drained(&wrapper).await;
    wrapper.shutdown().await.unwrap();
}

/// The lane parks and says why.
async fn alarm(wrapper: &ZerobusWrapper) -> String {
    let status =
        wait_until(wrapper, "an alarm", |it| it.lane.as_ref().unwrap().state == LaneState::Blocked).await;
    assert_conserved(&status);
    let refused = wrapper.flush(None).await.unwrap_err();
    assert!(matches!(refused, DeliveryError::Refused(_)), "{refused:?}");
    assert_eq!(refused.code().info().name, "transmission");
    status.lane.unwrap().reason.unwrap()
}

/// Goes on with `at_least_once`, as an alarm says.
async fn at_least_once(site: &Site) -> Status {
    let wrapper = site.open_with(|c| {
        retaining(c);
        c.delivery = DeliveryGuarantee::AtLeastOnce;
    });
    let status = drained(&wrapper).await;
    wrapper.shutdown().await.unwrap();
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_has_committed_more_than_was_recorded_is_an_alarm() {
    let site = Site::new();
    let emulator = site.serve();
    let (directory, older) = (site.writer_directory(), site.directory.path().join("older"));
    let (ledger, mark) = (directory.join("ledger"), directory.join("ledger.mark"));
    delivered(&site, 0..50).await;
    copy(&ledger, &older);
    std::fs::copy(&mark, older.join("mark")).unwrap();
    delivered(&site, 50..100).await;
    copy(&older, &ledger);
    // With its mark: a ledger alone would be known to be older.
    std::fs::rename(ledger.join("mark"), &mark).unwrap();

    let wrapper = site.open_with(retaining);
    let id = wait_until(&wrapper, "the stream", |it| it.lane.as_ref().unwrap().stream_id.is_some()).await;
    let reason = alarm(&wrapper).await;
    let id = id.lane.unwrap().stream_id.unwrap();
    assert!(reason.contains(&id) && reason.contains("nothing above"), "{reason}");
    assert!(reason.contains("at_least_once"), "what can be done: {reason}");
    assert_eq!(site.landed(), once(0..100), "nothing was sent");
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    // The older ledger has no request whose outcome is open: all that it does not know is sent again.
    assert_eq!(at_least_once(&site).await.rows.waiting, 0);
    emulator.stop().unwrap();
    let landed = site.landed();
    assert!(landed.keys().copied().eq(0..100) && (0..50).all(|id| landed[&id] == 1), "{landed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_has_lost_what_it_acknowledged_is_an_alarm() {
    let site = Site::new();
    let (data, older) = (site.directory.path().join("data"), site.directory.path().join("older"));
    let emulator = site.serve();
    delivered(&site, 0..50).await;
    emulator.stop().unwrap();
    copy(&data, &older);
    let emulator = site.serve();
    delivered(&site, 50..100).await;
    emulator.stop().unwrap();
    copy(&older, &data);
    let emulator = site.serve();

    let wrapper = site.open_with(retaining);
    send(&wrapper, 100..150).await;
    let reason = alarm(&wrapper).await;
    assert!(reason.contains("was acknowledged"), "{reason}");
    assert_eq!(site.landed(), once(0..50), "nothing was sent");
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let status = at_least_once(&site).await;
    assert_eq!((status.rows.waiting, status.lane.unwrap().stream_id), (0, None));
    emulator.stop().unwrap();
    assert!(
        site.landed().keys().copied().eq((0..50).chain(100..150)),
        "what the service lost is not in the log"
    );
}

/// Takes the streams of the table away, as a service does that forgets those which nobody uses.
fn forget_streams(site: &Site) {
    std::fs::remove_dir_all(site.table_path(TABLE).join("_zerobus_streams")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_knows_and_on_which_nothing_is_open_is_replaced_in_silence() {
    let site = Site::new();
    let emulator = site.serve();
    delivered(&site, 0..50).await;
    emulator.stop().unwrap();
    forget_streams(&site);
    let emulator = site.serve();
    let wrapper = site.open_with(retaining);
    let before = wait_until(&wrapper, "the stream", |it| it.lane.as_ref().unwrap().stream_id.is_some()).await;
    send(&wrapper, 50..100).await;
    let after = drained(&wrapper).await;
    assert_eq!(after.doubtful_rows, 0);
    let (before, after) = (before.lane.unwrap(), after.lane.unwrap());
    assert_ne!(before.stream_id, after.stream_id);
    assert_eq!(after.failures, 0);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..100));
}

/// Rows whose outcome nobody knows: they are in the table, their acknowledgements are not heard, the owner is dead.
async fn with_a_tail(site: &Site, serve: impl Fn(&mut EmulatorOptions)) -> Emulator {
    let emulator = site.serve_with(&serve);
    let wrapper = site.open_with(impatient);
    silenced(&emulator, &wrapper, 0..50).await;
    send(&wrapper, 50..200).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(wrapper);
    emulator.stop().unwrap();
    site.serve_with(serve)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_on_a_stream_that_nobody_knows_are_sent_again_and_counted() {
    for delivery in DeliveryGuarantee::ALL {
        let site = Site::new();
        with_a_tail(&site, |_| {}).await.stop().unwrap();
        forget_streams(&site);
        let emulator = site.serve();
        let change = |c: &mut WrapperConfiguration| {
            exactly(c);
            c.delivery = delivery;
        };
        let wrapper = site.open_with(change);
        let status = drained(&wrapper).await;
        assert!(status.doubtful_rows > 0, "{status:#?}");
        wrapper.shutdown().await.unwrap();
        drop(wrapper);
        // The count is about the table, so it outlives the process.
        let wrapper = site.open_with(change);
        assert_eq!(wrapper.status().doubtful_rows, status.doubtful_rows);
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        let landed = site.landed();
        assert!(landed.keys().copied().eq(0..200));
        let doubled: usize = landed.values().map(|times| times - 1).sum();
        assert!(doubled as u64 <= status.doubtful_rows, "{doubled} of {}", status.doubtful_rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_is_no_stream_that_is_gone() {
    let site = Site::new();
    with_a_tail(&site, |_| {}).await.stop().unwrap();
    let (data, away) = (site.table_path(TABLE), site.directory.path().join("away"));
    std::fs::rename(&data, &away).unwrap();
    let emulator = site.serve_with(|options| options.tables.clear());
    let wrapper = site.open_with(exactly);
    let reason = alarm(&wrapper).await;
    assert!(reason.contains("does not exist"), "{reason}");
    emulator.stop().unwrap();
    std::fs::rename(&away, &data).unwrap();
    let emulator = site.serve();
    let status = drained(&wrapper).await;
    assert_eq!(status.doubtful_rows, 0, "its streams are there again");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_table_is_another_one_now_is_an_alarm_and_is_resumed_when_that_is_mended() {
    let site = Site::new();
    let emulator = with_a_tail(&site, |_| {}).await;
    let refusal = Refusal::new(Code::InvalidArgument);
    emulator.faults().add([Rule::new(Fault::FailOpen { refusal })]).unwrap();
    let wrapper = site.open_with(exactly);
    let reason = alarm(&wrapper).await;
    assert!(reason.contains("cannot be resumed"), "{reason}");
    assert!(reason.contains("delivery=\"at_least_once\""), "{reason}");
    emulator.faults().clear();
    let status = drained(&wrapper).await;
    assert_eq!(status.doubtful_rows, 0);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_such_streams_parks_the_lane_until_it_has_them() {
    let site = Site::new();
    let older = site.serve_with(|options| options.persistent_streams = false);
    let wrapper = site.open_with(retaining);
    send(&wrapper, 0..50).await;
    let reason = alarm(&wrapper).await;
    assert!(reason.contains("does not know persistent streams"), "{reason}");
    assert!(reason.contains("delivery=\"at_least_once\""), "{reason}");
    older.stop().unwrap();
    let newer = site.serve();
    drained(&wrapper).await;
    wrapper.shutdown().await.unwrap();
    newer.stop().unwrap();
    assert_eq!(site.landed(), once(0..50));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_out_of_a_service_without_such_streams_counts_what_may_be_doubled() {
    let site = Site::new();
    with_a_tail(&site, |_| {}).await.stop().unwrap();
    let emulator = site.serve_with(|options| options.persistent_streams = false);
    let wrapper = site.open_with(exactly);
    assert!(alarm(&wrapper).await.contains("persistent streams"));
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let status = at_least_once(&site).await;
    assert!(status.doubtful_rows > 0);
    emulator.stop().unwrap();
    assert!(site.landed().keys().copied().eq(0..200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_lost_costs_doubled_rows_that_are_counted_and_loses_none() {
    for (is_damaged, is_marked) in [(false, true), (true, true), (true, false), (false, false)] {
        let site = Site::new();
        with_a_tail(&site, |_| {}).await.stop().unwrap();
        let ledger = site.writer_directory().join("ledger");
        match is_damaged {
            true => std::fs::write(ledger.join("conf"), "this is no sled configuration").unwrap(),
            false => std::fs::remove_dir_all(&ledger).unwrap(),
        }
        if !is_marked {
            std::fs::remove_file(site.writer_directory().join("ledger.mark")).unwrap();
        }
        let emulator = site.serve();
        let wrapper = site.open_with(exactly);
        let status = drained(&wrapper).await;
        // Without a trace of either nobody knows that there was one.
        assert_eq!(status.doubtful_rows > 0, is_damaged || is_marked, "{status:#?}");
        assert!(status.doubtful_rows <= 200, "{status:#?}");
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        let landed = site.landed();
        assert!(landed.keys().copied().eq(0..200) && landed.values().all(|times| *times <= 2));
        let doubled: usize = landed.values().map(|times| times - 1).sum();
        assert!(
            !is_marked || doubled as u64 <= status.doubtful_rows,
            "{doubled} of {}",
            status.doubtful_rows
        );
    }
}
