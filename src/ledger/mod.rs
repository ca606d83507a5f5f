//! What is settled, remembered across restarts in a key-value store.
//!
//! The ledger is derived: losing all of it costs duplicates, never data. It is off the append path and
//! holds one small record per log epoch, so its size does not depend on the backlog.
//!
//! A store's own flush need not be durable; sled's is not. A checkpoint is therefore a flush *and* a sync, and only
//! then may anything be reclaimed \[I5\].

mod dropped;
mod record;
mod reserve;
#[cfg(feature = "sim")]
mod sim;
mod sled;
mod store;

use std::path::{Path, PathBuf};

pub use dropped::{Dropped, DroppedRange};
pub use record::{LedgerRecord, Settled};
#[cfg(feature = "sim")]
pub use sim::SimPlace;
pub use store::{LedgerPlace, LedgerStore};

use self::reserve::is_out_of_space;
use self::sled::SledPlace;

use crate::canary::{Canaries, Canary};
use crate::error::{Coded, ErrorCode};
use crate::types::Epoch;

/// Name of the ledger's directory in a writer directory.
pub(crate) const DIRECTORY: &str = "ledger";

/// A ledger that cannot be read or made durable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file system refused.
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
    /// The store refused.
    #[error("cannot {action} the ledger {path}", path = .path.display())]
    Store {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
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
            LedgerError::Io { .. } | LedgerError::Store { .. } => ErrorCode::Storage,
            LedgerError::Damaged { .. } => ErrorCode::Corruption,
        }
    }
}

impl LedgerError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LedgerError {
        let path = path.to_owned();
        move |source| LedgerError::Io { action, path, source }
    }

    fn is_out_of_space(&self) -> bool {
        matches!(self, LedgerError::Io { source, .. } if is_out_of_space(source))
    }

    /// Whether the bytes are what is wrong: a store reports some of that as errors of its reading. An error
    /// of the operating system has a number and is about the disk.
    pub fn is_damage(&self) -> bool {
        match self {
            LedgerError::Io { source, .. } => source.raw_os_error().is_none() && !is_out_of_space(source),
            LedgerError::Store { .. } | LedgerError::Damaged { .. } => true,
        }
    }
}

/// The ledger of one log.
#[derive(Debug)]
pub struct Ledger {
    place: Box<dyn LedgerPlace>,
    epoch: Epoch,
    // None after a failed write: that file is never synced again [I8]; the next checkpoint makes a new one.
    open: Option<Box<dyn LedgerStore>>,
    canaries: Canaries,
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
        Ledger::open_at(Box::new(SledPlace::of(writer_directory)), epoch, Canaries::default())
    }

    /// As [`Ledger::open`], with another store than sled, or with a planted bug.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if the place cannot be written.
    pub fn open_at(
        mut place: Box<dyn LedgerPlace>,
        epoch: Epoch,
        canaries: Canaries,
    ) -> Result<LedgerOpened, LedgerError> {
        let mut found = open_and_read(&*place, epoch);
        if found.as_ref().is_err_and(LedgerError::is_out_of_space) && place.give_up_reserve() {
            found = open_and_read(&*place, epoch);
        }
        let (record, mut open, set_aside) = match found {
            Ok((record, open)) => (record.unwrap_or_default(), open, None),
            // A disk that fails or is full says nothing about what the ledger holds.
            Err(error) if !error.is_damage() => return Err(error),
            Err(error) => {
                let aside = place.move_aside()?;
                (LedgerRecord::default(), place.open()?, Some((aside, error)))
            }
        };
        // A store may write lazily: without this the first file of a new one would be made when the disk may
        // be full.
        open.flush()?;
        open.sync()?;
        place.hold_reserve();
        Ok(LedgerOpened { ledger: Ledger { place, epoch, open: Some(open), canaries }, record, set_aside })
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
        if written.is_err() && self.place.give_up_reserve() {
            written = self.write(record);
        }
        written
    }

    /// Gives the reserve up for something else that has to be done before anything can be freed; false if
    /// there is none.
    pub fn give_up_reserve(&mut self) -> bool {
        self.place.give_up_reserve()
    }

    /// To be called when the disk may have space again: takes the reserve back that a checkpoint used up.
    pub fn refill_reserve(&mut self) {
        self.place.hold_reserve();
    }

    fn write(&mut self, record: &LedgerRecord) -> Result<(), LedgerError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                self.place.move_aside()?;
                self.place.open()?
            }
        };
        open.insert(&record::key(self.epoch), &record.encode())?;
        open.flush()?;
        if !self.canaries.has(Canary::TrustStoreFlush) {
            open.sync()?;
        }
        self.open = Some(open);
        Ok(())
    }
}

type Found = (Option<LedgerRecord>, Box<dyn LedgerStore>);

fn open_and_read(place: &dyn LedgerPlace, epoch: Epoch) -> Result<Found, LedgerError> {
    let open = place.open()?;
    let record = decode(place.path(), open.get(&record::key(epoch))?)?;
    Ok((record, open))
}

fn decode(path: &Path, stored: Option<Vec<u8>>) -> Result<Option<LedgerRecord>, LedgerError> {
    let damaged = |reason| LedgerError::Damaged { path: path.to_owned(), reason };
    stored.map(|bytes| LedgerRecord::decode(&bytes).map_err(damaged)).transpose()
}

/// Reads the record of a ledger that somebody else may own, from a copy: no lock is taken and nothing
/// is written. `None` if the ledger says nothing about this epoch or does not exist.
///
/// # Errors
///
/// [`LedgerError`] if the copy cannot be made or read.
pub fn peek(writer_directory: &Path, epoch: Epoch) -> Result<Option<LedgerRecord>, LedgerError> {
    decode(&writer_directory.join(DIRECTORY), sled::peek(writer_directory, &record::key(epoch))?)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests damage what sled has written")]
mod tests {
    use std::fs;

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
