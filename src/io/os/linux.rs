//! What Linux alone can do with a file.

use std::fs::File;
use std::io::{ErrorKind, IoSlice, Result};
use std::num::NonZeroU64;
use std::ops::Range;

use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use crate::io::BLOCK;

pub(super) fn write_durable_at(file: &File, slices: &[IoSlice<'_>], offset: u64) -> Result<usize> {
    Ok(pwritev2(file, slices, offset, ReadWriteFlags::DSYNC)?)
}

pub(super) fn set_direct(file: &File, direct: bool) -> Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    match fcntl_setfl(file, flags) {
        Err(Errno::INVAL) => Err(ErrorKind::Unsupported.into()),
        result => Ok(result?),
    }
}

pub(super) fn read_sequentially(file: &File) {
    // Without it reads just wait longer.
    let _ = fadvise(file, 0, None, Advice::Sequential);
}

pub(super) fn prefetch(file: &File, range: &Range<u64>) {
    // Without it reads just wait longer.
    let _ = fadvise(file, range.start, length(range.start, range.end), Advice::WillNeed);
}

pub(super) fn drop_page_cache(file: &File, range: &Range<u64>) -> Result<()> {
    // The system takes whole pages only.
    let start = range.start / BLOCK as u64 * BLOCK as u64;
    Ok(fadvise(file, start, length(start, range.end), Advice::DontNeed)?)
}

/// The system has an end of its own for one that is not known.
fn length(start: u64, end: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(end.saturating_sub(start)).filter(|_| end < u64::MAX)
}

pub(super) fn allocate(file: &File, offset: u64, length: u64) -> Result<()> {
    match fallocate(file, FallocateFlags::empty(), offset, length) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(ErrorKind::Unsupported.into()),
        result => Ok(result?),
    }
}
