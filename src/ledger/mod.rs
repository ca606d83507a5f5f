//! What is settled, remembered across restarts in a key-value store.
//!
//! The ledger is derived: losing all of it costs duplicates, never data. It is off the append path and
//! holds one small record per log epoch, so its size does not depend on the backlog; and beside it what was known of
//! the table's columns, which a start without network goes by.
//!
//! A store's own flush need not be durable; sled's is not. A checkpoint is therefore a flush *and* a sync, and only
//! then may anything be reclaimed \[I5\].

mod dropped;
mod record;
#[cfg(feature = "sim")]
mod sim;
mod sled;
mod store;
mod table;

use std::path::{Path, PathBuf};

pub use dropped::{Dropped, DroppedRange};
pub use record::{Bent, LedgerRecord, Quarantined, Settled};
#[cfg(feature = "sim")]
pub use sim::SimPlace;
pub use store::{LedgerPlace, LedgerStore};
pub use table::CachedTable;

use self::sled::SledPlace;

use crate::canary::{Canaries, Canary};
use crate::error::{Coded, ErrorCode};
use crate::reserve::is_out_of_space;
use crate::types::Epoch;

/// Name of the ledger's directory in a writer directory.
pub(crate) const DIRECTORY: &str = "ledger";
/// Name of the file that keeps space for it.
const RESERVE_FILE: &str = "ledger.reserve";

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
    /// The bytes of the cached table.
    table: Vec<u8>,
    /// The next checkpoint writes them.
    is_table_due: bool,
}

/// What opening a ledger found.
#[derive(Debug)]
pub struct LedgerOpened {
    /// The ledger, ready for checkpoints.
    pub ledger: Ledger,
    /// What it says; the beginning of everything if it said nothing.
    pub record: LedgerRecord,
    /// What an earlier owner knew of the table's columns; `None` too if that cannot be read.
    pub table: Option<CachedTable>,
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
        let (contents, mut open, set_aside) = match found {
            Ok((contents, open)) => (contents, open, None),
            // A disk that fails or is full says nothing about what the ledger holds.
            Err(error) if !error.is_damage() => return Err(error),
            Err(error) => {
                let aside = place.move_aside()?;
                (Contents::default(), place.open()?, Some((aside, error)))
            }
        };
        // A store may write lazily: without this the first file of a new one would be made when the disk may
        // be full.
        open.flush()?;
        open.sync()?;
        place.hold_reserve();
        let Contents { record, table } = contents;
        let bytes = bytes_of(table.as_ref());
        let ledger = Ledger { place, epoch, open: Some(open), canaries, table: bytes, is_table_due: false };
        Ok(LedgerOpened { ledger, record: record.unwrap_or_default(), table, set_aside })
    }

    /// Remembers what is known of the table's columns, from the next checkpoint on; `None` forgets it.
    pub fn remember_table(&mut self, table: Option<&CachedTable>) {
        let bytes = bytes_of(table);
        self.is_table_due |= bytes != self.table;
        self.table = bytes;
    }

    /// Whether there is something to write besides the record.
    pub fn is_due(&self) -> bool {
        self.is_table_due
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
        let mut written = self.write(record, true);
        if written.is_err() && self.place.give_up_reserve() {
            // The reserve is for what frees space; a cache does not.
            written = self.write(record, false);
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

    fn write(&mut self, record: &LedgerRecord, with_table: bool) -> Result<(), LedgerError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                self.place.move_aside()?;
                self.is_table_due = self.table != table::NOTHING;
                self.place.open()?
            }
        };
        if self.is_table_due && with_table {
            open.insert(table::KEY, &self.table)?;
        }
        open.insert(&record::key(self.epoch), &record.encode())?;
        open.flush()?;
        if !self.canaries.has(Canary::TrustStoreFlush) {
            open.sync()?;
        }
        self.is_table_due = false;
        self.open = Some(open);
        Ok(())
    }
}

/// What is stored for a table; nothing for one that is too large to be kept.
fn bytes_of(table: Option<&CachedTable>) -> Vec<u8> {
    let bytes = table.and_then(CachedTable::encode);
    if table.is_some() && bytes.is_none() {
        tracing::warn!("the table's columns are too many to be kept for a start without network");
    }
    bytes.unwrap_or_else(|| table::NOTHING.to_vec())
}

