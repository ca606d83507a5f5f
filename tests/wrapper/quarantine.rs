//! Rows that are refused for good: the good ones land, the bad ones are kept with the reason, and nothing waits for them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::reader::FileReader;
use arrow_zerobus_sdk_wrapper::error::{Coded as _, ErrorCode, chain};
use arrow_zerobus_sdk_wrapper::types::Lsn;
use arrow_zerobus_sdk_wrapper::{
    DeliveryError, Durability, LaneState, Status, Validate, WaitFor, ZerobusWrapper, admin,
};

use crate::gate::{Catalog, Gate};
use crate::site::{Site, TABLE, assert_conserved, once, wait_until};

/// A column that is too narrow for some of what is sent to it.
pub(crate) const COLUMNS: &str = "id BIGINT, value INT";
const TOO_LARGE: i64 = 1 << 40;

pub(crate) fn batch_with(ids: std::ops::Range<i64>, is_bad: impl Fn(i64) -> bool) -> RecordBatch {
    let values = ids.clone().map(|id| if is_bad(id) { TOO_LARGE } else { id });
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("value", values, true)]).unwrap()
}

/// For a column that must have values, with rows that have none.
pub(crate) const REQUIRED: &str = "id BIGINT, value INT NOT NULL";
/// From then on they fit.
const HEALING: &str = "ALTER TABLE main.default.events ALTER COLUMN value DROP NOT NULL";

pub(crate) fn batch_without(ids: std::ops::Range<i64>, is_bad: impl Fn(i64) -> bool) -> RecordBatch {
    let values = ids.clone().map(|id| (!is_bad(id)).then_some(id as i32));
    let values: ArrayRef = Arc::new(values.collect::<Int32Array>());
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("value", values, true)]).unwrap()
}

/// What a row in quarantine says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) lsn: u64,
    pub(crate) row: u32,
    pub(crate) code: String,
    pub(crate) reason: String,
}

/// What is in quarantine, by id. Each row may be there once.
pub(crate) fn kept(site: &Site) -> BTreeMap<i64, Kept> {
    let mut kept = BTreeMap::new();
    for path in files(site) {
        for batch in FileReader::try_new(File::open(&path).unwrap(), None).unwrap() {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name).unwrap().clone();
            for row in 0..batch.num_rows() {
                let found = Kept {
                    lsn: column("_zerobus_lsn").as_primitive::<UInt64Type>().value(row),
                    row: column("_zerobus_row").as_primitive::<UInt32Type>().value(row),
                    code: column("_zerobus_code").as_string::<i32>().value(row).to_owned(),
                    reason: column("_zerobus_reason").as_string::<i32>().value(row).to_owned(),
                };
                let id = column("id").as_primitive::<Int64Type>().value(row);
                assert_eq!(kept.insert(id, found), None, "row {id} is there twice");
            }
        }
    }
    kept
}

