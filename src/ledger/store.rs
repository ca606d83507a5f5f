//! What the ledger asks of the key-value store below it.

use std::fmt::Debug;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LedgerError;
use crate::io::{Access, Storage};

/// The file that is written to see whether the disk takes anything.
const PROBE_FILE: &str = "ledger.probe";
const PROBE_BYTES: usize = 4096;

/// An open store. It is dropped after a failed write and never used again \[I8\].
pub trait LedgerStore: Send + Debug {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if it cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError>;

    /// Gives keys of small values their values: all of them or none, whatever happens meanwhile.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if the store refuses it.
    fn insert(&mut self, records: &[(&[u8], &[u8])]) -> Result<(), LedgerError>;

    /// Gives the key of a large value, which changes rarely, its value. What is inserted after it is not there
    /// without it.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if the store refuses it.
    fn insert_large(&mut self, key: &[u8], value: &[u8]) -> Result<(), LedgerError>;

    /// The value of the key of a large value.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if it cannot be read.
    fn get_large(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError>;

    /// Hands everything that was inserted to the operating system. Promises nothing about a power cut.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if the operating system refuses it.
    fn flush(&mut self) -> Result<(), LedgerError>;

    /// Makes everything that was flushed durable.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if it is not durable.
    fn sync(&mut self) -> Result<(), LedgerError>;
}

/// Where the store of one ledger lies, and the space that is kept for it.
pub trait LedgerPlace: Send + Debug {
    /// For messages.
    fn path(&self) -> &Path;

    /// The file system that the mark of the store is written to.
    fn storage(&self) -> &Arc<dyn Storage>;

    /// The writer directory.
    fn directory(&self) -> &Path;

    /// Whether there is a store.
    fn is_there(&self) -> bool;

    /// Opens the store; makes an empty one, under a durable name, if there is none.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; [`LedgerError::is_damage`] tells whether the bytes are what is wrong.
    fn open(&self) -> Result<Box<dyn LedgerStore>, LedgerError>;

    /// Gives the store that is there another name, under which it is kept, and says which.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if it cannot be moved.
    fn move_aside(&self) -> Result<PathBuf, LedgerError>;

    /// Writes and syncs a file that is new each time, and removes it.
    ///
    /// # Errors
    ///
    /// [`LedgerError`] if the disk does not take it. Then it would not take a new store either, and beginning one after the
    /// other costs memory that sled does not give back, and the copies of what was set aside.
    fn probe(&self) -> Result<(), LedgerError> {
        let (storage, path) = (self.storage(), self.directory().join(PROBE_FILE));
        let remove = || match storage.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let write = || -> io::Result<()> {
            let file = storage.open(&path, Access::New)?;
            file.write_at(&mut [IoSlice::new(&[0; PROBE_BYTES])], 0)?;
            file.sync_all()
        };
        // One that a crash has left goes first, and this one whether it could be written or not.
        let written = remove().and_then(|()| write());
        let removed = remove();
        written.and(removed).map_err(LedgerError::io("write and sync", &path))
    }

    /// Takes the space that is kept for a full disk, if it is to be had.
    fn hold_reserve(&mut self);

    /// Gives that space up for the store; false if there is none.
    fn give_up_reserve(&mut self) -> bool;

    /// How much of that space is missing: none while it is taken.
    fn missing_reserve_bytes(&self) -> u64;
}
