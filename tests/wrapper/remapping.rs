//! A table that was renamed, and a service that moved: what waits goes there, and whenever the change is killed the log
//! opens as the old one or as the new one, with everything in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::admin::remap::{Remap, RemapError, RemapOptions, remap};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};
use arrow_zerobus_sdk_wrapper::types::TableName;
use arrow_zerobus_sdk_wrapper::{WrapperConfiguration, admin, cli};

use crate::site::{Site, TABLE, assert_conserved, batch, once};

const NEW: &str = "main.default.events_renamed";

fn name(text: &str) -> TableName {
    text.parse().unwrap()
}

fn change(root: &Path, executes: bool) -> Result<Vec<Remap>, RemapError> {
    remap(root, &name(TABLE), &name(NEW), &RemapOptions::default(), executes)
}

fn hurried(configuration: &mut WrapperConfiguration) {
    configuration.shutdown_timeout = Duration::ZERO;
}

fn renamed(configuration: &mut WrapperConfiguration) {
    configuration.table_name = NEW.to_owned();
}

/// Two logs of the table, each with rows that wait.
async fn leave_logs(site: &Site) {
    let wrappers = [site.open_with(hurried), site.open_with(hurried)];
    for (wrapper, first) in wrappers.iter().zip([0, 10]) {
        wrapper.send_batch(batch(first..first + 10)).await.unwrap();
        wrapper.shutdown().await.unwrap();
    }
}

/// All rows land in the new table, by the next wrapper of it.
async fn everything_lands_there(site: &Site) {
    let emulator = site.serve_with(|options| {
        options.tables.push((NEW.to_owned(), "id BIGINT, name STRING".to_owned()));
    });
    let wrapper = site.open_with(renamed);
    let is_over = || {
        let logs = admin::find_logs(&site.wal_dir()).unwrap();
        logs.iter().all(|log| admin::status(log).is_ok_and(|it| it.rows.waiting == 0))
    };
    crate::site::wait_until(&wrapper, "delivery and adoption", |_| is_over()).await;
    assert_conserved(&wrapper.status());
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed_in(NEW), once(0..20));
    assert!(site.landed().is_empty(), "nothing went to the old table");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_table_that_was_renamed_lands_in_the_new_one() {
    let site = Site::new();
    leave_logs(&site).await;
    let plan = change(&site.wal_dir(), false).unwrap();
    let places: Vec<PathBuf> = plan.iter().map(|it| it.to.clone()).collect();
    let expected = [1, 2].map(|number| site.wal_dir().join(NEW).join(format!("writer-{number:03}")));
    assert_eq!(places, expected);
    assert!(plan.iter().all(|it| !it.executed && it.waiting_rows == 10 && it.copies.is_none()), "{plan:#?}");
    assert!(!site.wal_dir().join(NEW).exists(), "a plan changes nothing");
    let args = ["zerobus-wal", "remap", TABLE, NEW].map(Into::into);
    let args = args.into_iter().chain([site.wal_dir().into(), "--execute".into()]);
    assert_eq!(cli::run(args), 0);
    for place in &expected {
        let status = admin::status(place).unwrap();
        assert_eq!((status.table.as_str(), status.rows.waiting), (NEW, 10));
        assert_eq!(status.table_schema.columns, None, "the columns of the old table are forgotten");
        assert!(
            place.join("before-remap-001/LOG").exists() && place.join("before-remap-001/ledger").exists()
        );
    }
    assert!(matches!(change(&site.wal_dir(), true), Err(RemapError::NoLog { .. })), "once is enough");
    everything_lands_there(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_moved_needs_no_other_place_and_live_owners_are_refused() {
    let site = Site::new();
    let wrapper = site.open_with(|c| {
        hurried(c);
        c.endpoint = "http://127.0.0.1:1".to_owned();
    });
    wrapper.send_batch(batch(0..10)).await.unwrap();
    assert_eq!(change(&site.wal_dir(), true).unwrap_err().code(), ErrorCode::Locked);
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let nothing = remap(&site.wal_dir(), &name(TABLE), &name(TABLE), &RemapOptions::default(), true);
    assert!(matches!(nothing, Err(RemapError::NothingChanges { .. })));
    let endpoint = Some(site.configuration().endpoint);
    let options = RemapOptions { endpoint: endpoint.clone(), unity_catalog_url: None };
    let done = remap(&site.wal_dir(), &name(TABLE), &name(TABLE), &options, true).unwrap();
    assert_eq!((done.len(), &done[0].to), (1, &site.writer_directory()));
    let emulator = site.serve();
    let drain = ["zerobus-wal".into(), "drain".into(), site.writer_directory().into()];
    let credentials =
        ["--client-id".into(), "edge-box".into(), "--client-secret".into(), crate::site::secret().into()];
    let args: Vec<std::ffi::OsString> = drain.into_iter().chain(credentials).collect();
    assert_eq!(std::thread::spawn(|| cli::run(args)).join().unwrap(), 0);
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..10));
}

#[cfg(feature = "sim")]
mod kills {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use arrow_zerobus_sdk_wrapper::deaths::{self, Death};

    use super::*;

    /// Tells the test that was started again where to change logs, and at which step to die.
    const VARIABLE: &str = "REMAP_AND_DIE";
    const NAME: &str =
        "remapping::kills::killed_at_any_step_a_log_is_the_old_one_or_the_new_one_and_a_second_run_goes_on";
    /// Two logs, each with four steps at which it can die.
    const STEPS: u32 = 8;

    #[test]
    fn killed_at_any_step_a_log_is_the_old_one_or_the_new_one_and_a_second_run_goes_on() {
        if let Some(asked) = std::env::var_os(VARIABLE) {
            let asked = asked.into_string().unwrap();
            let (step, root) = asked.split_once(' ').unwrap();
            deaths::plan(Death::RemapStep, step.parse().unwrap());
            change(Path::new(root), true).unwrap();
            return;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        for step in 1..=STEPS {
            let site = Site::new();
            runtime.block_on(leave_logs(&site));
            let died = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", NAME, "--nocapture"])
                .env(VARIABLE, format!("{step} {}", site.wal_dir().display()))
                .output()
                .unwrap();
            assert_eq!(died.status.signal(), Some(9), "step {step}: {died:?}");
            let logs = admin::find_logs(&site.wal_dir()).unwrap();
            let statuses: Vec<_> = logs.iter().map(|log| admin::status(log).unwrap()).collect();
            assert_eq!(statuses.len(), 2, "step {step}: {logs:?}");
            for status in &statuses {
                assert!([TABLE, NEW].contains(&status.table.as_str()));
                assert_eq!((status.rows.waiting, status.rows.stored), (10, 10), "step {step}");
            }
            // Whichever of the two a program is started for, it stores.
            for table in [TABLE, NEW] {
                let wrapper = site.open_with(|c| {
                    hurried(c);
                    c.table_name = table.to_owned();
                    c.wal_dir = Some(site.wal_dir());
                });
                runtime.block_on(wrapper.shutdown()).unwrap();
            }
            change(&site.wal_dir(), true).unwrap();
            let waiting = admin::find_logs(&site.wal_dir()).unwrap();
            let of = |log: &PathBuf| admin::status(log).unwrap();
            let waiting: Vec<_> = waiting.iter().map(of).filter(|it| it.rows.waiting > 0).collect();
            assert_eq!(waiting.len(), 2, "step {step}");
            assert!(waiting.iter().all(|it| it.table.as_str() == NEW && it.rows.waiting == 10));
            runtime.block_on(everything_lands_there(&site));
        }
    }
}