pub(crate) fn files(site: &Site) -> Vec<PathBuf> {
    let directory = site.writer_directory().join("quarantine");
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

pub(crate) fn good(ids: std::ops::Range<i64>, is_bad: impl Fn(i64) -> bool) -> BTreeMap<i64, usize> {
    ids.filter(|id| !is_bad(*id)).map(|id| (id, 1)).collect()
}

pub(crate) fn bad(ids: std::ops::Range<i64>, is_bad: impl Fn(i64) -> bool) -> Vec<i64> {
    ids.filter(|id| is_bad(*id)).collect()
}

pub(crate) fn knows(columns: usize) -> impl Fn(&Status) -> bool {
    move |status| status.table_schema.columns == Some(columns) && status.table_schema.reason.is_none()
}

pub(crate) fn state(status: &Status) -> LaneState {
    status.lane.as_ref().unwrap().state
}

pub(crate) fn serve(site: &Site) -> arrow_zerobus_sdk_wrapper::emulator::Emulator {
    site.serve_with(|options| options.tables = vec![(TABLE.to_owned(), COLUMNS.to_owned())])
}

/// Flushes; how many rows were told to be in quarantine.
pub(crate) async fn told(wrapper: &ZerobusWrapper) -> u64 {
    match wrapper.flush(Some(Duration::from_secs(60))).await {
        Ok(()) => 0,
        Err(DeliveryError::Quarantined { count, .. }) => count,
        Err(error) => panic!("{}", chain(&error)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_convert_are_kept_and_cost_neither_the_stream_nor_the_others() {
    let is_bad = |id: i64| id % 100 == 7;
    let site = Site::new();
    let emulator = serve(&site);
    // Small requests, so that many are in flight.
    let wrapper = site.open_with(|c| c.request_max_bytes = 20_000);
    wait_until(&wrapper, "the columns", knows(2)).await;
    for start in (0..50_000).step_by(1_000) {
        wrapper.send_batch(batch_with(start..start + 1_000, is_bad)).await.unwrap();
    }
    assert_eq!(told(&wrapper).await, 500);
    assert_eq!(told(&wrapper).await, 0, "it is told once");
    let status = wrapper.status();
    assert_conserved(&status);
    assert_eq!((status.rows.quarantined, status.rows.delivered), (500, 49_500));
    assert_eq!((status.frames.quarantined, status.frames.delivered), (0, 50));
    assert_eq!(status.quarantine.files as usize, files(&site).len());
    let bytes: u64 = files(&site).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(status.quarantine.bytes, bytes);
    let lane = status.lane.unwrap();
    assert_eq!((lane.streams_opened, lane.failures), (1, 0));
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    let dead = admin::status(&site.writer_directory()).unwrap();
    assert_conserved(&dead);
    assert_eq!((dead.rows.quarantined, dead.quarantine.bytes), (500, bytes));
    emulator.stop().unwrap();
    assert_eq!(site.landed(), good(0..50_000, is_bad));
    let kept = kept(&site);
    assert_eq!(kept.keys().copied().collect::<Vec<_>>(), bad(0..50_000, is_bad));
    let one = &kept[&1_107];
    assert_eq!((one.lsn, one.row, one.code.as_str()), (2, 107, "conversion"));
    assert!(one.reason.contains("\"value\"") && one.reason.contains(&TOO_LARGE.to_string()), "{one:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_delivery_is_told_which_rows_and_frames_without_a_good_row_count_as_such() {
    let site = Site::new();
    let emulator = serve(&site);
    let wrapper = site.open_with(|c| c.wait_for = WaitFor::Delivered);
    wait_until(&wrapper, "the columns", knows(2)).await;
    let error = wrapper.send_batch(batch_with(0..10, |id| [3, 4, 9].contains(&id))).await.unwrap_err();
    assert_eq!((error.code(), error.lsn()), (ErrorCode::Transmission, Some(Lsn::FIRST)));
    assert_eq!(error.refused_rows(), Some(&[3, 4, 9][..]));
    let text = chain(&error);
    assert!(text.contains("LSN 1") && text.contains("3 rows") && text.contains("00000001-"), "{text}");
    assert!(error.into_batch().is_none(), "it is stored");
    wrapper.send_batch(batch_with(10..20, |_| false)).await.unwrap();
    let error = wrapper.send_batch(batch_with(20..25, |_| true)).await.unwrap_err();
    assert_eq!(error.refused_rows(), Some(&[0, 1, 2, 3, 4][..]));
    let status = wrapper.status();
    assert_conserved(&status);
    assert_eq!((status.frames.quarantined, status.frames.delivered), (1, 2));
    assert_eq!(told(&wrapper).await, 8);
    wrapper.shutdown().await.unwrap();
    drop(wrapper);

    // It is told after a restart too, by whoever asks; flush has told it.
    let wrapper = site.open();
    let again = wrapper.wait_delivered(Lsn::FIRST, None).await.unwrap_err();
    assert_eq!(again.refused_rows(), Some(&[3, 4, 9][..]));
    assert!(wrapper.wait_delivered(Lsn::new(2), None).await.is_ok());
    assert_eq!(told(&wrapper).await, 0);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), good(0..20, |id| [3, 4, 9].contains(&id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_in_quarantine_when_the_process_dies_is_there_once_and_never_delivered() {
    let is_bad = |id: i64| id % 10 == 4;
    let site = Site::new();
    let wrapper = site.open_with(|c| c.shutdown_timeout = Duration::ZERO);
    wrapper.send_batch(batch_without(0..100, is_bad)).await.unwrap();
    wrapper.send_batch(batch_without(100..105, |_| true)).await.unwrap();
    wrapper.send_batch(batch_without(105..200, is_bad)).await.unwrap();
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    // The catalog answers and the service is away: rows are refused before any other is delivered.
    let emulator = site.serve_with(|options| {
        options.tables = vec![(TABLE.to_owned(), REQUIRED.to_owned())];
        options.port = 0;
    });
    let wrapper = site.open();
    let status = wait_until(&wrapper, "a file", |it| it.quarantine.files >= 3).await;
    assert_eq!((status.rows.quarantined, status.rows.waiting), (0, 200), "nothing is settled past them yet");
    drop(wrapper);
    let before = kept(&site);
    // Now they would fit.
    emulator.sql(HEALING).unwrap();
    emulator.stop().unwrap();

    let emulator = serve_again(&site);
    let wrapper = site.open();
    let expected = before.len() as u64;
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    let status = wrapper.status();
    assert_conserved(&status);
    assert_eq!((status.rows.quarantined, status.frames.quarantined), (expected, 1));
    assert_eq!(told(&wrapper).await, expected);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(kept(&site), before);
    let delivered: Vec<i64> = (0..200).filter(|id| !before.contains_key(id)).collect();
    assert_eq!(site.landed(), delivered.into_iter().map(|id| (id, 1)).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_went_with_a_power_cut_leaves_its_number_to_nobody_if_rows_of_it_are_in_quarantine() {
    let site = Site::new();
    let open = || {
        site.open_with(|c| {
            c.durability = Durability::Os;
            c.shutdown_timeout = Duration::ZERO;
        })
    };
    let emulator = site.serve_with(|options| {
        options.tables = vec![(TABLE.to_owned(), COLUMNS.to_owned())];
        options.port = 0;
    });
    let wrapper = open();
    wait_until(&wrapper, "the columns", knows(2)).await;
    wrapper.send_batch(batch_with(0..10, |id| id == 4)).await.unwrap();
    wait_until(&wrapper, "the file", |it| it.quarantine.files == 1).await;
    drop(wrapper);
    for entry in std::fs::read_dir(site.writer_directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let wrapper = open();
    let sent = wrapper.send_batch(batch_with(10..20, |_| false)).await.unwrap();
    assert_eq!(sent.lsn, Some(Lsn::new(2)));
    emulator.stop().unwrap();
    let emulator = serve_again(&site);
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    assert_conserved(&wrapper.status());
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(10..20), "the fifth row of this frame was never refused");
}

/// The tables as they are on the disk.
pub(crate) fn serve_again(site: &Site) -> arrow_zerobus_sdk_wrapper::emulator::Emulator {
    site.serve_with(|options| options.tables.clear())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_lost_costs_duplicates_and_no_row_of_the_quarantine_is_delivered() {
    let is_bad = |id: i64| id % 10 == 4;
    let site = Site::new();
    let emulator = serve(&site);
    let wrapper = site.open_with(|c| c.retain_delivered = Duration::from_secs(1_000_000));
    wait_until(&wrapper, "the columns", knows(2)).await;
    wrapper.send_batch(batch_with(0..100, is_bad)).await.unwrap();
    assert_eq!(told(&wrapper).await, 10);
    wrapper.shutdown().await.unwrap();
    drop(wrapper);
    std::fs::remove_dir_all(site.writer_directory().join("ledger")).unwrap();
    std::fs::remove_file(site.writer_directory().join("ledger.mark")).unwrap();
    let wrapper = site.open();
    assert_eq!(told(&wrapper).await, 10, "as far as this ledger goes it is new");
    let status = wrapper.status();
    assert_conserved(&status);
    assert_eq!((status.rows.delivered, status.rows.quarantined), (90, 10));
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(kept(&site).len(), 10);
    let twice: BTreeMap<i64, usize> = good(0..100, is_bad).into_keys().map(|id| (id, 2)).collect();
    assert_eq!(site.landed(), twice);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alter_table_that_came_in_time_keeps_rows_out_of_quarantine() {
    let site = Site::new();
    let emulator = site.serve_with(|options| options.tables = vec![(TABLE.to_owned(), REQUIRED.to_owned())]);
    let gate = Gate::before(emulator.unity_catalog_url(), Catalog::Open);
    let wrapper = site.open_with(|c| c.unity_catalog_url = Some(gate.url.clone()));
    wait_until(&wrapper, "the columns", knows(2)).await;
    wrapper.send_batch(batch_without(0..10, |_| false)).await.unwrap();
    wrapper.flush(None).await.unwrap();
    // What the catalog said last is not believed any more, and it is away: nobody knows whether the table has changed.
    wait_until(&wrapper, "a second", |it| it.table_schema.age_secs.is_some_and(|age| age > 1.1)).await;
    gate.set(Catalog::Away);
    wrapper.send_batch(batch_without(10..20, |id| id == 15)).await.unwrap();
    let status = wait_until(&wrapper, "the doubt", |it| it.lane.as_ref().unwrap().reason.is_some()).await;
    assert_eq!(state(&status), LaneState::BackingOff);
    assert!(status.lane.unwrap().reason.unwrap().contains("cannot be asked"));
    assert_eq!(files(&site), Vec::<PathBuf>::new());
    emulator.sql(HEALING).unwrap();
    gate.set(Catalog::Open);
    wait_until(&wrapper, "delivery", |it| it.rows.waiting == 0).await;
    wrapper.flush(None).await.unwrap();
    assert_eq!(wrapper.status().rows.quarantined, 0);
    wrapper.shutdown().await.unwrap();
    emulator.stop().unwrap();
    assert_eq!(site.landed(), once(0..20));
}

/// The test's batch with a column that the table lacks.
fn with_extra(ids: std::ops::Range<i64>) -> RecordBatch {
    let usual = batch_without(ids.clone(), |_| false);
    let extra: ArrayRef = Arc::new(StringArray::from_iter_values(ids.map(|id| id.to_string())));
    let columns = [
        ("id", usual.column(0).clone(), true),
        ("value", usual.column(1).clone(), true),
        ("extra", extra, true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_schema_that_the_table_refuses_are_kept_as_a_whole_once_its_time_is_over() {
    for is_seen in [true, false] {
        let site = Site::new();
        let emulator = serve(&site);
        if !is_seen {
            emulator.sql(&format!("REVOKE SELECT ON TABLE {TABLE} FROM edge_box")).unwrap();
        }
        let wrapper = site.open_with(|c| {
            c.validate = Validate::Off;
            c.schema_grace = Duration::ZERO;
            c.retry_max_delay = Duration::from_secs(10);
        });
        wait_until(&wrapper, "an answer", |it| it.table_schema.columns.is_some() == is_seen).await;
        for start in (0..100).step_by(20) {
            wrapper.send_batch(batch_without(start..start + 10, |_| false)).await.unwrap();
            wrapper.send_batch(with_extra(start + 10..start + 20)).await.unwrap();
        }
        assert_eq!(told(&wrapper).await, 50);
        let status = wrapper.status();
        assert_conserved(&status);
        assert_eq!((status.frames.quarantined, status.frames.delivered), (5, 5));
        assert_eq!(files(&site).len(), 5, "one file for each");
        let error = wrapper.wait_delivered(Lsn::new(2), None).await.unwrap_err();
        assert_eq!(error.refused_rows().map(<[u32]>::len), Some(10));
        // What was given up does not keep the table from changing.
        emulator.sql(&format!("ALTER TABLE {TABLE} ADD COLUMNS (extra STRING)")).unwrap();
        if is_seen {
            wait_until(&wrapper, "a second", |it| it.table_schema.age_secs.is_some_and(|age| age > 1.1))
                .await;
            wrapper.send_batch(with_extra(100..110)).await.unwrap();
            wrapper.flush(None).await.unwrap();
        }
        wrapper.shutdown().await.unwrap();
        emulator.stop().unwrap();
        let is_kept = |id: i64| id < 100 && id % 20 >= 10;
        assert_eq!(kept(&site).keys().copied().collect::<Vec<_>>(), bad(0..100, is_kept));
        assert!(kept(&site).values().all(|kept| kept.code == "schema" && kept.reason.contains("extra")));
        assert_eq!(site.landed(), good(0..if is_seen { 110 } else { 100 }, is_kept));
    }
}
