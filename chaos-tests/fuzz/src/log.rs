//! Logs in directories in memory, and what must hold whenever one is read.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arrow_array::RecordBatch;
use arrow_zerobus_sdk_wrapper::{
    io::{Clock, Env, OsStorage, Rng},
    types::Lsn,
    wal::{Destination, Durability, LogDirectory, Next, OpenError, PreparedFrame, Recovery, Wal, WalOptions},
};
use tempfile::TempDir;

/// The smallest segments that the settings allow.
pub const SEGMENT_BYTES: u64 = 64 * 1024;

/// A clock that stands still, and numbers that come in the same order in every process: a log's bytes follow from what
/// was done to it, so that an input means the same for ever.
#[derive(Debug, Default)]
struct Fixed {
    numbers: AtomicU64,
}

impl Clock for Fixed {
    fn unix_micros(&self) -> i64 {
        1_700_000_000_000_000
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(1)
    }
}

impl Rng for Fixed {
    fn next_u64(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The file system of the machine, and nothing else that differs between two runs.
pub fn env() -> Env {
    let mut env = Env::os();
    env.storage = Arc::new(OsStorage);
    env.clock = Arc::new(Fixed::default());
    env.rng = Arc::new(Fixed::default());
    env
}

/// A directory in memory.
pub fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Opens the log of a directory.
pub fn open(env: &Env, dir: &Path) -> Result<(Wal, Recovery), OpenError> {
    let destination = Destination {
        table: "main.default.events".parse().unwrap(),
        endpoint: "http://127.0.0.1:9".to_owned(),
        unity_catalog_url: None,
    };
    let directory = LogDirectory::open(env, dir, &destination)?;
    let options = WalOptions { segment_bytes: SEGMENT_BYTES, durability: Durability::Os, spare_segments: 1 };
    Wal::open(env, directory, options, Lsn::ZERO)
}

/// Appends these batches.
pub fn append(wal: &Wal, batches: &[RecordBatch]) {
    for batch in batches {
        wal.append(PreparedFrame::new(batch).unwrap()).wait().unwrap();
    }
}

/// The frames of a log by number, each with its rows and whether it could be decoded.
pub type Frames = BTreeMap<u64, (u32, bool)>;

/// Reads everything. Frames and damage name every number exactly once, in order.
pub fn read_all(wal: &Wal) -> Frames {
    let mut reader = wal.reader(Lsn::FIRST);
    let mut frames = Frames::new();
    let mut expected = Lsn::FIRST;
    while let Some(next) = reader.next().expect("damage is no error of reading") {
        match next {
            Next::Frame(frame) => {
                assert_eq!(frame.lsn, expected, "a frame out of order");
                let decoded = frame.decode();
                // Whatever stands there is a context or none.
                let _ = frame.context();
                assert!(decoded.as_ref().map_or(true, |batch| batch.num_rows() == frame.rows as usize));
                frames.insert(frame.lsn.get(), (frame.rows, decoded.is_ok()));
                expected = expected.next();
            }
            Next::Damaged(damage) => {
                if let Some(lsns) = damage.lsns {
                    assert_eq!(*lsns.start(), expected, "a stretch out of order");
                    assert!(lsns.end() >= lsns.start(), "a stretch without frames has numbers");
                    expected = lsns.end().next();
                }
            }
        }
    }
    assert_eq!(expected, wal.durable().next(), "the reading ended before the end");
    frames
}

/// The files of a directory, without those below it.
pub fn files(dir: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.insert(entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?);
        }
    }
    Ok(files)
}

/// Writes files into a directory.
pub fn put(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}
