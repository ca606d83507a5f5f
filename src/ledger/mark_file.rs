//! The file of the mark: two slots that are written in turn, so that a cut leaves the one or the other.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LedgerError;
use super::mark::{Mark, SLOT_BYTES, Slot};
use crate::io::{Access, Storage, StorageFile};
use crate::types::Epoch;

/// Name of the mark in a writer directory.
pub(crate) const MARK_FILE: &str = "ledger.mark";
/// Where one is written before it takes its name.
const NEW_FILE: &str = "ledger.mark.new";

/// The mark of the ledger in one writer directory.
#[derive(Debug)]
pub(super) struct MarkFile {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    epoch: Epoch,
    /// None as long as there is no whole one, and after a failed write: that file is never synced again [I8].
    open: Option<Arc<dyn StorageFile>>,
    /// The slot that holds the newest whole mark. The other one is written next.
    newest: usize,
}

/// What the file says.
#[derive(Debug)]
pub(super) enum Marked {
    /// There is none: the log is new, an earlier version wrote it, or the file was removed.
    Absent,
    /// There is one, and nothing in it is to be believed.
    Broken(String),
    /// There is one, and the file system does not say what is in it.
    Unreadable(Error),
    /// With whether one slot is not whole: a crash left it so, or it was damaged.
    Whole { mark: Box<Mark>, is_one_broken: bool },
}

impl Marked {
    pub(super) fn whole(&self) -> Option<&Mark> {
        match self {
            Marked::Whole { mark, .. } => Some(mark),
            _ => None,
        }
    }

    /// Why nobody knows what it says, if there is one.
    pub(super) fn fault(&self) -> Option<String> {
        match self {
            Marked::Absent | Marked::Whole { .. } => None,
            Marked::Broken(reason) => Some(reason.clone()),
            Marked::Unreadable(error) => Some(format!("it cannot be read: {error}")),
        }
    }
}

impl MarkFile {
    /// The mark in this directory, and what it says, for the owner of the log.
    pub(super) fn open(storage: &Arc<dyn Storage>, directory: &Path, epoch: Epoch) -> (MarkFile, Marked) {
        let (storage, directory) = (Arc::clone(storage), directory.to_owned());
        let mut mark = MarkFile { storage, directory, epoch, open: None, newest: 0 };
        let marked = mark.read(Access::Write);
        (mark, marked)
    }

    /// What a mark says that somebody else may own: nothing is written.
    pub(super) fn peek(storage: &Arc<dyn Storage>, directory: &Path, epoch: Epoch) -> Marked {
        let (storage, directory) = (Arc::clone(storage), directory.to_owned());
        MarkFile { storage, directory, epoch, open: None, newest: 0 }.read(Access::Read)
    }

    fn read(&mut self, access: Access) -> Marked {
        let file = match self.storage.open(&self.path(), access) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Marked::Absent,
            Err(error) => return Marked::Unreadable(error),
            Ok(file) => file,
        };
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        let mut read = || {
            if access == Access::Write {
                // [I13] What a failed sync left in the page cache is not what the disk has.
                file.sync_data()?;
                file.drop_page_cache(0..u64::MAX)?;
            }
            file.read_at(&mut bytes, 0)
        };
        let count = match read() {
            Err(error) => return Marked::Unreadable(error),
            Ok(count) => count,
        };
        bytes.truncate(count);
        let mut newest: Option<(usize, Box<Mark>)> = None;
        let mut broken = (count < 2 * SLOT_BYTES).then(|| format!("it has {count} bytes"));
        for (number, slot) in bytes.chunks(SLOT_BYTES).enumerate() {
            match Mark::decode(slot, self.epoch) {
                Slot::Whole(mark)
                    if newest.as_ref().is_none_or(|(_, it)| it.generation < mark.generation) =>
                {
                    newest = Some((number, mark));
                }
                Slot::Broken(reason) => broken = Some(reason),
                Slot::Whole(_) | Slot::Blank => {}
            }
        }
        match newest {
            Some((number, mark)) => {
                // A file that was cut short is made anew by the next checkpoint.
                self.open = (count == 2 * SLOT_BYTES).then_some(file);
                self.newest = number;
                Marked::Whole { mark, is_one_broken: broken.is_some() }
            }
            None => Marked::Broken(broken.unwrap_or_else(|| "it is empty".to_owned())),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(MARK_FILE)
    }

    /// Makes a mark durable.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if it is not; the next one is written into a new file.
    pub(super) fn write(&mut self, mark: &Mark) -> std::result::Result<(), LedgerError> {
        let slot = mark.encode(self.epoch);
        let written = match self.open.take() {
            Some(file) => self.overwrite(file, &slot),
            None => self.begin(&slot),
        };
        self.open = Some(written.map_err(LedgerError::io("write the mark of", &self.path()))?);
        Ok(())
    }

    /// The slot that is durable is not touched: a cut could take it.
    fn overwrite(&mut self, file: Arc<dyn StorageFile>, slot: &[u8]) -> Result<Arc<dyn StorageFile>> {
        let other = 1 - self.newest;
        file.write_at(&mut [IoSlice::new(slot)], (other * SLOT_BYTES) as u64)?;
        file.sync_data()?;
        self.newest = other;
        Ok(file)
    }

    /// A new file has both slots from the beginning, so that none of its writes ever needs space.
    fn begin(&mut self, slot: &[u8]) -> Result<Arc<dyn StorageFile>> {
        let new = self.directory.join(NEW_FILE);
        match self.storage.remove(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.storage.open(&new, Access::New)?;
        file.write_at(&mut [IoSlice::new(slot), IoSlice::new(&[0; SLOT_BYTES])], 0)?;
        file.sync_all()?;
        self.storage.rename(&new, &self.path())?;
        self.storage.sync_dir(&self.directory)?;
        self.newest = 0;
        Ok(file)
    }
}
