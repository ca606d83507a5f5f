//! What a failing disk does to appends: no promise is broken, nothing is written or synced again on
//! a file that failed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::Ordering::SeqCst,
    time::Duration,
};

use arrow_array::RecordBatch;
use arrow_zerobus_sdk_wrapper::{
    error::{Coded, ErrorCode},
    io::Env,
    types::Lsn,
    wal::{
        AppendError, DamageReason, Durability, Known, LogDirectory, LogView, Next, PreparedFrame, Wal,
        WalOptions,
    },
};

use crate::support::*;

const ENOSPC: i32 = 28;

/// Nothing is written to or synced on a segment after one of its calls has failed.
fn assert_failed_segments_are_left_alone(state: &State, failed: &[PathBuf]) {
    let journal = state.journal();
    for path in failed {
        let last_touch = journal
            .iter()
            .rposition(|(call, at)| at == path && matches!(call, Call::Write | Call::Sync | Call::Allocate));
        let failed_at = state.failures().into_iter().find(|(_, at)| at == path).map(|(at, _)| at);
        assert_eq!(last_touch, failed_at, "{}", path.display());
    }
}

#[test]
fn after_a_failed_sync_or_write_the_frames_go_to_a_new_segment_and_the_callers_learn_nothing() {
    for call in [Call::Sync, Call::Write] {
        let (env, state) = faulty();
        let dir = tempfile::tempdir().unwrap();
        let (wal, _) = open_with(&env, dir.path(), options(Durability::Sync), 0);
        append(&wal, 1..=5);
        state.fail(call, EIO, 1);
        append(&wal, 6..=12);
        assert_eq!(segments(dir.path()).len(), 2);
        let failed = vec![segments(dir.path()).remove(0)];
        assert_failed_segments_are_left_alone(&state, &failed);
        assert_holds(&wal, 1..=12);
        for dir in [copy(dir.path()), {
            wal.close();
            copy(dir.path())
        }] {
            let (wal, recovery) = open(dir.path());
            // The failed segment still holds frame 6, whole or in part; the new one says that it
            // does not count.
            assert_eq!((recovery.frames, recovery.last, recovery.damage.len()), (12, Lsn::new(12), 0));
            assert_holds(&wal, 1..=12);
        }
    }
}

#[test]
fn a_body_that_is_shared_with_its_batch_is_written_again_after_a_failed_write_or_sync() {
    // The second is copied by the caller, the third by the one who writes, the last in pieces while they are written.
    let batches = [blob(1, 10), blob(2, 600_003), blob(3, 4_100_000), blob(4, 12_000_000)];
    for call in [Call::Write, Call::Sync] {
        let (env, state) = faulty();
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions { segment_bytes: 16 << 20, ..options(Durability::Sync) };
        let (wal, _) = open_with(&env, dir.path(), options, 0);
        for (failures, batch) in [0, 1, 1, 1].into_iter().zip(&batches) {
            state.fail(call, EIO, failures);
            assert!(wal.append(PreparedFrame::new(batch).unwrap()).wait().unwrap().durable);
            state.heal();
        }
        let paths = segments(dir.path());
        assert_eq!(paths.len(), 4, "one for each failure");
        assert_failed_segments_are_left_alone(&state, &paths[..3]);
        let (_copy, crashed, recovery) = open_copy(dir.path());
        assert_eq!((recovery.damage, recovery.last), (vec![], Lsn::new(4)));
        for wal in [wal, crashed] {
            let (read, damage) = read_all(&mut wal.reader(Lsn::FIRST));
            assert_eq!(damage, []);
            assert!(read.into_values().eq(batches.clone()));
        }
    }
}

/// A log of two segments. The first holds 1 to 5 and a frame whose caller has learned that it is not stored; its number is that
/// of the first frame of the second, which holds 6 to 8.
fn with_a_frame_that_failed() -> tempfile::TempDir {
    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open_with(&env, dir.path(), options(Durability::Sync), 0);
    append(&wal, 1..=5);
    state.fail(Call::Sync, EIO, 1);
    state.fail(Call::Create, ENOSPC, 1);
    assert!(wal.append(frame(99, 10)).wait().is_err());
    append(&wal, 6..=8);
    copy(dir.path())
}

