//! The order of effects, asserted on the trace of the disk and not on the outcome: what must be durable before
//! something else may happen.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use arrow_zerobus_sdk_wrapper::{
    canary::Canary,
    io::sim::{Operation, OperationKind, SplitMix},
    ledger::SimPlace,
    wal::{Durability, WalOptions},
};

use crate::{
    oracle::Check,
    site::{DIR, Site},
};

const SEEDS: u64 = 200;
const STEPS: u64 = 60;

/// What follows from the operations so far.
#[derive(Debug, Default)]
struct Watcher {
    /// Files with bytes that no sync has made durable.
    unsynced: BTreeSet<u64>,
    /// Files with a name that no sync of the directory has made durable.
    unnamed: BTreeSet<u64>,
    /// The ledger has been synced since it was written.
    ledger_is_synced: bool,
    /// And so has its mark.
    mark_is_synced: bool,
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wal")
}

impl Watcher {
    /// Follows the operations of one step and returns the segments that were written in it.
    ///
    /// If the step is a reclaim with something new to say, nothing may lose its name before the ledger is synced.
    fn follow(&mut self, trace: &[Operation], is_new: bool) -> Check<BTreeSet<u64>> {
        let ledger = SimPlace::file(Path::new(DIR));
        let mark = SimPlace::mark(Path::new(DIR));
        let marks = [mark.with_extension("mark.new"), mark];
        let mut written = BTreeSet::new();
        if is_new {
            (self.ledger_is_synced, self.mark_is_synced) = (false, false);
        }
        for operation in trace.iter().filter(|operation| operation.errno.is_none()) {
            use OperationKind::{Create, Remove, Rename, Sync, SyncDirectory, Write, WriteDurable};
            let is_ledger = operation.path == ledger;
            let is_mark = marks.contains(&operation.path);
            if is_mark && matches!(operation.kind, Write | WriteDurable) && !self.ledger_is_synced {
                return Err(format!(
                    "R6: the mark is written before the ledger is synced [I5]: {operation:?}"
                ));
            }
            match operation.kind {
                Create => {
                    self.unnamed.insert(operation.file);
                }
                Write => {
                    self.unsynced.insert(operation.file);
                    self.ledger_is_synced &= !is_ledger;
                    self.mark_is_synced &= !is_mark;
                }
                Sync => {
                    self.unsynced.remove(&operation.file);
                    self.ledger_is_synced |= is_ledger;
                    self.mark_is_synced |= is_mark;
                }
                SyncDirectory => self.unnamed.clear(),
                _ => {}
            }
            if matches!(operation.kind, Write | WriteDurable) && is_segment(&operation.path) {
                written.insert(operation.file);
            }
            if matches!(operation.kind, Remove | Rename) && is_segment(&operation.path) {
                self.may_lose_its_name(operation)?;
            }
            if operation.kind == Rename {
                self.unnamed.insert(operation.file);
            }
        }
        Ok(written)
    }

    fn may_lose_its_name(&self, operation: &Operation) -> Check {
        match (self.ledger_is_synced, self.mark_is_synced) {
            (true, true) => Ok(()),
            (false, _) => Err(format!("R6: a segment goes before the ledger is synced [I5]: {operation:?}")),
            (true, false) => Err(format!("R6: a segment goes before the mark is synced [I5]: {operation:?}")),
        }
    }

    /// An append was answered.
    fn answered(&self, written: &BTreeSet<u64>) -> Check {
        if let Some(file) = written.intersection(&self.unsynced).next() {
            return Err(format!("R6: an append answers before file {file} is synced [I3]"));
        }
        match written.intersection(&self.unnamed).next() {
            Some(file) => Err(format!("R6: an append answers before the name of file {file} is durable")),
            None => Ok(()),
        }
    }
}

/// Random steps on a disk that does not fail, and after each of them a look at the trace.
pub(crate) fn run(seed: u64, canary: Option<Canary>) -> Check<u64> {
    let mut rng = SplitMix::new(seed);
    let segment_bytes = [32, 64][rng.below(2) as usize] * 1024;
    let options =
        WalOptions { segment_bytes, durability: Durability::Sync, spare_segments: rng.below(3) as usize };
    let mut site = Site::new(seed, options, canary);
    let refuses = (rng.below(3) == 0, rng.below(3) == 0);
    site.world.disk().faults(|faults| (faults.refuses_direct, faults.refuses_allocate) = refuses);
    site.world.disk().start_trace();
    let mut watcher = Watcher::default();
    let mut operations = 0;
    for _ in 0..STEPS {
        site.open()?;
        operations += follow(&mut watcher, &site, false)?.1;
        let appends = site.counts.appends;
        let checkpoint = site.oracle.checkpoint.clone();
        match rng.below(10) {
            0 => site.close()?,
            1 => site.kill()?,
            2 => site.settle(1 + rng.below(20))?,
            3 | 4 => site.reclaim([1, 16 * 1024, 1 << 20][rng.below(3) as usize])?,
            5 => site.append(2 + rng.below(8))?,
            _ => site.append(1)?,
        }
        let is_new = site.oracle.checkpoint != checkpoint;
        let (written, count) = follow(&mut watcher, &site, is_new)?;
        operations += count;
        if site.counts.appends > appends {
            watcher.answered(&written)?;
        }
        if !site.is_open() {
            // A new owner makes sure of what an earlier one has left.
            watcher = Watcher { ledger_is_synced: true, mark_is_synced: true, ..Watcher::default() };
        }
    }
    Ok(operations)
}

fn follow(watcher: &mut Watcher, site: &Site, is_new: bool) -> Check<(BTreeSet<u64>, u64)> {
    let trace = site.world.disk().take_trace();
    Ok((watcher.follow(&trace, is_new)?, trace.len() as u64))
}

#[test]
fn data_names_and_the_ledger_are_synced_before_anybody_relies_on_them() {
    let mut operations = 0;
    for seed in 1..=SEEDS {
        match run(seed, None) {
            Ok(count) => operations += count,
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    println!("{SEEDS} seeds, {operations} operations in order");
}

/// The operations of these kinds on segments, as the trace of one life has them.
fn life() -> Vec<(OperationKind, PathBuf)> {
    let options = WalOptions { segment_bytes: 32 * 1024, durability: Durability::Sync, spare_segments: 1 };
    let mut site = Site::new(1, options, None);
    site.world.disk().start_trace();
    site.open().unwrap();
    site.append(1).unwrap();
    site.settle(1).unwrap();
    site.reclaim(1).unwrap();
    let trace = site.world.disk().take_trace();
    trace.into_iter().map(|operation| (operation.kind, operation.path)).collect()
}

#[test]
fn a_life_shows_in_the_trace() {
    let life = life();
    let ledger = SimPlace::file(Path::new(DIR));
    let wrote = |path: &Path| {
        use OperationKind::{Write, WriteDurable};
        life.iter().any(|(kind, at)| matches!(kind, Write | WriteDurable) && at == path)
    };
    assert!(wrote(&ledger), "the watcher would see nothing of the ledger");
    // It is written into a new file first, which is called so in the trace for as long as it is open.
    assert!(wrote(&SimPlace::mark(Path::new(DIR)).with_extension("mark.new")), "nor of its mark");
    assert!(life.iter().any(|(_, path)| is_segment(path) && wrote(path)), "nor of the segments");
}
