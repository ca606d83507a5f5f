//! A crash is a copy of the directory at some moment: no seal, no lock, the last write in any state.

use std::path::Path;

use arrow_zerobus_sdk_wrapper::{
    io::Env,
    types::Lsn,
    wal::{DamageReason, Durability, LogView, WalOptions},
};

use crate::support::*;

#[test]
fn whatever_had_returned_is_there_after_a_crash_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| append(&wal, 1..=400));
        let mut crashes = 0;
        while !writer.is_finished() || crashes < 5 {
            let promised = wal.durable().get() as i64;
            let copy = copy(dir.path());
            let (after, recovery) = open(copy.path());
            assert!(recovery.last.get() as i64 >= promised, "{promised} promised, {recovery:?}");
            assert_holds(&after, 1..=recovery.last.get() as i64);
            let next = recovery.last.get() as i64 + 1;
            append(&after, next..=next + 3);
            assert_holds(&after, 1..=next + 3);
            crashes += 1;
        }
    });
}

#[test]
fn crashes_one_after_the_other_lose_nothing_and_add_nothing() {
    let mut dir = tempfile::tempdir().unwrap();
    for crash in 0..20 {
        let (wal, recovery) = open(dir.path());
        assert_eq!(recovery.last, Lsn::new(crash * 7));
        append(&wal, crash as i64 * 7 + 1..=crash as i64 * 7 + 7);
        let copy = copy(dir.path());
        drop(wal);
        dir = copy;
    }
    let (wal, recovery) = open(dir.path());
    assert_eq!((recovery.frames, recovery.torn_bytes, recovery.damage.len()), (140, 0, 0));
    assert_holds(&wal, 1..=140);
}

/// A log of a few frames whose only segment was never sealed, cut to what was written.
fn unsealed(frames: i64) -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1..=frames);
    let copy = copy(dir.path());
    let path = segments(copy.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.truncate(used.next_multiple_of(8));
    std::fs::write(&path, &bytes).unwrap();
    (copy, bytes)
}

fn view(dir: &Path) -> LogView {
    LogView::read(&Env::os(), dir).unwrap()
}

#[test]
fn a_segment_cut_at_any_byte_opens_to_the_frames_that_are_whole() {
    let (dir, bytes) = unsealed(4);
    let path = segments(dir.path()).remove(0);
    let (_copy, _wal, whole) = open_copy(dir.path());
    assert_eq!((whole.frames, whole.torn_bytes), (4, 0));
    let mut before = 0;
    for length in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let view = view(dir.path());
        let frames = view.last().get();
        assert!(frames == before || frames == before + 1, "{frames} frames at {length}");
        assert_eq!(view.damage(), [], "cut at {length}");
        assert_eq!(view.count_from(Lsn::FIRST).unwrap().frames, frames);
        if frames != before || length % 97 == 0 {
            let (_copy, wal, recovery) = open_copy(dir.path());
            assert_eq!((recovery.last.get(), recovery.damage.len()), (frames, 0));
            let next = frames as i64 + 1;
            append(&wal, next..=next);
            assert_holds(&wal, 1..=next);
        }
        before = frames;
    }
    assert_eq!(before, 4);
}

#[test]
fn what_a_crash_left_torn_is_cut_and_counted_again_at_each_opening() {
    let (dir, bytes) = unsealed(4);
    let path = segments(dir.path()).remove(0);
    let mut torn = bytes[..bytes.len() - 100].to_vec();
    torn.resize(SEGMENT_BYTES as usize, 0);
    std::fs::write(&path, &torn).unwrap();
    let mut lengths = Vec::new();
    for opening in 0..3 {
        let (wal, recovery) = open(dir.path());
        assert_eq!((recovery.last, recovery.damage.len()), (Lsn::new(3), 0), "opening {opening}");
        assert!(recovery.torn_bytes > 200);
        lengths.push(path.metadata().unwrap().len());
        wal.close();
    }
    // The reserve is given back, what was written is not.
    assert_eq!(lengths, [bytes.len().next_multiple_of(4096) as u64; 3]);
    let (wal, _) = open(dir.path());
    append(&wal, 4..=6);
    assert_holds(&wal, 1..=6);
}

