//! How frames are read: past the page cache or through it, ahead of their reader, with a disk that fails.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::Ordering::SeqCst,
    time::Duration,
};

use arrow_array::RecordBatch;
use arrow_zerobus_sdk_wrapper::{
    io::Env,
    types::Lsn,
    wal::{Durability, LogReader, Next, PreparedFrame, Wal, WalOptions},
};

use crate::support::*;

/// A log with a frame of each of these lengths.
fn log_of(
    env: &Env,
    dir: &Path,
    durability: Durability,
    sizes: &[usize],
) -> (Wal, BTreeMap<u64, RecordBatch>) {
    let longest = sizes.iter().max().copied().unwrap_or_default() as u64;
    let options = WalOptions { segment_bytes: (8 << 20).max(4 * longest), ..options(durability) };
    let (wal, _) = open_with(env, dir, options, 0);
    let batches = sizes.iter().enumerate().map(|(number, bytes)| blob(number, *bytes));
    let batches: BTreeMap<u64, RecordBatch> = (1..).zip(batches).collect();
    for batch in batches.values() {
        wal.append(PreparedFrame::new(batch).unwrap()).wait().unwrap();
    }
    wait_until("the last sync", || wal.durable().get() == sizes.len() as u64);
    (wal, batches)
}

#[test]
fn long_frames_pass_the_page_cache_by_if_the_reader_wants_that_and_they_were_written_so() {
    let sizes = [3_000_000, 2_900_000, 100, 3_500_000, 40_000, 2_999_999];
    let (synced, interval) = (Durability::Sync, Durability::Interval(Duration::from_millis(1)));
    for (durability, is_uncached) in [(synced, true), (synced, false), (interval, true)] {
        let dir = tempfile::tempdir().unwrap();
        let (env, state) = faulty();
        let (wal, batches) = log_of(&env, dir.path(), durability, &sizes);
        let reader = wal.reader(Lsn::FIRST);
        let mut reader = if is_uncached { reader.uncached() } else { reader };
        let (before, before_direct) = (state.bytes_read.load(SeqCst), state.bytes_read_direct.load(SeqCst));
        let (read, damage) = read_all(&mut reader);
        let bytes = state.bytes_read.load(SeqCst) - before;
        let direct = state.bytes_read_direct.load(SeqCst) - before_direct;
        assert_eq!(damage, []);
        assert_eq!(read, batches);
        match is_uncached && durability == Durability::Sync {
            true => assert!(direct * 100 > bytes * 95, "{direct} of {bytes}"),
            false => assert_eq!(direct, 0, "of {bytes}"),
        }
        assert!(bytes < 16_000_000, "nothing is read many times: {bytes}");
    }
}

/// Long frames in a row, with shorter and longer ones between them.
const MIXED: [usize; 16] = [
    700_000, 700_000, 700_001, 700_000, 100, 900_001, 2_500_000, 40_000, 600_000, 600_000, 3_000_000,
    650_000, 1, 800_000, 800_000, 30,
];

#[test]
fn long_frames_are_read_while_their_reader_has_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let (env, state) = faulty();
    let (wal, batches) = log_of(&env, dir.path(), Durability::Sync, &MIXED);
    let before = state.bytes_read.load(SeqCst);
    let (read, damage) = read_all(&mut wal.reader(Lsn::FIRST).uncached());
    assert_eq!((read, damage), (batches, vec![]));
    let (bytes, ahead) = (state.bytes_read.load(SeqCst) - before, state.bytes_read_ahead.load(SeqCst));
    assert!(ahead * 2 > bytes, "{ahead} of {bytes}");
    assert!(bytes < 18_000_000, "nothing is read many times: {bytes}");
}

#[test]
fn a_frame_of_which_two_are_too_much_memory_is_read_when_it_is_wanted_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let (env, state) = faulty();
    let sizes = [3_000_000, 2_900_000, 3_000_000, 17_500_000, 3_000_000];
    let (wal, batches) = log_of(&env, dir.path(), Durability::Sync, &sizes);
    let before = state.bytes_read.load(SeqCst);
    let (read, damage) = read_all(&mut wal.reader(Lsn::FIRST).uncached());
    assert_eq!((read, damage), (batches, vec![]));
    let (bytes, ahead) = (state.bytes_read.load(SeqCst) - before, state.bytes_read_ahead.load(SeqCst));
    assert!(ahead < 12_000_000, "only the shorter ones are read ahead: {ahead}");
    assert!(bytes < 40_000_000, "{bytes} for 29.4 MB");
}

#[test]
fn a_read_that_fails_is_told_or_repeated_and_no_frame_is_lost_or_comes_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (env, state) = faulty();
    let (wal, batches) = log_of(&env, dir.path(), Durability::Sync, &MIXED);
    let (mut told, mut repeated) = (0, 0);
    for after in 0.. {
        let failures = state.failures().len();
        state.fail_after(after, Call::Read, EIO, 1);
        let (read, errors) = read_on(&mut wal.reader(Lsn::FIRST).uncached());
        state.heal();
        assert_eq!(read, batches);
        if state.failures().len() == failures {
            break;
        }
        told += errors;
        repeated += 1 - errors;
    }
    assert!(told > 0 && repeated > 0, "{told} errors were told, {repeated} reads were repeated");
}

/// All frames, and how often the reader failed on the way.
fn read_on(reader: &mut LogReader) -> (BTreeMap<u64, RecordBatch>, u64) {
    let (mut batches, mut errors) = (BTreeMap::new(), 0);
    loop {
        match reader.next() {
            Ok(Some(Next::Frame(frame))) => {
                let again = batches.insert(frame.lsn.get(), frame.decode().unwrap());
                assert!(again.is_none(), "frame {} came twice", frame.lsn);
            }
            Ok(Some(Next::Damaged(damage))) => panic!("{damage}"),
            Ok(None) => return (batches, errors),
            Err(_) => errors += 1,
        }
    }
}

#[test]
fn a_reader_follows_long_frames_as_they_come_and_keeps_no_file_open() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, mut batches) = log_of(&Env::os(), dir.path(), Durability::Sync, &MIXED[..4]);
    let mut reader = wal.reader(Lsn::FIRST).uncached();
    for round in 0..6 {
        let (read, damage) = read_all(&mut reader);
        assert_eq!((read, damage), (std::mem::take(&mut batches), vec![]));
        wal.reclaim(wal.durable(), 0).unwrap();
        assert_eq!(open_and_deleted(dir.path()), Vec::<PathBuf>::new(), "round {round}");
        for number in 0..=round {
            let batch = blob(number, 700_000 + 1000 * round);
            let appended = wal.append(PreparedFrame::new(&batch).unwrap()).wait().unwrap();
            batches.insert(appended.lsn.get(), batch);
        }
    }
}
