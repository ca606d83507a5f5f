//! The life of a log without accidents: group commit, reopening, reclaim, locks, counts.

use std::{io::ErrorKind, path::PathBuf, sync::Barrier, time::Duration};

use arrow_zerobus_sdk_wrapper::{
    error::{Coded, ErrorCode},
    io::Env,
    types::{Lsn, TableName},
    wal::{
        AppendError, Count, Destination, Durability, LogDirectory, LogView, Next, OpenError, WalOptions,
        owner,
    },
};

use crate::support::*;

#[test]
fn appends_come_back_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, recovery) = open(dir.path());
    assert_eq!((recovery.last, recovery.segments), (Lsn::ZERO, 0));
    append(&wal, 1..=300);
    assert_holds(&wal, 1..=300);
    wal.close();
    wal.close();
    let (wal, recovery) = open(dir.path());
    assert_eq!((recovery.frames, recovery.rows, recovery.last), (300, 3000, Lsn::new(300)));
    assert_eq!((recovery.torn_bytes, recovery.damage.len()), (0, 0));
    assert!(recovery.segments > 1, "the test must cross segments");
    append(&wal, 301..=310);
    assert_holds(&wal, 1..=310);
    assert_holds(&wal, 157..=310);
}

#[test]
fn callers_that_come_during_a_sync_share_the_next_one() {
    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open_with(&env, dir.path(), options(Durability::Sync), 0);
    append(&wal, 1..=1);
    let (syncs, writes) = (state.count(Call::Sync), state.count(Call::Write));
    let gate = state.gate.lock().unwrap();
    let first = wal.append(frame(2, 1));
    wait_until("the appender syncs", || state.count(Call::Write) == writes + 1);
    let others: Vec<_> = (3..=66).map(|number| wal.append(frame(number, 1))).collect();
    drop(gate);
    assert_eq!(first.wait().unwrap().lsn, Lsn::new(2));
    for (other, lsn) in others.into_iter().zip(3..) {
        let appended = other.wait().unwrap();
        assert_eq!((appended.lsn, appended.durable), (Lsn::new(lsn), true));
    }
    assert_eq!((state.count(Call::Sync) - syncs, state.count(Call::Write) - writes), (2, 2));
}

#[test]
fn many_threads_get_dense_numbers_and_each_batch_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    let barrier = Barrier::new(8);
    let mut lsns: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    (0..50).map(|n| wal.append(frame(n, 3)).wait().unwrap().lsn.get()).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    lsns.sort_unstable();
    assert_eq!(lsns, (1..=400).collect::<Vec<u64>>());
    assert_eq!(read_all(&mut wal.reader(Lsn::FIRST)).0.len(), 400);
}

#[test]
fn an_append_whose_answer_is_dropped_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    drop(wal.append(frame(1, 10)));
    drop(wal.append(frame(2, 10)));
    wal.close();
    assert_holds(&open(dir.path()).0, 1..=2);
}

#[test]
fn a_batch_larger_than_a_segment_is_refused_with_both_sizes_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    let error = wal.append(frame(1, 10_000)).wait().unwrap_err();
    assert_eq!(error.code(), ErrorCode::BatchTooLarge);
    let AppendError::TooLarge { needed_bytes, segment_bytes } = error else { panic!("{error}") };
    assert!(needed_bytes > segment_bytes && segment_bytes == SEGMENT_BYTES);
    assert_eq!(segments(dir.path()).len(), 0);
    append(&wal, 1..=1);
}

#[test]
fn the_largest_frame_that_is_accepted_fits() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    let AppendError::TooLarge { needed_bytes, .. } = wal.append(frame(1, 10_000)).wait().unwrap_err() else {
        panic!("it fits");
    };
    drop(wal);
    for (segment_bytes, fits) in [(needed_bytes, true), (needed_bytes - 1, false)] {
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions { segment_bytes, ..options(Durability::Sync) };
        let (wal, _) = open_with(&Env::os(), dir.path(), options, 0);
        assert_eq!(wal.append(frame(1, 10_000)).wait().is_ok(), fits);
        assert_eq!(wal.append(frame(2, 10_000)).wait().is_ok(), fits);
        wal.close();
        for segment in segments(dir.path()) {
            assert_eq!(segment.metadata().unwrap().len(), needed_bytes);
        }
    }
}

