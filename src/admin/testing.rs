//! Logs for the tests of what looks at them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};

use crate::io::Env;
use crate::ledger::{Ledger, LedgerRecord, Ranges, Settled};
use crate::types::Lsn;
use crate::wal::{PreparedFrame, Wal, testing};

pub(super) const ROWS: u32 = 10;

/// A batch whose contents follow from its number.
pub(super) fn batch(number: i64) -> RecordBatch {
    let ids: ArrayRef =
        Arc::new(Int64Array::from_iter_values((0..i64::from(ROWS)).map(|row| number * 1000 + row)));
    let names: ArrayRef =
        Arc::new(StringArray::from_iter((0..ROWS).map(|row| (row % 3 > 0).then_some("a name"))));
    RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("name", names, true)]).unwrap()
}

pub(super) fn open(directory: &Path) -> Wal {
    testing::open(directory, 24 * 1024).0
}

/// Appends the batches of these numbers; in a new log each frame has its number.
pub(super) fn append(wal: &Wal, numbers: std::ops::RangeInclusive<i64>) {
    for number in numbers {
        wal.append_blocking(PreparedFrame::new(&batch(number)).unwrap()).unwrap();
    }
}

/// A record of a log that has delivered everything up to there.
pub(super) fn delivered(through: u64, rows_of_next: u32) -> LedgerRecord {
    LedgerRecord {
        settled: Settled { through: Lsn::new(through), rows_of_next },
        delivered_frames: through,
        delivered_rows: through * u64::from(ROWS) + u64::from(rows_of_next),
        ..LedgerRecord::default()
    }
}

pub(super) fn settle(directory: &Path, record: &LedgerRecord, ranges: &Ranges) {
    let epoch = crate::wal::LogView::read(&Env::os(), directory).unwrap().epoch();
    let mut opened = Ledger::open(directory, epoch).unwrap();
    opened.ledger.remember_ranges(ranges);
    opened.ledger.checkpoint(record).unwrap();
}

/// A directory in memory where there is one.
pub(super) fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A log of several segments with 120 frames, of which 25 and three rows are delivered, that nobody owns.
pub(super) fn dead_log() -> tempfile::TempDir {
    let directory = memory_dir();
    let wal = open(directory.path());
    append(&wal, 1..=120);
    wal.close();
    assert!(segments(directory.path()).len() >= 3, "it has few segments");
    settle(directory.path(), &delivered(25, 3), &Ranges::default());
    directory
}

pub(super) fn segments(directory: &Path) -> Vec<PathBuf> {
    let names = Env::os();
    let mut found: Vec<PathBuf> =
        names.storage.list(directory).unwrap().iter().map(|name| directory.join(name)).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    found.sort();
    found
}

/// Every file below a directory: its contents, permissions, and when it was changed.
pub(super) fn tree(directory: &Path) -> BTreeMap<PathBuf, (u64, u32, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let mut contents = DefaultHasher::new();
        if metadata.is_dir() {
            let mut names: Vec<PathBuf> =
                std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort();
            names.hash(&mut contents);
            left.extend(names);
        } else if metadata.is_file() {
            std::fs::read(&path).unwrap().hash(&mut contents);
        }
        found.insert(path, (contents.finish(), metadata.mode(), metadata.mtime(), metadata.mtime_nsec()));
    }
    found
}

/// Turns one byte of a file into another.
pub(super) fn flip(path: &Path, offset: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(offset).unwrap()] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}

/// A copy of a log, to be damaged.
pub(super) fn copy_of(log: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &target),
                false => drop(std::fs::copy(entry.path(), target).unwrap()),
            }
        }
    }
    let copied = memory_dir();
    copy(log, copied.path());
    copied
}
