//! Frames that the disk has damaged while they waited: the others are delivered, whoever delivers is told, and what is
//! left of the damaged ones is kept.

use std::ffi::OsString;
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::admin::check::{Limits, ViolationKind, check};
use arrow_zerobus_sdk_wrapper::error::ErrorCode;
use arrow_zerobus_sdk_wrapper::{admin, cli};

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
