//! What is settled, remembered across restarts in sled.
//!
//! The ledger is derived: losing all of it costs duplicates, never data. It is off the append path and
//! holds one small record per log epoch, so its size does not depend on the backlog.
//!
//! sled's own `flush` only starts write-back (`sync_file_range`). A checkpoint is therefore
//! `flush` *and* `sync_all` on sled's file, and only then may anything be reclaimed \[I5\].

#![expect(clippy::disallowed_methods, reason = "sled does its own input and output; this only frames it")]

mod dropped;
mod record;
mod reserve;

use std::fs::{self, File};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

pub use dropped::{Dropped, DroppedRange};
pub use record::{LedgerRecord, Settled};

use self::reserve::{Reserve, is_out_of_space};

use crate::error::{Coded, ErrorCode};
use crate::types::Epoch;

/// Name of the ledger's directory in a writer directory.
pub(crate) const DIRECTORY: &str = "ledger";
/// The file in which sled 0.34 keeps everything.
const SLED_FILE: &str = "db";
/// Enough for a handful of records; sled's default of 1 GiB is meant for databases.
const CACHE_BYTES: u64 = 1024 * 1024;
const LOCK_INTERVAL: Duration = Duration::from_millis(5);
const LOCK_TRIES: u32 = 2000;
/// How many set-aside ledgers are kept before the oldest name is used again.
const SET_ASIDE_MAX: u32 = 8;

/// A ledger that cannot be read or made durable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The directory cannot be used.
    #[error("cannot {action} the ledger {path}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// sled refused.
    #[error("cannot {action} the ledger {path}", path = .path.display())]
    Sled {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: sled::Error,
    },
    /// What is stored cannot be read.
    #[error("the ledger {path} is damaged: {reason}", path = .path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Coded for LedgerError {
    fn code(&self) -> ErrorCode {
        match self {
            LedgerError::Io { .. } | LedgerError::Sled { .. } => ErrorCode::Storage,
            LedgerError::Damaged { .. } => ErrorCode::Corruption,
        }
    }
}

/// The ledger of one log.
#[derive(Debug)]
pub struct Ledger {
    writer_directory: PathBuf,
    epoch: Epoch,
    reserve: Reserve,
    // None after a failed write: that file is never synced again [I8]; the next checkpoint makes a new one.
    open: Option<OpenLedger>,
}

#[derive(Debug)]
struct OpenLedger {
    db: sled::Db,
    file: File,
}

/// What opening a ledger found.
#[derive(Debug)]
pub struct LedgerOpened {
    /// The ledger, ready for checkpoints.
    pub ledger: Ledger,
    /// What it says; the beginning of everything if it said nothing.
    pub record: LedgerRecord,
    /// Where an unreadable ledger was moved to, and why.
    pub set_aside: Option<(PathBuf, LedgerError)>,
}

impl Ledger {
    /// Opens the ledger of the log in `writer_directory`, making one if there is none.
    ///
    /// A ledger that cannot be read is moved aside, never deleted, and reported.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if the directory cannot be written.
    pub fn open(writer_directory: &Path, epoch: Epoch) -> Result<LedgerOpened, LedgerError> {
        let path = writer_directory.join(DIRECTORY);
        let mut reserve = Reserve::of(writer_directory);
        wait_for_lock(&path)?;
        let mut found = open_and_read(&path, epoch);
        if found.as_ref().is_err_and(LedgerError::is_out_of_space) && reserve.give_up() {
            found = open_and_read(&path, epoch);
        }
        let (record, open, set_aside) = match found {
            Ok((record, open)) => (record.unwrap_or_default(), open, None),
            // A disk that fails or is full says nothing about what the ledger holds.
            Err(error) if !error.is_damage() => return Err(error),
            Err(error) => {
                let aside = move_aside(&path)?;
                (LedgerRecord::default(), open_sled(&path)?, Some((aside, error)))
            }
        };
        // sled writes lazily: without this the first file of a new ledger would be made when the disk may be full.
        open.sync(&path)?;
        reserve.hold();
        let writer_directory = writer_directory.to_owned();
        let ledger = Ledger { writer_directory, epoch, reserve, open: Some(open) };
        Ok(LedgerOpened { ledger, record, set_aside })
    }

    /// The same ledger after a failed write.
    #[cfg(test)]
    pub(crate) fn unwritable(self) -> Ledger {
        Ledger { open: None, ..self }
    }

