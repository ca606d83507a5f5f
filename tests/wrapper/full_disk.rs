//! A disk that is really full: a file system of a few megabytes, filled by the log and by others. Nothing is lost,
//! the errors have types, and the log drains with no byte free and without help.
//!
//! Each test starts itself again in a mount namespace of its own, with a small tmpfs. Where that is not allowed the
//! test says so and does nothing; in the continuous integration (`CI=true`) it fails instead.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode, chain};
use arrow_zerobus_sdk_wrapper::{OnFull, WrapperConfiguration, ZerobusWrapper};

use crate::exactly::exactly;
use crate::site::{Site, assert_conserved, batch, once, wait_until};

/// Names the small disk to the test that was started again.
const VARIABLE: &str = "FULL_DISK_DIRECTORY";
const DISK_MIB: u64 = 8;
const ROWS: i64 = 1_000;
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(30));

/// Runs the rest of the test called `name` with a directory on a small disk.
pub(crate) fn on_a_small_disk<Test: Future<Output = ()>>(name: &str, test: impl FnOnce(PathBuf) -> Test) {
    if let Some(directory) = std::env::var_os(VARIABLE) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(test(directory.into()));
    }
    let directory = tempfile::tempdir().unwrap();
    let namespace = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private"]);
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        let mount = format!("mount -t tmpfs -o size={DISK_MIB}m none \"$0\" && {command}");
        unshare.args(["sh", "-c", &mount]).arg(directory.path());
        unshare
    };
    let tried = namespace("true").output();
    if !tried.as_ref().is_ok_and(|tried| tried.status.success()) {
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!is_ci, "a file system of its own cannot be mounted: {tried:?}");
        eprintln!("SKIPPED {name}: a file system of its own cannot be mounted: {tried:?}");
        return;
    }
    let again = namespace("exec \"$@\"")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(VARIABLE, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(
        again.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&again.stderr)
    );
}

/// A log that only the disk limits.
fn unlimited(configuration: &mut WrapperConfiguration, directory: &Path, on_full: OnFull) {
    configuration.wal_dir = Some(directory.join("wal"));
    configuration.wal_min_free_bytes = 0;
    configuration.segment_bytes = 256 * 1024;
    configuration.on_full = on_full;
    configuration.shutdown_timeout = Duration::ZERO;
}

async fn send(wrapper: &ZerobusWrapper, number: i64) -> Result<(), (ErrorCode, String)> {
    let sent = wrapper.send_batch(batch(number * ROWS..(number + 1) * ROWS)).await;
    sent.map(|_| ()).map_err(|error| (error.code(), chain(&error)))
}

