//! A destination that refuses us: delivery parks, says why, and goes on by itself once the cause is gone.

use std::path::Path;
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::admin::{AskError, PauseError};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};
use arrow_zerobus_sdk_wrapper::{LaneState, Status, ZerobusWrapper, admin, cli};

use crate::site::{Site, TABLE, batch, files_with, once, secret, wait_until};

async fn parked(wrapper: &ZerobusWrapper, code: &str) -> Status {
    wait_until(wrapper, code, |it| {
        let lane = it.lane.as_ref().unwrap();
        lane.state == LaneState::Blocked && lane.code.as_deref() == Some(code)
    })
    .await
}

/// So rarely that only somebody who asks for an attempt can be the reason for one.
fn never_probe(configuration: &mut arrow_zerobus_sdk_wrapper::WrapperConfiguration) {
    configuration.retry_max_delay = Duration::from_secs(3600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_taken_away_parks_and_one_that_is_given_back_resumes() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    // In mid-stream, and then at open.
    emulator.sql(&format!("REVOKE MODIFY ON TABLE {TABLE} FROM me")).unwrap();
    wrapper.send_batch(batch(10..20)).await.unwrap();
    let status = parked(&wrapper, "authentication").await;
    assert!(status.lane.unwrap().reason.unwrap().contains("MODIFY"));
    let error = wrapper.flush(None).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Authentication);
    emulator.sql(&format!("GRANT MODIFY ON TABLE {TABLE} TO me")).unwrap();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_dropped_parks_and_one_that_is_made_anew_resumes() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    emulator.sql(&format!("DROP TABLE {TABLE}")).unwrap();
    assert!(emulator.sql(&format!("DROP TABLE {TABLE}")).is_err());
    wrapper.send_batch(batch(10..20)).await.unwrap();
    parked(&wrapper, "transmission").await;
    emulator.sql(&format!("CREATE TABLE {TABLE} (id BIGINT, name STRING)")).unwrap();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(10..20), "the rows of the old table went with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_credentials_resume_at_once_and_are_used_by_the_catalog_too() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        never_probe(c);
        c.client_id = Some("somebody-else".to_owned());
        c.client_secret = Some("not-the-secret".into());
    });
    wrapper.send_batch(batch(0..10)).await.unwrap();
    parked(&wrapper, "authentication").await;
    assert_eq!(wrapper.status().table_schema.columns, None);
    for (id, blank) in [(Some(" "), secret()), (None, " ")] {
        let error = wrapper.update_credentials(id.map(str::to_owned), blank.into()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Configuration);
        assert!(!format!("{error:?}").contains(secret()));
    }
    wrapper.update_credentials(Some("edge-box".to_owned()), secret().into()).unwrap();
    let status = wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    assert_eq!(status.table_schema.columns, Some(2), "{:?}", status.table_schema);
    assert!(!format!("{wrapper:?} {status:?}").contains(secret()), "[I9]");
    wrapper.shutdown().await.unwrap();
    let closed = wrapper.update_credentials(None, secret().into()).unwrap_err();
    assert_eq!(closed.code(), ErrorCode::Closed);
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
    assert_eq!(files_with(&site.wal_dir(), secret()), Vec::<std::path::PathBuf>::new(), "[I9]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapper_without_credentials_takes_none() {
    let site = Site::new();
    let wrapper = site.open_with(|c| (c.client_id, c.client_secret) = (None, None));
    let error = wrapper.update_credentials(None, secret().into()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Configuration);
    wrapper.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_rotated_in_its_file_is_used_without_a_call() {
    let site = Site::new();
    let file = site.directory.path().join("secret");
    std::fs::write(&file, "an-old-secret\n").unwrap();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        c.client_secret = None;
        c.client_secret_file = Some(file.clone());
    });
    wrapper.send_batch(batch(0..10)).await.unwrap();
    parked(&wrapper, "authentication").await;
    // Whoever rotates it may not do so at one stroke.
    std::fs::remove_file(&file).unwrap();
    let gone = "client_secret_file cannot be used";
    let is_told = |it: &Status| it.lane.as_ref().unwrap().reason.as_ref().unwrap().contains(gone);
    wait_until(&wrapper, gone, is_told).await;
    std::fs::write(&file, format!("{}\n", secret())).unwrap();
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[test]
fn a_file_without_a_secret_is_refused_at_once_by_the_name_of_the_setting() {
    let site = Site::new();
    let file = site.directory.path().join("secret");
    for text in [None, Some(""), Some(" \n")] {
        text.map_or(Ok(()), |text| std::fs::write(&file, text)).unwrap();
        let mut configuration = site.configuration();
        configuration.client_secret = None;
        configuration.client_secret_file = Some(file.clone());
        let error = ZerobusWrapper::open(configuration).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Configuration);
        let told = arrow_zerobus_sdk_wrapper::error::chain(&error);
        assert!(told.contains("client_secret_file"), "{told}");
        assert!(!site.wal_dir().exists(), "nothing is created");
    }
}

fn resume(directory: &Path) -> u8 {
    let args = ["zerobus-wal", "resume"].map(Into::into).into_iter().chain([directory.into()]);
    cli::run(args)
}

#[tokio::test(flavor = "multi_thread")]
async fn resume_lets_a_parked_owner_try_now_and_says_so_if_there_is_none() {
    let site = Site::new();
    let emulator = site.serve();
    emulator.sql(&format!("REVOKE MODIFY ON TABLE {TABLE} FROM me")).unwrap();
    let wrapper = site.open_with(never_probe);
    wrapper.send_batch(batch(0..10)).await.unwrap();
    let failures = parked(&wrapper, "authentication").await.lane.unwrap().failures;
    let directory = site.wal_dir();
    let ask = move || resume(&directory);
    // The cause is still there: it parks again.
    assert_eq!(tokio::task::spawn_blocking(ask.clone()).await.unwrap(), 0);
    wait_until(&wrapper, "an attempt", |it| it.lane.as_ref().unwrap().failures > failures).await;
    parked(&wrapper, "authentication").await;
    emulator.sql(&format!("GRANT MODIFY ON TABLE {TABLE} TO me")).unwrap();
    assert_eq!(tokio::task::spawn_blocking(ask.clone()).await.unwrap(), 0);
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    assert_eq!(ask(), ErrorCode::Configuration.info().exit_code, "nobody owns it any more");
    let error = admin::resume(&site.writer_directory()).unwrap_err();
    assert!(matches!(error, PauseError::Ask(AskError::NoOwner { .. })), "{error}");
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}
