//! Positions, locks and free space as Windows has them.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Result};
use std::os::windows::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Others may read the file and remove it, and not open it for writing.
const SHARES_READING_AND_REMOVING: u32 = 0x1 | 0x4;
/// `ERROR_SHARING_VIOLATION`
const IS_SHARED_DIFFERENTLY: i32 = 32;

pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    file.seek_read(buffer, offset)
}

/// Writes the first slice that is not empty, or a part of it.
pub(super) fn write_at(file: &File, slices: &[IoSlice<'_>], offset: u64) -> Result<usize> {
    match slices.iter().find(|slice| !slice.is_empty()) {
        Some(slice) => file.seek_write(slice, offset),
        None => Ok(0),
    }
}

/// The file, made if it is missing, opened so that nobody else can write to it; none if somebody else has it so. A lock of a
/// range would keep others from reading who holds it.
pub(super) fn lock(path: &Path) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    if_free(options.share_mode(SHARES_READING_AND_REMOVING).open(path))
}

pub(super) fn is_locked(path: &Path) -> Result<bool> {
    Ok(if_free(OpenOptions::new().write(true).open(path))?.is_none())
}

fn if_free(opened: Result<File>) -> Result<Option<File>> {
    match opened {
        Err(error) if error.raw_os_error() == Some(IS_SHARED_DIFFERENTLY) => Ok(None),
        opened => opened.map(Some),
    }
}

pub(super) fn free_bytes(directory: &Path) -> Result<u64> {
    fs2::available_space(directory)
}
