//! Everything that a simulated disk consists of, behind one lock, and what each operation does to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io::{Error, ErrorKind, Result},
    path::{Path, PathBuf},
};

use super::{
    directory::{Directory, InodeNumber},
    faults::{EIO, ENOSPC, End, FaultCounts, Faults, OperationKind, Verdict},
    inode::Inode,
    rng::SplitMix,
    trace::Operation,
};
use crate::io::BLOCK;

/// What a file system without a limit says that it has left.
const PLENTY_BYTES: u64 = 1 << 40;

/// The error of everything that was opened before the power went.
pub(super) fn gone() -> Error {
    Error::from_raw_os_error(EIO)
}

pub(super) fn out_of_space() -> Error {
    Error::from_raw_os_error(ENOSPC)
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) rng: SplitMix,
    /// Counts the crashes and kills: handles of an earlier one are dead.
    pub(super) generation: u64,
    /// How a plan has ended the processes that have not been replaced yet.
    pub(super) ended: Option<End>,
    pub(super) inodes: BTreeMap<InodeNumber, Inode>,
    next_inode: InodeNumber,
    pub(super) directories: BTreeMap<PathBuf, Directory>,
    pub(super) locks: BTreeMap<PathBuf, Lock>,
    pub(super) faults: Faults,
    /// Syncs that fail do all the same what they were to do: only their answer is wrong.
    pub(super) failed_syncs_arrive: bool,
    pub(super) counts: FaultCounts,
    pub(super) operations: u64,
    pub(super) reads: u64,
    writes: u64,
    pub(super) trace: Option<Vec<Operation>>,
    pub(super) violations: Vec<String>,
    pub(super) gate_is_closed: bool,
    /// Those who wait before the gate.
    pub(super) waiting: usize,
}

