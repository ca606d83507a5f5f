//! What damaged, foreign, missing and hostile files do to a log: they are found, named and stepped
//! over; whatever else is there is read; nothing is deleted.

use std::path::Path;

use arrow_array::RecordBatch;
use arrow_zerobus_sdk_wrapper::{
    error::{Coded, ErrorCode},
    io::Env,
    types::Lsn,
    wal::{Damage, DamageReason, Durability, Known, LogDirectory, LogView, OpenError, Wal},
};

use crate::support::*;

/// A log of small frames in one segment, with and without its seal.
fn one_segment(frames: i64, sealed: bool) -> tempfile::TempDir {
    let dir = memory_dir();
    let (wal, _) = open(dir.path());
    append(&wal, 1..=frames);
    if sealed {
        wal.close();
        return dir;
    }
    copy(dir.path())
}

/// Where the frames of a segment begin.
fn frame_starts(bytes: &[u8]) -> Vec<usize> {
    (4096..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"ZBfr")).collect()
}

fn change(dir: &Path, segment: usize, change: impl FnOnce(&mut Vec<u8>)) {
    let path = segments(dir).remove(segment);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, &bytes).unwrap();
}

/// Reads a log whose frames are `batch(lsn, 10)`: what comes is equal, and what does not come is in
/// the damage.
fn read_and_check(wal: &Wal, last: u64) -> (Vec<u64>, Vec<Damage>) {
    let (batches, damage) = read_all(&mut wal.reader(Lsn::FIRST));
    let reported: Vec<u64> = damage
        .iter()
        .filter_map(|damage| damage.lsns.clone())
        .flat_map(|lsns| lsns.start().get()..=lsns.end().get())
        .collect();
    for (lsn, found) in &batches {
        assert_eq!(found, &batch(*lsn as i64, 10), "frame {lsn} is another");
    }
    let mut all: Vec<u64> = batches.keys().copied().chain(reported).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=last).collect::<Vec<u64>>(), "each number once");
    (batches.into_keys().collect(), damage)
}

