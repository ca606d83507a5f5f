//! Space that is kept for the ledger, so that a full disk can be drained.
//!
//! Without it a log that has filled the disk could never free any of it: nothing is reclaimed before the ledger
//! is durable \[I5\], and the ledger would have no room for that.

#![expect(clippy::disallowed_methods, reason = "the ledger's store does its own input and output")]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

const FILE_NAME: &str = "ledger.reserve";
/// Room for a new sled and many checkpoints.
const BYTES: u64 = 2 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    is_held: bool,
}

impl Reserve {
    /// The reserve of a writer directory, as an earlier owner left it.
    pub(super) fn of(writer_directory: &Path) -> Reserve {
        let path = writer_directory.join(FILE_NAME);
        let is_held = path.exists();
        Reserve { path, is_held }
    }

    /// Takes the space, if it is to be had. A file system that cannot reserve has none to give up either.
    pub(super) fn hold(&mut self) {
        if self.is_held {
            return;
        }
        let taken = File::create(&self.path)
            .and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, BYTES)?));
        self.is_held = taken.is_ok();
        if !self.is_held {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives the space up for the ledger; false if there is none.
    pub(super) fn give_up(&mut self) -> bool {
        std::mem::take(&mut self.is_held) && fs::remove_file(&self.path).is_ok()
    }
}

/// Whether space on the disk is what was missing.
pub(super) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
