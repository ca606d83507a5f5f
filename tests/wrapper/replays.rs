//! Stored rows are sent again because somebody asked: each once, to where it was asked, and not again by mistake.

use std::path::Path;
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::admin::export::{ExportOptions, Format, Target};
use arrow_zerobus_sdk_wrapper::admin::replay::{ReplayError, ReplayOptions, ReplayOutcome, ReplayReport};
use arrow_zerobus_sdk_wrapper::admin::{
    Progress, RowState, Selection, export, quarantine_drop, quarantine_list, quarantine_rows, replay,
    replay_dry_run, status,
};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};
use arrow_zerobus_sdk_wrapper::wal::Destination;
use arrow_zerobus_sdk_wrapper::{Validate, WrapperConfiguration};

use crate::command::ended;
use crate::quarantine::{REQUIRED, bad, batch_with, batch_without, good, kept, knows, serve, told};
use crate::site::{Site, TABLE, batch, once, secret, wait_until};

const OTHER: &str = "main.default.copy";

struct Asked {
    options: Selection,
    to_table: Option<&'static str>,
    execute: bool,
    again: bool,
    rows_per_sec: Option<u64>,
}

fn asked(states: &[RowState]) -> Asked {
    Asked { options: Selection::of(states), to_table: None, execute: false, again: false, rows_per_sec: None }
}

