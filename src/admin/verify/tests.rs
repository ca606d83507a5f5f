//! Whatever is wrong with a log is found, named and explained; and a log that is looked at stays as it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::Progress;
use super::super::inspect::{PieceReport, Run, inspect_segment};
use super::super::testing::{
    append, copy_of, dead_log, delivered, flip, memory_dir, open, segments, settle, tree,
};
use super::{Finding, FindingKind, Severity, VerifyError, VerifyReport, verify};
use crate::ledger::{LedgerRecord, Ranges, Settled, SettledRange};
use crate::types::Lsn;

fn verified(directory: &Path) -> VerifyReport {
    verify(directory, &Progress::new()).unwrap()
}

/// What is wrong with it, without what is only to be known.
fn wrong(directory: &Path) -> Vec<(FindingKind, Option<Run>)> {
    let report = verified(directory);
    let errors: Vec<&Finding> = report.findings.iter().filter(|it| it.severity == Severity::Error).collect();
    assert_eq!(report.is_sound, errors.is_empty());
    assert!(report.findings.iter().all(|it| !it.text.is_empty() && !it.advice.is_empty()));
    errors.iter().map(|finding| (finding.kind, finding.lsns)).collect()
}

fn run(first: u64, last: u64) -> Option<Run> {
    Some(Run { first, last })
}

fn batches(segment: &Path) -> Vec<(u64, u64, u64)> {
    let pieces = inspect_segment(segment).unwrap().pieces;
    let batches = pieces.iter().filter_map(|piece| match piece {
        PieceReport::Batch { lsn, offset, bytes, .. } => Some((lsn.get(), *offset, *bytes)),
        _ => None,
    });
    batches.collect()
}

#[test]
fn a_sound_log_has_nothing_to_say_and_all_of_it_was_read() {
    let log = dead_log();
    let progress = Progress::new();
    let report = verify(log.path(), &progress).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.frames, report.rows, report.last_lsn), (120, 1200, Lsn::new(120)));
    assert_eq!((report.settled_lsn, report.segments), (Lsn::new(25), segments(log.path()).len()));
    assert!(progress.done() > report.bytes / 2 && progress.done() <= progress.total().unwrap());
}

