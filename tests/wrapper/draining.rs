//! What `zerobus-wal drain` and the opening of a wrapper make of logs that are not as they were left: rows go on where they
//! can, and what cannot go on is left as it is, with the next step.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int32Array, RecordBatch};
use arrow_zerobus_sdk_wrapper::admin::repair::{RepairOptions, repair};
use arrow_zerobus_sdk_wrapper::admin::{self, Progress};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};
use arrow_zerobus_sdk_wrapper::{Status, Validate, WrapperConfiguration, ZerobusWrapper};

use crate::command::{command, ended, leave};
use crate::exactly::{exactly, silenced};
use crate::site::{Site, TABLE, batch, once, secret, wait_until};

/// Drains a log of the site with these arguments; its exit code, and what it said.
fn drain(directory: &Path, more: &[&str]) -> (i32, String) {
    let mut drain = command("drain");
    drain.arg(directory).args(more);
    drain.envs([("ZEROBUS_CLIENT_ID", "edge-box"), ("ZEROBUS_CLIENT_SECRET", secret())]);
    ended(&drain.output().unwrap())
}

fn exit_code(code: ErrorCode) -> i32 {
    i32::from(code.info().exit_code)
}

/// Batches with a column that the table has not.
fn with_extra(ids: std::ops::Range<i64>) -> RecordBatch {
    let usual = batch(ids.clone());
    let extra: ArrayRef = Arc::new(Int32Array::from_iter_values(ids.map(|id| id as i32)));
    let columns = [
        ("id", usual.column(0).clone(), true),
        ("name", usual.column(1).clone(), true),
        ("extra", extra, true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_a_schema_until_its_time_is_over_and_then_puts_it_into_quarantine() {
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        c.shutdown_timeout = Duration::ZERO;
        c.validate = Validate::Off;
    });
    wrapper.send_batch(with_extra(0..10)).await.unwrap();
    wrapper.send_batch(batch(10..20)).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let emulator = site.serve();
    let (code, said) = drain(&site.writer_directory(), &["--schema-grace-secs", "2"]);
    assert_eq!(code, exit_code(ErrorCode::Transmission), "{said}");
    assert!(said.contains("--schema-grace-secs") && said.contains("extra"), "{said}");
    emulator.stop().unwrap();
    let status = admin::status(&site.writer_directory()).unwrap();
    assert_eq!((status.rows.delivered, status.rows.quarantined, status.rows.waiting), (10, 10, 0));
    assert_eq!(site.landed(), once(10..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_without_a_quarantine_does_not_wait_for_one() {
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        c.shutdown_timeout = Duration::ZERO;
        c.validate = Validate::Off;
    });
    wrapper.send_batch(with_extra(0..10)).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let emulator = site.serve();
    let (code, said) =
        drain(&site.writer_directory(), &["--schema-grace-secs", "0", "--quarantine-max-bytes", "0"]);
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("quarantine_max_bytes is 0"), "{said}");
    emulator.stop().unwrap();
    assert_eq!(admin::status(&site.writer_directory()).unwrap().rows.waiting, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_runs_out_of_time_says_what_the_lane_was_doing_and_why() {
    let site = Site::new();
    leave(&site).await;
    let (code, said) = drain(&site.writer_directory(), &["--timeout", "2"]);
    assert_eq!(code, exit_code(ErrorCode::FlushTimeout), "{said}");
    let last = said.lines().find(|line| line.starts_with("warning: ") && line.contains("the lane is"));
    assert!(last.is_some_and(|line| line.contains("backing_off: ")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_identity_or_ledger_keeps_a_drain_from_nothing() {
    for loss in ["LOG", "ledger"] {
        let site = Site::new();
        leave(&site).await;
        let directory = site.writer_directory();
        match loss {
            "LOG" => fs::remove_file(directory.join("LOG")).unwrap(),
            _ => fs::write(directory.join("ledger/conf"), "this is no sled configuration").unwrap(),
        }
        admin::status(&directory).unwrap_err();
        let emulator = site.serve();
        if loss == "LOG" {
            let (code, said) = drain(&directory, &[]);
            assert_eq!(code, exit_code(ErrorCode::Configuration), "{said}");
            assert!(said.contains("--endpoint"), "{said}");
        }
        let (endpoint, workspace) = (emulator.endpoint().to_owned(), emulator.unity_catalog_url().to_owned());
        let more: &[&str] = match loss {
            "LOG" => &["--endpoint", &endpoint, "--unity-catalog-url", &workspace],
            _ => &[],
        };
        let (code, said) = drain(&directory, more);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("10 rows delivered"), "{said}");
        emulator.stop().unwrap();
        assert_eq!(site.landed(), once(0..10));
        assert_eq!(admin::status(&directory).unwrap().rows.waiting, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_say_whose_it_is_is_left_alone_and_the_program_goes_on_beside_it() {
    let site = Site::new();
    leave(&site).await;
    let first = site.writer_directory();
    let identity = fs::read(first.join("LOG")).unwrap();
    fs::write(first.join("LOG"), "not what was written").unwrap();
    let emulator = site.serve();
    let alone = WrapperConfiguration { exclusive: true, ..site.configuration() };
    let refused = ZerobusWrapper::open(alone).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Corruption, "who wants one log alone is told");
    let wrapper = site.open();
    assert_eq!(wrapper.status().directory, site.wal_dir().join(TABLE).join("writer-002"));
    wrapper.send_batch(batch(10..20)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    let is_told = |status: &Status| status.adoption.left.iter().any(|left| left.contains("writer-001"));
    wait_until(&wrapper, "the report of the other log", is_told).await;
    assert_eq!(fs::read(first.join("LOG")).unwrap(), b"not what was written", "nothing of it was changed");

    // Once it is mended, it is drained as any other.
    let done = repair(&first, &RepairOptions::default(), true, &Progress::new()).unwrap();
    assert!(done.executed && fs::read(first.join("LOG")).unwrap().len() > identity.len() / 2);
    wait_until(&wrapper, "its adoption", |status| status.adoption.drained_logs == 1).await;
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_cannot_be_read_is_no_proof_that_nobody_owns_the_log() {
    let site = Site::new();
    leave(&site).await;
    let directory = site.wal_dir().join(TABLE).join("writer-002");
    fs::rename(site.writer_directory(), &directory).unwrap();
    let lock = directory.join("LOCK");
    fs::remove_file(&lock).unwrap();
    // Nobody, not even root, opens a link that leads to itself.
    std::os::unix::fs::symlink("LOCK", &lock).unwrap();
    let status = admin::status(&directory).unwrap();
    assert_eq!((status.owner_pid, status.rows.waiting), (Some(0), 10));
    let reason = status.table_schema.reason.unwrap();
    assert!(reason.contains("LOCK cannot be read") && reason.contains("as the user"), "{reason}");
    let [listed] = &admin::statuses(&site.wal_dir()).unwrap()[..] else { panic!("one log") };
    assert_eq!(listed.owner_pid, Some(0));
    let mut ls = command("ls");
    let (code, said) = ended(&ls.arg(site.wal_dir()).output().unwrap());
    assert!(code == 0 && said.contains("unknown") && !said.contains("orphan"), "{said}");

    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    let is_told =
        |status: &Status| status.adoption.left.iter().any(|left| left.contains("LOCK cannot be read"));
    wait_until(&wrapper, "the report of the other log", is_told).await;
    wrapper.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_no_log_has_yet_are_said_so_with_those_that_there_are() {
    let site = Site::new();
    leave(&site).await;
    let rows = site.directory.path().join("rows.jsonl");
    let export = |lsns: &str| {
        let mut export = command("export");
        export.arg(site.wal_dir()).args(["--lsn", lsns, "--to", "jsonl", "--force", "--output"]).arg(&rows);
        ended(&export.output().unwrap())
    };
    let (code, said) = export("7-9");
    assert_eq!(code, exit_code(ErrorCode::Configuration), "{said}");
    assert!(said.contains("7-9") && said.contains("writer-001 has 1 to 1"), "{said}");
    assert_eq!(export("1-9").0, 0, "some are there");
    assert_eq!(export("7-").0, 0, "what is still to come");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persistent_stream_is_not_gone_on_with_at_another_place() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| {
        exactly(c);
        c.shutdown_timeout = Duration::ZERO;
    });
    // The last rows are in the table, and nobody has heard of it.
    silenced(&emulator, &wrapper, 0..10).await;
    wrapper.send_batch(batch(10..20)).await.unwrap();
    wait_until(&wrapper, "the request", |status| status.lane.as_ref().unwrap().stream_id.is_some()).await;
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let elsewhere = Site::new();
    let other = elsewhere.serve();
    let (endpoint, workspace) = (other.endpoint().to_owned(), other.unity_catalog_url().to_owned());
    let there = ["--delivery", "exactly_once", "--endpoint", &endpoint, "--unity-catalog-url", &workspace];
    let (code, said) = drain(&site.writer_directory(), &there);
    assert_eq!(code, exit_code(ErrorCode::Configuration), "{said}");
    assert!(said.contains("persistent stream at") && said.contains("drain it there first"), "{said}");
    assert_eq!(admin::status(&site.writer_directory()).unwrap().rows.waiting, 10);
    other.stop().unwrap();
    assert!(elsewhere.landed().is_empty());

    emulator.stop().unwrap();
    let emulator = site.serve();
    let (code, said) = drain(&site.writer_directory(), &["--delivery", "exactly_once"]);
    assert_eq!(code, 0, "{said}");
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..20));
}