/// Sends until the log is full; how many batches it holds then, and what it says.
async fn fill(wrapper: &ZerobusWrapper) -> (i64, String) {
    for number in 0..10_000 {
        match send(wrapper, number).await {
            Ok(()) => {}
            Err((ErrorCode::BufferFull, text)) => return (number, text),
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("the disk is not full: {:#?}", wrapper.status());
}

/// Takes every byte that is left, as another program would.
pub(crate) fn take_the_rest(directory: &Path) {
    let mut file = std::fs::File::create(directory.join("of-another-program")).unwrap();
    let mut block = vec![7; 64 * 1024];
    while !block.is_empty() {
        if file.write_all(&block).is_err() {
            block.truncate(block.len() / 2);
        }
    }
    let left = rustix::fs::statvfs(directory).unwrap().f_bavail;
    assert_eq!(left, 0, "the disk has {left} blocks left");
}

#[test]
fn a_log_that_filled_the_disk_drains_with_no_byte_free_and_takes_batches_again() {
    let name = "full_disk::a_log_that_filled_the_disk_drains_with_no_byte_free_and_takes_batches_again";
    on_a_small_disk(name, |disk| async move {
        let site = Site::new();
        let wrapper = site.open_with(|c| {
            unlimited(c, &disk, OnFull::Block);
            c.block_timeout = Some(Duration::from_millis(20));
        });
        let (stored, text) = fill(&wrapper).await;
        assert!(text.contains("bytes free") && text.contains("block_timeout_secs"), "{text}");
        let status = wrapper.status();
        assert_eq!(status.frames.stored as i64, stored);
        assert!(stored * ROWS * 20 > (DISK_MIB as i64 - 4) << 20, "full after {stored} batches already");
        assert!(status.full.is_some(), "{status:#?}");
        take_the_rest(&disk);

        let emulator = site.serve();
        let status = wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
        assert_eq!(status.settling_failure, None);
        wait_until(&wrapper, "the reclaim", |it| it.log_bytes < 1 << 20).await;
        for number in stored..stored + 40 {
            send(&wrapper, number).await.unwrap();
        }
        wrapper.flush(TIMEOUT).await.unwrap();
        assert_conserved(&wrapper.status());
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(0..(stored + 40) * ROWS));
    });
}

#[test]
fn a_log_on_a_full_disk_opens_after_a_crash_and_drains() {
    let name = "full_disk::a_log_on_a_full_disk_opens_after_a_crash_and_drains";
    on_a_small_disk(name, |disk| async move {
        let site = Site::new();
        let change = |c: &mut WrapperConfiguration| unlimited(c, &disk, OnFull::Reject);
        let wrapper = site.open_with(change);
        let (stored, _) = fill(&wrapper).await;
        take_the_rest(&disk);
        drop(wrapper);
        let wrapper = site.open_with(change);
        assert_eq!(wrapper.status().frames.waiting as i64, stored);
        let emulator = site.serve();
        wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
        wrapper.flush(TIMEOUT).await.unwrap();
        send(&wrapper, stored).await.unwrap();
        wrapper.flush(TIMEOUT).await.unwrap();
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(0..(stored + 1) * ROWS));
    });
}

#[test]
fn a_log_on_a_full_disk_opens_for_another_endpoint_and_drains() {
    let name = "full_disk::a_log_on_a_full_disk_opens_for_another_endpoint_and_drains";
    on_a_small_disk(name, |disk| async move {
        let site = Site::new();
        let wrapper = site.open_with(|c| {
            unlimited(c, &disk, OnFull::Reject);
            c.endpoint = "http://127.0.0.1:9".to_owned();
        });
        let (stored, _) = fill(&wrapper).await;
        take_the_rest(&disk);
        let reserve = disk.join("wal/main.default.events/writer-001/ledger.reserve");
        assert!(reserve.exists());
        // Its last checkpoint may need the reserve.
        drop(wrapper);

        let emulator = site.serve();
        let wrapper = site.open_with(|c| unlimited(c, &disk, OnFull::Reject));
        wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
        wait_until(&wrapper, "the ledger's space", |_| reserve.exists()).await;
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(0..stored * ROWS));
    });
}

#[test]
fn while_the_ledgers_reserve_is_missing_no_batch_takes_its_space() {
    let name = "full_disk::while_the_ledgers_reserve_is_missing_no_batch_takes_its_space";
    on_a_small_disk(name, |disk| async move {
        let site = Site::new();
        let change = |c: &mut WrapperConfiguration| unlimited(c, &disk, OnFull::Reject);
        let wrapper = site.open_with(change);
        send(&wrapper, 0).await.unwrap();
        wrapper.shutdown().await.unwrap();
        drop(wrapper);
        // As after a checkpoint on a full disk, and a kill: the reserve is used up, and others have its space.
        let reserve = disk.join("wal/main.default.events/writer-001/ledger.reserve");
        std::fs::remove_file(&reserve).unwrap();
        take_the_rest(&disk);
        let others = std::fs::File::options().write(true).open(disk.join("of-another-program")).unwrap();
        others.set_len(others.metadata().unwrap().len() - 1_500_000).unwrap();

        let wrapper = site.open_with(change);
        let refused = send(&wrapper, 1).await.unwrap_err();
        assert_eq!(refused.0, ErrorCode::BufferFull, "{}", refused.1);
        others.set_len(0).unwrap();
        wait_until(&wrapper, "room", |it| it.free_bytes.is_some_and(|free| free > 3 << 20)).await;
        send(&wrapper, 1).await.unwrap();

        let emulator = site.serve();
        wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
        wrapper.shutdown().await.unwrap();
        assert!(reserve.exists(), "the reserve is taken back");
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(0..2 * ROWS));
    });
}