#[test]
fn every_single_bit_that_flips_is_found_or_harmless() {
    for sealed in [true, false] {
        let dir = one_segment(2, sealed);
        let path = segments(dir.path()).remove(0);
        let original = std::fs::read(&path).unwrap();
        let used = original.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        // Each bit of what says something, and some of the zeros between; `FLIPS=all` takes them all.
        let all = std::env::var("FLIPS").is_ok_and(|value| value == "all");
        let says_something = |byte: usize| original[byte.saturating_sub(1)..(byte + 2).min(used)] != [0; 3];
        for bit in (0..used * 8).filter(|bit| all || says_something(bit / 8) || bit % 41 == 0) {
            let mut bytes = original.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            let view = LogView::read(&Env::os(), dir.path()).unwrap();
            let (wal, recovery) = open_with(&quick(), dir.path(), options(Durability::Sync), 0);
            assert_eq!(recovery.damage, view.damage());
            let (read, damage) = read_and_check(&wal, recovery.last.get());
            let noticed = !damage.is_empty() || !recovery.damage.is_empty() || recovery.torn_bytes > 0;
            assert!(read == [1, 2] || noticed, "bit {bit} took a frame without a trace: {read:?}");
            let in_header = bit < 4096 * 8;
            assert!(!in_header || (read == [1, 2] && noticed), "bit {bit} of the header");
            drop(wal);
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn zeros_in_the_middle_are_damage_and_the_frames_behind_them_are_read() {
    for sealed in [true, false] {
        let dir = one_segment(20, sealed);
        change(dir.path(), 0, |bytes| {
            let starts = frame_starts(bytes);
            bytes[starts[5] + 8..starts[8]].fill(0);
        });
        let (wal, recovery) = open(dir.path());
        assert_eq!(recovery.last, Lsn::new(20));
        let (read, damage) = read_and_check(&wal, 20);
        assert_eq!((read.len(), damage.len()), (17, 1));
        assert_eq!(damage[0].lsns, Some(Lsn::new(5)..=Lsn::new(7)));
        assert_eq!(damage[0].segment, segments(dir.path())[0]);
        assert_eq!(damage[0].reason, DamageReason::Overwritten);
        assert_eq!(recovery.damage, if sealed { vec![] } else { damage });
        append(&wal, 21..=25);
        assert_eq!(read_and_check(&wal, 25).0.len(), 22);
    }
    let dir = one_segment(20, false);
    change(dir.path(), 0, |bytes| {
        let starts = frame_starts(bytes);
        bytes[starts[5]..starts[8]].fill(0);
    });
    assert_eq!(open(dir.path()).1.damage[0].reason, DamageReason::Zeros);
}

#[test]
fn a_length_of_four_gigabytes_allocates_nothing_and_hides_nothing() {
    let dir = one_segment(20, false);
    change(dir.path(), 0, |bytes| {
        let at = frame_starts(bytes)[10];
        bytes[at + 8..at + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        // Even with a checksum that matches.
        let crc = crc32fast::hash(&bytes[at..at + 76]);
        bytes[at + 76..at + 80].copy_from_slice(&crc.to_le_bytes());
    });
    let (wal, _) = open(dir.path());
    let (read, damage) = read_and_check(&wal, 20);
    assert_eq!((read.len(), damage.len()), (19, 1));
}

#[test]
fn a_batch_that_holds_the_bytes_of_a_segment_is_not_taken_for_frames() {
    let dir = one_segment(5, false);
    let inner = std::fs::read(segments(dir.path()).remove(0)).unwrap();
    let (wal, _) = open(dir.path());
    let nested = RecordBatch::try_from_iter([(
        "bytes",
        std::sync::Arc::new(arrow_array::BinaryArray::from(vec![&inner[..8192]])) as arrow_array::ArrayRef,
    )])
    .unwrap();
    let nested = arrow_zerobus_sdk_wrapper::wal::PreparedFrame::new(&nested).unwrap();
    wal.append(nested).wait().unwrap();
    wal.append(frame(7, 10)).wait().unwrap();
    let after = copy(dir.path());
    let last = segments(after.path()).len() - 1;
    change(after.path(), last, |bytes| {
        let at = frame_starts(bytes)[1];
        bytes[at + 20] ^= 1;
    });
    let (wal, _) = open(after.path());
    let (read, damage) = read_all(&mut wal.reader(Lsn::FIRST));
    assert_eq!(read.into_keys().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 7]);
    assert_eq!(damage[0].lsns, Some(Lsn::new(6)..=Lsn::new(6)));
}

#[test]
fn a_lost_schema_is_found_in_another_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1..=200);
    wal.close();
    change(dir.path(), 0, |bytes| bytes[4096 + 200] ^= 1);
    let (wal, _) = open(dir.path());
    let (read, damage) = read_and_check(&wal, 200);
    assert_eq!((read.len(), damage.len()), (200, 1));
    assert_eq!(damage[0].lsns, None);
}

#[test]
fn a_missing_segment_is_reported_with_its_name_and_its_frames() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1..=400);
    wal.close();
    let missing = segments(dir.path()).remove(1);
    std::fs::remove_file(&missing).unwrap();
    let (wal, recovery) = open(dir.path());
    assert_eq!((recovery.damage.len(), recovery.last), (1, Lsn::new(400)));
    let damage = &recovery.damage[0];
    assert_eq!((&damage.segment, damage.reason), (&missing, DamageReason::Missing));
    assert!(damage.to_string().contains("segment-0000000000000002.wal, frames "), "{damage}");
    let (read, found) = read_and_check(&wal, 400);
    assert_eq!(found[0].lsns, damage.lsns);
    assert!(read.len() < 400);
}

#[test]
fn a_segment_that_goes_missing_under_a_live_log_is_reported_by_the_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1..=400);
    std::fs::remove_file(segments(dir.path()).remove(1)).unwrap();
    let (_, damage) = read_and_check(&wal, 400);
    assert_eq!((damage.len(), damage[0].reason), (1, DamageReason::Missing));
}

