//! Stored rows as files: what comes out is what was stored, in each format, beside a live owner and without one.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, UInt32Type, UInt64Type};
use arrow_ipc::reader::FileReader;
use arrow_zerobus_sdk_wrapper::WrapperConfiguration;
use arrow_zerobus_sdk_wrapper::admin::export::{ExportError, ExportOptions, ExportReport, Format, Target};
use arrow_zerobus_sdk_wrapper::admin::{Progress, RowState, Selection, export};
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode};

use crate::quarantine::{bad, batch_with, knows, serve, told};
use crate::site::{Site, TABLE, batch, once, wait_until};

fn options(site: &Site, states: &[RowState], file: &str) -> ExportOptions {
    ExportOptions {
        root: site.wal_dir(),
        selection: Selection::of(states),
        format: Format::Arrow,
        target: Target::File(site.directory.path().join(file)),
        force: false,
        with_position: true,
    }
}

fn exported(options: ExportOptions) -> Result<ExportReport, ExportError> {
    export(options, &Progress::new())
}

fn read(path: &Path) -> Vec<RecordBatch> {
    FileReader::try_new(File::open(path).unwrap(), None).unwrap().map(Result::unwrap).collect()
}

/// How often each id stands in a file, and that the position of each is where it was stored.
fn ids(path: &Path) -> BTreeMap<i64, usize> {
    let mut ids = BTreeMap::new();
    for batch in read(path) {
        let column = |name: &str| batch.column_by_name(name).unwrap().clone();
        let (lsns, rows) = (column("_zerobus_lsn"), column("_zerobus_row"));
        for row in 0..batch.num_rows() {
            let id = column("id").as_primitive::<Int64Type>().value(row);
            *ids.entry(id).or_default() += 1;
            let lsn = lsns.as_primitive::<UInt64Type>().value(row) as i64;
            let at = i64::from(rows.as_primitive::<UInt32Type>().value(row));
            assert_eq!((lsn - 1) * 100 + at, id, "frames of a hundred rows");
        }
    }
    ids
}