#[test]
fn a_log_that_is_verified_stays_as_it_is_even_where_nothing_may_be_written() {
    let log = dead_log();
    flip(&segments(log.path())[0], 5000);
    for path in tree(log.path()).into_keys() {
        let mode = if path.is_dir() { 0o500 } else { 0o400 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    let before = tree(log.path());
    assert!(!verified(log.path()).is_sound);
    assert_eq!(tree(log.path()), before);
    for path in before.into_keys().filter(|path| path.is_dir()) {
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn one_wrong_byte_anywhere_in_a_batch_is_told_with_the_frame_and_no_other() {
    let whole = dead_log();
    let mut damaged = 0;
    let paths = segments(whole.path());
    for segment in [0, paths.len() / 2, paths.len() - 1] {
        let found = batches(&paths[segment]);
        let picked = [0, 1, found.len() / 2, found.len() - 1];
        for (lsn, offset, bytes) in picked.map(|at| found[at]) {
            // Magic, length, number, checksum, the body at its beginning and its end.
            for inside in [0, 9, 17, 77, 90, bytes - 1] {
                let log = copy_of(whole.path());
                flip(&segments(log.path())[segment], offset + inside);
                let wrong = wrong(log.path());
                assert_eq!(wrong.len(), 1, "byte {inside} of frame {lsn}: {wrong:?}");
                assert_eq!(wrong[0].1, run(lsn, lsn), "byte {inside} of frame {lsn}: {wrong:?}");
                damaged += 1;
            }
        }
    }
    assert!(damaged >= 48, "{damaged}");
}

#[test]
fn header_footer_and_schema_of_a_segment_are_checked_too() {
    let whole = dead_log();
    let told = |offset: fn(&Path) -> u64| {
        let log = copy_of(whole.path());
        let first = &segments(log.path())[0];
        flip(first, offset(first));
        wrong(log.path())
    };
    assert_eq!(told(|_| 100), [(FindingKind::SegmentHeader, None)]);
    assert_eq!(told(|_| 4096 + 100), [(FindingKind::Body, None)], "other segments have the schema");
    let last_block = |path: &Path| fs::metadata(path).unwrap().len() - 4096;
    let footer = {
        let log = dead_log();
        let first = &segments(log.path())[0];
        flip(first, last_block(first) + 100);
        verified(log.path())
    };
    assert!(footer.is_sound && footer.frames == 120, "a footer that is lost costs a scan and no frame");
    assert_eq!(footer.findings.iter().map(|it| it.kind).collect::<Vec<_>>(), [FindingKind::TornTail]);
}

#[test]
fn a_schema_that_no_segment_has_any_more_takes_its_batches_along() {
    let log = dead_log();
    for path in segments(log.path()) {
        flip(&path, 4096 + 100);
    }
    let wrong = wrong(log.path());
    let schemas: Vec<_> = wrong.iter().filter(|(kind, _)| *kind == FindingKind::Schema).collect();
    let told: u64 = schemas.iter().filter_map(|(_, lsns)| lsns.map(|lsns| lsns.last - lsns.first + 1)).sum();
    assert_eq!(told, 120, "{wrong:?}");
}

#[test]
fn a_segment_that_is_gone_is_named_with_its_frames_whether_they_were_settled_or_not() {
    let whole = dead_log();
    let log = copy_of(whole.path());
    let paths = segments(log.path());
    let unsettled = paths.iter().position(|path| batches(path)[0].0 > 25).unwrap();
    let gone = batches(&paths[unsettled]);
    let (first, last) = (gone[0].0, gone.last().unwrap().0);
    fs::remove_file(&paths[unsettled]).unwrap();
    assert_eq!(wrong(log.path()), [(FindingKind::Missing, run(first, last))]);
    let report = verified(log.path());
    assert_eq!(report.findings[0].segment.as_deref(), Some(&*paths[unsettled]));

    paths[..unsettled].iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_eq!(wrong(log.path()), [(FindingKind::Reclaimed, run(26, last))]);

    let settled = copy_of(whole.path());
    fs::remove_file(&segments(settled.path())[0]).unwrap();
    assert_eq!(verified(settled.path()).findings, [], "that is what reclaim does");
}

#[test]
fn a_segment_of_another_log_and_one_with_anothers_name_are_told() {
    let (log, other) = (dead_log(), dead_log());
    let next = log.path().join("segment-0000000000000999.wal");
    fs::copy(&segments(other.path())[0], &next).unwrap();
    assert_eq!(wrong(log.path()), [(FindingKind::Foreign, None)]);
    fs::copy(&segments(log.path())[0], &next).unwrap();
    assert_eq!(wrong(log.path()), [(FindingKind::Foreign, None)]);
}

#[test]
fn a_ledger_that_does_not_go_with_the_log_is_told() {
    let whole = dead_log();
    let told = |record: &LedgerRecord, ranges: &Ranges| {
        let log = copy_of(whole.path());
        settle(log.path(), record, ranges);
        let findings = verified(log.path()).findings;
        findings.into_iter().map(|it| (it.kind, it.severity, it.lsns)).collect::<Vec<_>>()
    };
    let none = Ranges::default();
    assert_eq!(
        told(&delivered(130, 0), &none),
        [(FindingKind::LedgerAhead, Severity::Warning, run(121, 130))]
    );
    assert_eq!(
        told(&delivered(25, 11), &none),
        [(FindingKind::Settled, Severity::Error, run(26, 26))],
        "a frame of ten rows"
    );
    let miscounted = LedgerRecord { delivered_frames: 7, ..delivered(25, 0) };
    assert_eq!(told(&miscounted, &none), [(FindingKind::Conservation, Severity::Warning, None)]);

    let at = |through, rows_of_next| Settled { through: Lsn::new(through), rows_of_next };
    let stretch = |frames, rows| {
        let mut ranges = Ranges::default();
        let range = SettledRange { start: at(30, 4), end: at(32, 1), frames, rows, requests: 1 };
        ranges.settle(&mut at(25, 3), range);
        ranges
    };
    let ahead = |frames: u64| LedgerRecord { delivered_frames: 25 + frames, ..delivered(25, 3) };
    // Six rows of frame 31, ten of 32, one of 33.
    assert_eq!(told(&ahead(2), &stretch(2, 17)), []);
    assert_eq!(told(&ahead(2), &stretch(2, 18)), [(FindingKind::Settled, Severity::Error, run(31, 33))]);
}

#[test]
fn a_ledger_that_cannot_be_read_is_told_and_hides_nothing_else() {
    let log = dead_log();
    fs::write(log.path().join("ledger/db"), [7; 1024]).unwrap();
    fs::create_dir(log.path().join("ledger.set-aside-1")).unwrap();
    flip(&segments(log.path())[1], 5000);
    let kinds: Vec<FindingKind> = verified(log.path()).findings.into_iter().map(|it| it.kind).collect();
    assert!(kinds.contains(&FindingKind::LedgerSetAside), "{kinds:?}");
    assert!(
        kinds.iter().any(|kind| matches!(kind, FindingKind::Body | FindingKind::Overwritten)),
        "{kinds:?}"
    );
    let unreadable = |kind: &FindingKind| matches!(kind, FindingKind::Ledger | FindingKind::LedgerMissing);
    assert!(kinds.iter().any(unreadable) || !kinds.contains(&FindingKind::Reclaimed), "{kinds:?}");
}

#[test]
fn files_in_quarantine_that_are_not_whole_or_not_ours_are_told() {
    let log = dead_log();
    let quarantine = log.path().join("quarantine");
    fs::create_dir(&quarantine).unwrap();
    fs::write(quarantine.join("00000000000000000003-0000000000.arrow"), b"nothing of the kind").unwrap();
    fs::write(quarantine.join("notes.txt"), b"look at this one").unwrap();
    fs::write(quarantine.join("00000000000000000004-0000000000.arrow.new"), b"being written").unwrap();
    let found: Vec<_> = verified(log.path()).findings.into_iter().map(|it| (it.kind, it.severity)).collect();
    assert_eq!(
        found,
        [(FindingKind::Quarantine, Severity::Error), (FindingKind::Quarantine, Severity::Warning)]
    );
}

#[test]
fn what_somebody_appends_meanwhile_is_no_damage() {
    let directory = memory_dir();
    let wal = open(directory.path());
    append(&wal, 1..=10);
    settle(directory.path(), &LedgerRecord::default(), &Ranges::default());
    let stop = AtomicBool::new(false);
    let frames = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 11;
            while !stop.load(Ordering::Relaxed) {
                append(&wal, number..=number);
                number += 1;
            }
        });
        let mut frames = Vec::new();
        while frames.len() < 8 {
            let report = verified(directory.path());
            assert_eq!(report.findings, [], "after {} frames", report.frames);
            assert_eq!(report.owner_pid, Some(std::process::id()));
            frames.push(report.frames);
        }
        stop.store(true, Ordering::Relaxed);
        frames
    });
    assert!(frames.is_sorted() && frames[0] < *frames.last().unwrap(), "{frames:?}");
}

#[test]
fn damage_beside_a_live_owner_is_told_all_the_same() {
    let directory = memory_dir();
    let wal = open(directory.path());
    append(&wal, 1..=100);
    let first = &segments(directory.path())[0];
    let (lsn, offset, _) = batches(first)[3];
    flip(first, offset + 100);
    assert_eq!(wrong(directory.path()), [(FindingKind::Body, run(lsn, lsn))]);
    drop(wal);
}

#[test]
fn a_verification_can_be_broken_off() {
    let log = dead_log();
    let progress = Progress::new();
    progress.stop();
    let broken = verify(log.path(), &progress);
    assert!(matches!(broken, Err(VerifyError::BrokenOff)), "{broken:?}");
    assert_eq!(progress.done(), 4096, "it stood before the first frame");
}
