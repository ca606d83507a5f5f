//! Logs that cannot be opened, or that report the same files at each opening, and what a repair makes of them: everything
//! is delivered, nothing is deleted, and whenever it is killed a second run does what is left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::admin::repair::{Repair, RepairAction, RepairError, RepairOptions, repair};
use arrow_zerobus_sdk_wrapper::admin::{self, Progress};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};
use arrow_zerobus_sdk_wrapper::{WrapperConfiguration, ZerobusWrapper, cli};

use crate::site::{Site, batch, once};

const ROWS: i64 = 10_000;

fn small(configuration: &mut WrapperConfiguration) {
    configuration.segment_bytes = 64 * 1024;
    configuration.shutdown_timeout = Duration::ZERO;
}

/// A log of several segments whose rows all wait.
async fn leave_a_log(site: &Site) -> PathBuf {
    let wrapper = site.open_with(small);
    for start in (0..ROWS).step_by(100) {
        wrapper.send_batch(batch(start..start + 100)).await.unwrap();
    }
    wrapper.shutdown().await.unwrap();
    site.writer_directory()
}

fn look(directory: &Path, executes: bool) -> Result<Repair, RepairError> {
    repair(directory, &RepairOptions::default(), executes, &Progress::new())
}

fn actions(repair: &Repair) -> Vec<RepairAction> {
    repair.steps.iter().map(|step| step.action).collect()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "wal")).collect();
    found.sort();
    found
}

/// The bytes of each file in and below a directory, but for copies.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let (path, kind) = (entry.as_ref().unwrap().path(), entry.unwrap().file_type().unwrap());
        if kind.is_file() {
            found.insert(path.file_name().unwrap().into(), std::fs::read(&path).unwrap());
        } else if kind.is_dir() && !path.file_name().unwrap().to_string_lossy().starts_with("backup-") {
            let name = path.file_name().unwrap();
            found
                .extend(contents(&path).into_iter().map(|(file, bytes)| (Path::new(name).join(file), bytes)));
        }
    }
    found
}