#[test]
fn segments_of_another_log_or_under_another_name_are_reported_and_left_alone() {
    let dir = one_segment(10, true);
    let other = one_segment(3, true);
    let foreign = dir.path().join("segment-0000000000000007.wal");
    std::fs::copy(segments(other.path()).remove(0), &foreign).unwrap();
    let renamed = dir.path().join("segment-0000000000000005.wal");
    std::fs::copy(segments(dir.path()).remove(0), &renamed).unwrap();
    let before = (std::fs::read(&foreign).unwrap(), std::fs::read(&renamed).unwrap());
    let (wal, recovery) = open(dir.path());
    assert_eq!((recovery.frames, recovery.damage.len()), (10, 2));
    assert!(recovery.damage.iter().all(|damage| damage.reason == DamageReason::Foreign));
    append(&wal, 11..=12);
    assert!(dir.path().join("segment-0000000000000008.wal").exists());
    assert_holds(&wal, 1..=12);
    wal.reclaim(Lsn::new(12), 0).unwrap();
    assert_eq!((std::fs::read(&foreign).unwrap(), std::fs::read(&renamed).unwrap()), before);
}

/// Frames of a segment that was never sealed, each synced on its own; of all from `from` on the bodies are damaged.
fn bodies_damaged_from(from: usize, frames: i64) -> tempfile::TempDir {
    let dir = one_segment(frames, false);
    change(dir.path(), 0, |bytes| {
        let batches: Vec<usize> = frame_starts(bytes).into_iter().filter(|at| bytes[at + 4] == 2).collect();
        batches[from - 1..].iter().for_each(|at| bytes[at + 80] ^= 1);
    });
    dir
}

#[test]
fn a_tail_is_torn_only_beyond_what_a_header_behind_it_knows_to_have_been_durable() {
    for from in 1..=10 {
        let dir = bodies_damaged_from(from, 10);
        let (wal, recovery) = open(dir.path());
        let reported: Vec<_> = recovery.damage.iter().filter_map(|damage| damage.lsns.clone()).collect();
        let lost = from as u64..=9;
        match lost.is_empty() {
            // The last one alone may be what a crash left of an append.
            true => assert_eq!((recovery.damage, recovery.last.get()), (vec![], 9)),
            false => {
                assert_eq!(reported, [Lsn::new(*lost.start())..=Lsn::new(9)], "from {from}");
                assert_eq!(recovery.damage[0].reason, DamageReason::Body);
                assert_eq!(recovery.last.get(), 9, "no number that was promised is used again");
            }
        }
        append(&wal, 10..=11);
        let (read, damage) = read_and_check(&wal, 11);
        assert_eq!(read, (1..from as u64).chain(10..=11).collect::<Vec<_>>());
        assert_eq!(damage.len(), usize::from(from < 10));
        // What is left of them is kept, and told at each opening until somebody has looked.
        wal.close();
        let (wal, again) = open(dir.path());
        assert_eq!(again.damage.len(), usize::from(from < 10), "{:?}", again.damage);
        assert_eq!(read_and_check(&wal, 11).0, read);
        wal.reclaim(Lsn::new(11), u64::MAX).unwrap();
        let aside = dir.path().join("segment-0000000000000001.wal.damaged");
        assert_eq!(aside.exists(), from < 10, "from {from}");
    }
}

