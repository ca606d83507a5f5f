//! Why the log is full, in numbers.

use std::path::PathBuf;
use std::sync::Arc;

/// What stops a batch from entering the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Full {
    /// The log is at its quota.
    #[error(
        "the log has {used_bytes} of the {wal_max_bytes} bytes that wal_max_bytes allows, \
         and {needed_bytes} more are needed"
    )]
    Quota {
        /// What the log has, with the batches that are on their way into it.
        used_bytes: u64,
        /// What the batch needs.
        needed_bytes: u64,
        /// The quota.
        wal_max_bytes: u64,
    },
    /// The file system has too little left.
    #[error(
        "the file system of {} has {free_bytes} bytes free, wal_min_free_bytes keeps {wal_min_free_bytes} of them \
         free, and {needed_bytes} are needed: free some, or set wal_min_free_bytes lower",
        directory.display()
    )]
    Disk {
        /// The writer directory.
        directory: Arc<PathBuf>,
        /// What is free.
        free_bytes: u64,
        /// What the batch needs.
        needed_bytes: u64,
        /// What is to be left free.
        wal_min_free_bytes: u64,
    },
}

impl Full {
    /// How many bytes have to be freed before the batch may enter.
    pub fn short_bytes(&self) -> u64 {
        match self {
            Full::Quota { used_bytes, needed_bytes, wal_max_bytes } => {
                (used_bytes + needed_bytes).saturating_sub(*wal_max_bytes)
            }
            // An append that found no space although there seemed to be some is short of something, too.
            Full::Disk { free_bytes, needed_bytes, wal_min_free_bytes, .. } => {
                (wal_min_free_bytes + needed_bytes).saturating_sub(*free_bytes).max(1)
            }
        }
    }

    /// Whether it ends when so many bytes of the log are freed. What is on its way into the log ends by itself.
    pub(super) fn is_mended_by(&self, log_bytes: u64) -> bool {
        match self {
            Full::Quota { .. } => true,
            Full::Disk { .. } => self.short_bytes() <= log_bytes,
        }
    }
}
