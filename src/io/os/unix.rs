//! Positions, locks and free space as every Unix has them.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Result};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::platform::files::{open_regular, open_regular_with};

pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    file.read_at(buffer, offset)
}

pub(super) fn write_at(file: &File, slices: &[IoSlice<'_>], offset: u64) -> Result<usize> {
    Ok(rustix::io::pwritev(file, slices, offset)?)
}

/// The file, made if it is missing, with its lock; none if somebody else has that.
pub(super) fn lock(path: &Path) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    let file = open_regular_with(options.read(true).write(true).create(true).truncate(false), path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn is_locked(path: &Path) -> Result<bool> {
    match flock(&open_regular(path)?, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn free_bytes(directory: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