async fn everything_lands(site: &Site) {
    let emulator = site.serve();
    let wrapper = site.open();
    wrapper.flush(None).await.unwrap();
    assert_eq!(wrapper.status().damage, Vec::<String>::new());
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..ROWS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_identity_is_written_anew_with_the_epoch_of_the_frames() {
    // Of one thing after the other that says which log it is.
    for takes_headers in [false, true] {
        let site = Site::new();
        let directory = leave_a_log(&site).await;
        std::fs::write(directory.join("LOG"), "not what was written").unwrap();
        if takes_headers {
            for segment in segments(&directory) {
                let mut bytes = std::fs::read(&segment).unwrap();
                bytes[..4096].fill(0x5a);
                std::fs::write(&segment, bytes).unwrap();
            }
        }
        let before = contents(&directory);
        let alone = WrapperConfiguration { exclusive: true, ..site.configuration() };
        assert!(ZerobusWrapper::open(alone).is_err());
        let error = look(&directory, true).unwrap_err();
        assert!(matches!(error, RepairError::UnknownDestination { .. }), "{error}");
        let configuration = site.configuration();
        let options = RepairOptions {
            endpoint: Some(configuration.endpoint.clone()),
            unity_catalog_url: configuration.unity_catalog_url.clone(),
            backup: None,
        };
        let plan = repair(&directory, &options, false, &Progress::new()).unwrap();
        assert_eq!(actions(&plan), [RepairAction::SetAside, RepairAction::WriteIdentity], "{plan:#?}");
        assert_eq!((plan.executed, plan.backup.clone()), (false, None));
        assert_eq!(contents(&directory), before, "a plan changes nothing");
        let progress = Progress::new();
        let done = repair(&directory, &options, true, &progress).unwrap();
        assert!(done.executed);
        assert_eq!(progress.done(), done.backup_bytes);
        assert_eq!(contents(&done.backup.unwrap()), before, "what was there before is in the copy");
        assert_eq!(std::fs::read(directory.join("set-aside/LOG")).unwrap(), b"not what was written");
        let again = look(&directory, true).unwrap();
        assert_eq!((again.steps.len(), again.executed, again.backup), (0, false, None), "once is enough");
        if !takes_headers {
            everything_lands(&site).await;
        } else {
            assert_eq!(admin::status(&directory).unwrap().rows.waiting, ROWS as u64);
        }
    }
}

/// Puts segments under wrong names and files that are no segments of this log beside them; returns what is to be done.
async fn strew(directory: &Path) -> Vec<RepairAction> {
    let other = Site::new();
    let foreign = segments(&leave_a_log(&other).await);
    let own = segments(directory);
    let name = |number: u32| directory.join(format!("segment-{number:016}.wal"));
    std::fs::copy(&own[0], name(900)).unwrap();
    std::fs::rename(&own[1], name(901)).unwrap();
    std::fs::copy(&foreign[0], name(902)).unwrap();
    std::fs::write(name(903), vec![0x77; 20_000]).unwrap();
    vec![RepairAction::SetAside, RepairAction::Rename, RepairAction::SetAside, RepairAction::SetAside]
}

/// The command of the plan runs as it stands there.
fn assert_exports_nothing_damaged(plan: &Repair, site: &Site) {
    let words = plan.salvage.as_ref().unwrap().split(' ');
    let output = site.directory.path().join("damaged.parquet");
    let words =
        words.map(|word| if word == "damaged.parquet" { output.display().to_string() } else { word.into() });
    let args: Vec<std::ffi::OsString> = words.map(Into::into).collect();
    assert_eq!(std::thread::spawn(|| cli::run(args)).join().unwrap(), 0);
    assert!(!output.exists(), "no frame is damaged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_how_what_can_still_be_read_of_damaged_frames_is_exported() {
    let site = Site::new();
    let directory = leave_a_log(&site).await;
    assert_eq!(look(&directory, false).unwrap().salvage, None, "nothing is wrong");
    // A bit in a value of a row of the first frame, behind everything that says how to read it.
    let segment = segments(&directory).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let row = bytes.windows(6).position(|window| window == b"row 42").unwrap();
    bytes[row + 5] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    std::fs::write(directory.join("segment-0000000000000900.wal"), vec![0x77; 20_000]).unwrap();
    let plan = look(&directory, false).unwrap();
    let output = site.directory.path().join("damaged.parquet");
    let command = plan.salvage.unwrap().replace("damaged.parquet", output.to_str().unwrap());
    let args: Vec<std::ffi::OsString> = command.split(' ').map(Into::into).collect();
    assert_eq!(std::thread::spawn(|| cli::run(args)).join().unwrap(), 0);
    assert!(output.exists(), "its rows are in a file");
    let done = look(&directory, true).unwrap();
    assert!(done.executed && done.salvage.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_get_their_names_back_and_what_is_no_part_of_the_log_is_moved_out() {
    let site = Site::new();
    let directory = leave_a_log(&site).await;
    let whole = segments(&directory);
    let expected = strew(&directory).await;
    let strewn = contents(&directory);
    let plan = look(&directory, false).unwrap();
    assert_eq!(actions(&plan), expected, "{plan:#?}");
    assert_exports_nothing_damaged(&plan, &site);
    assert_eq!(contents(&directory), strewn);
    let args = ["zerobus-wal".into(), "repair".into(), directory.clone().into(), "--execute".into()];
    assert_eq!(std::thread::spawn(|| cli::run(args)).join().unwrap(), 0);
    assert_eq!(segments(&directory), whole);
    assert_eq!(std::fs::read_dir(directory.join("set-aside")).unwrap().count(), 3, "nothing is deleted");
    assert_eq!(contents(&directory.join("backup-001")), strewn);
    everything_lands(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_is_killed_after_any_step_is_finished_by_the_next_one() {
    for steps_done in 0..=4 {
        let site = Site::new();
        let directory = leave_a_log(&site).await;
        strew(&directory).await;
        // As the one that was killed has done it: a rename is there or not.
        let plan = look(&directory, false).unwrap();
        for step in &plan.steps[..steps_done] {
            let to = step.to.as_ref().unwrap();
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::rename(&step.path, to).unwrap();
        }
        // Half a copy of the one that was killed.
        std::fs::create_dir_all(directory.join("backup-001.new")).unwrap();
        std::fs::write(directory.join("backup-001.new/LOG"), "half").unwrap();
        let rest = look(&directory, true).unwrap();
        assert_eq!(rest.steps.len(), 4 - steps_done, "{rest:#?}");
        assert_eq!(look(&directory, true).unwrap().steps.len(), 0);
        everything_lands(&site).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_read_is_moved_aside_and_the_status_can_be_told_again() {
    let site = Site::new();
    let directory = leave_a_log(&site).await;
    std::fs::write(directory.join("ledger/conf"), "this is no sled configuration").unwrap();
    assert!(admin::status(&directory).is_err());
    let done = look(&directory, true).unwrap();
    assert_eq!(actions(&done), [RepairAction::RenewLedger]);
    assert!(directory.join("ledger.set-aside-1").is_dir());
    assert_eq!(admin::status(&directory).unwrap().rows.waiting, ROWS as u64);
    everything_lands(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_an_owner_and_a_copy_that_is_there_already_are_refused() {
    let site = Site::new();
    let wrapper = site.open_with(small);
    let directory = site.writer_directory();
    for executes in [false, true] {
        assert_eq!(look(&directory, executes).unwrap_err().code(), ErrorCode::Locked);
    }
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    assert_eq!(look(&directory, true).unwrap().steps.len(), 0, "there is nothing to mend");
    std::fs::write(directory.join("LOG"), "").unwrap();
    let options = RepairOptions {
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        backup: Some(site.directory.path().to_owned()),
        ..RepairOptions::default()
    };
    let error = repair(&directory, &options, true, &Progress::new()).unwrap_err();
    assert!(matches!(error, RepairError::Storage { action: "copy the log to", .. }), "{error}");
    assert_eq!(std::fs::read(directory.join("LOG")).unwrap(), b"");
}