#[test]
fn a_closed_log_refuses_appends_and_reclaims() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1..=3);
    wal.close();
    assert_eq!(wal.append(frame(4, 1)).wait().unwrap_err().code(), ErrorCode::Closed);
    assert_eq!(wal.reclaim(Lsn::new(3), 0).unwrap_err().kind(), ErrorKind::NotConnected);
    assert_holds(&wal, 1..=3);
}

#[test]
fn the_next_number_is_above_the_log_and_above_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(dir.path()).0, 1..=5);
    let (wal, recovery) = open_with(&Env::os(), dir.path(), options(Durability::Sync), 9);
    assert_eq!((recovery.last, wal.durable()), (Lsn::new(9), Lsn::new(9)));
    assert_eq!(wal.append(frame(10, 10)).wait().unwrap().lsn, Lsn::new(10));
    let (batches, damage) = read_all(&mut wal.reader(Lsn::FIRST));
    assert_eq!(batches.into_keys().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 10]);
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].lsns, Some(Lsn::new(6)..=Lsn::new(9)));
    drop(wal);
    let (wal, recovery) = open_with(&Env::os(), dir.path(), options(Durability::Sync), 3);
    assert_eq!((recovery.last, recovery.damage.len()), (Lsn::new(10), 0));
    append(&wal, 11..=11);
}

#[test]
fn a_log_without_frames_remembers_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1..=40);
    wal.reclaim(Lsn::new(40), 0).unwrap();
    wal.close();
    for _ in 0..3 {
        let (wal, recovery) = open(dir.path());
        assert_eq!((recovery.last, recovery.frames, recovery.damage.len()), (Lsn::new(40), 0, 0));
        wal.close();
    }
    let (wal, _) = open(dir.path());
    append(&wal, 41..=42);
    assert_holds(&wal, 41..=42);
}

#[test]
fn reclaim_frees_settled_segments_and_never_an_unsettled_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1..=300);
    for settled in [0, 1, 50, 149, 150, 299] {
        let before = wal.bytes();
        let reclaimed = wal.reclaim(Lsn::new(settled), u64::MAX).unwrap();
        assert_eq!(before - wal.bytes(), reclaimed.bytes);
        assert_holds(&wal, settled as i64 + 1..=300);
        assert!(wal.first().unwrap() <= Lsn::new(settled + 1));
    }
    assert_eq!(segments(dir.path()).len(), wal.segments());
    wal.close();
    assert_holds(&open(dir.path()).0, 300..=300);
}

#[test]
fn a_drained_log_takes_next_to_no_disk() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions { segment_bytes: 8 << 20, ..options(Durability::Sync) };
    let (wal, _) = open_with(&Env::os(), dir.path(), options, 0);
    append(&wal, 1..=200);
    let reclaimed = wal.reclaim(wal.durable(), 1 << 20).unwrap();
    assert_eq!(reclaimed.segments, 0, "the open segment is not worth a new one yet");
    wal.reclaim(wal.durable(), 64 << 10).unwrap();
    let on_disk =
        || segments(dir.path()).iter().map(|path| path.metadata().unwrap().blocks() * 512).sum::<u64>();
    assert_eq!((wal.bytes(), segments(dir.path()).len()), (4096, 1));
    assert!(on_disk() <= 8192, "{} bytes", on_disk());
    append(&wal, 201..=202);
    wal.close();
    // The last segment of a closed log can be reclaimed by the next owner.
    let (wal, _) = open_with(&Env::os(), dir.path(), options, 202);
    wal.reclaim(Lsn::new(202), 0).unwrap();
    assert_eq!(wal.bytes(), 4096);
    append(&wal, 203..=203);
    assert_holds(&wal, 203..=203);
}

#[test]
fn a_reader_that_has_caught_up_gives_the_disk_its_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open_with(&Env::os(), dir.path(), options(Durability::Sync), 0);
    let mut reader = wal.reader(Lsn::FIRST);
    for round in 0..3 {
        append(&wal, round * 10 + 1..=round * 10 + 10);
        for lsn in round * 10 + 1..=round * 10 + 10 {
            let Ok(Some(Next::Frame(frame))) = reader.next() else { panic!("frame {lsn} is not read") };
            assert_eq!(frame.lsn.get() as i64, lsn);
        }
        assert!(reader.next().unwrap().is_none());
        wal.reclaim(wal.durable(), 0).unwrap();
        assert_eq!(open_and_deleted(dir.path()), Vec::<PathBuf>::new(), "round {round}");
    }
}