/// What a store says about one log.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// `None` if it says nothing about this epoch.
    pub(crate) record: Option<LedgerRecord>,
    /// `None` too if what is there cannot be read: it is a cache.
    pub(crate) table: Option<CachedTable>,
}

impl Contents {
    fn read(store: &dyn LedgerStore, path: &Path, epoch: Epoch) -> Result<Contents, LedgerError> {
        let damaged = |reason| LedgerError::Damaged { path: path.to_owned(), reason };
        let record = store.get(&record::key(epoch))?;
        let record = record.map(|bytes| LedgerRecord::decode(&bytes).map_err(damaged)).transpose()?;
        let table = store.get(table::KEY)?.filter(|bytes| bytes != table::NOTHING);
        let readable = table.as_deref().and_then(CachedTable::decode);
        if table.is_some() && readable.is_none() {
            tracing::warn!(path = %path.display(), "what was known of the table's columns cannot be read");
        }
        Ok(Contents { record, table: readable })
    }
}

fn open_and_read(
    place: &dyn LedgerPlace,
    epoch: Epoch,
) -> Result<(Contents, Box<dyn LedgerStore>), LedgerError> {
    let open = place.open()?;
    Ok((Contents::read(&*open, place.path(), epoch)?, open))
}

/// Reads a ledger that somebody else may own, from a copy: no lock is taken and nothing is written. It says nothing
/// if there is none.
///
/// # Errors
///
/// [`LedgerError`] if the copy cannot be made or read.
pub(crate) fn peek(writer_directory: &Path, epoch: Epoch) -> Result<Contents, LedgerError> {
    sled::peek(writer_directory, |store, path| Contents::read(store, path, epoch))
        .map(Option::unwrap_or_default)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests damage what sled has written")]
mod tests {
    use std::fs;

    use super::*;
    use crate::convert::{DeltaType, TableColumn, TableSchema};
    use crate::types::Lsn;

    const EPOCH: Epoch = Epoch::new(7);

    fn record(through: u64) -> LedgerRecord {
        LedgerRecord {
            settled: Settled { through: Lsn::new(through), rows_of_next: 3 },
            delivered_frames: through,
            delivered_rows: 10 * through,
            damaged_frames: 0,
            dropped: Dropped::default(),
            bent: Bent { floored_timestamps: through, emptied_lists: 1 },
            quarantined: Quarantined::default(),
        }
    }

    fn table(name: &str) -> CachedTable {
        let column =
            TableColumn { name: name.to_owned(), number: 1, delta_type: DeltaType::Long, nullable: true };
        CachedTable {
            table: "main.default.events".parse().unwrap(),
            read_unix_micros: 5,
            schema: TableSchema { columns: vec![column] },
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
        assert_eq!(peek(dir.path(), EPOCH).unwrap().record, None);
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        opened.ledger.checkpoint(&record(5)).unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap().record, Some(record(5)));
        opened.ledger.checkpoint(&record(6)).unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap().record, Some(record(6)));
    }

    #[test]
    fn the_table_is_remembered_with_the_next_checkpoint_and_forgotten_so_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!(opened.table, None);
        opened.ledger.remember_table(Some(&table("a")));
        assert!(opened.ledger.is_due());
        opened.ledger.checkpoint(&record(5)).unwrap();
        assert!(!opened.ledger.is_due());
        assert_eq!(peek(dir.path(), EPOCH).unwrap().table, Some(table("a")));
        drop(opened);

        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!(opened.table, Some(table("a")));
        opened.ledger.remember_table(Some(&table("a")));
        assert!(!opened.ledger.is_due(), "it is there already");
        let mut ledger = opened.ledger.unwritable();
        ledger.checkpoint(&record(6)).unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap().table, Some(table("a")), "a new store has it too");
        ledger.remember_table(None);
        ledger.checkpoint(&record(6)).unwrap();
        drop(ledger);
        let opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!((opened.record, opened.table), (record(6), None));
    }

    #[test]
    fn a_damaged_table_is_left_out_and_hurts_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), EPOCH).unwrap().ledger;
        ledger.table = b"this is no table".to_vec();
        ledger.is_table_due = true;
        ledger.checkpoint(&record(5)).unwrap();
        drop(ledger);
        let opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert!(opened.set_aside.is_none());
        assert_eq!((opened.record, opened.table), (record(5), None));
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
