//! Goal: the ledger stays small, on the disk and in memory, however much is settled and however often it is opened.
//!
//! Method: real checkpoints, each one written, flushed and synced, one million of them, or `LEDGER_SETTLES=n`
//! (the long run is ten million). In between both sizes are looked at and have to stay below their bounds.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

use arrow_zerobus_sdk_wrapper::convert::{DeltaType, TableColumn, TableSchema};
use arrow_zerobus_sdk_wrapper::ledger::{
    Bent, CachedTable, Dropped, Ledger, LedgerRecord, Quarantined, Settled,
};
use arrow_zerobus_sdk_wrapper::types::Lsn;

use crate::{ALONE, EPOCH, in_memory};

const SETTLES: u64 = 1_000_000;
const BYTES_MAX: u64 = 64 * 1024 * 1024;
fn record(number: u64) -> LedgerRecord {
    let mut dropped = Dropped::default();
    // Of full length, so that the record is as large as one can be.
    for range in 1..=8 {
        dropped.add(Lsn::new(range * 10)..=Lsn::new(range * 10), number, number);
    }
    LedgerRecord {
        settled: Settled { through: Lsn::new(number), rows_of_next: (number % 7) as u32 },
        delivered_frames: number,
        delivered_rows: number * 100,
        damaged_frames: 0,
        dropped,
        bent: Bent { floored_timestamps: number, emptied_lists: number },
        quarantined: Quarantined { rows: number, frames: number },
    }
}

/// The widest table that the service takes, read at that time.
fn table(read_unix_micros: i64) -> CachedTable {
    let column = |number: u32| TableColumn {
        name: format!("a_column_of_a_wide_table_{number}"),
        number,
        delta_type: DeltaType::Decimal { precision: 38, scale: 18 },
        nullable: true,
    };
    let schema = TableSchema { columns: (1..=2_000).map(column).collect() };
    CachedTable { table: "main.default.events".parse().unwrap(), read_unix_micros, schema }
}

/// The bytes that a directory takes, as the file system counts them or as the files are long, whatever is more.
fn disk_bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.len().max(metadata.blocks() * 512),
            // sled removes files of its own meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => panic!("{}: {error}", entry.path().display()),
        })
        .sum()
}

/// What the process has in memory, in pages of the smallest size that there is.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn a_million_settles_leave_a_ledger_below_64_mib_on_the_disk_and_in_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let settles = std::env::var("LEDGER_SETTLES").map_or(SETTLES, |text| text.parse().unwrap());
    let directory = in_memory();
    let mut ledger = Ledger::open(directory.path(), EPOCH).unwrap().ledger;
    let resident_before = resident_bytes();
    let started = Instant::now();
    let (mut disk_most, mut resident_most) = (0, 0);
    for number in 1..=settles {
        if number % 5_000 == 0 {
            ledger.remember_table(Some(&table(number as i64)));
        }
        ledger.checkpoint(&record(number)).unwrap();
        if number % 1_000 == 0 || number == settles {
            disk_most = disk_most.max(disk_bytes(directory.path()));
            resident_most = resident_most.max(resident_bytes().saturating_sub(resident_before));
            assert!(disk_most < BYTES_MAX, "{disk_most} bytes on the disk after {number} settles");
            assert!(resident_most < BYTES_MAX, "{resident_most} bytes in memory after {number} settles");
        }
    }
    drop(ledger);
    println!(
        "{settles} settles in {:.1} s: at most {} KiB on the disk, {} KiB more in memory",
        started.elapsed().as_secs_f64(),
        disk_most / 1024,
        resident_most / 1024
    );
    assert_eq!(Ledger::open(directory.path(), EPOCH).unwrap().record, record(settles));
}

#[test]
fn a_ledger_that_is_opened_again_and_again_does_not_grow() {
    const OPENINGS: u64 = 300;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = in_memory();
    let mut disk_most = 0;
    for number in 1..=OPENINGS {
        let mut opened = Ledger::open(directory.path(), EPOCH).unwrap();
        assert_eq!(opened.record.settled.through.get(), number - 1);
        opened.ledger.checkpoint(&record(number)).unwrap();
        drop(opened);
        disk_most = disk_most.max(disk_bytes(directory.path()));
        assert!(disk_most < BYTES_MAX, "{disk_most} bytes on the disk after {number} openings");
    }
    println!("{OPENINGS} openings: at most {} KiB on the disk", disk_most / 1024);
}
