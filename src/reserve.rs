//! Space that is kept for what has to be written on a full disk.
//!
//! Without it a log that has filled the disk could never free any of it: nothing is reclaimed before the ledger
//! is durable \[I5\], and nothing behind a refused row is delivered before the row is in quarantine; and neither would
//! have room.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::io::{Access, Storage};

/// The file of the ledger's reserve, in a writer directory.
pub(crate) const LEDGER_RESERVE: &str = "ledger.reserve";

/// A file of so many bytes that holds nothing.
#[derive(Debug)]
pub(crate) struct Reserve {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    bytes: u64,
    is_held: bool,
}

impl Reserve {
    /// The reserve at this path, as an earlier owner left it.
    pub(crate) fn of(storage: &Arc<dyn Storage>, path: PathBuf, bytes: u64) -> Reserve {
        let length = storage.open(&path, Access::Read).and_then(|file| file.length());
        let is_held = length.as_ref().is_ok_and(|length| *length >= bytes);
        let reserve = Reserve { storage: Arc::clone(storage), path, bytes, is_held };
        if length.is_ok() && !is_held {
            // Its owner died before it had the space.
            let _ = reserve.storage.remove(&reserve.path);
        }
        reserve
    }

    /// Takes the space, if it is to be had. A file system that cannot reserve has none to give up either.
    pub(crate) fn hold(&mut self) {
        if self.is_held || self.bytes == 0 {
            return;
        }
        let Ok(file) = self.storage.open(&self.path, Access::New) else { return };
        self.is_held = file.allocate(0, self.bytes).is_ok();
        if !self.is_held {
            let _ = self.storage.remove(&self.path);
        }
    }

    /// How much space is missing: none while it is held.
    pub(crate) fn missing_bytes(&self) -> u64 {
        if self.is_held { 0 } else { self.bytes }
    }

    /// Gives the space up; false if there is none.
    pub(crate) fn give_up(&mut self) -> bool {
        std::mem::take(&mut self.is_held) && self.storage.remove(&self.path).is_ok()
    }
}

/// Whether space on the disk is what was missing.
pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