#[test]
fn a_frame_that_failed_does_not_come_back_when_the_header_that_voids_it_is_lost() {
    let dir = with_a_frame_that_failed();
    let paths = segments(dir.path());
    let mut bytes = std::fs::read(&paths[1]).unwrap();
    bytes[29] ^= 1;
    std::fs::write(&paths[1], &bytes).unwrap();
    let (wal, recovery) = open(dir.path());
    assert_eq!((recovery.frames, recovery.last), (8, Lsn::new(8)));
    let reasons: Vec<DamageReason> = recovery.damage.iter().map(|damage| damage.reason).collect();
    assert_eq!(reasons, [DamageReason::SegmentHeader]);
    let (read, _) = read_all(&mut wal.reader(Lsn::FIRST));
    assert_eq!(read, (1..=8).map(|number| (number as u64, batch(number, 10))).collect());
}

#[test]
fn a_frame_that_failed_does_not_come_back_when_the_segment_that_voids_it_is_gone_later() {
    let dir = with_a_frame_that_failed();
    // This opening ends the first segment before it.
    open(dir.path()).0.close();
    std::fs::remove_file(&segments(dir.path())[1]).unwrap();
    let (env, directory) = (Env::os(), LogDirectory::open(&Env::os(), dir.path(), &destination()).unwrap());
    let known = Known { durable: Lsn::new(8), highest: Lsn::new(8), settled: Lsn::ZERO };
    let (wal, recovery) = Wal::open_knowing(&env, directory, options(Durability::Sync), known).unwrap();
    let lost: Vec<_> = recovery.damage.iter().map(|damage| (damage.reason, damage.lsns.clone())).collect();
    assert_eq!(lost, [(DamageReason::Missing, Some(Lsn::new(6)..=Lsn::new(8)))]);
    let (read, _) = read_all(&mut wal.reader(Lsn::FIRST));
    assert_eq!(read, (1..=5).map(|number| (number as u64, batch(number, 10))).collect());
}

#[test]
fn when_the_new_segment_fails_too_the_callers_get_the_error_and_the_log_refuses_more() {
    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open_with(&env, dir.path(), options(Durability::Sync), 0);
    append(&wal, 1..=5);
    state.fail(Call::Sync, EIO, u64::MAX);
    let error = wal.append(frame(6, 10)).wait().unwrap_err();
    assert_eq!(error.code(), ErrorCode::Storage);
    state.heal();
    let calls = state.journal().len();
    let error = wal.append(frame(6, 10)).wait().unwrap_err();
    assert!(matches!(error, AppendError::Poisoned { .. }), "{error}");
    assert!(error.to_string().contains("cannot write to"), "{error}");
    assert_eq!(state.journal().len(), calls, "a poisoned log touches no file");
    assert_holds(&wal, 1..=5);
    wal.close();
    let (wal, recovery) = open(dir.path());
    assert_eq!(recovery.damage, []);
    // Frame 6 failed but may be there: nobody was told that it is not.
    assert!((5..=6).contains(&recovery.last.get()), "{recovery:?}");
    let next = recovery.last.get() as i64 + 1;
    append(&wal, next..=next + 2);
    assert_holds(&wal, 1..=next + 2);
}

