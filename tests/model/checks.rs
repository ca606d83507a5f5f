//! What is compared after each opening: the log as it is read against what the observer knows.

use std::collections::BTreeMap;

use arrow_zerobus_sdk_wrapper::{
    ledger::{LedgerRecord, Ranges, Settled},
    types::Lsn,
    wal::{Durability, LogReader, Next, ReadError, Recovery, Wal},
};

use crate::{
    batches,
    oracle::{Check, Oracle},
};

/// More attempts than this at a read that fails by chance are a failure that does not heal.
const ATTEMPTS_MAX: usize = 200;

/// What comes next, after as many attempts as chance needs.
pub(crate) fn next(reader: &mut LogReader) -> Check<Option<Next>> {
    let mut last: Option<ReadError> = None;
    for _ in 0..ATTEMPTS_MAX {
        match reader.next() {
            Ok(next) => return Ok(next),
            Err(error) => last = Some(error),
        }
    }
    Err(format!("R12: the log cannot be read: {last:?}"))
}

/// Compares a log that was just opened with what it must be, and tells the observer what it is.
pub(crate) fn opened(
    oracle: &mut Oracle,
    wal: &Wal,
    recovery: &Recovery,
    stored: &(LedgerRecord, Ranges),
    (record, ranges): &(LedgerRecord, Ranges),
    durability: Durability,
) -> Check {
    ledger(oracle, recovery, stored)?;
    let (stored, _) = stored;
    let reports_before = oracle.damage_reports;
    let through = record.settled.through.get();
    let last = recovery.last.get();
    if wal.durable() != recovery.last {
        return Err(format!("I1: {last} was recovered, {} is durable", wal.durable()));
    }
    recovery.damage.iter().try_for_each(|damage| match &damage.lsns {
        // What is settled may be damaged as it likes.
        Some(lsns) if *lsns.end() <= stored.settled.highest() => Ok(()),
        _ => oracle.damaged(damage, durability),
    })?;
    if stored.settled == Settled::default() {
        oracle.ledger_knows_nothing(through);
    }
    oracle.given_up(stored.settled.through.get(), through);
    let found = read(oracle, wal, through, last, durability)?;
    let count = wal.count_from(Lsn::new(through + 1)).map_err(|error| format!("R12: {error:?}"))?;
    let rows = oracle.rows(&found);
    // Frames that a footer or a header tells of are counted, and perhaps cannot be read.
    let is_whole = oracle.damage_reports == reports_before;
    if is_whole && (count.frames, count.rows) != (found.len() as u64, rows) {
        return Err(format!("I6: {count:?} was counted, {} frames with {rows} rows were read", found.len()));
    }
    // [I6] What is settled above the watermark does not wait.
    let ahead: BTreeMap<u64, u64> = found
        .iter()
        .map(|(lsn, batch)| (*lsn, *batch))
        .filter(|it| ranges.has_frame(Lsn::new(it.0)))
        .collect();
    let is_counted = (ranges.frames(), ranges.rows()) == (ahead.len() as u64, oracle.rows(&ahead));
    if oracle.damage_reports == 0 && !oracle.ledger_forged && !is_counted {
        return Err(format!("I6: {ranges:?} is settled, of it {ahead:?} was read"));
    }
    oracle.reopened(through, last, &found)
}

/// What a checkpoint made durable is there, and no number that the ledger knows is given again.
fn ledger(oracle: &Oracle, recovery: &Recovery, (stored, stored_ranges): &(LedgerRecord, Ranges)) -> Check {
    if recovery.last < stored.settled.highest().max(stored_ranges.highest()) {
        return Err(format!("R10: the log ends with {}, the ledger knows {stored:?}", recovery.last));
    }
    let places = |ranges: &Ranges| ranges.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>();
    match &oracle.checkpoint {
        Some((checkpoint, _)) if stored.settled < checkpoint.settled && !oracle.disk_lies => {
            Err(format!("I5: {checkpoint:?} was made durable, the ledger says {stored:?}"))
        }
        Some((checkpoint, ranges))
            if stored.settled == checkpoint.settled
                && places(stored_ranges) != places(ranges)
                && !oracle.disk_lies =>
        {
            Err(format!("I5: {ranges:?} was made durable, the ledger says {stored_ranges:?}"))
        }
        _ => Ok(()),
    }
}

/// Reads everything that is not settled: each number once, as a frame or in a report.
fn read(
    oracle: &mut Oracle,
    wal: &Wal,
    through: u64,
    last: u64,
    durability: Durability,
) -> Check<BTreeMap<u64, u64>> {
    let mut found = BTreeMap::new();
    let mut expected = through + 1;
    let mut reader = wal.reader(Lsn::new(expected));
    while let Some(next) = next(&mut reader)? {
        let (first, end) = match &next {
            Next::Frame(frame) => (frame.lsn.get(), frame.lsn.get()),
            Next::Damaged(damage) => match &damage.lsns {
                Some(lsns) => (lsns.start().get(), lsns.end().get()),
                None => (expected, expected - 1),
            },
        };
        if first != expected {
            return Err(format!("R3: {expected} was to come, this came: {next:?}"));
        }
        expected = end + 1;
        match next {
            Next::Frame(frame) => {
                let batch = batches::number_of(&frame)?;
                if u64::from(frame.rows) != batches::rows(batch) {
                    return Err(format!("R2: frame {first} says that it has {} rows", frame.rows));
                }
                oracle.read(first, batch, true)?;
                found.insert(first, batch);
            }
            Next::Damaged(damage) => oracle.damaged(&damage, durability)?,
        }
    }
    if expected != last.max(through) + 1 {
        return Err(format!("R3: the log ends with {last}, the reader with {}", expected - 1));
    }
    Ok(found)
}
