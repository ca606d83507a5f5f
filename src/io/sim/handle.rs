//! An open file and a held lock of a simulated disk. Both are worth nothing after the next crash or kill.

use std::{
    io::{Error, ErrorKind, IoSlice, Result},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    directory::InodeNumber,
    disk::{Disk, named},
    faults::{OperationKind, Verdict},
    state::State,
    trace::Operation,
};
use crate::{
    io::{BLOCK, FileLock, StorageFile},
    sync::interleave,
};

const EINVAL: i32 = 22;

#[derive(Debug)]
pub(super) struct SimFile {
    disk: Arc<Disk>,
    generation: u64,
    number: InodeNumber,
    path: PathBuf,
    direct: AtomicBool,
}

impl SimFile {
    pub(super) fn open(
        disk: &Arc<Disk>,
        generation: u64,
        number: InodeNumber,
        path: &Path,
    ) -> Result<SimFile> {
        disk.look(generation)?.inode(number)?.handles += 1;
        Ok(SimFile {
            disk: Arc::clone(disk),
            generation,
            number,
            path: path.to_owned(),
            direct: AtomicBool::new(false),
        })
    }

    fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    fn operate<T>(
        &self,
        kind: OperationKind,
        offset: u64,
        bytes: u64,
        apply: impl FnOnce(&mut State, Verdict) -> Result<T>,
    ) -> Result<T> {
        let operation = Operation { offset, bytes, ..named(kind, &self.path, self.number) };
        self.disk.operate(self.generation, operation, apply)
    }

    /// What the kernel asks of direct reads and writes.
    fn check_alignment<'a>(&self, parts: impl Iterator<Item = &'a [u8]>, offset: u64) -> Result<()> {
        if !self.is_direct() {
            return Ok(());
        }
        let is_aligned = |number: usize| number.is_multiple_of(BLOCK);
        let mut parts = parts;
        let aligned = is_aligned(offset as usize)
            && parts.all(|part| is_aligned(part.as_ptr() as usize) && is_aligned(part.len()));
        if aligned { Ok(()) } else { Err(Error::from_raw_os_error(EINVAL)) }
    }

    fn gather(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<Vec<u8>> {
        self.check_alignment(slices.iter().map(|slice| &**slice), offset)?;
        let mut bytes = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
        slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        Ok(bytes)
    }

    fn sync(&self) -> Result<()> {
        self.operate(OperationKind::Sync, 0, 0, |state, verdict| {
            let result = match verdict {
                Verdict::Fail(errno) => Err(Error::from_raw_os_error(errno)),
                Verdict::Proceed | Verdict::End(_) => Ok(()),
            };
            state.sync_written(self.number, None, result)
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.disk.look(self.generation)
            && let Ok(inode) = state.inode(self.number)
        {
            inode.handles = inode.handles.saturating_sub(1);
        }
    }
}

impl StorageFile for SimFile {
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        let bytes = self.gather(slices, offset)?;
        self.operate(OperationKind::Write, offset, bytes.len() as u64, |state, verdict| {
            state.write(self.number, &bytes, offset, self.is_direct(), verdict)
        })
    }

    fn write_durable_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        let bytes = self.gather(slices, offset)?;
        self.operate(OperationKind::WriteDurable, offset, bytes.len() as u64, |state, verdict| {
            let written = state.write(self.number, &bytes, offset, self.is_direct(), verdict);
            state.sync_written(self.number, Some((offset, bytes.len() as u64)), written)
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.check_alignment(std::iter::once(&*buffer), offset)?;
        interleave();
        let mut state = self.disk.look(self.generation)?;
        state.reads += 1;
        let State { reads, faults, rng, counts, .. } = &mut *state;
        if let Some(errno) = faults.read_error(*reads, rng) {
            counts.read_errors += 1;
            return Err(Error::from_raw_os_error(errno));
        }
        let inode = state.inode(self.number)?;
        if self.is_direct() {
            inode.drop_clean(offset..offset + buffer.len() as u64);
        }
        Ok(inode.cache().read(buffer, offset))
    }

    fn set_direct(&self, direct: bool) -> Result<()> {
        if direct && self.disk.look(self.generation)?.faults.refuses_direct {
            return Err(ErrorKind::Unsupported.into());
        }
        self.direct.store(direct, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> Result<()> {
        self.sync()
    }

    fn allocate(&self, offset: u64, length: u64) -> Result<()> {
        if self.disk.look(self.generation)?.faults.refuses_allocate {
            return Err(ErrorKind::Unsupported.into());
        }
        self.operate(OperationKind::Allocate, offset, length, |state, verdict| match verdict {
            Verdict::Fail(errno) => Err(Error::from_raw_os_error(errno)),
            Verdict::Proceed | Verdict::End(_) => state.allocate(self.number, offset, length),
        })
    }

    fn set_len(&self, length: u64) -> Result<()> {
        self.operate(OperationKind::SetLength, length, 0, |state, verdict| match verdict {
            Verdict::Fail(errno) => Err(Error::from_raw_os_error(errno)),
            Verdict::Proceed | Verdict::End(_) => {
                state.inode(self.number)?.set_length(length);
                Ok(())
            }
        })
    }

    fn length(&self) -> Result<u64> {
        Ok(self.disk.look(self.generation)?.inode(self.number)?.cache().length())
    }

    fn drop_page_cache(&self, range: Range<u64>) -> Result<()> {
        self.disk.look(self.generation)?.inode(self.number)?.drop_clean(range);
        Ok(())
    }
}

/// A lock; given back when it is dropped, unless the machine went down before.
#[derive(Debug)]
pub(super) struct SimLock {
    disk: Arc<Disk>,
    path: PathBuf,
    token: u64,
}

impl SimLock {
    pub(super) fn new(disk: &Arc<Disk>, path: &Path, token: u64) -> SimLock {
        SimLock { disk: Arc::clone(disk), path: path.to_owned(), token }
    }
}

impl FileLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.locks.get(&self.path).is_some_and(|lock| lock.token == self.token) {
            state.locks.remove(&self.path);
        }
    }
}
