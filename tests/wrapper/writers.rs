//! Several wrappers of one table below one `wal_dir`: each has a log of its own, and those that live deliver what the
//! dead have left.

use std::path::PathBuf;
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::emulator::faults::{Condition, Fault, Rule};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode, chain};
use arrow_zerobus_sdk_wrapper::{Status, ZerobusWrapper, admin};

use crate::site::{Site, TABLE, assert_conserved, batch, once, wait_until};

const WRITERS: i64 = 4;
const ROWS: i64 = 1_000;

fn rows_of(writer: i64) -> std::ops::Range<i64> {
    writer * ROWS..(writer + 1) * ROWS
}

fn directory(site: &Site, number: i64) -> PathBuf {
    site.wal_dir().join(TABLE).join(format!("writer-{number:03}"))
}

/// Leaves that many logs behind, each with a batch that was not delivered; the service is down meanwhile.
async fn leave_behind(site: &Site, writers: std::ops::Range<i64>) {
    let wrappers: Vec<_> = writers.clone().map(|_| open_hurried(site)).collect();
    for (writer, wrapper) in writers.zip(wrappers) {
        wrapper.send_batch(batch(rows_of(writer))).await.unwrap();
        wrapper.shutdown().await.unwrap();
    }
}

/// A wrapper that does not wait for anything when it is shut down.
fn open_hurried(site: &Site) -> ZerobusWrapper {
    site.open_with(|it| it.shutdown_timeout = Duration::ZERO)
}