#[derive(Debug)]
pub(super) struct Lock {
    pub(super) token: u64,
    pub(super) note: Vec<u8>,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            rng: SplitMix::new(seed),
            generation: 0,
            ended: None,
            inodes: BTreeMap::new(),
            next_inode: 1,
            directories: BTreeMap::from([(PathBuf::from("/"), Directory::default())]),
            locks: BTreeMap::new(),
            faults: Faults::default(),
            failed_syncs_arrive: false,
            counts: FaultCounts::default(),
            operations: 0,
            reads: 0,
            writes: 0,
            trace: None,
            violations: Vec::new(),
            gate_is_closed: false,
            waiting: 0,
        }
    }

    pub(super) fn directory(&mut self, dir: &Path) -> Result<&mut Directory> {
        self.directories.get_mut(dir).ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// The directory of a file, and the file's name in it.
    pub(super) fn place<'a>(&mut self, path: &'a Path) -> Result<(&mut Directory, &'a OsStr)> {
        match (path.parent(), path.file_name()) {
            (Some(dir), Some(name)) => Ok((self.directory(dir)?, name)),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn find(&mut self, path: &Path) -> Result<InodeNumber> {
        let (directory, name) = self.place(path)?;
        directory.get(name).ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn inode(&mut self, number: InodeNumber) -> Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(gone)
    }

    /// Makes an empty file with a name that is not durable.
    pub(super) fn create(&mut self, path: &Path) -> Result<InodeNumber> {
        let files: usize = self.directories.values().map(Directory::len).sum();
        if self.faults.inodes_max.is_some_and(|max| files >= max) {
            return Err(out_of_space());
        }
        self.make(path)
    }

    /// The same, however many files there are.
    fn make(&mut self, path: &Path) -> Result<InodeNumber> {
        let number = self.next_inode;
        let (directory, name) = self.place(path)?;
        directory.link(name, number);
        self.next_inode += 1;
        self.inodes.insert(number, Inode::default());
        Ok(number)
    }

    /// Makes a file, or changes one, so that its name and its contents are durable. Whoever does that has made room for it.
    pub(super) fn put(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let number = match self.find(path) {
            Ok(number) => number,
            Err(_) => self.make(path)?,
        };
        self.inodes.insert(number, Inode::with_contents(bytes));
        self.place(path)?.0.sync_all();
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        if from.parent() != to.parent() {
            return Err(ErrorKind::CrossesDevices.into());
        }
        let (_, new) = self.place(to)?;
        let (directory, old) = self.place(from)?;
        if directory.get(old).is_none() {
            return Err(ErrorKind::NotFound.into());
        }
        directory.rename(old, new);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> Result<()> {
        let (directory, name) = self.place(path)?;
        if directory.get(name).is_none() {
            return Err(ErrorKind::NotFound.into());
        }
        directory.unlink(name);
        Ok(())
    }

    pub(super) fn sync_directory(&mut self, dir: &Path, verdict: Verdict) -> Result<()> {
        let lies = self.faults.lying_syncs;
        let mut rng = self.rng.clone();
        let directory = self.directory(dir)?;
        match verdict {
            Verdict::Fail(errno) => {
                directory.sync_some(&mut rng);
                self.rng = rng;
                return Err(Error::from_raw_os_error(errno));
            }
            _ if lies => self.counts.lies += 1,
            _ => directory.sync_all(),
        }
        self.collect();
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        file: InodeNumber,
        bytes: &[u8],
        offset: u64,
        direct: bool,
        verdict: Verdict,
    ) -> Result<()> {
        let (count, result) = match verdict {
            Verdict::Fail(errno) => {
                let sectors = self.rng.below(bytes.len() as u64 / 512 + 1) as usize * 512;
                (sectors.min(bytes.len()), Err(Error::from_raw_os_error(errno)))
            }
            _ => self.fitting(file, bytes.len() as u64, offset)?,
        };
        self.writes += 1;
        let write = self.writes;
        self.inode(file)?.write(&bytes[..count], offset, write, direct);
        result
    }

    /// How much of a write has space.
    fn fitting(&mut self, file: InodeNumber, length: u64, offset: u64) -> Result<(usize, Result<()>)> {
        let Some(free) = self.free_blocks() else { return Ok((length as usize, Ok(()))) };
        let first_without = self.inode(file)?.blocks_wanted(offset, length).nth(free as usize);
        Ok(match first_without {
            Some(block) => ((block * BLOCK as u64).saturating_sub(offset) as usize, Err(out_of_space())),
            None => (length as usize, Ok(())),
        })
    }

    pub(super) fn sync_written(
        &mut self,
        file: InodeNumber,
        range: Option<(u64, u64)>,
        is_written: Result<()>,
    ) -> Result<()> {
        let lies = self.faults.lying_syncs;
        match is_written {
            Err(_) if !self.failed_syncs_arrive => {
                let mut rng = self.rng.clone();
                self.inode(file)?.fail_sync(&mut rng);
                self.rng = rng;
            }
            Ok(()) if lies => self.counts.lies += 1,
            Ok(()) | Err(_) => match range {
                Some((offset, length)) => self.inode(file)?.sync_range(offset, length),
                None => self.inode(file)?.sync(),
            },
        }
        is_written
    }

    pub(super) fn allocate(&mut self, file: InodeNumber, offset: u64, length: u64) -> Result<()> {
        let free = self.free_blocks();
        let inode = self.inode(file)?;
        let wanted = inode.blocks_wanted(offset, length).count() as u64;
        if free.is_some_and(|free| free < wanted) {
            return Err(out_of_space());
        }
        inode.reserve(offset, length);
        Ok(())
    }

    /// Blocks that are free; none if there is no limit.
    fn free_blocks(&self) -> Option<u64> {
        let capacity = self.faults.capacity_bytes?;
        Some((capacity / BLOCK as u64).saturating_sub(self.used_blocks()))
    }

    fn used_blocks(&self) -> u64 {
        let is_used = |(number, inode): &(&InodeNumber, &Inode)| {
            inode.handles > 0 || self.directories.values().any(|directory| directory.has(**number))
        };
        self.inodes.iter().filter(is_used).map(|(_, inode)| inode.cache().blocks()).sum()
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_blocks() * BLOCK as u64
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.free_blocks().map_or(PLENTY_BYTES, |blocks| blocks * BLOCK as u64)
    }

    /// Forgets files that have no name, cannot get one back and are open nowhere.
    fn collect(&mut self) {
        let named: BTreeSet<InodeNumber> = self.directories.values().flat_map(Directory::inodes).collect();
        self.inodes.retain(|number, inode| inode.handles > 0 || named.contains(number));
    }

    /// The power goes and comes back.
    pub(super) fn crash(&mut self) {
        let State { rng, inodes, directories, .. } = self;
        inodes.values_mut().for_each(|inode| inode.cut(rng));
        directories.values_mut().for_each(|directory| directory.cut(rng));
        self.counts.cuts += 1;
        self.restart();
        self.collect();
    }

    /// Every process dies.
    pub(super) fn restart(&mut self) {
        self.generation += 1;
        self.ended = None;
        self.gate_is_closed = false;
        self.locks.clear();
        self.inodes.values_mut().for_each(|inode| {
            inode.handles = 0;
            inode.is_failed = false;
        });
    }

    /// A new owner of a directory believes nothing of what an earlier one has synced, so it may sync again.
    pub(super) fn forget_failures(&mut self, dir: &Path) {
        let numbers: Vec<_> = self.directories.get(dir).into_iter().flat_map(Directory::inodes).collect();
        for number in numbers {
            if let Some(inode) = self.inodes.get_mut(&number) {
                inode.is_failed = false;
            }
        }
    }

    /// Notes what became of an operation.
    pub(super) fn record(&mut self, mut operation: Operation, error: Option<&Error>, kind: OperationKind) {
        if kind.is_final_when_it_fails()
            && let Some(inode) = self.inodes.get_mut(&operation.file)
        {
            if inode.is_failed {
                self.violations.push(format!(
                    "[I8] operation {}: {kind:?} on {} after a write or sync on it had failed",
                    operation.number,
                    operation.path.display()
                ));
            }
            inode.is_failed |= error.is_some();
        }
        operation.errno = error.map(|error| error.raw_os_error().unwrap_or(EIO));
        // What the caller got wrong, such as a name that exists, is no failure of the disk.
        if let Some(errno @ (EIO | ENOSPC)) = error.and_then(Error::raw_os_error) {
            self.counts.count(kind, errno);
        }
        if let Some(trace) = &mut self.trace {
            trace.push(operation);
        }
    }
}
