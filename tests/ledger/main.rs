//! The ledger on its own: how large it becomes, and what damage of its files shows as.
//!
//! It lies in memory if there is such a file system, because so many syncs of a disk take hours; sled cannot tell.

#![expect(clippy::disallowed_methods, reason = "a test looks at files and the clock as anybody would")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod damage;
mod size;

use std::sync::Mutex;

use arrow_zerobus_sdk_wrapper::types::Epoch;

const EPOCH: Epoch = Epoch::new(7);

/// One test at a time: some look at the memory of the process.
static ALONE: Mutex<()> = Mutex::new(());

fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
