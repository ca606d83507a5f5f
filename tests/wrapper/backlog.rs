//! A backlog behind a service that was away for long.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use crate::site::{Site, TABLE, assert_conserved};
use crate::support::read_table;

/// `BACKLOG_MB=1024` is the long mode.
fn backlog_bytes() -> i64 {
    std::env::var("BACKLOG_MB").map_or(48, |text| text.parse::<i64>().unwrap()) << 20
}

const ROWS: i64 = 2_000;
const NAME_BYTES: usize = 500;

fn large_batch(first: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + ROWS));
    let names = (first..first + ROWS).map(|id| format!("{id:0width$}", width = NAME_BYTES));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_behind_a_dead_service_drains_once_in_order_and_gives_its_disk_back() {
    let site = Site::new();
    let batches = backlog_bytes() / (ROWS * NAME_BYTES as i64) + 1;
    let open = || {
        site.open_with(|c| {
            c.segment_bytes = 8 << 20;
            c.shutdown_timeout = std::time::Duration::ZERO;
        })
    };
    let wrapper = open();
    for number in 0..batches {
        wrapper.send_batch(large_batch(number * ROWS)).await.unwrap();
    }
    wrapper.shutdown().await.unwrap();
    drop(wrapper);

    let wrapper = open();
    let rows = batches * ROWS;
    assert_eq!(wrapper.status().rows.waiting as i64, rows);
    let emulator = site.serve();
    wrapper.flush(None).await.unwrap();
    let status = wrapper.status();
    assert_conserved(&status);
    assert_eq!(status.lane.unwrap().resent_rows, 0);
    wrapper.shutdown().await.unwrap();
    assert!(wrapper.status().log_bytes < 8 << 20, "{:#?}", wrapper.status());
    emulator.stop().unwrap();

    let landed = read_table(&site.table_path(TABLE));
    let ids = landed.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    let names = landed.column_by_name("name").unwrap().as_string::<i32>();
    assert_eq!(ids.len() as i64, rows);
    // Within a file of the table rows are in the order in which they came; the files may be read in any.
    let leaps = ids.values().windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
    let files = std::fs::read_dir(site.table_path(TABLE)).unwrap().filter(|entry| {
        entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "parquet")
    });
    let files = files.count();
    assert!(leaps < files, "{leaps} places out of order in {files} files");
    assert_eq!(site.landed(), crate::site::once(0..rows));
    assert!((0..ids.len()).step_by(997).all(|row| names.value(row).parse() == Ok(ids.value(row))));
}