#[test]
fn the_directory_is_synced_before_and_after_segments_come_and_go() {
    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open_with(&env, dir.path(), options(Durability::Sync), 0);
    append(&wal, 1..=1);
    let journal: Vec<Call> = state.journal().into_iter().rev().take(6).map(|(call, _)| call).collect();
    // Newest first: the group's sync and write, space, the directory, the header's sync and write.
    assert_eq!(journal, [Call::Sync, Call::Write, Call::Allocate, Call::SyncDir, Call::Sync, Call::Write]);
    append(&wal, 2..=200);
    wal.reclaim(Lsn::new(150), u64::MAX).unwrap();
    let journal = state.journal();
    assert!(matches!(&journal[journal.len() - 2..], [(Call::Remove, _), (Call::SyncDir, _)]));
}

#[test]
fn opening_reads_the_ends_of_sealed_segments_only() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1..=1500);
    wal.close();
    let files = segments(dir.path()).len() as u64;
    let bytes: u64 = segments(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
    let (env, state) = faulty();
    let (_wal, recovery) = open_with(&env, dir.path(), options(Durability::Sync), 0);
    assert_eq!(recovery.frames, 1500);
    let read = state.bytes_read.load(std::sync::atomic::Ordering::SeqCst);
    assert!(
        files > 10 && read < files * 8300 && read < bytes / 5,
        "{read} of {bytes} bytes in {files} files"
    );
}

#[test]
fn what_crashes_left_open_is_read_once() {
    let mut dir = tempfile::tempdir().unwrap();
    for crash in 0..20 {
        let (wal, recovery) = open(dir.path());
        assert_eq!(recovery.frames, crash * 20);
        append(&wal, crash as i64 * 20 + 1..=crash as i64 * 20 + 20);
        let copy = copy(dir.path());
        drop(wal);
        dir = copy;
    }
    let read_at_opening = || {
        let (env, state) = faulty();
        let (wal, recovery) = open_with(&env, dir.path(), options(Durability::Sync), 0);
        let read = state.bytes_read.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!((recovery.frames, recovery.torn_bytes, recovery.damage.len()), (400, 0, 0));
        assert_holds(&wal, 1..=400);
        read
    };
    let (with_the_last, without) = (read_at_opening(), read_at_opening());
    let files = segments(dir.path()).len() as u64;
    assert!(without < files * 8300 + 8192, "{without} bytes of {files} files");
    // The twenty frames of the last one, each of which begins a block.
    let last = with_the_last - without;
    assert!((20 * 4096..2 * SEGMENT_BYTES).contains(&last), "{last} bytes of the last one");
}

#[test]
fn a_second_owner_is_refused_with_the_name_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    let env = Env::os();
    let error = LogDirectory::open(&env, dir.path(), &destination()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Locked);
    let text = error.to_string();
    let OpenError::Locked { pid, program, .. } = error else { panic!("{text}") };
    assert_eq!(pid, Some(std::process::id()));
    assert!(program.is_some() && text.contains(&std::process::id().to_string()), "{text}");
    assert_eq!(owner(&env, dir.path()).unwrap().map(|owner| owner.pid), Some(std::process::id()));
    wal.close();
    assert_eq!(owner(&env, dir.path()).unwrap(), None);
    LogDirectory::open(&env, dir.path(), &destination()).unwrap();
}

#[test]
fn a_stale_note_in_a_free_lock_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    for note in ["{\"pid\":1,\"program\":\"init\"}", "", "\u{0}garbage"] {
        std::fs::write(dir.path().join("LOCK"), note).unwrap();
        assert_eq!(owner(&Env::os(), dir.path()).unwrap(), None);
        open(dir.path()).0.close();
    }
}

#[test]
fn a_log_for_another_table_is_refused_and_names_both() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(dir.path()).0, 1..=1);
    let other = Destination { table: "main.default.other".parse::<TableName>().unwrap(), ..destination() };
    let error = LogDirectory::open(&Env::os(), dir.path(), &other).unwrap_err();
    assert!(matches!(error, OpenError::OtherTable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("main.default.events") && text.contains("main.default.other"), "{text}");
    // Another way to the same table is no other table.
    let moved = Destination { endpoint: "http://127.0.0.1:9".to_owned(), ..destination() };
    let directory = LogDirectory::open(&Env::os(), dir.path(), &moved).unwrap();
    let epoch = directory.epoch();
    drop(directory);
    let view = LogView::read(&Env::os(), dir.path()).unwrap();
    assert_eq!((view.destination(), view.epoch()), (Some(&moved), epoch));
}