    /// Makes the record durable.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if it is not durable. The record that was durable before still is, or nothing is;
    /// the next checkpoint starts a new ledger.
    ///
    /// # Durability
    ///
    /// When this returns, the record survives a power cut.
    pub fn checkpoint(&mut self, record: &LedgerRecord) -> Result<(), LedgerError> {
        let mut written = self.write(record);
        if written.is_err() && self.reserve.give_up() {
            written = self.write(record);
        }
        written
    }

    /// Gives the reserve up for something else that has to be done before anything can be freed; false if
    /// there is none.
    pub fn give_up_reserve(&mut self) -> bool {
        self.reserve.give_up()
    }

    /// To be called when the disk may have space again: takes the reserve back that a checkpoint used up.
    pub fn refill_reserve(&mut self) {
        self.reserve.hold();
    }

    fn write(&mut self, record: &LedgerRecord) -> Result<(), LedgerError> {
        let path = self.writer_directory.join(DIRECTORY);
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                move_aside(&path)?;
                guarded(&path, || open_sled(&path))?
            }
        };
        guarded(&path, || {
            let write_error = |source| LedgerError::Sled { action: "write", path: path.clone(), source };
            open.db.insert(record::key(self.epoch), record.encode()).map_err(write_error)?;
            open.sync(&path)
        })?;
        self.open = Some(open);
        Ok(())
    }
}

impl OpenLedger {
    fn sync(&self, path: &Path) -> Result<(), LedgerError> {
        let flush_error = |source| LedgerError::Sled { action: "flush", path: path.to_owned(), source };
        self.db.flush().map_err(flush_error)?;
        self.file.sync_all().map_err(io_error("sync", path))
    }
}

impl LedgerError {
    fn io(&self) -> Option<&std::io::Error> {
        match self {
            LedgerError::Io { source, .. } | LedgerError::Sled { source: sled::Error::Io(source), .. } => {
                Some(source)
            }
            _ => None,
        }
    }

    fn is_out_of_space(&self) -> bool {
        self.io().is_some_and(is_out_of_space)
    }

    /// Whether the bytes are what is wrong: sled reports some of that as errors of its reading. An error
    /// of the operating system has a number and is about the disk.
    fn is_damage(&self) -> bool {
        self.io().is_none_or(|error| error.raw_os_error().is_none() && !is_out_of_space(error))
    }
}

/// sled 0.34 meets some damage with a panic; for us that is a ledger to move aside.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(LedgerError::Damaged { path: path.to_owned(), reason: "sled panicked".to_owned() })
    })
}

fn open_and_read(path: &Path, epoch: Epoch) -> Result<(Option<LedgerRecord>, OpenLedger), LedgerError> {
    guarded(path, || {
        let open = open_sled(path)?;
        Ok((read(&open.db, path, epoch)?, open))
    })
}

/// Reads the record of a ledger that somebody else may own, from a copy: no lock is taken and nothing
/// is written. `None` if the ledger says nothing about this epoch or does not exist.
///
/// # Errors
///
/// [`LedgerError`] if the copy cannot be made or read.
pub fn peek(writer_directory: &Path, epoch: Epoch) -> Result<Option<LedgerRecord>, LedgerError> {
    let path = writer_directory.join(DIRECTORY);
    if !path.join(SLED_FILE).exists() {
        return Ok(None);
    }
    let copy = tempfile::tempdir().map_err(io_error("copy", &path))?;
    copy_tree(&path, copy.path()).map_err(io_error("copy", &path))?;
    let open = open_sled(copy.path())?;
    read(&open.db, &path, epoch)
}

/// Waits until nobody has sled's file locked.
///
/// The owner of the writer directory is alone, but threads of sled can outlive the handle that an earlier
/// owner dropped, by a moment. Without the wait a whole ledger would look like one that cannot be opened.
fn wait_for_lock(path: &Path) -> Result<(), LedgerError> {
    let file = match File::open(path.join(SLED_FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(io_error("open", path))?,
    };
    for _ in 0..LOCK_TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Given back when the file is closed.
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(LOCK_INTERVAL),
            Err(error) => return Err(io_error("lock", path)(error.into())),
        }
    }
    Err(io_error("lock", path)(Errno::WOULDBLOCK.into()))
}