/// The names in the directory of a site.
fn names(site: &Site) -> Vec<String> {
    let entries = std::fs::read_dir(site.directory.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Frames of a hundred rows that wait.
async fn store(site: &Site, frames: i64) {
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    for frame in 0..frames {
        wrapper.send_batch(batch(frame * 100..(frame + 1) * 100)).await.unwrap();
    }
    wrapper.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_live_owner_each_row_is_exported_once_whatever_its_state() {
    let is_bad = |id: i64| id % 10 == 7;
    let site = Site::new();
    let emulator = serve(&site);
    let wrapper = site.open_with(|c| c.retain_delivered_bytes = 1 << 30);
    wait_until(&wrapper, "the columns", knows(2)).await;
    for frame in 0..5 {
        wrapper.send_batch(batch_with(frame * 100..(frame + 1) * 100, is_bad)).await.unwrap();
    }
    assert_eq!(told(&wrapper).await, 50);
    emulator.stop().unwrap();
    for frame in 5..8 {
        wrapper.send_batch(batch_with(frame * 100..(frame + 1) * 100, |_| false)).await.unwrap();
    }
    let states = [RowState::Waiting, RowState::Delivered, RowState::Quarantined];
    let report = exported(options(&site, &states, "all.arrow")).unwrap();
    assert_eq!(report.rows, 800);
    let expected = [(RowState::Waiting, 300), (RowState::Delivered, 450), (RowState::Quarantined, 50)];
    assert_eq!(report.rows_by_state, BTreeMap::from(expected));
    assert_eq!((report.files.len(), report.unreadable.len()), (1, 0));
    assert_eq!(ids(&site.directory.path().join("all.arrow")), once(0..800));

    exported(options(&site, &[RowState::Quarantined], "bad.arrow")).unwrap();
    let path = site.directory.path().join("bad.arrow");
    assert_eq!(ids(&path).into_keys().collect::<Vec<_>>(), bad(0..500, is_bad));
    let first = &read(&path)[0];
    assert_eq!(first.column_by_name("_zerobus_code").unwrap().as_string::<i32>().value(0), "conversion");

    let mut some = options(&site, &[RowState::Delivered, RowState::Waiting], "some.arrow");
    some.selection.lsns = "2,5-6".parse().ok();
    assert_eq!(exported(some).unwrap().rows, 90 + 90 + 100);
    wrapper.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_format_and_each_schema_has_its_file_and_none_is_replaced() {
    let site = Site::new();
    store(&site, 3).await;
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    let names_first = batch(300..400).project(&[1, 0]).unwrap();
    wrapper.send_batch(names_first).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let mut lines = Vec::new();
    for format in Format::ALL {
        let file = format!("rows.{format}");
        let report =
            exported(ExportOptions { format, ..options(&site, &[RowState::Waiting], &file) }).unwrap();
        let written: Vec<(PathBuf, u64)> =
            report.files.iter().map(|file| (file.path.clone(), file.rows)).collect();
        let second = site.directory.path().join(format!("rows.schema-2.{format}"));
        assert_eq!(written, [(site.directory.path().join(&file), 300), (second.clone(), 100)]);
        for file in &report.files {
            assert_eq!(file.path.metadata().unwrap().len(), file.bytes);
        }
        if matches!(format, Format::Csv | Format::Jsonl) {
            lines.push(std::fs::read_to_string(&second).unwrap().lines().count());
        }
    }
    assert_eq!(lines, [101, 100], "a line of names, and one for each row");
    let there = names(&site);
    let refused = exported(options(&site, &[RowState::Waiting], "rows.arrow")).unwrap_err();
    assert!(matches!(refused, ExportError::Exists { .. }), "{refused}");
    assert_eq!(refused.code(), ErrorCode::Configuration);
    let forced = ExportOptions { force: true, ..options(&site, &[RowState::Waiting], "rows.arrow") };
    assert_eq!(exported(forced).unwrap().rows, 400);
    assert_eq!(names(&site), there, "nothing is left beside the files");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_stopped_leaves_no_file() {
    let site = Site::new();
    store(&site, 3).await;
    let there = names(&site);
    let progress = Progress::new();
    progress.stop();
    let stopped = export(options(&site, &[RowState::Waiting], "rows.arrow"), &progress).unwrap_err();
    assert_eq!(stopped.code(), ErrorCode::Closed);
    assert_eq!(names(&site), there);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_were_asked_for_and_are_freed_are_named() {
    let site = Site::new();
    let emulator = site.serve();
    let wrapper = site.open();
    for frame in 0..3 {
        wrapper.send_batch(batch(frame * 100..(frame + 1) * 100)).await.unwrap();
    }
    wrapper.flush(None).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    emulator.stop().unwrap();
    store(&site, 1).await;
    let mut asked = options(&site, &[RowState::Delivered, RowState::Waiting], "rows.arrow");
    asked.selection.lsns = "2-4".parse().ok();
    let report = exported(asked).unwrap();
    assert_eq!(report.rows, 100);
    let [gone] = &report.unreadable[..] else { panic!("{report:?}") };
    assert_eq!((gone.first_lsn.get(), gone.last_lsn.get(), gone.is_freed), (2, 3, true));
    assert!(gone.reason.contains("retain_delivered_secs"), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_does_not_match_its_checksum_is_exported_only_when_it_is_asked_for() {
    let site = Site::new();
    store(&site, 3).await;
    // One letter of a name in the second frame.
    let segment = std::fs::read_dir(site.writer_directory()).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|it| it == "wal")).min().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(7).position(|window| window == b"row 150").unwrap();
    bytes[at] = b'R';
    std::fs::write(&segment, bytes).unwrap();

    let report = exported(options(&site, &[RowState::Waiting], "waiting.arrow")).unwrap();
    assert_eq!(report.rows, 200);
    let [lost] = &report.unreadable[..] else { panic!("{report:?}") };
    assert_eq!((lost.first_lsn.get(), lost.last_lsn.get(), lost.is_freed), (2, 2, false));
    assert!(lost.reason.contains("checksum"), "{lost:?}");

    let report = exported(options(&site, &[RowState::Damaged], "damaged.arrow")).unwrap();
    assert_eq!((report.rows, report.unreadable.len()), (100, 0));
    let path = site.directory.path().join("damaged.arrow");
    assert_eq!(ids(&path), once(100..200));
    let rows = read(&path);
    assert_eq!(rows[0].column_by_name("name").unwrap().as_string::<i32>().value(50), "Row 150");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_table_has_its_file_though_the_schemas_are_the_same() {
    let site = Site::new();
    store(&site, 2).await;
    let hurried = |c: &mut WrapperConfiguration| c.shutdown_timeout = Duration::ZERO;
    let other = site.open_with(|c| {
        hurried(c);
        c.table_name = "main.default.copy".to_owned();
    });
    other.send_batch(batch(0..100)).await.unwrap();
    other.send_batch(batch(100..200).project(&[1, 0]).unwrap()).await.unwrap();
    other.shutdown().await.unwrap();
    let waiting = [RowState::Waiting];
    let report = exported(options(&site, &waiting, "rows.arrow")).unwrap();
    let written: Vec<(String, String, u64)> = report
        .files
        .iter()
        .map(|it| {
            let name = it.path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, it.table.as_ref().unwrap().to_string(), it.rows)
        })
        .collect();
    let file = |name: &str, table: &str, rows| (name.to_owned(), format!("main.default.{table}"), rows);
    assert_eq!(
        written,
        [
            file("rows.main.default.copy.arrow", "copy", 100),
            file("rows.main.default.copy.schema-2.arrow", "copy", 100),
            file("rows.main.default.events.arrow", "events", 200),
        ]
    );
    assert_eq!(ids(&report.files[2].path), once(0..200));

    // There is no place for names in one stream.
    let stream = |table: Option<&str>| {
        let mut options = options(&site, &waiting, "-");
        options.selection.table = table.map(|table| table.parse().unwrap());
        (options.target, options.format) = (Target::Stream(Box::new(std::io::sink())), Format::Jsonl);
        exported(options)
    };
    let refused = stream(None).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Configuration);
    assert!(refused.to_string().contains("--table"), "{refused}");
    assert_eq!(stream(Some("main.default.copy")).unwrap().rows, 200);

    // With one table the name is the one that was given.
    let mut one = options(&site, &waiting, "one.arrow");
    one.selection.table = Some(TABLE.parse().unwrap());
    assert_eq!(exported(one).unwrap().files[0].path, site.directory.path().join("one.arrow"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_is_a_failure_of_the_disk_in_each_format() {
    let site = Site::new();
    store(&site, 3).await;
    for format in Format::ALL {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let target = Target::Stream(Box::new(full));
        let failed = exported(ExportOptions { format, target, ..options(&site, &[RowState::Waiting], "-") });
        let failed = failed.unwrap_err();
        assert_eq!(failed.code(), ErrorCode::Storage, "{format}: {failed:?}");
        let ExportError::Io { source, .. } = &failed else { panic!("{format}: {failed:?}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{format}");
    }
}