#[test]
fn frames_that_the_ledger_knows_to_have_been_durable_are_reported_however_much_of_the_end_is_gone() {
    let knowing = |dir: &Path, known: Known| {
        let directory = LogDirectory::open(&Env::os(), dir, &destination()).unwrap();
        Wal::open_knowing(&Env::os(), directory, options(Durability::Sync), known).unwrap()
    };
    let known = Known { highest: Lsn::new(3), settled: Lsn::new(3), durable: Lsn::new(8) };
    for keep in 0..=10_usize {
        let dir = one_segment(10, false);
        change(dir.path(), 0, |bytes| {
            let starts: Vec<usize> =
                frame_starts(bytes).into_iter().filter(|at| bytes[at + 4] == 2).collect();
            let end = starts.get(keep).copied().unwrap_or(bytes.len());
            bytes[end..].fill(0);
        });
        let (wal, recovery) = knowing(dir.path(), known);
        let lost: Vec<u64> = recovery
            .damage
            .iter()
            .filter_map(|damage| damage.lsns.clone())
            .flat_map(|lsns| lsns.start().get()..=lsns.end().get())
            .filter(|lsn| *lsn > 3)
            .collect();
        assert_eq!(lost, ((keep as u64 + 1).max(4)..=8).collect::<Vec<_>>(), "keep {keep}");
        assert_eq!(recovery.last.get(), 8.max(keep as u64), "keep {keep}");
        wal.close();
    }
    // Without a segment at all.
    let dir = one_segment(10, false);
    std::fs::remove_file(segments(dir.path()).remove(0)).unwrap();
    let (_, recovery) = knowing(dir.path(), known);
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!((recovery.damage[0].lsns.clone(), recovery.last.get()), (Some(Lsn::new(4)..=Lsn::new(8)), 8));
}

#[test]
fn a_settled_segment_with_damage_is_set_aside() {
    let dir = one_segment(10, false);
    change(dir.path(), 0, |bytes| {
        let at = frame_starts(bytes)[3];
        bytes[at + 100] ^= 1;
    });
    let damaged = std::fs::read(segments(dir.path()).remove(0)).unwrap();
    let (wal, recovery) = open(dir.path());
    assert_eq!((recovery.damage.len(), recovery.damage[0].reason), (1, DamageReason::Body));
    append(&wal, 11..=11);
    assert_eq!(wal.reclaim(Lsn::new(10), u64::MAX).unwrap().segments, 1);
    let aside = std::fs::read(dir.path().join("segment-0000000000000001.wal.damaged")).unwrap();
    assert!(damaged.starts_with(&aside));
    assert_holds(&wal, 11..=11);
    wal.close();
    assert_eq!(open(dir.path()).1.damage, []);
}

#[test]
fn a_segment_whose_damage_is_found_when_it_is_read_is_set_aside_too_and_after_a_crash() {
    let dir = one_segment(10, true);
    change(dir.path(), 0, |bytes| {
        let at = frame_starts(bytes)[3];
        bytes[at + 100] ^= 1;
    });
    let damaged = std::fs::read(segments(dir.path()).remove(0)).unwrap();
    let (wal, recovery) = open(dir.path());
    assert_eq!(recovery.damage, [], "a sealed segment is not read when the log is opened");
    append(&wal, 11..=11);
    assert_eq!(read_and_check(&wal, 11).1.len(), 1);
    let crashed = copy(dir.path());
    for (dir, wal) in [(dir.path(), wal), (crashed.path(), open(crashed.path()).0)] {
        assert_eq!(wal.reclaim(Lsn::new(10), u64::MAX).unwrap().segments, 1);
        let aside = std::fs::read(dir.join("segment-0000000000000001.wal.damaged")).unwrap();
        assert!(aside == damaged, "all of it is kept");
        assert_holds(&wal, 11..=11);
        wal.close();
        assert_eq!(open(dir).1.damage, []);
    }
}

