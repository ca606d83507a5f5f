//! The order in which an acknowledgement frees the disk: ledger first, segments second.

use std::io;

use crate::canary::Canary;
use crate::io::Env;
use crate::ledger::{Ledger, LedgerError, LedgerRecord};
use crate::types::Lsn;
use crate::wal::{Reclaimed, Wal};

/// Makes the record durable in the ledger. Nothing that it settles may be freed before \[I5\].
///
/// # Errors
///
/// [`LedgerError`] if the record is not durable.
pub fn checkpoint(
    env: &Env,
    ledger: &mut Ledger,
    wal: &Wal,
    record: &LedgerRecord,
) -> Result<(), LedgerError> {
    if env.canaries.has(Canary::FreeBeforeLedgerSync) {
        let _ = wal.reclaim(record.settled.through, 0);
    }
    ledger.checkpoint(record)
}

/// Frees the segments that the durable ledger has settled up to `through`. The newest one is replaced if it
/// is settled too and holds `roll_bytes` or more.
///
/// # Errors
///
/// When the file system fails. What was freed until then is freed.
pub fn free(wal: &Wal, through: Lsn, roll_bytes: u64) -> io::Result<Reclaimed> {
    wal.reclaim(through, roll_bytes)
}