#[test]
fn a_full_disk_refuses_appends_without_a_trace_until_there_is_room() {
    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open_with(&env, dir.path(), options(Durability::Sync), 0);
    append(&wal, 1..=5);
    for call in [Call::Allocate, Call::Write, Call::Create, Call::Sync] {
        let next = wal.durable().get() as i64 + 1;
        wal.reclaim(Lsn::ZERO, 0).unwrap();
        state.fail(call, ENOSPC, u64::MAX);
        // To the end of the open segment and beyond: a new one is needed.
        let mut number = next;
        let error = loop {
            match wal.append(frame(number, 10)).wait() {
                Ok(appended) => assert_eq!(appended.lsn, Lsn::new(number as u64)),
                Err(error) => break error,
            }
            number += 1;
        };
        assert!(error.is_out_of_space() && error.code() == ErrorCode::BufferFull, "{call:?}: {error}");
        assert!(wal.append(frame(number, 10)).wait().unwrap_err().is_out_of_space());
        state.heal();
        append(&wal, number..=number + 20);
        assert_holds(&wal, 1..=number + 20);
        let (_copy, after, recovery) = open_copy(dir.path());
        assert_eq!((recovery.damage, recovery.last), (vec![], wal.durable()), "{call:?}");
        assert_holds(&after, 1..=number + 20);
    }
}

#[test]
fn less_space_than_a_segment_is_used_to_its_end() {
    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open_with(&env, dir.path(), options(Durability::Sync), 0);
    // The reserve of a whole segment fails, that of the group does not.
    state.fail(Call::Allocate, ENOSPC, 1);
    append(&wal, 1..=1);
    let length = segments(dir.path())[0].metadata().unwrap().len();
    assert!(length < SEGMENT_BYTES, "{length}");
    append(&wal, 2..=200);
    assert_holds(&wal, 1..=200);
}

#[test]
fn a_file_system_that_cannot_reserve_space_is_no_obstacle() {
    let (env, state) = faulty();
    const EOPNOTSUPP: i32 = 95;
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open_with(&env, dir.path(), options(Durability::Sync), 0);
    state.fail(Call::Allocate, EOPNOTSUPP, u64::MAX);
    append(&wal, 1..=200);
    assert_holds(&wal, 1..=200);
    let (_copy, wal, recovery) = open_copy(dir.path());
    assert_eq!((recovery.last, recovery.torn_bytes), (Lsn::new(200), 0));
    assert_holds(&wal, 1..=200);
}

/// Every call that the appender makes fails once, and for ever, at every position; after that a crash.
#[test]
fn whichever_call_fails_no_promised_frame_is_lost_and_no_number_has_two_contents() {
    for call in [Call::Create, Call::Write, Call::Sync, Call::SyncDir, Call::Allocate] {
        for errno in [EIO, ENOSPC] {
            for times in [1, 2, 3, u64::MAX] {
                for after in [0, 1, 30] {
                    fail_and_crash(call, errno, times, after);
                }
            }
        }
    }
}

fn fail_and_crash(call: Call, errno: i32, times: u64, after: i64) {
    let (env, state) = faulty();
    state.without_syncs.store(true, SeqCst);
    let dir = memory_dir();
    let small = WalOptions { segment_bytes: 16 * 1024, ..options(Durability::Sync) };
    let (wal, _) = open_with(&env, dir.path(), small, 0);
    let mut promised = BTreeMap::new();
    let mut send = |number: i64| {
        if let Ok(appended) = wal.append(frame(number, 10)).wait() {
            let again = promised.insert(appended.lsn.get(), batch(number, 10));
            assert!(again.is_none(), "{} was given twice", appended.lsn);
        }
    };
    (0..after).for_each(&mut send);
    state.fail(call, errno, times);
    (1000..1040).for_each(&mut send);
    state.heal();
    (2000..2010).for_each(&mut send);
    let context = format!("{call:?} {errno} {times} {after}");
    let (live, damage) = read_all(&mut wal.reader(Lsn::FIRST));
    assert_eq!((&live, damage), (&promised, vec![]), "{context}");
    let copy = copy(dir.path());
    let view = LogView::read(&Env::os(), copy.path()).unwrap();
    let (after, recovery) = open(copy.path());
    assert_eq!((view.last(), view.damage()), (recovery.last, &recovery.damage[..]), "{context}");
    let (found, damage) = read_all(&mut after.reader(Lsn::FIRST));
    assert_eq!(damage, [], "{context}");
    for (lsn, batch) in &promised {
        assert_eq!(found.get(lsn), Some(batch), "{context}: frame {lsn}");
    }
    // What nobody was promised may have survived, but only at the very end.
    assert!(found.keys().copied().eq(1..=recovery.last.get()), "{context}");
    assert_eq!(after.append(frame(1, 1)).wait().unwrap().lsn, recovery.last.next());
}

