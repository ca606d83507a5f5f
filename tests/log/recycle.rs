//! Files of settled segments become segments again: what they held before is never taken for a frame, and the
//! disk holds no more of them than was asked for.

use std::{collections::BTreeSet, os::unix::fs::MetadataExt, path::Path};

use arrow_zerobus_sdk_wrapper::{
    io::Env,
    types::Lsn,
    wal::{DamageReason, Durability, LogView, Next, Wal, WalOptions},
};

use crate::support::*;

fn recycling() -> WalOptions {
    WalOptions { spare_segments: 2, ..options(Durability::Sync) }
}

fn open_recycling(dir: &Path) -> Wal {
    open_with(&Env::os(), dir, recycling(), 0).0
}

fn names(dir: &Path, prefix: &str) -> Vec<String> {
    let names =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

/// A log that has gone through its files a few times, with the frames from the given one on unsettled.
fn recycled(dir: &Path, appended: i64, settled: u64) -> (Wal, BTreeSet<u64>) {
    let wal = open_recycling(dir);
    let mut files = BTreeSet::new();
    for first in (1..appended).step_by(10) {
        append(&wal, first..=first + 9);
        wal.reclaim(Lsn::new(settled.min(first as u64 + 5)), u64::MAX).unwrap();
        files.extend(segments(dir).iter().map(|path| path.metadata().unwrap().ino()));
    }
    (wal, files)
}

#[test]
fn a_log_that_is_drained_as_it_is_filled_goes_round_in_a_few_files() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, files) = recycled(dir.path(), 1000, u64::MAX);
    assert!(wal.segments() <= 3 && files.len() <= 5, "{} files", files.len());
    let holds = wal.first().unwrap().get() as i64..=1000;
    assert_holds(&wal, holds.clone());
    let (_copy, after, recovery) = open_copy(dir.path());
    assert_eq!((recovery.damage, recovery.torn_bytes), (vec![], 0));
    assert_holds(&after, holds);
}

#[test]
fn frames_of_a_files_earlier_life_are_never_read_wherever_the_next_one_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = recycled(dir.path(), 200, u64::MAX);
    for number in 201..=260 {
        append(&wal, number..=number);
        wal.reclaim(Lsn::new(number as u64 - 3), u64::MAX).unwrap();
        let first = wal.first().unwrap().get() as i64;
        for env in [Env::os(), quick()] {
            let copy = copy(dir.path());
            let view = LogView::read(&env, copy.path()).unwrap();
            assert_eq!((view.last().get(), view.damage(), view.torn_bytes()), (number as u64, &[][..], 0));
            let (after, recovery) = open_with(&env, copy.path(), options(Durability::Sync), 0);
            assert_eq!(
                (recovery.last.get(), recovery.damage, recovery.torn_bytes),
                (number as u64, vec![], 0)
            );
            assert_holds(&after, first..=number);
        }
    }
}

#[test]
fn spares_are_gone_when_the_log_is_closed_and_what_a_crash_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = recycled(dir.path(), 300, u64::MAX);
    wal.reclaim(Lsn::new(300), 1).unwrap();
    assert!(!names(dir.path(), "spare-").is_empty());
    let crashed = copy(dir.path());
    assert_eq!(names(crashed.path(), "spare-"), names(dir.path(), "spare-"));
    wal.close();
    assert_eq!(names(dir.path(), "spare-"), [""; 0]);
    let wal = open_recycling(crashed.path());
    assert_eq!(names(crashed.path(), "spare-"), [""; 0]);
    append(&wal, 301..=303);
    assert_holds(&wal, 301..=303);
}

#[test]
fn spares_count_as_bytes_of_the_log_and_are_given_up_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = recycled(dir.path(), 300, u64::MAX);
    wal.reclaim(Lsn::new(300), 1).unwrap();
    let (with, spares) = (wal.bytes(), names(dir.path(), "spare-").len() as u64);
    assert_eq!(wal.give_up_spares(), spares * SEGMENT_BYTES);
    assert_eq!((wal.bytes(), names(dir.path(), "spare-").len()), (with - spares * SEGMENT_BYTES, 0));
    append(&wal, 301..=340);
    assert_holds(&wal, 301..=340);
}

#[test]
fn a_crash_between_the_name_and_the_header_of_a_recycled_file_leaves_an_empty_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = recycled(dir.path(), 300, u64::MAX);
    wal.reclaim(Lsn::new(296), u64::MAX).unwrap();
    let first = wal.first().unwrap().get() as i64;
    let crashed = copy(dir.path());
    let spare = crashed.path().join(&names(crashed.path(), "spare-")[0]);
    let newest = segments(crashed.path()).pop().unwrap();
    let newest: u64 = newest.file_stem().unwrap().to_str().unwrap()["segment-".len()..].parse().unwrap();
    let segment = crashed.path().join(format!("segment-{:016}.wal", newest + 1));
    std::fs::rename(spare, &segment).unwrap();
    let (wal, recovery) = open_with(&Env::os(), crashed.path(), recycling(), 0);
    assert_eq!((recovery.last, recovery.damage, recovery.torn_bytes), (Lsn::new(300), vec![], 0));
    assert_eq!(segment.metadata().unwrap().len(), 4096, "it gives its space back");
    append(&wal, 301..=310);
    assert_holds(&wal, first..=310);
}

#[test]
fn a_reader_whose_segment_becomes_another_one_reports_its_frames_as_missing_and_reads_on() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open_recycling(dir.path());
    append(&wal, 1..=100);
    let mut reader = wal.reader(Lsn::FIRST);
    let Some(Next::Frame(first)) = reader.next().unwrap() else { panic!("no frame") };
    assert_eq!(first.decode().unwrap(), batch(1, 10));
    wal.reclaim(Lsn::new(100), u64::MAX).unwrap();
    append(&wal, 101..=200);
    let (batches, damage) = read_all(&mut reader);
    assert!(damage.iter().all(|damage| damage.reason == DamageReason::Missing), "{damage:?}");
    let reported = damage.iter().filter_map(|damage| damage.lsns.clone());
    let missing: BTreeSet<u64> = reported.flat_map(|lsns| lsns.start().get()..=lsns.end().get()).collect();
    for number in 2..=200 {
        let expected = (!missing.contains(&number)).then(|| batch(number as i64, 10));
        assert_eq!(batches.get(&number), expected.as_ref(), "{number}");
    }
    assert!(missing.iter().all(|number| *number <= 100), "{missing:?}");
}

#[test]
fn without_direct_writes_the_log_is_the_same() {
    // Files in memory; where the system refuses direct writes to them, buffered ones are taken.
    let dir = memory_dir();
    let (wal, _) = recycled(dir.path(), 300, 250);
    let first = wal.first().unwrap().get() as i64;
    assert!(first <= 251);
    assert_holds(&wal, first..=300);
}