fn open_sled(path: &Path) -> Result<OpenLedger, LedgerError> {
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let db = config.open().map_err(|source| LedgerError::Sled {
        action: "open",
        path: path.to_owned(),
        source,
    })?;
    let file = File::open(path.join(SLED_FILE)).map_err(io_error("open", path))?;
    sync_directory(path)?;
    if let Some(parent) = path.parent() {
        sync_directory(parent)?;
    }
    Ok(OpenLedger { db, file })
}

fn read(db: &sled::Db, path: &Path, epoch: Epoch) -> Result<Option<LedgerRecord>, LedgerError> {
    let stored = db.get(record::key(epoch)).map_err(|source| LedgerError::Sled {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    stored
        .map(|bytes| {
            LedgerRecord::decode(&bytes)
                .map_err(|reason| LedgerError::Damaged { path: path.to_owned(), reason })
        })
        .transpose()
}

/// Renames the ledger's directory to the first free name, or to the last one if all are taken.
fn move_aside(path: &Path) -> Result<PathBuf, LedgerError> {
    let name = |n| path.with_file_name(format!("{DIRECTORY}.set-aside-{n}"));
    let target = (1..SET_ASIDE_MAX).map(name).find(|candidate| !candidate.exists());
    let target = match target {
        Some(free) => free,
        None => {
            let last = name(SET_ASIDE_MAX);
            if last.exists() {
                fs::remove_dir_all(&last).map_err(io_error("replace the set-aside copy of", path))?;
            }
            last
        }
    };
    match fs::rename(path, &target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io_error("move aside", path)(error))
        }
        _ => Ok(target),
    }
}

fn sync_directory(path: &Path) -> Result<(), LedgerError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error("sync", path))
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Lsn;

    const EPOCH: Epoch = Epoch::new(7);

    fn record(through: u64) -> LedgerRecord {
        LedgerRecord {
            settled: Settled { through: Lsn::new(through), rows_of_next: 3 },
            delivered_frames: through,
            delivered_rows: 10 * through,
            damaged_frames: 0,
            dropped: Dropped::default(),
        }
    }

    #[test]
    fn a_checkpoint_is_found_again_by_the_same_epoch_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!(opened.record, LedgerRecord::default());
        opened.ledger.checkpoint(&record(5)).unwrap();
        opened.ledger.checkpoint(&record(6)).unwrap();
        drop(opened);

        assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().record, record(6));
        assert_eq!(Ledger::open(dir.path(), Epoch::new(8)).unwrap().record, LedgerRecord::default());
    }

    #[test]
    fn peeking_works_beside_the_live_owner_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap(), None);
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        opened.ledger.checkpoint(&record(5)).unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap(), Some(record(5)));
        opened.ledger.checkpoint(&record(6)).unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap(), Some(record(6)));
    }

    #[test]
    fn a_damaged_ledger_is_moved_aside_and_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        opened.ledger.checkpoint(&record(5)).unwrap();
        drop(opened);
        let file = dir.path().join(DIRECTORY).join("conf");
        fs::write(&file, b"this is no sled configuration").unwrap();

        let opened = Ledger::open(dir.path(), EPOCH).unwrap();
        let (aside, _) = opened.set_aside.expect("the damage was not reported");
        assert_eq!(fs::read(aside.join("conf")).unwrap(), b"this is no sled configuration");
        assert_eq!(opened.record, LedgerRecord::default());
        let mut ledger = opened.ledger;
        ledger.checkpoint(&record(9)).unwrap();
        drop(ledger);
        assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().record, record(9));
    }

    #[test]
    fn a_ledger_that_was_just_dropped_is_found_whole() {
        let dir = tempfile::tempdir().unwrap();
        for through in 1..=50 {
            let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
            assert_eq!(opened.record.settled.through.get(), through - 1);
            assert!(opened.set_aside.is_none(), "a lock was taken for damage");
            opened.ledger.checkpoint(&record(through)).unwrap();
        }
    }

    #[test]
    fn after_a_failed_checkpoint_the_next_one_starts_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        opened.ledger.checkpoint(&record(5)).unwrap();
        let mut ledger = opened.ledger.unwritable();
        ledger.checkpoint(&record(6)).unwrap();
        drop(ledger);
        assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().record, record(6));
        assert!(dir.path().join("ledger.set-aside-1").exists());
    }
}