#[test]
fn a_group_of_which_only_the_end_reached_the_disk_is_told_from_damage() {
    let (dir, bytes) = unsealed(1);
    // The frame and its schema never arrived; of the segment the header is there.
    let path = segments(dir.path()).remove(0);
    std::fs::write(&path, &bytes[..4096]).unwrap();
    assert_eq!(open(dir.path()).1.damage, []);

    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open_with(&env, dir.path(), options(Durability::Sync), 0);
    append(&wal, 1..=2);
    let writes = state.count(Call::Write);
    let gate = state.gate.lock().unwrap();
    let first = wal.append(frame(3, 10));
    wait_until("the appender syncs", || state.count(Call::Write) == writes + 1);
    let group: Vec<_> = (4..=6).map(|number| wal.append(frame(number, 10))).collect();
    drop(gate);
    first.wait().unwrap();
    group.into_iter().for_each(|append| assert!(append.wait().unwrap().durable));
    let copy = copy(dir.path());
    let path = segments(copy.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let starts: Vec<usize> =
        (0..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"ZBfr")).collect();
    // Schema, 1, 2, 3, 4, 5, 6: the one group of 4 to 6 loses its first frame.
    bytes[starts[4]..starts[5]].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let (wal, recovery) = open(copy.path());
    assert_eq!((recovery.last, recovery.damage.len()), (Lsn::new(6), 1));
    assert_eq!(recovery.damage[0].reason, DamageReason::Unsynced);
    assert_eq!(recovery.damage[0].lsns, Some(Lsn::new(4)..=Lsn::new(4)));
    let (batches, damage) = read_all(&mut wal.reader(Lsn::FIRST));
    assert_eq!(batches.into_keys().collect::<Vec<_>>(), [1, 2, 3, 5, 6]);
    assert_eq!(damage, recovery.damage);
}

#[test]
fn a_missing_identity_file_is_written_again_with_the_epoch_of_the_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1..=5);
    wal.close();
    let epoch = view(dir.path()).epoch();
    std::fs::remove_file(dir.path().join("LOG")).unwrap();
    assert_eq!((view(dir.path()).epoch(), view(dir.path()).destination()), (epoch, None));
    let (wal, recovery) = open(dir.path());
    assert_eq!((recovery.frames, recovery.damage.len()), (5, 0));
    assert_eq!((view(dir.path()).epoch(), view(dir.path()).destination()), (epoch, Some(&destination())));
    assert_holds(&wal, 1..=5);
}

#[test]
fn a_seal_that_was_interrupted_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let large = WalOptions { segment_bytes: 1 << 20, ..options(Durability::Sync) };
    let (wal, _) = open_with(&Env::os(), dir.path(), large, 0);
    append(&wal, 1..=50);
    wal.close();
    let path = segments(dir.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let sealed = bytes.len();
    // The footer arrived, the cut did not.
    bytes.resize(1 << 20, 0);
    std::fs::write(&path, &bytes).unwrap();
    let (wal, recovery) = open(dir.path());
    assert_eq!((recovery.frames, recovery.torn_bytes, recovery.damage.len()), (50, 0, 0));
    assert_eq!(path.metadata().unwrap().len(), sealed as u64);
    assert_holds(&wal, 1..=50);
}

#[test]
fn a_segment_that_an_opening_ends_is_whole_wherever_a_crash_cuts_that() {
    let (dir, bytes) = unsealed(4);
    let path = segments(dir.path()).remove(0);
    open(dir.path()).0.close();
    let sealed = std::fs::read(&path).unwrap();
    let frames_end = bytes.len().next_multiple_of(4096);
    assert_eq!(sealed.len(), frames_end + 4096);
    for length in (frames_end..=sealed.len()).step_by(16) {
        // What did not arrive was cut off, or reads as zeros.
        for zeros in [0, sealed.len() - length] {
            let mut torn = sealed[..length].to_vec();
            torn.resize(length + zeros, 0);
            std::fs::write(&path, &torn).unwrap();
            let (copy, wal, recovery) = open_copy(dir.path());
            assert_eq!((recovery.frames, recovery.damage.len()), (4, 0), "{length} bytes and {zeros} zeros");
            append(&wal, 5..=5);
            wal.close();
            let (wal, recovery) = open(copy.path());
            assert_eq!((recovery.frames, recovery.damage.len()), (5, 0), "{length} bytes and {zeros} zeros");
            assert_holds(&wal, 1..=5);
        }
    }
}

#[test]
fn a_segment_that_an_opening_cannot_end_stays_as_it_was() {
    for (call, errno) in [(Call::Write, 28), (Call::Write, 5), (Call::Sync, 5)] {
        let (dir, _) = unsealed(4);
        let (env, state) = faulty();
        // The first sync is that of the frames.
        state.fail_after(u64::from(call == Call::Sync), call, errno, 1);
        for opening in 0..3 {
            let (wal, recovery) = open_with(&env, dir.path(), options(Durability::Sync), 0);
            assert_eq!((recovery.frames, recovery.damage.len()), (4, 0), "{call:?}, opening {opening}");
            assert_holds(&wal, 1..=4);
        }
        assert_eq!(state.failures().len(), 1, "{call:?}");
    }
}
