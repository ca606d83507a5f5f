//! A service that refuses: everything stays in the log, and the reason is told.

use arrow_array::{Array as _, RecordBatch};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode, chain};
use arrow_zerobus_sdk_wrapper::{DeliveryError, LaneState, Validate};

use crate::site::{Site, batch, once, secret, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_parks_the_lane_until_it_is_right() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| c.client_secret = Some("not-the-secret".into()));
    wrapper.send_batch(batch(0..10)).await.unwrap();
    let refused = wrapper.flush(None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Authentication);
    assert!(matches!(refused, DeliveryError::Refused(_)), "{refused:?}");
    let lane = wrapper.status().lane.unwrap();
    assert_eq!(lane.state, LaneState::Blocked);
    let told = format!("{refused:?} {} {lane:?}", chain(&refused));
    assert!(told.contains("401") && !told.contains("not-the-secret") && !told.contains(secret()), "{told}");
    wrapper.shutdown().await.unwrap();

    let wrapper = site.open();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_cannot_be_read_back_holds_up_the_ones_behind_it_and_is_never_skipped() {
    let site = Site::new();
    let wrapper = site.open();
    // Text that is not UTF-8, which only unchecked builders make.
    let good = batch(10..11);
    let text = arrow_array::StringArray::from(vec!["xx"]).into_data();
    let text = text.into_builder().buffers(vec![vec![0_i32, 2].into(), vec![0xff_u8, 0xfe].into()]);
    // SAFETY: none: the buffers break the promise of their type, which is what the test is about. Nothing here
    // reads them as text.
    let text = arrow_array::make_array(unsafe { text.build_unchecked() });
    let bad = RecordBatch::try_new(good.schema(), vec![good.column(0).clone(), text]).unwrap();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.send_batch(bad).await.unwrap();
    wrapper.send_batch(batch(11..20)).await.unwrap();

    let emulator = site.serve();
    wait_until(&wrapper, "the refusal", |it| it.lane.as_ref().unwrap().state == LaneState::Poison).await;
    assert!(wrapper.flush(None).await.is_err());
    let status = wait_until(&wrapper, "what is good", |it| it.rows.delivered > 0).await;
    assert_eq!((status.settled_lsn.get(), status.rows.delivered, status.rows.waiting), (1, 10, 10));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10), "nothing behind the bad frame may overtake it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_parks_the_lane_until_it_is_there() {
    let site = Site::new();
    let emulator = site.serve_with(|options| options.tables.clear());
    let wrapper = site.open();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    let refused = wrapper.flush(None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Transmission);
    assert!(chain(&refused).contains("NotFound"), "{}", chain(&refused));
    assert_eq!(wrapper.status().lane.unwrap().state, LaneState::Blocked);
    assert_eq!(wrapper.status().rows.waiting, 10);
    emulator.stop().unwrap();

    let emulator = site.serve();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_the_table_lacks_parks_the_lane_and_names_itself() {
    let site = Site::new();
    let emulator = site.serve_with(|options| {
        options.tables = vec![(crate::site::TABLE.to_owned(), "id BIGINT".to_owned())];
    });
    let wrapper = site.open_with(|c| c.validate = Validate::Off);
    wrapper.send_batch(batch(0..10)).await.unwrap();
    let refused = wrapper.flush(None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conversion);
    assert!(chain(&refused).contains("name"), "{}", chain(&refused));
    assert_eq!(wrapper.status().lane.unwrap().state, LaneState::Poison);
    assert_eq!(wrapper.status().rows.waiting, 10);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}