#[test]
fn a_count_is_what_a_reader_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    append(&wal, 1..=250);
    let mut frames = Vec::new();
    let mut reader = wal.reader(Lsn::FIRST);
    while let Some(Next::Frame(frame)) = reader.next().unwrap() {
        frames.push(frame);
    }
    let view = LogView::read(&Env::os(), dir.path()).unwrap();
    assert_eq!((view.first(), view.last()), (Some(Lsn::FIRST), Lsn::new(250)));
    assert_eq!((view.segments(), view.bytes()), (wal.segments(), wal.bytes()));
    for from in [0, 1, 2, 77, 178, 249, 250, 251, 1000] {
        let rest = || frames.iter().filter(|frame| frame.lsn >= Lsn::new(from));
        let expected = Count {
            frames: rest().count() as u64,
            rows: rest().map(|frame| u64::from(frame.rows)).sum(),
            bytes: rest().map(|frame| frame.frame_bytes()).sum(),
            oldest_unix_micros: rest().next().map(|frame| frame.appended_unix_micros),
        };
        assert_eq!(wal.count_from(Lsn::new(from)).unwrap(), expected, "from {from}");
        assert_eq!(view.count_from(Lsn::new(from)).unwrap(), expected, "from {from}");
    }
}

#[test]
fn a_reader_follows_the_tail_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    let mut reader = wal.reader(Lsn::FIRST);
    assert!(reader.next().unwrap().is_none());
    for number in 1..=300 {
        append(&wal, number..=number);
        let Some(Next::Frame(frame)) = reader.next().unwrap() else { panic!("frame {number} is not there") };
        assert_eq!(frame.lsn, Lsn::new(number as u64));
        assert_eq!(frame.decode().unwrap(), batch(number, 10));
        assert!(reader.next().unwrap().is_none());
        if number % 40 == 0 {
            wal.reclaim(frame.lsn, 0).unwrap();
        }
    }
}

#[test]
fn small_frames_are_read_many_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(dir.path()).0, 1..=300);
    let (env, state) = faulty();
    let (wal, _) = open_with(&env, dir.path(), options(Durability::Sync), 0);
    let before = state.count(Call::Read);
    assert_holds(&wal, 1..=300);
    let reads = state.count(Call::Read) - before;
    assert!(reads < 60, "{reads} reads for 300 frames in {} segments", wal.segments());
}

#[test]
fn an_interval_answers_before_the_sync_and_shows_frames_to_readers_after_it() {
    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let interval = Durability::Interval(Duration::from_millis(20));
    let (wal, _) = open_with(&env, dir.path(), options(interval), 0);
    // The first one also makes the segment, durably.
    append(&wal, 1..=1);
    wait_until("the interval's sync", || wal.durable() == Lsn::FIRST);
    let gate = state.gate.lock().unwrap();
    let appended = wal.append(frame(2, 10)).wait().unwrap();
    assert!(!appended.durable);
    assert_eq!((wal.durable(), wal.count_from(Lsn::FIRST).unwrap().frames), (Lsn::FIRST, 1));
    assert!(wal.reader(Lsn::new(2)).next().unwrap().is_none());
    drop(gate);
    // Without another append.
    wait_until("the interval's sync", || wal.durable() == Lsn::new(2));
    assert_holds(&wal, 1..=2);
    append(&wal, 3..=400);
    wal.close();
    assert_eq!(wal.durable(), Lsn::new(400));
    assert_holds(&open(dir.path()).0, 1..=400);
}

#[test]
fn the_operating_system_is_left_to_sync_when_asked_to() {
    let (env, state) = faulty();
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open_with(&env, dir.path(), options(Durability::Os), 0);
    append(&wal, 1..=1);
    let syncs = state.count(Call::Sync);
    append(&wal, 2..=50);
    assert_eq!((state.count(Call::Sync), wal.durable()), (syncs, Lsn::new(50)));
    assert_holds(&wal, 1..=50);
}

#[tokio::test]
async fn the_durable_position_can_be_watched() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path());
    let mut durable = wal.subscribe();
    let appended = wal.append(frame(1, 10)).await.unwrap();
    durable.wait_for(|lsn| *lsn >= appended.lsn).await.unwrap();
    assert_eq!(wal.durable(), appended.lsn);
}
