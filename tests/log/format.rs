//! The bytes on disk: logs of each version of the format are read for ever, and whatever stands behind, between or
//! in the place of segments is told from them.

use std::path::{Path, PathBuf};

use arrow_zerobus_sdk_wrapper::{
    io::Env,
    types::Lsn,
    wal::{DamageReason, Durability, LogView, WalOptions},
};

use crate::support::*;

/// Each version of the format that was ever released, and what its directory holds.
const GOLDEN: [(&str, std::ops::RangeInclusive<i64>); 1] = [("format-1", 21..=60)];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Sealed segments, one that went through an earlier life, and one that was never sealed. The test of reading
/// them makes them when it is run with `GOLDEN=write`, for a new version of the format.
fn write_golden(target: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions { segment_bytes: 48 * 1024, durability: Durability::Sync, spare_segments: 1 };
    let (wal, _) = open_with(&Env::os(), dir.path(), options, 0);
    append(&wal, 1..=20);
    wal.reclaim(Lsn::new(20), 1).unwrap();
    append(&wal, 21..=60);
    std::fs::create_dir_all(target).unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some() || path.ends_with("LOG") {
            std::fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn logs_of_every_version_are_read() {
    for (name, numbers) in GOLDEN {
        let golden = fixtures().join(name);
        if std::env::var("GOLDEN").is_ok_and(|value| value == "write") && !golden.exists() {
            write_golden(&golden);
        }
        let (first, last) = (*numbers.start(), *numbers.end());
        let view = LogView::read(&Env::os(), &golden).unwrap();
        assert_eq!(
            (view.damage(), view.torn_bytes(), view.last()),
            (&[][..], 0, Lsn::new(last as u64)),
            "{name}"
        );
        assert_eq!(view.destination(), Some(&destination()));
        let (_copy, wal, recovery) = open_copy(&golden);
        assert_eq!((recovery.damage, recovery.first), (vec![], Some(Lsn::new(first as u64))), "{name}");
        assert_holds(&wal, numbers.clone());
        append(&wal, last + 1..=last + 30);
        assert_holds(&wal, first..=last + 30);
    }
}

#[test]
fn whatever_the_tail_is_filled_with_is_no_frame() {
    for fill in [0x00, 0xff, b'Z'] {
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = open(dir.path());
        append(&wal, 1..=7);
        let copy = copy(dir.path());
        let path = segments(copy.path()).remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(4096);
        bytes[used..].fill(fill);
        std::fs::write(&path, &bytes).unwrap();
        let (wal, recovery) = open(copy.path());
        assert_eq!((recovery.last, recovery.damage, recovery.torn_bytes), (Lsn::new(7), vec![], 0), "{fill}");
        append(&wal, 8..=9);
        assert_holds(&wal, 1..=9);
    }
}

/// A log of three sealed segments and their contents.
fn three_segments() -> (tempfile::TempDir, Vec<PathBuf>, u64) {
    let dir = memory_dir();
    let (wal, _) = open(dir.path());
    let mut last = 0;
    while segments(dir.path()).len() < 3 || last % 30 < 5 {
        last += 1;
        append(&wal, last..=last);
    }
    wal.close();
    let paths = segments(dir.path());
    assert_eq!(paths.len(), 3);
    (dir, paths, last as u64)
}

#[test]
fn two_segments_that_changed_places_are_foreign_and_their_frames_missing() {
    let (dir, paths, last) = three_segments();
    let aside = dir.path().join("aside");
    std::fs::rename(&paths[0], &aside).unwrap();
    std::fs::rename(&paths[1], &paths[0]).unwrap();
    std::fs::rename(&aside, &paths[1]).unwrap();
    let (wal, recovery) = open(dir.path());
    assert_eq!(recovery.last, Lsn::new(last));
    let reasons: Vec<DamageReason> = recovery.damage.iter().map(|damage| damage.reason).collect();
    assert_eq!(reasons, [DamageReason::Foreign; 2]);
    let (batches, damage) = read_all(&mut wal.reader(Lsn::FIRST));
    let missing = damage[0].lsns.clone().unwrap();
    assert_eq!((damage.len(), damage[0].reason, missing.start().get()), (1, DamageReason::Missing, 1));
    assert_eq!(batches.len() as u64, last - missing.end().get());
    // Put back, they are what they were.
    wal.close();
    std::fs::rename(&paths[0], &aside).unwrap();
    std::fs::rename(&paths[1], &paths[0]).unwrap();
    std::fs::rename(&aside, &paths[1]).unwrap();
    let (wal, recovery) = open(dir.path());
    assert_eq!(recovery.damage, []);
    assert_holds(&wal, 1..=last as i64);
}

#[test]
fn a_copy_of_a_segment_under_another_number_is_foreign_and_adds_nothing() {
    let (dir, paths, last) = three_segments();
    std::fs::copy(&paths[0], dir.path().join("segment-0000000000000009.wal")).unwrap();
    let (wal, recovery) = open(dir.path());
    assert_eq!((recovery.last, recovery.frames), (Lsn::new(last), last));
    assert_eq!((recovery.damage.len(), recovery.damage[0].reason), (1, DamageReason::Foreign));
    append(&wal, last as i64 + 1..=last as i64 + 3);
    assert_holds(&wal, 1..=last as i64 + 3);
}

#[test]
fn a_sealed_segment_that_is_cut_anywhere_gives_the_frames_before_and_names_the_others() {
    let (dir, paths, last) = three_segments();
    let whole = std::fs::read(&paths[1]).unwrap();
    for length in (0..whole.len()).step_by(509) {
        std::fs::write(&paths[1], &whole[..length]).unwrap();
        let (wal, recovery) = open_with(&quick(), dir.path(), options(Durability::Sync), 0);
        assert_eq!(recovery.last, Lsn::new(last), "cut at {length}");
        let (batches, damage) = read_all(&mut wal.reader(Lsn::FIRST));
        let reported = damage.iter().filter_map(|damage| damage.lsns.clone());
        let lost: u64 = reported.map(|lsns| lsns.end().get() - lsns.start().get() + 1).sum();
        assert_eq!(batches.len() as u64 + lost, last, "cut at {length}: {damage:?}");
        assert!(lost == 0 || !recovery.damage.is_empty(), "cut at {length}");
        assert!(batches.iter().all(|(number, found)| *found == batch(*number as i64, 10)));
        drop(wal);
    }
}
