//! What is going to go wrong, and what was done to the disk so far.
//!
//! Faults come by chance, so many times out of a thousand, or by plan, at the n-th operation. An operation is a
//! call that changes the disk or makes a change durable; reads are counted by themselves.

use std::ops::RangeInclusive;

use super::rng::SplitMix;

/// The error of a disk that fails.
pub const EIO: i32 = 5;
/// The error of a full disk.
pub const ENOSPC: i32 = 28;

/// The kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OperationKind {
    /// A directory is made.
    CreateDirectory,
    /// A file is made.
    Create,
    /// Bytes are written.
    Write,
    /// Bytes are written and made durable.
    WriteDurable,
    /// Space is reserved.
    Allocate,
    /// A file is cut or extended.
    SetLength,
    /// A file is synced.
    Sync,
    /// A directory is synced.
    SyncDirectory,
    /// A file gets another name.
    Rename,
    /// A file is removed.
    Remove,
    /// A file is locked.
    Lock,
}

impl OperationKind {
    /// Whether a failure leaves a file that nothing may be written to or synced on again.
    pub fn is_final_when_it_fails(self) -> bool {
        matches!(self, OperationKind::Write | OperationKind::WriteDurable | OperationKind::Sync)
    }

    fn takes_space(self) -> bool {
        use OperationKind::{Allocate, Create, Lock, Write, WriteDurable};
        matches!(self, Allocate | Create | Lock | Write | WriteDurable)
    }
}

/// What happens at an operation that a plan names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planned {
    /// The power goes: during the operation, or just after it and before anybody knows.
    Cut,
    /// Every process dies: before the operation, or just after it.
    Kill,
    /// It fails with this number of the operating system.
    Error(i32),
}

/// How processes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    PowerCut,
    Kill,
}

/// What the disk does to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Proceed,
    End(End),
    Fail(i32),
}

/// The faults of a disk. By default there are none.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Writes that fail with EIO, out of a thousand; a part of the bytes arrives.
    pub write_errors: u16,
    /// Syncs of files that fail with EIO, out of a thousand.
    pub sync_errors: u16,
    /// Changes of directories, and their syncs, that fail with EIO, out of a thousand.
    pub directory_errors: u16,
    /// Reads that fail with EIO, out of a thousand.
    pub read_errors: u16,
    /// Operations that need space and fail with ENOSPC, out of a thousand.
    pub space_errors: u16,
    /// The file system cannot write past the page cache.
    pub refuses_direct: bool,
    /// The file system cannot reserve space.
    pub refuses_allocate: bool,
    /// Syncs say that they worked and do nothing.
    pub lying_syncs: bool,
    /// The bytes that the file system has.
    pub capacity_bytes: Option<u64>,
    /// The files that the file system can have.
    pub inodes_max: Option<usize>,
    /// What happens at which operations; see [`Faults::at`].
    pub plans: Vec<(RangeInclusive<u64>, Planned)>,
    /// Which reads fail with which error; see [`Faults::reads_at`].
    pub read_plans: Vec<(RangeInclusive<u64>, i32)>,
}

impl Faults {
    /// Plans what happens at these operations, counted from the beginning of the disk; the first is 1.
    pub fn at(&mut self, operations: RangeInclusive<u64>, planned: Planned) {
        self.plans.push((operations, planned));
    }

    /// Plans reads that fail, counted from the beginning of the disk; the first is 1.
    pub fn reads_at(&mut self, reads: RangeInclusive<u64>, errno: i32) {
        self.read_plans.push((reads, errno));
    }

    pub(super) fn verdict(&self, operation: u64, kind: OperationKind, rng: &mut SplitMix) -> Verdict {
        use OperationKind::{Allocate, Sync, Write, WriteDurable};
        if let Some((_, planned)) = self.plans.iter().find(|(range, _)| range.contains(&operation)) {
            match planned {
                Planned::Cut => return Verdict::End(End::PowerCut),
                Planned::Kill => return Verdict::End(End::Kill),
                // Only what takes space meets a full disk.
                Planned::Error(ENOSPC) if !kind.takes_space() => {}
                Planned::Error(errno) => return Verdict::Fail(*errno),
            }
        }
        if kind.takes_space() && rng.per_mille(self.space_errors) {
            return Verdict::Fail(ENOSPC);
        }
        let errors = match kind {
            Write | WriteDurable => self.write_errors.max(match kind {
                WriteDurable => self.sync_errors,
                _ => 0,
            }),
            Sync => self.sync_errors,
            Allocate => 0,
            _ => self.directory_errors,
        };
        if rng.per_mille(errors) { Verdict::Fail(EIO) } else { Verdict::Proceed }
    }

    pub(super) fn read_error(&self, read: u64, rng: &mut SplitMix) -> Option<i32> {
        let planned = self.read_plans.iter().find(|(range, _)| range.contains(&read));
        planned.map(|(_, errno)| *errno).or_else(|| rng.per_mille(self.read_errors).then_some(EIO))
    }
}

/// What was done to a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Times that the power went.
    pub cuts: u64,
    /// Times that the processes died and the page cache lived on.
    pub kills: u64,
    /// Writes that failed with EIO.
    pub write_errors: u64,
    /// Syncs that failed with EIO.
    pub sync_errors: u64,
    /// Changes of directories, and their syncs, that failed with EIO.
    pub directory_errors: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Operations that failed with ENOSPC.
    pub space_errors: u64,
    /// Syncs that lied.
    pub lies: u64,
    /// Changes of bytes behind everybody's back.
    pub rot: u64,
}

impl FaultCounts {
    /// Failures that a caller has seen.
    pub fn errors(&self) -> u64 {
        self.write_errors + self.sync_errors + self.directory_errors + self.read_errors + self.space_errors
    }

    pub(super) fn count(&mut self, kind: OperationKind, errno: i32) {
        let counter = match kind {
            _ if errno == ENOSPC => &mut self.space_errors,
            OperationKind::Write | OperationKind::WriteDurable => &mut self.write_errors,
            OperationKind::Sync => &mut self.sync_errors,
            _ => &mut self.directory_errors,
        };
        *counter += 1;
    }
}

impl std::ops::AddAssign for FaultCounts {
    fn add_assign(&mut self, other: FaultCounts) {
        self.cuts += other.cuts;
        self.kills += other.kills;
        self.write_errors += other.write_errors;
        self.sync_errors += other.sync_errors;
        self.directory_errors += other.directory_errors;
        self.read_errors += other.read_errors;
        self.space_errors += other.space_errors;
        self.lies += other.lies;
        self.rot += other.rot;
    }
}
