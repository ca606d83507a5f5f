//! What an operator's shell, disk and rights do to `zerobus-wal`: the command as it is typed, on logs as they are found.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::admin;
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};

use crate::site::{Site, batch, once, wait_until};

/// The command, in an environment that says nothing.
pub(crate) fn command(verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zerobus-wal"));
    for name in ["ZEROBUS_ENDPOINT", "UNITY_CATALOG_URL", "ZEROBUS_CLIENT_ID", "ZEROBUS_CLIENT_SECRET"] {
        command.env_remove(name);
    }
    command.arg(verb);
    command
}

/// What it ends with, and what it says.
pub(crate) fn ended(output: &Output) -> (i32, String) {
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    (output.status.code().unwrap_or_else(|| panic!("it was killed: {said}")), said)
}

/// A log in which ten rows wait and that nobody owns.
pub(crate) async fn leave(site: &Site) {
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_to_another_place_leaves_the_log_for_the_one_that_it_was_written_for() {
    let site = Site::new();
    leave(&site).await;
    let identity = || fs::read_to_string(site.writer_directory().join("LOG")).unwrap();
    let before = identity();
    let mut drain = command("drain");
    drain.arg(site.writer_directory()).args(["--timeout", "1", "--unity-catalog-url", "http://127.0.0.1:9"]);
    drain.env("ZEROBUS_ENDPOINT", "http://127.0.0.1:9");
    drain.envs([("ZEROBUS_CLIENT_ID", "edge-box"), ("ZEROBUS_CLIENT_SECRET", "a secret")]);
    let (code, said) = ended(&drain.output().unwrap());
    assert_eq!(code, i32::from(ErrorCode::FlushTimeout.info().exit_code), "{said}");
    assert_eq!(identity(), before);

    // So a wrapper of the table takes it up again.
    let emulator = site.serve();
    let hold = site.open();
    hold.flush(None).await.unwrap();
    hold.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!((site.landed(), identity()), (once(0..10), before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_read_is_not_one_that_is_not_there() {
    let site = Site::new();
    leave(&site).await;
    let ledger = site.writer_directory().join("ledger");
    fs::remove_dir_all(&ledger).unwrap();
    // While its mark is there, somebody has taken it away.
    assert_eq!(admin::status(&site.writer_directory()).unwrap_err().code(), ErrorCode::Corruption);
    fs::remove_file(site.writer_directory().join("ledger.mark")).unwrap();
    assert_eq!(admin::status(&site.writer_directory()).unwrap().rows.waiting, 10, "there is none");
    // No right makes a directory of a file, so this is refused for everybody.
    fs::write(&ledger, "").unwrap();
    let refused = admin::status(&site.writer_directory()).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Storage, "{refused}");
    let file = site.directory.path().join("rows.jsonl");
    let mut export = command("export");
    export.arg(site.wal_dir()).arg("-o").arg(&file).args(["--to", "jsonl"]);
    let (code, said) = ended(&export.output().unwrap());
    assert_eq!(code, i32::from(ErrorCode::Storage.info().exit_code), "{said}");
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_a_file_counts_before_one_in_the_environment() {
    let site = Site::new();
    site.open().shutdown().await.unwrap();
    let secret = site.directory.path().join("secret");
    fs::write(&secret, "of the file").unwrap();
    let drain = |more: &[&str]| {
        let mut drain = command("drain");
        drain.arg(site.wal_dir()).arg("--client-secret-file").arg(&secret).args(more);
        ended(&drain.env("ZEROBUS_CLIENT_SECRET", "of the shell").output().unwrap())
    };
    let (code, said) = drain(&[]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = drain(&["--client-secret", "of the command line"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--client-secret-file") && said.contains("one of them"), "{said}");
}

#[test]
fn where_there_is_no_directory_there_is_no_log_and_every_verb_says_so() {
    let nowhere = tempfile::tempdir().unwrap().path().join("nowhere");
    let verbs: [&[&str]; 15] = [
        &["status"],
        &["status", "--check"],
        &["ls"],
        &["inspect", "ledger"],
        &["verify"],
        &["drain"],
        &["pause"],
        &["resume"],
        &["adopt"],
        &["reclaim"],
        &["export", "-o", "/dev/null/rows"],
        &["quarantine", "ls"],
        &["quarantine", "show"],
        &["replay"],
        &["reconcile", "--delta", "/nowhere", "--key", "id"],
    ];
    for words in verbs {
        let mut verb = command(words[0]);
        let verb = match words[0] {
            "quarantine" | "inspect" => verb.arg(words[1]).arg(&nowhere),
            _ => verb.arg(&nowhere).args(&words[1..]),
        };
        let (code, said) = ended(&verb.output().unwrap());
        assert_eq!(code, 2, "{words:?}: {said}");
        assert!(
            said.contains("no log in or below") && said.contains("give the wal_dir"),
            "{words:?}: {said}"
        );
    }
}

/// Lets everybody read what is there, and nobody but its user write.
fn open_for_reading(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::read_dir(path).unwrap().for_each(|entry| open_for_reading(&entry.unwrap().path()));
    } else if metadata.is_file() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_may_not_be_asked_is_no_violation_and_its_files_are_read() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    wrapper.send_batch(batch(0..10)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    wait_until(&wrapper, "the settling", |it| it.rows.delivered == 10).await;
    open_for_reading(site.directory.path());
    // Where the tests are built, not everybody may look.
    let program = site.directory.path().join("zerobus-wal");
    let original = env!("CARGO_BIN_EXE_zerobus-wal");
    fs::hard_link(original, &program).or_else(|_| fs::copy(original, &program).map(drop)).unwrap();
    let checked = || {
        let mut check = Command::new(&program);
        check.args(["status", "--check", "--max-depth", "1000"]).arg(site.wal_dir());
        // Root may ask everybody; whoever is not has no right to its own socket then.
        match site.directory.path().metadata().unwrap().uid() {
            0 => {
                check.uid(65534).gid(65534);
            }
            _ => {
                let socket = site.writer_directory().join("owner.sock");
                fs::set_permissions(socket, fs::Permissions::from_mode(0o000)).unwrap();
            }
        }
        ended(&check.output().unwrap())
    };
    let (code, said) = checked();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("ok: 1 log"), "{said}");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}