/// A log that is synced every so many milliseconds, and was after its first ten frames.
fn open_with_ten_synced(env: &Env, dir: &Path, millis: u64) -> Wal {
    let interval = Durability::Interval(Duration::from_millis(millis));
    let (wal, _) = open_with(env, dir, options(interval), 0);
    append(&wal, 1..=10);
    wait_until("the first sync", || wal.durable() == Lsn::new(10));
    wal
}

#[test]
fn frames_of_an_interval_survive_a_failed_sync_in_memory() {
    for (errno, times) in [(EIO, 1), (ENOSPC, 4)] {
        let (env, state) = faulty();
        let dir = tempfile::tempdir().unwrap();
        let wal = open_with_ten_synced(&env, dir.path(), 5);
        let gate = state.gate.lock().unwrap();
        append(&wal, 11..=11);
        state.fail(Call::Sync, errno, times);
        drop(gate);
        wait_until("a sync after the failed ones", || wal.durable() == Lsn::new(11));
        assert_holds(&wal, 1..=11);
        append(&wal, 12..=20);
        wait_until("the last sync", || wal.durable() == Lsn::new(20));
        let (_copy, after, recovery) = open_copy(dir.path());
        assert_eq!(recovery.damage, []);
        assert_holds(&after, 1..=20);
    }
}

#[test]
fn frames_of_an_interval_survive_a_killed_process_while_they_move_on_from_a_failed_segment() {
    // What fails besides the sync of the segment that they leave: nothing, or something of the one that they go to.
    let others = [None, Some(Call::Create), Some(Call::Write), Some(Call::Sync), Some(Call::SyncDir)];
    for other in others {
        let (env, state) = faulty();
        let dir = tempfile::tempdir().unwrap();
        let wal = open_with_ten_synced(&env, dir.path(), 5);
        let gate = state.gate.lock().unwrap();
        append(&wal, 11..=15);
        state.fail(Call::Sync, EIO, 1);
        match other {
            Some(Call::Sync) => state.fail(Call::Sync, EIO, 1),
            // The first one pads the segment that fails.
            Some(Call::Write) => state.fail_after(1, Call::Write, EIO, 1),
            Some(call) => state.fail(call, EIO, 1),
            None => {}
        }
        state.copy_before_each_call(dir.path());
        drop(gate);
        wait_until("a sync after the failed ones", || wal.durable() == Lsn::new(15));
        assert_each_copy_holds(&state, 15, &format!("{other:?}"));
    }
}