fn is_adopted(logs: u64) -> impl Fn(&Status) -> bool {
    move |status| status.adoption.drained_logs == logs && status.adoption.draining.is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_live_wrapper_has_a_log_of_its_own_and_all_rows_land_once() {
    let site = Site::new();
    let emulator = site.serve();
    let wrappers: Vec<_> = (0..WRITERS).map(|_| site.open()).collect();
    for (writer, wrapper) in wrappers.iter().enumerate() {
        let writer = writer as i64;
        assert_eq!(wrapper.status().directory, directory(&site, writer + 1));
        assert_eq!(wrapper.send_batch(batch(rows_of(writer))).await.unwrap().lsn.unwrap().get(), 1);
    }
    for wrapper in &wrappers {
        wrapper.flush(None).await.unwrap();
        let status = wrapper.status();
        assert_eq!(status.adoption, Default::default(), "a live wrapper's log is nobody else's business");
        assert_conserved(&status);
        wrapper.shutdown().await.unwrap();
    }
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..WRITERS * ROWS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_free_again_is_taken_before_a_new_one_is_made() {
    let site = Site::new();
    let [first, second] = [open_hurried(&site), open_hurried(&site)];
    first.shutdown().await.unwrap();
    let third = open_hurried(&site);
    assert_eq!(third.status().directory, directory(&site, 1));
    let fourth = open_hurried(&site);
    assert_eq!(fourth.status().directory, directory(&site, 3));
    for wrapper in [second, third, fourth] {
        wrapper.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_be_alone_is_refused_with_the_name_of_a_live_owner() {
    let site = Site::new();
    let [first, second] = [open_hurried(&site), open_hurried(&site)];
    // The first directory is free, and still somebody lives.
    first.shutdown().await.unwrap();
    let alone = || {
        let mut configuration = site.configuration();
        (configuration.exclusive, configuration.shutdown_timeout) = (true, Duration::ZERO);
        ZerobusWrapper::open(configuration)
    };
    let error = alone().unwrap_err();
    assert_eq!(error.code(), ErrorCode::Locked);
    let text = chain(&error);
    assert!(
        text.contains(&format!("process {}", std::process::id())) && text.contains("writer-002"),
        "{text}"
    );
    second.shutdown().await.unwrap();
    let only = alone().unwrap();
    assert_eq!(only.status().directory, directory(&site, 1));
    // It is alone when it begins, and does not keep others out.
    open_hurried(&site).shutdown().await.unwrap();
    only.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_dead_have_left_is_delivered_by_the_living_and_counted() {
    let site = Site::new();
    leave_behind(&site, 0..WRITERS).await;
    let emulator = site.serve();
    let wrapper = site.open();
    wait_until(&wrapper, "adoption", is_adopted(WRITERS as u64 - 1)).await;
    let status = wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    assert_eq!(status.directory, directory(&site, 1));
    assert_eq!(status.adoption.delivered_rows as i64, (WRITERS - 1) * ROWS);
    assert_eq!(status.rows.stored as i64, ROWS, "what others have stored is not counted as its own");
    for writer in 2..=WRITERS {
        let left = admin::status(&directory(&site, writer)).unwrap();
        assert_eq!((left.owner_pid, left.rows.delivered as i64, left.rows.waiting), (None, ROWS, 0));
        assert_conserved(&left);
    }
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..WRITERS * ROWS));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_wrapper_that_dies_is_adopted_by_one_that_lives() {
    let site = Site::new();
    let [living, dying] = [site.open(), open_hurried(&site)];
    dying.send_batch(batch(rows_of(0))).await.unwrap();
    living.send_batch(batch(rows_of(1))).await.unwrap();
    dying.shutdown().await.unwrap();
    let emulator = site.serve();
    wait_until(&living, "adoption", is_adopted(1)).await;
    living.flush(None).await.unwrap();
    // Its successor is nobody's orphan.
    let successor = site.open();
    assert_eq!(successor.status().directory, directory(&site, 2));
    assert_eq!(
        successor.send_batch(batch(rows_of(2))).await.unwrap().lsn.unwrap().get(),
        2,
        "a number is used once"
    );
    successor.shutdown().await.unwrap();
    living.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..3 * ROWS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_for_another_service_is_left_alone_and_named() {
    let site = Site::new();
    let elsewhere = |it: &mut arrow_zerobus_sdk_wrapper::WrapperConfiguration| {
        it.endpoint = "http://127.0.0.1:1".to_owned();
        it.shutdown_timeout = Duration::ZERO;
    };
    let [first, second] = [open_hurried(&site), site.open_with(elsewhere)];
    second.send_batch(batch(rows_of(0))).await.unwrap();
    for wrapper in [first, second] {
        wrapper.shutdown().await.unwrap();
    }
    let emulator = site.serve();
    let wrapper = site.open();
    let status = wait_until(&wrapper, "a look", |it| !it.adoption.left.is_empty()).await;
    let [left] = &status.adoption.left[..] else { panic!("{status:#?}") };
    assert!(left.contains("writer-002") && left.contains("1000 rows are for http://127.0.0.1:1"), "{left}");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(admin::status(&directory(&site, 2)).unwrap().rows.waiting as i64, ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_that_cannot_be_opened_keeps_no_other_waiting() {
    let site = Site::new();
    leave_behind(&site, 0..3).await;
    std::fs::write(directory(&site, 2).join("LOG"), "{\"format\": 99}").unwrap();
    let emulator = site.serve();
    let wrapper = site.open();
    let status = wait_until(&wrapper, "adoption", is_adopted(1)).await;
    let [left] = &status.adoption.left[..] else { panic!("{status:#?}") };
    assert!(left.contains("writer-002") && left.contains("99"), "{left}");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let landed = site.landed();
    assert_eq!(landed.keys().filter(|id| rows_of(1).contains(id)).count(), 0);
    assert_eq!(landed.len() as i64, 2 * ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kept_an_orphan_from_being_adopted_is_looked_at_again_at_once_when_somebody_asks() {
    let site = Site::new();
    leave_behind(&site, 0..2).await;
    for orphan in admin::adopt(&site.wal_dir()).unwrap() {
        assert_eq!((orphan.adopter_pid, orphan.waiting_rows as i64), (None, ROWS));
        assert!(orphan.left.as_ref().unwrap().contains("zerobus-wal drain"), "{orphan:?}");
    }
    let identity = directory(&site, 2).join("LOG");
    let whole = std::fs::read(&identity).unwrap();
    std::fs::write(&identity, "{\"format\": 99}").unwrap();
    let emulator = site.serve();
    let wrapper = site.open();
    wait_until(&wrapper, "a look", |it| !it.adoption.left.is_empty()).await;
    // Nothing in the directory was made or removed; by itself nobody looks for a minute.
    std::fs::write(&identity, whole).unwrap();
    let orphans = admin::adopt(&site.wal_dir()).unwrap();
    let [orphan] = &orphans[..] else { panic!("{orphans:#?}") };
    assert_eq!((&orphan.directory, orphan.adopter_pid), (&directory(&site, 2), Some(std::process::id())));
    wait_until(&wrapper, "adoption", is_adopted(1)).await;
    assert_eq!(admin::adopt(&site.wal_dir()).unwrap(), []);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..2 * ROWS));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_whose_delivery_is_parked_keeps_no_other_waiting() {
    let site = Site::new();
    leave_behind(&site, 0..3).await;
    let emulator = site.serve();
    let bad = rows_of(1).start;
    let condition = Condition::equals("id", bad);
    emulator.faults().add([Rule::new(Fault::RejectRecords { condition })]).unwrap();
    // Nothing may be put into quarantine, so a refused row parks the log it is in.
    let wrapper = site.open_with(|it| {
        it.quarantine_max_bytes = 0;
        it.shutdown_timeout = Duration::ZERO;
    });
    wait_until(&wrapper, "adoption", |it| it.adoption.drained_logs == 1).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(admin::status(&directory(&site, 3)).unwrap().rows.waiting, 0);
    assert!(admin::status(&directory(&site, 2)).unwrap().rows.waiting > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_what_an_adopted_log_has_on_its_way() {
    let site = Site::new();
    leave_behind(&site, 0..2).await;
    let emulator = site.serve();
    let wrapper = site.open();
    wait_until(&wrapper, "adoption", |it| it.adoption.draining.is_some() || it.adoption.drained_logs == 1)
        .await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..2 * ROWS));
}