#[test]
fn a_format_of_the_future_is_refused_and_left_untouched() {
    let of_the_future = |bytes: &mut Vec<u8>| {
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..4092]);
        bytes[4092..4096].copy_from_slice(&crc.to_le_bytes());
    };
    // The newest segment is looked at before anything else is done, the others when they are opened.
    for (sealed, is_newest) in [(true, true), (false, true), (true, false), (false, false)] {
        let dir = one_segment(3, sealed);
        if !is_newest {
            let (wal, _) = open(dir.path());
            append(&wal, 4..=5);
        }
        change(dir.path(), 0, of_the_future);
        let paths = segments(dir.path());
        let before: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
        let opened = LogDirectory::open(&Env::os(), dir.path(), &destination());
        assert_eq!(opened.is_err(), is_newest);
        let opened = opened.and_then(|directory| {
            Wal::open(&Env::os(), directory, options(Durability::Sync), Lsn::ZERO).map(drop)
        });
        let error = opened.unwrap_err();
        assert!(matches!(error, OpenError::UnsupportedVersion { version: 2, known: 1, .. }), "{error}");
        assert_eq!(segments(dir.path()), paths);
        assert!(paths.iter().map(|path| std::fs::read(path).unwrap()).eq(before));
    }
    let dir = one_segment(3, true);
    let identity = dir.path().join("LOG");
    let text = std::fs::read_to_string(&identity).unwrap().replace("\"format\": 1", "\"format\": 9");
    std::fs::write(&identity, &text).unwrap();
    let error = LogDirectory::open(&Env::os(), dir.path(), &destination()).unwrap_err();
    assert!(matches!(error, OpenError::UnsupportedVersion { version: 9, .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&identity).unwrap(), text);
}

#[test]
fn an_identity_file_that_makes_no_sense_is_refused_and_says_what_to_do() {
    let dir = one_segment(3, true);
    for text in ["", "{}", "[1]", "{\"format\": 1}", "\u{0}\u{1}", "{\"format\": 1, \"epoch\": \"xyz\"}"] {
        std::fs::write(dir.path().join("LOG"), text).unwrap();
        let error = LogDirectory::open(&Env::os(), dir.path(), &destination()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Corruption);
        assert!(error.to_string().contains("move it aside"), "{error}");
    }
}

#[test]
fn any_bytes_in_the_directory_open_to_a_result_or_a_typed_error() {
    let dir = one_segment(30, false);
    let path = segments(dir.path()).remove(0);
    let original = std::fs::read(&path).unwrap();
    let seed = Env::os().rng.next_u64();
    let random = Xorshift(std::cell::Cell::new(seed | 1));
    for round in 0..300 {
        let mut bytes = original[..100_000].to_vec();
        for _ in 0..1 + random.next() % 4 {
            let at = random.next() as usize % bytes.len();
            let length = (random.next() as usize % 2000).min(bytes.len() - at);
            match random.next() % 4 {
                0 => bytes[at..at + length].fill(0),
                1 => bytes[at..at + length].fill_with(|| random.next() as u8),
                2 => bytes.copy_within(at..at + length, (at / 2) & !7),
                _ => bytes.truncate(at),
            }
            if bytes.is_empty() {
                break;
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        let (wal, recovery) = open_with(&quick(), dir.path(), options(Durability::Sync), 0);
        let (read, damage) = read_and_check(&wal, recovery.last.get());
        let schema_lost = damage.iter().any(|damage| damage.reason == DamageReason::Schema);
        assert!(schema_lost || read.len() as u64 == recovery.frames, "seed {seed} round {round}");
        drop(wal);
        for path in segments(dir.path()) {
            std::fs::remove_file(path).unwrap();
        }
    }
}

struct Xorshift(std::cell::Cell<u64>);

impl Xorshift {
    fn next(&self) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        x
    }
}

#[test]
fn a_file_behind_whose_number_there_is_none_is_named_and_nothing_is_changed() {
    let dir = one_segment(3, true);
    let guest = dir.path().join("segment-18446744073709551615.wal");
    std::fs::write(&guest, "whatever").unwrap();
    let directory = LogDirectory::open(&Env::os(), dir.path(), &destination()).unwrap();
    let opened = Wal::open(&Env::os(), directory, options(Durability::Sync), Lsn::ZERO).map(drop);
    let error = opened.unwrap_err();
    assert!(error.to_string().contains("segment-18446744073709551615.wal"), "{error}");
    std::fs::remove_file(&guest).unwrap();
    let (wal, recovery) = open(dir.path());
    assert_eq!((recovery.last, recovery.damage.len()), (Lsn::new(3), 0));
    append(&wal, 4..=5);
}