#[test]
fn frames_of_an_interval_move_on_together_even_if_their_schemas_no_longer_fit_beside_them() {
    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let interval = Durability::Interval(Duration::from_millis(5));
    let (wal, _) = open_with(&env, dir.path(), WalOptions { spare_segments: 1, ..options(interval) }, 0);
    // 14 and 15 blocks. The header, one block with the schemas and small frames of both, and the footer fill the segment.
    let kinds = |bytes: [usize; 2]| {
        let [a, b] = bytes.map(|bytes| blob(7, bytes));
        [a.clone(), of(vec![("other", b.column(0).clone())])]
    };
    let send = |batches: &[RecordBatch]| {
        for batch in batches {
            wal.append(PreparedFrame::new(batch).unwrap()).wait().unwrap();
        }
    };
    let (small, large) = (kinds([10, 10]), kinds([55_000, 60_000]));
    send(&small);
    wait_until("the first sync", || wal.durable() == Lsn::new(2));
    let gate = state.gate.lock().unwrap();
    send(&large);
    assert_eq!(segments(dir.path()).len(), 1);
    state.fail(Call::Sync, EIO, 1);
    state.copy_before_each_call(dir.path());
    drop(gate);
    wait_until("a sync after the failed one", || wal.durable() == Lsn::new(4));
    let batches = [small, large].concat();
    for (at, copy) in state.take_copies().iter().enumerate() {
        let (after, recovery) = open(copy.path());
        assert_eq!((recovery.last, recovery.damage), (Lsn::new(4), vec![]), "call {at}");
        assert!(read_all(&mut after.reader(Lsn::FIRST)).0.into_values().eq(batches.clone()), "call {at}");
    }
    let paths = segments(dir.path());
    assert_eq!(paths.len(), 2);
    assert!(paths[1].metadata().unwrap().len() > SEGMENT_BYTES, "they would have fitted");
    // It takes no more frames, and does not become a spare, whose length all know.
    send(&kinds([10, 10]));
    assert_eq!(segments(dir.path()).len(), 3);
    wait_until("the next sync", || wal.durable() == Lsn::new(6));
    wal.reclaim(Lsn::new(4), 0).unwrap();
    assert_eq!(segments(dir.path()).len(), 1);
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let spares: Vec<_> = names.filter(|name| name.to_string_lossy().contains("spare")).collect();
    assert_eq!(spares.len(), 0, "{spares:?}");
}

#[test]
fn a_new_segment_that_a_reclaim_wants_does_not_void_the_frames_of_an_interval_that_no_other_holds() {
    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let wal = open_with_ten_synced(&env, dir.path(), 200);
    let gate = state.gate.lock().unwrap();
    append(&wal, 11..=15);
    state.fail(Call::Sync, EIO, 1);
    state.fail(Call::Create, EIO, u64::MAX);
    let created = state.count(Call::Create);
    drop(gate);
    wait_until("a segment that cannot be created", || state.count(Call::Create) > created);
    let refused = wal.reclaim(Lsn::new(10), 1).unwrap_err();
    assert!(refused.to_string().contains("cannot create"), "{refused}");
    state.heal();
    // Before the reclaim's turn the frames are tried once more, in vain.
    state.fail(Call::Create, EIO, 1);
    state.copy_before_each_call(dir.path());
    wal.reclaim(Lsn::new(10), 1).unwrap();
    wait_until("a sync after the failed one", || wal.durable() == Lsn::new(15));
    assert_each_copy_holds(&state, 15, "reclaim");
}

/// Every frame up to this one, but for settled ones, is in what a killed process would have left before each call.
fn assert_each_copy_holds(state: &State, last: u64, context: &str) {
    let copies = state.take_copies();
    assert!(copies.len() > 5, "{context}: {} copies", copies.len());
    for (at, copy) in copies.iter().enumerate() {
        let (after, recovery) = open(copy.path());
        let found = (recovery.last, &recovery.damage[..]);
        assert_eq!(found, (Lsn::new(last), &[][..]), "{context}, call {at}");
        let first = recovery.first.map_or(0, Lsn::get);
        assert!((1..=11).contains(&first), "{context}, call {at}: {first}");
        assert_holds(&after, first as i64..=last as i64);
    }
}

#[test]
fn a_failed_read_is_an_error_and_can_be_repeated() {
    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open_with(&env, dir.path(), options(Durability::Sync), 0);
    append(&wal, 1..=300);
    let mut reader = wal.reader(Lsn::FIRST);
    let mut errors = 0;
    for lsn in 1..=300 {
        state.fail(Call::Read, EIO, 1);
        let attempt = reader.next();
        state.heal();
        let next = attempt.or_else(|error| {
            assert_eq!(error.code(), ErrorCode::Storage);
            errors += 1;
            reader.next()
        });
        assert!(matches!(next, Ok(Some(Next::Frame(frame))) if frame.lsn == Lsn::new(lsn)));
    }
    assert!(errors > 0);
    assert!(reader.next().unwrap().is_none());
}
