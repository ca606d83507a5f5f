//! What the log asks of the world: files, time, random numbers.
//!
//! Everything below `wal/` reaches the operating system through these traits, so that a test can
//! count, fail or lose any single call. [`OsStorage`] is the real thing; nothing but its file may
//! use `std::fs` or the system clock.

use std::{
    ffi::OsString,
    fmt::Debug,
    io::{IoSlice, Result},
    ops::Range,
    path::Path,
    sync::Arc,
    time::Duration,
};

use crate::canary::Canaries;

mod os;
#[cfg(feature = "sim")]
pub mod sim;

pub use os::{OsClock, OsRng, OsStorage};

/// What direct writes are aligned to, in memory and on the disk.
pub const BLOCK: usize = 4096;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    Write,
    /// For reading and writing; the file must not exist.
    New,
}

/// A file system.
pub trait Storage: Send + Sync + Debug {
    /// Creates the directory and its missing ancestors; each new entry is synced in its parent
    /// before this returns.
    fn create_dir_all(&self, dir: &Path) -> Result<()>;

    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> Result<Vec<OsString>>;

    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn StorageFile>>;

    /// Gives a file another name; what had that name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;

    /// Takes the exclusive lock of a file, which is created if it is missing, and writes `note` into
    /// it; or says what the holder wrote. Never waits for the holder.
    fn lock(&self, path: &Path, note: &[u8]) -> Result<LockAttempt>;

    /// What the holder of the lock wrote, without taking the lock; none if nobody holds it.
    fn lock_note(&self, path: &Path) -> Result<Option<Vec<u8>>>;

    /// The bytes that this process may still write on the file system of a directory.
    fn free_bytes(&self, dir: &Path) -> Result<u64>;

    /// Whether several threads may write or read one file at a time, and something is gained by it.
    fn works_side_by_side(&self) -> bool {
        false
    }
}

/// What became of an attempt to lock a file.
#[derive(Debug)]
pub enum LockAttempt {
    /// The lock is ours until this value is dropped.
    Held(Box<dyn FileLock>),
    /// Another handle has it.
    Busy {
        /// What the holder wrote.
        note: Vec<u8>,
    },
}

/// A lock that is given back when it is dropped.
pub trait FileLock: Send + Sync + Debug {}

/// An open file; every call names its position.
pub trait StorageFile: Send + Sync + Debug {
    /// Writes all of the slices, one after the other, from `offset` on.
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> Result<()>;

    /// Reads until the buffer is full or the file ends; returns how much it read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;

    /// Says that the file is read from one end to the other, so that the system reads far ahead; it may be ignored.
    fn read_sequentially(&self) {}

    /// Says that this will be read soon, so that the system may fetch it meanwhile; it may be ignored.
    fn prefetch(&self, _range: Range<u64>) {}

    /// As [`StorageFile::write_at`] and then [`StorageFile::sync_data`], in one call where the system has
    /// one. After a failure nothing is known of the range.
    fn write_durable_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        self.write_at(slices, offset)?;
        self.sync_data()
    }

    /// Makes writes and reads pass the page cache by, or not. Then each slice begins in memory at a multiple
    /// of [`BLOCK`], as does its place in the file, and its length is one. Fails with
    /// [`std::io::ErrorKind::Unsupported`] where the file system cannot.
    fn set_direct(&self, direct: bool) -> Result<()>;

    /// Makes the contents durable, and the length if it grew.
    fn sync_data(&self) -> Result<()>;

    /// Makes the contents and everything about the file durable.
    fn sync_all(&self) -> Result<()>;

    /// Reserves disk space for a range and makes the file at least that long. Fails with
    /// [`std::io::ErrorKind::Unsupported`] where the file system cannot.
    fn allocate(&self, offset: u64, length: u64) -> Result<()>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, length: u64) -> Result<()>;

    /// The length of the file.
    fn length(&self) -> Result<u64>;

    /// Makes later reads come from the disk, as far as the page cache holds nothing unwritten.
    fn drop_page_cache(&self, range: Range<u64>) -> Result<()>;
}

/// The time of day, and the time that passes.
pub trait Clock: Send + Sync + Debug {
    /// Microseconds since 1970 in UTC; jumps when the clock is set.
    fn unix_micros(&self) -> i64;

    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
}

/// Random numbers that need not be secret.
pub trait Rng: Send + Sync + Debug {
    /// The next number.
    fn next_u64(&self) -> u64;
}

/// The world that a log lives in.
#[derive(Clone, Debug)]
pub struct Env {
    /// The file system.
    pub storage: Arc<dyn Storage>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The random numbers.
    pub rng: Arc<dyn Rng>,
    /// The bug that a test has planted.
    pub canaries: Canaries,
}

impl Env {
    /// The operating system's own.
    pub fn os() -> Env {
        Env {
            storage: Arc::new(OsStorage),
            clock: Arc::new(OsClock),
            rng: Arc::new(OsRng),
            canaries: Canaries::of_process(),
        }
    }
}
