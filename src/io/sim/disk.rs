//! The disk from outside: as a file system for a log, and as an object for a test that cuts, fills, stops and damages it.

use std::{
    ffi::OsString,
    io::{Error, ErrorKind, Result},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    directory::InodeNumber,
    faults::{End, FaultCounts, Faults, OperationKind, Verdict},
    handle::{SimFile, SimLock},
    state::{Lock, State, gone},
    trace::Operation,
};
use crate::{
    io::{Access, LockAttempt, Storage, StorageFile},
    sync::interleave,
};

/// A simulated disk with one file system on it.
#[derive(Debug)]
pub struct Disk {
    state: Mutex<State>,
    changed: Condvar,
}

impl Disk {
    /// An empty disk, without faults; what chance decides follows from the seed.
    pub fn new(seed: u64) -> Arc<Disk> {
        Arc::new(Disk { state: Mutex::new(State::new(seed)), changed: Condvar::new() })
    }

    /// The file system, for the processes of this moment.
    pub fn storage(self: &Arc<Self>) -> Arc<dyn Storage> {
        Arc::new(SimStorage { disk: Arc::clone(self), generation: self.state().generation })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked has failed; others may look at the disk all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes and comes back.
    pub fn crash(&self) {
        self.state().crash();
        self.changed.notify_all();
    }

    /// Every process dies; what they wrote lives on in the page cache.
    pub fn kill(&self) {
        let mut state = self.state();
        if state.ended == Some(End::PowerCut) {
            state.crash();
        } else {
            state.counts.kills += 1;
            state.restart();
        }
        self.changed.notify_all();
    }

    /// Whether a planned cut has taken the power, or a planned kill every process; until [`Disk::crash`] or [`Disk::kill`]
    /// everything fails.
    pub fn is_off(&self) -> bool {
        self.state().ended.is_some()
    }

    /// Whether it was a kill.
    pub fn is_killed(&self) -> bool {
        self.state().ended == Some(End::Kill)
    }

    /// Changes what is going to go wrong.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// From now on syncs that fail do all the same what they were to do, whatever heals: only their answer is wrong.
    pub fn let_failed_syncs_arrive(&self) {
        self.state().failed_syncs_arrive = true;
    }

    /// Whether they do.
    pub fn failed_syncs_arrive(&self) -> bool {
        self.state().failed_syncs_arrive
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        self.state().faults = Faults::default();
    }

    /// What was done to the disk.
    pub fn counts(&self) -> FaultCounts {
        self.state().counts
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many reads there were.
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Makes operations wait.
    pub fn pause(&self) {
        self.state().gate_is_closed = true;
    }

    /// Whether an operation waits.
    pub fn has_arrived(&self) -> bool {
        self.state().waiting > 0
    }

    /// Returns when an operation waits.
    pub fn wait_for_arrival(&self) {
        let mut state = self.state();
        while state.waiting == 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets operations pass.
    pub fn resume(&self) {
        self.state().gate_is_closed = false;
        self.changed.notify_all();
    }

    /// Keeps all operations from now on.
    pub fn start_trace(&self) {
        self.state().trace = Some(Vec::new());
    }

    /// The operations since [`Disk::start_trace`], or since this was called the last time.
    pub fn take_trace(&self) -> Vec<Operation> {
        self.state().trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Where a file was written to or synced although a write or sync on it had failed before.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// The space that is taken.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// The files of a directory, by name.
    pub fn files(&self, dir: &Path) -> Vec<PathBuf> {
        let state = self.state();
        let names = state.directories.get(dir).into_iter().flat_map(|directory| directory.names());
        names.map(|name| dir.join(name)).collect()
    }

    /// The bytes of a file as they are on the platter; none if there is no such file.
    pub fn platter(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.state();
        let number = state.find(path).ok()?;
        let image = state.inodes.get(&number)?.platter();
        let mut bytes = vec![0; image.length() as usize];
        image.read(&mut bytes, 0);
        Some(bytes)
    }

    /// Gives a file these contents, durably, behind everybody's back.
    ///
    /// # Errors
    ///
    /// If there is no such directory.
    pub fn put(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        state.counts.rot += 1;
        state.put(path, bytes)
    }

    /// Removes a file, durably, behind everybody's back.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    pub fn erase(&self, path: &Path) -> Result<()> {
        let mut state = self.state();
        state.counts.rot += 1;
        state.remove(path)?;
        state.place(path)?.0.sync_all();
        Ok(())
    }

    /// Changes bytes of a file on the platter and in the page cache.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    pub fn rot(
        &self,
        path: &Path,
        offset: u64,
        count: usize,
        change: impl Fn(usize, u8) -> u8,
    ) -> Result<()> {
        let mut state = self.state();
        state.counts.rot += 1;
        let number = state.find(path)?;
        state.inode(number)?.rot(offset, change, count);
        Ok(())
    }

    /// Cuts a file, durably, behind everybody's back.
    ///
    /// # Errors
    ///
    /// If there is no such file.
    pub fn truncate(&self, path: &Path, length: u64) -> Result<()> {
        let mut state = self.state();
        state.counts.rot += 1;
        let number = state.find(path)?;
        let inode = state.inode(number)?;
        inode.sync();
        inode.set_length(length);
        inode.sync();
        Ok(())
    }

    /// The state, for something that changes nothing.
    pub(super) fn look(&self, generation: u64) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.generation == generation && state.ended.is_none() { Ok(state) } else { Err(gone()) }
    }

    /// Does an operation, after the gate and after the faults have had their say.
    pub(super) fn operate<T>(
        &self,
        generation: u64,
        mut operation: Operation,
        apply: impl FnOnce(&mut State, Verdict) -> Result<T>,
    ) -> Result<T> {
        interleave();
        let mut state = self.look(generation)?;
        while state.gate_is_closed {
            state.waiting += 1;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
            if state.generation != generation || state.ended.is_some() {
                return Err(gone());
            }
        }
        state.operations += 1;
        operation.number = state.operations;
        let State { faults, rng, .. } = &mut *state;
        let verdict = faults.verdict(operation.number, operation.kind, rng);
        if let Verdict::End(end) = verdict {
            // Before it, or after it and before anybody knows.
            if rng.coin() {
                let _ = apply(&mut state, Verdict::Proceed);
            }
            state.ended = Some(end);
            self.changed.notify_all();
            return Err(gone());
        }
        let result = apply(&mut state, verdict);
        let kind = operation.kind;
        state.record(operation, result.as_ref().err(), kind);
        result
    }
}

/// An operation on something that has a name.
pub(super) fn named(kind: OperationKind, path: &Path, file: InodeNumber) -> Operation {
    Operation { number: 0, kind, path: path.to_owned(), to: None, file, offset: 0, bytes: 0, errno: None }
}

/// The verdict on something that happens whole or not at all.
fn whole(verdict: Verdict) -> Result<()> {
    match verdict {
        Verdict::Fail(errno) => Err(Error::from_raw_os_error(errno)),
        Verdict::Proceed | Verdict::End(_) => Ok(()),
    }
}

/// The file system as the processes between two crashes see it.
#[derive(Debug)]
struct SimStorage {
    disk: Arc<Disk>,
    generation: u64,
}

impl SimStorage {
    fn operate<T>(
        &self,
        operation: Operation,
        apply: impl FnOnce(&mut State, Verdict) -> Result<T>,
    ) -> Result<T> {
        self.disk.operate(self.generation, operation, apply)
    }
}

impl Storage for SimStorage {
    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        if self.disk.look(self.generation)?.directories.contains_key(dir) {
            return Ok(());
        }
        if let Some(parent) = dir.parent() {
            self.create_dir_all(parent)?;
        }
        self.operate(named(OperationKind::CreateDirectory, dir, 0), |state, verdict| {
            whole(verdict)?;
            state.directories.entry(dir.to_owned()).or_default();
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>> {
        let mut state = self.disk.look(self.generation)?;
        let mut names: Vec<OsString> = state.directory(dir)?.names().cloned().collect();
        let children = state.directories.keys().filter(|child| child.parent() == Some(dir));
        names.extend(children.filter_map(|child| child.file_name()).map(OsString::from));
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn StorageFile>> {
        let number = match access {
            Access::Read | Access::Write => self.disk.look(self.generation)?.find(path)?,
            Access::New => self.operate(named(OperationKind::Create, path, 0), |state, verdict| {
                if state.find(path).is_ok() {
                    return Err(ErrorKind::AlreadyExists.into());
                }
                whole(verdict)?;
                state.create(path)
            })?,
        };
        SimFile::open(&self.disk, self.generation, number, path).map(|file| Arc::new(file) as _)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let file = self.disk.look(self.generation)?.find(from)?;
        let operation = Operation { to: Some(to.to_owned()), ..named(OperationKind::Rename, from, file) };
        self.operate(operation, |state, verdict| {
            whole(verdict)?;
            state.rename(from, to)
        })
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let file = self.disk.look(self.generation)?.find(path)?;
        self.operate(named(OperationKind::Remove, path, file), |state, verdict| {
            whole(verdict)?;
            state.remove(path)
        })
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.operate(named(OperationKind::SyncDirectory, dir, 0), |state, verdict| {
            state.sync_directory(dir, verdict)
        })
    }

    fn lock(&self, path: &Path, note: &[u8]) -> Result<LockAttempt> {
        let exists = self.disk.look(self.generation)?.find(path).is_ok();
        if !exists {
            self.operate(named(OperationKind::Lock, path, 0), |state, verdict| {
                whole(verdict)?;
                state.create(path)
            })?;
        }
        let mut state = self.disk.look(self.generation)?;
        if let Some(held) = state.locks.get(path) {
            return Ok(LockAttempt::Busy { note: held.note.clone() });
        }
        if let Some(dir) = path.parent() {
            state.forget_failures(dir);
        }
        let token = state.rng.next_u64();
        state.locks.insert(path.to_owned(), Lock { token, note: note.to_owned() });
        Ok(LockAttempt::Held(Box::new(SimLock::new(&self.disk, path, token))))
    }

    fn lock_note(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let state = self.disk.look(self.generation)?;
        Ok(state.locks.get(path).map(|lock| lock.note.clone()))
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64> {
        let mut state = self.disk.look(self.generation)?;
        state.directory(dir)?;
        Ok(state.free_bytes())
    }
}