/// Hands the options of a replay of this site over.
fn with_options<T>(site: &Site, asked: &Asked, run: impl FnOnce(&ReplayOptions<'_>) -> T) -> T {
    let configure = |destination: &Destination| WrapperConfiguration {
        endpoint: site.configuration().endpoint,
        table_name: destination.table.to_string(),
        schema_grace: Duration::ZERO,
        ..site.configuration()
    };
    run(&ReplayOptions {
        root: site.wal_dir(),
        selection: asked.options.clone(),
        to_table: asked.to_table.map(|table| table.parse().unwrap()),
        wal_dir: None,
        configure: &configure,
        rows_per_sec: asked.rows_per_sec,
        execute: asked.execute,
        again: asked.again,
        timeout: Some(Duration::from_secs(60)),
    })
}

/// Replays on a thread that drives no runtime.
fn replayed(site: &Site, asked: &Asked) -> Result<ReplayReport, ReplayError> {
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let run = || with_options(site, asked, |options| replay(options, &Progress::new()));
            scope.spawn(run).join().unwrap()
        })
    })
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_quarantine_arrive_once_when_the_table_was_mended_and_never_again_by_mistake() {
    let is_bad = |id: i64| id % 10 == 4;
    let site = Site::new();
    let emulator = site.serve_with(|options| options.tables = vec![(TABLE.to_owned(), REQUIRED.to_owned())]);
    let wrapper = site.open_with(|c| c.validate = Validate::Off);
    wait_until(&wrapper, "the columns", knows(2)).await;
    for start in (0..300).step_by(100) {
        wrapper.send_batch(batch_without(start..start + 100, is_bad)).await.unwrap();
    }
    assert_eq!(told(&wrapper).await, 30);
    emulator.sql("ALTER TABLE main.default.events ALTER COLUMN value DROP NOT NULL").unwrap();

    // Beside the live owner.
    let asked = asked(&[RowState::Quarantined]);
    let report = replayed(&site, &asked).unwrap();
    assert_eq!((report.outcome, report.rows, report.delivered_rows), (ReplayOutcome::Done, 30, 30));
    assert_eq!((report.quarantined_rows, report.is_resumed, report.duplicates.len()), (0, false, 0));
    assert_eq!(site.landed(), once(0..300));
    assert_eq!(entries(&report.directory), ["replay.json"], "what is delivered leaves its record behind");
    assert_eq!(kept(&site).len(), 30, "the files are theirs who dropped them there");

    let second = replayed(&site, &asked).unwrap();
    assert_eq!((second.outcome, second.delivered_rows), (ReplayOutcome::AlreadyDone, 30));
    assert_eq!(second.directory, report.directory);
    assert_eq!(site.landed(), once(0..300), "nothing was sent");

    // A row that came since is taken by the same replay, and no other is.
    emulator.sql("ALTER TABLE main.default.events ADD COLUMNS (extra INT)").unwrap();
    wrapper.send_batch(batch_with(300..310, |id| id == 305)).await.unwrap();
    assert_eq!(told(&wrapper).await, 1);
    let more = replayed(&site, &asked).unwrap();
    assert_eq!(
        (more.outcome, more.is_resumed, &more.directory),
        (ReplayOutcome::Done, true, &report.directory)
    );
    assert_eq!((more.rows, more.delivered_rows, more.quarantined_rows), (31, 30, 1));
    assert_eq!(site.landed(), good(0..310, |id| id == 305));

    let anew = replayed(&site, &Asked { again: true, ..asked }).unwrap();
    assert_eq!((anew.outcome, anew.delivered_rows, anew.quarantined_rows), (ReplayOutcome::Done, 30, 1));
    assert_ne!(anew.directory, report.directory);
    assert!(bad(0..300, is_bad).iter().all(|id| site.landed()[id] == 2));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_to_another_table_in_order_and_the_log_is_as_it_was() {
    let site = Site::new();
    let emulator = site.serve_with(|options| {
        options.tables.push((OTHER.to_owned(), "id BIGINT, name STRING".to_owned()));
    });
    let wrapper = site.open_with(|c| c.retain_delivered_bytes = 1 << 30);
    for start in (0..1_000).step_by(100) {
        wrapper.send_batch(batch(start..start + 100)).await.unwrap();
    }
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let before = status(&site.writer_directory()).unwrap();

    let all = Asked { to_table: Some(OTHER), ..asked(&[RowState::Delivered]) };
    let report = replayed(&site, &all).unwrap();
    assert_eq!((report.delivered_rows, report.duplicates.len()), (1_000, 0), "no other table has them");
    assert_eq!(site.landed_in(OTHER), once(0..1_000));
    assert_eq!(site.landed(), once(0..1_000));

    let mut some =
        Asked { to_table: Some(OTHER), rows_per_sec: Some(2_000), ..asked(&[RowState::Delivered]) };
    some.options.lsns = "3,9-".parse().ok();
    assert_eq!(replayed(&site, &some).unwrap().delivered_rows, 300);
    assert_eq!(site.landed_in(OTHER).values().sum::<usize>(), 1_300);
    assert_eq!(site.landed_in(OTHER)[&250], 2);
    let after = status(&site.writer_directory()).unwrap();
    assert_eq!((after.rows, after.frames, after.log_bytes), (before.rows, before.frames, before.log_bytes));
    assert_eq!((after.settled_lsn, after.durable_lsn), (before.settled_lsn, before.durable_lsn));
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_arrive_twice_is_said_and_needs_a_word_more() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open_with(|c| c.retain_delivered_bytes = 1 << 30);
    wrapper.send_batch(batch(0..100)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let all = asked(&[RowState::Delivered]);
    let plan = replayed(&site, &all).unwrap();
    assert_eq!((plan.outcome, plan.rows, plan.started_unix_micros), (ReplayOutcome::Planned, 0, None));
    assert!(plan.duplicates[0].contains("once more"), "{plan:?}");
    assert!(!plan.directory.exists());
    assert_eq!(site.landed(), once(0..100));
    let done = replayed(&site, &Asked { execute: true, ..all }).unwrap();
    assert_eq!((done.outcome, done.delivered_rows), (ReplayOutcome::Done, 100));
    assert!(site.landed().values().all(|times| *times == 2));
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_names_the_rows_that_the_table_does_not_take_and_sends_nothing() {
    let is_bad = |id: i64| id % 50 == 3;
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    wrapper.send_batch(batch_with(0..100, is_bad)).await.unwrap();
    wrapper.send_batch(batch_with(100..200, |_| false)).await.unwrap();
    wrapper.send_batch(batch(200..210)).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let asked = asked(&[RowState::Waiting]);
    let dry = || {
        std::thread::scope(|scope| {
            let run = || with_options(&site, &asked, |options| replay_dry_run(options, &Progress::new()));
            scope.spawn(run).join().unwrap().unwrap()
        })
    };
    let blind = tokio::task::block_in_place(dry);
    assert_eq!((blind.columns_from.as_str(), blind.refused_rows), ("batches", 0));
    assert!(blind.note.unwrap().contains("nothing is known"));

    let emulator = serve(&site);
    let run = tokio::task::block_in_place(dry);
    assert_eq!((run.columns_from.as_str(), run.note.as_deref()), ("catalog", None));
    assert_eq!((run.rows, run.refused_rows), (210, 12));
    let named: Vec<(u64, Option<u32>, &str)> =
        run.refused.iter().map(|row| (row.lsn.get(), row.row, row.code.as_str())).collect();
    let expected = [(1, Some(3), "conversion"), (1, Some(53), "conversion"), (3, None, "schema")];
    assert_eq!(named, expected);
    assert!(run.refused[0].reason.contains("\"value\""), "{run:?}");
    assert!(site.landed().is_empty());
    assert_eq!(entries(&site.wal_dir().join(TABLE)), ["writer-001"]);
    emulator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_refused_again_are_in_the_quarantine_of_the_replay() {
    let is_bad = |id: i64| id % 10 == 4;
    let site = Site::new();
    let emulator = serve(&site);
    let wrapper = site.open();
    wait_until(&wrapper, "the columns", knows(2)).await;
    wrapper.send_batch(batch_with(0..100, is_bad)).await.unwrap();
    assert_eq!(told(&wrapper).await, 10);
    let report = replayed(&site, &asked(&[RowState::Quarantined])).unwrap();
    assert_eq!(
        (report.outcome, report.delivered_rows, report.quarantined_rows),
        (ReplayOutcome::Done, 0, 10)
    );
    let refused = status(&report.directory).unwrap();
    assert_eq!((refused.rows.quarantined, refused.rows.waiting), (10, 0));

    // They are the same rows, so whoever does not name the replay finds them once.
    let all = Selection::of([RowState::Quarantined]);
    assert_eq!(quarantine_list(&site.wal_dir(), all.clone()).unwrap().rows, 10);
    assert_eq!(quarantine_rows(&site.wal_dir(), all.clone(), 100).unwrap().rows.len(), 10);
    let dropped = quarantine_drop(&site.wal_dir(), all.clone(), true, false).unwrap();
    assert_eq!(dropped.rows, 10);
    let path = site.directory.path().join("bad.arrow");
    let (target, format) = (Target::File(path), Format::Arrow);
    let (force, with_position) = (false, true);
    let options =
        ExportOptions { root: site.wal_dir(), selection: all.clone(), format, target, force, with_position };
    assert_eq!(export(options, &Progress::new()).unwrap().rows, 10);
    assert_eq!(quarantine_list(&report.directory, all).unwrap().rows, 10);

    // Asked again, nothing has become better by itself.
    let mut replay = std::process::Command::new(env!("CARGO_BIN_EXE_zerobus-wal"));
    replay.args(["replay", "--client-id", "edge-box", "--client-secret", secret()]).arg(site.wal_dir());
    replay.args(["--endpoint", &site.configuration().endpoint]);
    let (code, said) = ended(&replay.output().unwrap());
    assert!(said.contains("was done at"), "{said}");
    assert_eq!(code, i32::from(ErrorCode::Transmission.info().exit_code), "{said}");
    assert!(said.contains("--again") && said.contains(report.directory.to_str().unwrap()), "{said}");
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), good(0..100, is_bad));
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_gone_are_no_replay_and_one_that_is_stopped_goes_on() {
    let site = Site::new();
    let emulator = site.serve_with(|options| {
        options.tables.push((OTHER.to_owned(), "id BIGINT, name STRING".to_owned()));
    });
    let wrapper = site.open();
    wrapper.send_batch(batch(0..100)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    emulator.stop().unwrap();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    for start in (100..500).step_by(100) {
        wrapper.send_batch(batch(start..start + 100)).await.unwrap();
    }
    wrapper.shutdown().await.unwrap();
    drop(wrapper);

    let mut gone = Asked { execute: true, ..asked(&[RowState::Delivered]) };
    gone.options.lsns = "1".parse().ok();
    let error = replayed(&site, &gone).unwrap_err();
    assert!(matches!(error, ReplayError::Gone { .. }), "{error}");
    assert_eq!(error.code(), ErrorCode::Configuration);
    assert!(error.to_string().contains("retain_delivered_secs"), "{error}");
    assert_eq!(entries(&site.wal_dir().join(TABLE)), ["writer-001"]);

    let asked = Asked { to_table: Some(OTHER), ..asked(&[RowState::Waiting]) };
    let stopped = std::thread::scope(|scope| {
        let run = || {
            let progress = Progress::new();
            progress.stop();
            with_options(&site, &asked, |options| replay(options, &progress))
        };
        scope.spawn(run).join().unwrap().unwrap_err()
    });
    let ReplayError::Cancelled { directory: Some(directory), .. } = &stopped else { panic!("{stopped}") };
    assert!(directory.exists());
    let emulator = site.serve_with(|options| {
        options.tables.push((OTHER.to_owned(), "id BIGINT, name STRING".to_owned()));
    });
    let report = replayed(&site, &asked).unwrap();
    assert_eq!((&report.directory, report.delivered_rows), (directory, 400));
    assert_eq!(site.landed_in(OTHER), once(100..500));
    emulator.stop().unwrap();
}
