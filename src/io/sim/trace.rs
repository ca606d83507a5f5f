//! The operations of a disk in their order, for tests that look at the order and not at the outcome.

use std::path::PathBuf;

use super::{directory::InodeNumber, faults::OperationKind};

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number; the first of a disk is 1.
    pub number: u64,
    /// What was done.
    pub kind: OperationKind,
    /// To which file or directory, by the name that it was opened under.
    pub path: PathBuf,
    /// The other name of a rename.
    pub to: Option<PathBuf>,
    /// Which file, whatever it is called; 0 for a directory.
    pub file: InodeNumber,
    /// Where a write begins; the length of a cut.
    pub offset: u64,
    /// How much was written or reserved.
    pub bytes: u64,
    /// The number of the operating system's error, if it failed.
    pub errno: Option<i32>,
}
