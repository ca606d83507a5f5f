//! What the ledger and the log are to each other: an acknowledgement goes to the ledger first and frees segments
//! second, and after a restart each is asked what it knows of the other.

use std::io;

use crate::canary::Canary;
use crate::io::Env;
use crate::ledger::{Ledger, LedgerError, LedgerRecord, Settled};
use crate::types::Lsn;
use crate::wal::{ReadError, Reclaimed, Wal};

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

/// What the ledger says, as far as it is about this log. `last` is the last frame that was found.
///
/// # Errors
///
/// [`ReadError`] if the log cannot be read.
pub fn reconcile(mut record: LedgerRecord, wal: &Wal, last: Lsn) -> Result<LedgerRecord, ReadError> {
    let settled = &mut record.settled;
    if *settled == Settled::default() {
        // A ledger that knows nothing may have been lost; what was reclaimed by then was settled [I5].
        settled.through = wal.first().map_or(last, Lsn::previous);
    } else if wal.count_from(settled.through.next())?.frames == 0 {
        // A frame that was delivered in part can have gone with a power cut, if it was never synced.
        *settled = Settled { through: settled.highest(), rows_of_next: 0 };
    }
    Ok(record)
}
