//! Rows that convert and that the service refuses, without saying which they are.

use arrow_zerobus_sdk_wrapper::emulator::Emulator;
use arrow_zerobus_sdk_wrapper::error::Coded as _;
use arrow_zerobus_sdk_wrapper::types::Lsn;
use arrow_zerobus_sdk_wrapper::{LaneState, WrapperConfiguration, ZerobusWrapper};

use crate::quarantine::{REQUIRED, bad, batch_without, good, kept, serve_again, state, told};
use crate::site::{Site, TABLE, assert_conserved, wait_until};

/// A site whose wrapper cannot read the table's columns: then all that does not fit is the service's to refuse.
pub(crate) async fn unseen(
    site: &Site,
    change: impl FnOnce(&mut WrapperConfiguration),
) -> (Emulator, ZerobusWrapper) {
    let emulator = site.serve_with(|options| options.tables = vec![(TABLE.to_owned(), REQUIRED.to_owned())]);
    emulator.sql(&format!("REVOKE SELECT ON TABLE {TABLE} FROM edge_box")).unwrap();
    let wrapper = site.open_with(change);
    wait_until(&wrapper, "the reason", |it| {
        it.table_schema.reason.as_ref().is_some_and(|it| it.contains("SELECT"))
    })
    .await;
    (emulator, wrapper)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_service_refuses_are_found_in_logarithmic_time_whatever_frames_they_are_in() {
    let bad_ids = [700, 1_999, 2_000, 5_555];
    let is_bad = |id: i64| bad_ids.contains(&id);
    let site = Site::new();
    let (emulator, wrapper) = unseen(&site, |_| {}).await;
    // Frames that share requests, and one that is a request by itself.
    for start in (0..4_000).step_by(100) {
        wrapper.send_batch(batch_without(start..start + 100, is_bad)).await.unwrap();
    }
    wrapper.send_batch(batch_without(4_000..8_000, is_bad)).await.unwrap();
    assert_eq!(told(&wrapper).await, 4);
    let status = wrapper.status();
    assert_conserved(&status);
    assert_eq!(status.rows.quarantined, 4);
    let lane = status.lane.unwrap();
    let failures_max = 4 * (8_000_u64.ilog2() as u64 + 1 + 2) + 2;
    assert!(lane.failures <= failures_max, "{} refusals for 4 bad rows", lane.failures);
    println!("{} refusals and {} streams for 4 bad rows of 8000", lane.failures, lane.streams_opened);
    let error = wrapper.wait_delivered(Lsn::new(8), None).await.unwrap_err();
    assert_eq!(error.refused_rows(), Some(&[0][..]));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    // What was in flight at the first refusal may have been taken and is sent again; nothing is at the later ones.
    let landed = site.landed();
    assert!(landed.keys().copied().eq(good(0..8_000, is_bad).into_keys()), "{} rows", landed.len());
    let doubled = landed.iter().filter(|(_, times)| **times > 1).map(|(id, _)| *id);
    assert_eq!(doubled.filter(|id| *id > 4_000 || landed[id] > 2).collect::<Vec<_>>(), Vec::<i64>::new());
    let kept = kept(&site);
    assert_eq!(kept.keys().copied().collect::<Vec<_>>(), bad_ids);
    assert_eq!((kept[&5_555].lsn, kept[&5_555].row, kept[&5_555].code.as_str()), (41, 1_555, "transmission"));
    assert!(kept[&5_555].reason.contains("4044"), "{:?}", kept[&5_555]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_the_service_refuses_row_by_row_costs_a_refusal_each() {
    let site = Site::new();
    let (emulator, wrapper) = unseen(&site, |_| {}).await;
    wrapper.send_batch(batch_without(0..10, |_| false)).await.unwrap();
    wrapper.send_batch(batch_without(10..74, |_| true)).await.unwrap();
    wrapper.send_batch(batch_without(74..80, |id| id == 79)).await.unwrap();
    assert_eq!(told(&wrapper).await, 65);
    let status = wrapper.status();
    assert_conserved(&status);
    assert_eq!((status.frames.quarantined, status.frames.delivered), (1, 2));
    // The last row of all was a bad one; nothing is wrong any more.
    assert_eq!((state(&status), status.lane.as_ref().unwrap().reason.as_ref()), (LaneState::Idle, None));
    assert!(status.lane.as_ref().unwrap().failures <= 64 + 3 * 7, "{:?}", status.lane);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert!(site.landed().into_keys().eq(good(0..79, |id| (10..74).contains(&id)).into_keys()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_goes_away_in_the_middle_of_the_search_changes_nothing_of_what_is_found() {
    let is_bad = |id: i64| id % 97 == 50;
    let site = Site::new();
    let (emulator, wrapper) = unseen(&site, |_| {}).await;
    for start in (0..3_000).step_by(300) {
        wrapper.send_batch(batch_without(start..start + 300, is_bad)).await.unwrap();
    }
    let mut emulator = Some(emulator);
    for quarantined in [2, 9, 17] {
        wait_until(&wrapper, "bad rows", |it| it.rows.quarantined >= quarantined).await;
        emulator.take().unwrap().stop().unwrap();
        emulator = Some(serve_again(&site));
    }
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    assert_conserved(&wrapper.status());
    wrapper.shutdown().await.unwrap();
    emulator.unwrap().stop().unwrap();
    assert_eq!(kept(&site).keys().copied().collect::<Vec<_>>(), bad(0..3_000, is_bad));
    let landed = site.landed();
    assert_eq!(landed.keys().copied().collect::<Vec<_>>(), bad(0..3_000, |id| !is_bad(id)));
}
