//! Space that is kept for what has to be written on a full disk.
//!
//! Without it a log that has filled the disk could never free any of it: nothing is reclaimed before the ledger
//! is durable \[I5\], and nothing behind a refused row is delivered before the row is in quarantine; and neither would
//! have room.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::io::{Access, Storage, StorageFile};

/// The file of the ledger's reserve, in a writer directory.
pub(crate) const LEDGER_RESERVE: &str = "ledger.reserve";

/// A file of so many bytes that holds nothing.
#[derive(Debug)]
pub(crate) struct Reserve {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    bytes: u64,
    held_bytes: u64,
}

impl Reserve {
    /// The reserve at this path, as an earlier owner left it.
    pub(crate) fn of(storage: &Arc<dyn Storage>, path: PathBuf, bytes: u64) -> Reserve {
        let length = storage.open(&path, Access::Read).and_then(|file| file.length()).unwrap_or(0);
        Reserve { storage: Arc::clone(storage), path, bytes, held_bytes: length.min(bytes) }
    }

    /// Takes the space that is missing, if all of it is to be had. A file system that cannot reserve has none to give up
    /// either.
    pub(crate) fn hold(&mut self) {
        let missing_bytes = self.missing_bytes();
        if missing_bytes == 0 {
            return;
        }
        let opened = match self.storage.open(&self.path, Access::New) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.storage.open(&self.path, Access::Write)
            }
            opened => opened,
        };
        let Ok(file) = opened else { return };
        if file.allocate(self.held_bytes, missing_bytes).is_ok() {
            self.held_bytes = self.bytes;
        } else {
            // What it did get is for others.
            self.keep_held(file.as_ref());
        }
    }

    /// How much space is missing: none while all of it is held.
    pub(crate) fn missing_bytes(&self) -> u64 {
        self.bytes - self.held_bytes
    }

    /// Gives so much of the space up, or what there is; false if there is none.
    pub(crate) fn give_up(&mut self, bytes: u64) -> bool {
        let held_bytes = self.held_bytes.saturating_sub(bytes);
        if std::mem::replace(&mut self.held_bytes, held_bytes) == 0 {
            return false;
        }
        match self.storage.open(&self.path, Access::Write) {
            Ok(file) => self.keep_held(file.as_ref()),
            Err(_) => false,
        }
    }

    /// Cuts the file to what is held of it.
    fn keep_held(&self, file: &dyn StorageFile) -> bool {
        let cut = if self.held_bytes == 0 {
            self.storage.remove(&self.path)
        } else {
            file.set_len(self.held_bytes)
        };
        cut.is_ok()
    }
}

/// Whether space on the disk is what was missing.
pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
