//! Freeing on request what is settled and only kept: of a live log, of a dead one, and never anything that waits.

use std::path::Path;
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::admin::{self, Reclaim};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};
use arrow_zerobus_sdk_wrapper::{WrapperConfiguration, ZerobusWrapper, cli};

use crate::site::{Site, assert_conserved, batch, once};

/// Small segments, all of which are kept.
fn keep_everything(configuration: &mut WrapperConfiguration) {
    configuration.segment_bytes = 64 * 1024;
    configuration.retain_delivered = Duration::from_secs(3600);
}

async fn send(wrapper: &ZerobusWrapper, ids: std::ops::Range<i64>) {
    for start in ids.step_by(100) {
        wrapper.send_batch(batch(start..start + 100)).await.unwrap();
    }
}

/// The bytes that would be freed, or were.
fn settled_bytes(reclaim: &Reclaim) -> u64 {
    reclaim.segments.iter().filter(|segment| segment.is_freed).map(|segment| segment.bytes).sum()
}

/// [I4] Whatever goes is settled, and what stays says why.
fn assert_sound(reclaim: &Reclaim) {
    for segment in &reclaim.segments {
        assert_eq!(segment.is_freed, segment.last_lsn <= reclaim.settled_lsn, "{segment:?}");
        assert!(!segment.reason.is_empty());
    }
}

fn segments_in(directory: &Path) -> usize {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".wal")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_freed_by_its_live_owner_and_what_waits_is_not() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(keep_everything);
    let directory = site.writer_directory();
    send(&wrapper, 0..10_000).await;
    wrapper.flush(None).await.unwrap();
    admin::pause(&directory, None).unwrap();
    send(&wrapper, 10_000..20_000).await;

    let before = segments_in(&directory);
    let plan = admin::reclaim(&directory, false).unwrap();
    assert_eq!((plan.executed, plan.freed_bytes, plan.owner_pid), (false, 0, Some(std::process::id())));
    assert_sound(&plan);
    assert!(plan.segments.iter().any(|it| it.is_freed && it.reason.contains("retained by")), "{plan:#?}");
    assert!(plan.segments.iter().any(|it| !it.is_freed), "{plan:#?}");
    assert_eq!(segments_in(&directory), before, "a plan changes nothing");

    let done = admin::reclaim(&directory, true).unwrap();
    assert_eq!((done.executed, &done.segments), (true, &plan.segments));
    assert!(done.freed_bytes >= settled_bytes(&plan), "{done:#?}");
    let status = wrapper.status();
    assert_eq!((status.rows.waiting, status.retained_bytes), (10_000, 0));
    assert_conserved(&status);
    assert_eq!(settled_bytes(&admin::reclaim(&directory, true).unwrap()), 0, "there is no more");
    admin::resume(&directory).unwrap();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..20_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_dead_log_what_is_settled_is_freed_and_its_next_owner_goes_on_with_the_rest() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(keep_everything);
    let directory = site.writer_directory();
    send(&wrapper, 0..10_000).await;
    wrapper.flush(None).await.unwrap();
    admin::pause(&directory, None).unwrap();
    send(&wrapper, 10_000..12_000).await;
    wrapper.shutdown().await.unwrap();
    drop(wrapper);

    let dead = admin::status(&directory).unwrap();
    let plan = admin::reclaim(&directory, false).unwrap();
    assert_eq!((plan.owner_pid, plan.executed), (None, false));
    assert_sound(&plan);
    assert!(settled_bytes(&plan) > 0, "{plan:#?}");
    let command = ["zerobus-wal".into(), "reclaim".into(), site.wal_dir().into()];
    assert_eq!(cli::run(command), 0);
    let after = admin::status(&directory).unwrap();
    assert_eq!((after.rows, after.frames), (dead.rows, dead.frames), "[I6]");
    assert_eq!((after.durable_lsn, after.settled_lsn), (dead.durable_lsn, dead.settled_lsn), "[I12]");
    assert!(after.log_bytes < dead.log_bytes);
    assert_eq!(settled_bytes(&admin::reclaim(&directory, false).unwrap()), 0);

    let wrapper = site.open_with(keep_everything);
    admin::resume(&directory).unwrap();
    wrapper.flush(None).await.unwrap();
    let last = wrapper.send_batch(batch(12_000..12_001)).await.unwrap().lsn.unwrap();
    assert_eq!(last, dead.durable_lsn.next(), "[I12]");
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    // Now everything is settled, the newest segment too.
    admin::reclaim(&directory, true).unwrap();
    let empty = admin::status(&directory).unwrap();
    assert_eq!((empty.retained_bytes, empty.rows.waiting, empty.durable_lsn), (0, 0, last));
    let wrapper = site.open();
    assert_eq!(wrapper.send_batch(batch(12_001..12_002)).await.unwrap().lsn.unwrap(), last.next(), "[I12]");
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..12_002));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_lost_frees_nothing() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(keep_everything);
    send(&wrapper, 0..10_000).await;
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let directory = site.writer_directory();
    std::fs::remove_dir_all(directory.join("ledger")).unwrap();
    std::fs::remove_file(directory.join("ledger.mark")).unwrap();
    let before = segments_in(&directory);
    let done = admin::reclaim(&directory, true).unwrap();
    assert_eq!((done.freed_bytes, settled_bytes(&done)), (0, 0), "[I5]");
    assert_sound(&done);
    assert_eq!(segments_in(&directory), before);
    emulator.stop().unwrap();
}

#[test]
fn where_there_is_no_log_nothing_is_reclaimed_and_that_is_an_error() {
    let site = Site::new();
    assert!(admin::reclaim(&site.writer_directory(), true).is_err());
    std::fs::create_dir_all(site.wal_dir()).unwrap();
    let args = ["zerobus-wal".into(), "reclaim".into(), site.wal_dir().into()];
    assert_eq!(cli::run(args), ErrorCode::Configuration.info().exit_code);
    let error = admin::reclaim(&site.wal_dir(), true).unwrap_err();
    assert_ne!(error.code(), ErrorCode::Internal);
}
