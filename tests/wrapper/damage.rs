//! Frames that the disk has damaged while they waited: the others are delivered, whoever delivers is told, and what is
//! left of the damaged ones is kept. And a log that a later version has gone on with: nothing of it is touched.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::admin::check::{Limits, ViolationKind, check};
use arrow_zerobus_sdk_wrapper::error::ErrorCode;
use arrow_zerobus_sdk_wrapper::{ZerobusWrapper, admin, cli};

use crate::site::{Site, batch, once, secret};

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_frame_is_stepped_over_told_by_the_exit_code_and_kept_until_somebody_has_looked() {
    let site = Site::new();
    let wrapper = site.open_with(|configuration| configuration.shutdown_timeout = Duration::ZERO);
    for start in [0, 10, 20] {
        wrapper.send_batch(batch(start..start + 10)).await.unwrap();
    }
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let directory = site.writer_directory();
    let segment = directory.join("segment-0000000000000001.wal");
    let mut bytes = std::fs::read(&segment).unwrap();
    let frames = (4096..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"ZBfr\x02"));
    let second = frames.collect::<Vec<usize>>()[1];
    bytes[second + 80 + 200] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();

    let emulator = site.serve();
    let drain = || {
        let mut args: Vec<OsString> =
            ["zerobus-wal", "drain", "--client-id", "edge-box"].map(Into::into).into();
        args.extend(["--client-secret".into(), secret().into(), directory.clone().into()]);
        std::thread::spawn(|| cli::run(args)).join().unwrap()
    };
    assert_eq!(drain(), ErrorCode::Corruption.info().exit_code);
    let status = admin::status(&directory).unwrap();
    assert_eq!((status.rows.delivered, status.rows.waiting, status.damaged_frames), (20, 0, 1));
    let kept = directory.join("segment-0000000000000001.wal.damaged");
    assert!(kept.exists(), "the newest segment stays for its numbers, with a mark");

    let wrapper = site.open();
    wrapper.send_batch(batch(30..40)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    let mut expected = once(0..10);
    expected.extend(once(20..40));
    assert_eq!(site.landed(), expected);
    assert!(std::fs::read(&kept).unwrap() == bytes, "all of the segment is kept");

    let found = check(&directory, &Limits::default()).unwrap();
    let [violation] = found.violations.as_slice() else { panic!("{found:?}") };
    assert_eq!(violation.kind, ViolationKind::Damage);
    std::fs::remove_file(&kept).unwrap();
    assert!(check(&directory, &Limits::default()).unwrap().is_ok, "somebody has looked");
}

/// The files in a directory and below it, but the lock, in which whoever takes it writes his name.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut contents(&path));
        } else if path.is_file() && !path.ends_with("LOCK") {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_log_that_a_later_version_has_gone_on_with_nothing_is_touched_and_the_ledger_neither() {
    let site = Site::new();
    let wrapper = site.open_with(|configuration| configuration.shutdown_timeout = Duration::ZERO);
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let segment = site.writer_directory().join("segment-0000000000000001.wal");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[8] += 1;
    let checksum = crc32fast::hash(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&segment, &bytes).unwrap();

    let before = contents(&site.writer_directory());
    assert!(before.keys().any(|path| path.to_string_lossy().contains("/ledger/")), "{:?}", before.keys());
    let error = ZerobusWrapper::open(site.configuration()).map(drop).unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("version 2"), "{reason}");
    assert!(contents(&site.writer_directory()) == before, "a log that was refused has changed");
}