#[test]
fn what_is_sent_exactly_once_is_recorded_on_a_full_disk_too() {
    let name = "full_disk::what_is_sent_exactly_once_is_recorded_on_a_full_disk_too";
    on_a_small_disk(name, |disk| async move {
        let site = Site::new();
        let change = |c: &mut WrapperConfiguration| {
            unlimited(c, &disk, OnFull::Reject);
            exactly(c);
            c.request_max_bytes = 32 * 1024;
        };
        let wrapper = site.open_with(change);
        let (stored, _) = fill(&wrapper).await;
        take_the_rest(&disk);
        let emulator = site.serve();
        wait_until(&wrapper, "some rows", |it| it.rows.delivered > 0).await;
        drop(wrapper);
        let wrapper = site.open_with(change);
        let status = wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
        assert_eq!((status.settling_failure, status.doubtful_rows), (None, 0));
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(0..stored * ROWS));
    });
}

#[test]
fn on_a_full_disk_the_oldest_frames_are_dropped_and_the_newest_delivered() {
    let name = "full_disk::on_a_full_disk_the_oldest_frames_are_dropped_and_the_newest_delivered";
    on_a_small_disk(name, |disk| async move {
        const SENT: i64 = 1_500;
        let site = Site::new();
        let wrapper = site.open_with(|c| unlimited(c, &disk, OnFull::DropOldest));
        for number in 0..SENT {
            send(&wrapper, number).await.unwrap();
        }
        let status = wrapper.status();
        assert_conserved(&status);
        assert!(status.rows.dropped > 0 && status.rows.waiting as i64 > 50 * ROWS, "{status:#?}");
        let emulator = site.serve();
        let status = wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
        assert_conserved(&status);
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(status.rows.dropped as i64..SENT * ROWS));
    });
}

#[test]
fn on_a_full_disk_retained_segments_go_first() {
    let name = "full_disk::on_a_full_disk_retained_segments_go_first";
    on_a_small_disk(name, |disk| async move {
        const SENT: i64 = 600;
        let site = Site::new();
        let emulator = site.serve();
        let wrapper = site.open_with(|c| {
            unlimited(c, &disk, OnFull::Reject);
            c.retain_delivered = Duration::from_secs(1_000_000);
        });
        for number in 0..SENT {
            send(&wrapper, number).await.unwrap();
            if number % 20 == 19 {
                wrapper.flush(TIMEOUT).await.unwrap();
            }
        }
        let status = wrapper.status();
        assert!(status.retained_bytes > 2 << 20, "{status:#?}");
        assert_eq!((status.rows.delivered as i64, status.rows.dropped), (SENT * ROWS, 0));
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(0..SENT * ROWS));
    });
}

#[test]
fn a_disk_that_is_smaller_than_the_floor_opens_and_says_what_to_set() {
    let name = "full_disk::a_disk_that_is_smaller_than_the_floor_opens_and_says_what_to_set";
    on_a_small_disk(name, |disk| async move {
        let site = Site::new();
        let small = |c: &mut WrapperConfiguration, floor: u64| {
            unlimited(c, &disk, OnFull::Reject);
            c.wal_min_free_bytes = floor;
        };
        let wrapper = site.open_with(|c| small(c, 512 << 20));
        let (code, text) = send(&wrapper, 0).await.unwrap_err();
        assert_eq!(code, ErrorCode::BufferFull);
        assert!(text.contains("wal_min_free_bytes keeps 536870912") && text.contains("lower"), "{text}");
        wrapper.shutdown().await.unwrap();

        // With a floor that fits, the log leaves so much free, but for one segment whose space is reserved.
        const FLOOR: u64 = 2 << 20;
        let wrapper = site.open_with(|c| small(c, FLOOR));
        let (stored, text) = fill(&wrapper).await;
        assert!(stored > 0 && text.contains("wal_min_free_bytes keeps 2097152"), "{text}");
        let free = wrapper.status().free_bytes.unwrap();
        assert!(free + 256 * 1024 >= FLOOR, "{free} bytes are free");
        drop(wrapper);
    });
}
