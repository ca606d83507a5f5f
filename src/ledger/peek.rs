//! The ledger of a log that nobody owns, or somebody else, for those who only look.

use std::path::Path;
use std::sync::Arc;

use super::contents::Contents;
use super::judge::{Verdict, judge};
use super::mark_file::{MarkFile, Marked};
use super::{DIRECTORY, LedgerError, sled};
use crate::io::{OsStorage, Storage};
use crate::types::{Epoch, Lsn};

/// Beside a live owner files are copied while they are written, and can look damaged for a moment.
const TRIES: u32 = 3;

/// What stands in the mark of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarkReport {
    /// Every frame of the log up to here was durable.
    pub(crate) log_durable: Lsn,
    /// Whether one of its two slots is not whole.
    pub(crate) is_one_broken: bool,
}

fn read_mark(writer_directory: &Path, epoch: Epoch) -> Marked {
    let storage: Arc<dyn Storage> = Arc::new(OsStorage);
    MarkFile::peek(&storage, writer_directory, epoch)
}

/// What the mark of a ledger says; `None` if there is none, which is so in a log of an earlier version.
///
/// # Errors
///
/// Why nothing in it is to be believed.
pub(crate) fn peek_mark(writer_directory: &Path, epoch: Epoch) -> Result<Option<MarkReport>, String> {
    match read_mark(writer_directory, epoch) {
        Marked::Whole { mark, is_one_broken } => {
            Ok(Some(MarkReport { log_durable: mark.log_durable, is_one_broken }))
        }
        marked => marked.fault().map_or(Ok(None), Err),
    }
}

/// Reads a ledger that somebody else may own, from a copy: no lock is taken and nothing is written. It says nothing
/// if there is none.
///
/// # Errors
///
/// [`LedgerError`] if the copy cannot be made or read, or says less than its mark.
pub(crate) fn peek(writer_directory: &Path, epoch: Epoch) -> Result<Contents, LedgerError> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match look(writer_directory, epoch) {
            Err(error) if error.is_damage() && tries > 0 => {}
            looked => return looked,
        }
    }
}

fn look(writer_directory: &Path, epoch: Epoch) -> Result<Contents, LedgerError> {
    // Before the store, which an owner writes first: so it says at least as much.
    let marked = read_mark(writer_directory, epoch);
    let found = sled::peek(writer_directory, |store, path| Contents::read(store, path, epoch))?;
    let was_there = found.is_some();
    let contents = found.unwrap_or_default();
    match marked.whole().map_or(Verdict::Sound, |mark| judge(&contents, mark)) {
        Verdict::Sound | Verdict::WithoutTable => Ok(contents),
        Verdict::Behind(reason) => {
            let reason = if was_there { reason } else { "it is not there".to_owned() };
            Err(LedgerError::Damaged { path: writer_directory.join(DIRECTORY), reason })
        }
    }
}
