//! The ledger over sled: what a checkpoint makes durable, and what damage leaves of it.

use std::fs;

use super::*;
use crate::convert::{DeltaType, TableColumn, TableSchema};
use crate::types::Lsn;

const EPOCH: Epoch = Epoch::new(7);

fn record(through: u64) -> LedgerRecord {
    LedgerRecord {
        settled: Settled { through: Lsn::new(through), rows_of_next: 3 },
        delivered_frames: through,
        delivered_rows: 10 * through,
        damaged_frames: 0,
        dropped: Dropped::default(),
        bent: Bent { floored_timestamps: through, emptied_lists: 1 },
        quarantined: Quarantined::default(),
    }
}

fn table(name: &str) -> CachedTable {
    let column =
        TableColumn { name: name.to_owned(), number: 1, delta_type: DeltaType::Long, nullable: true };
    CachedTable {
        table: "main.default.events".parse().unwrap(),
        read_unix_micros: 5,
        schema: TableSchema { columns: vec![column] },
    }
}

#[test]
fn a_checkpoint_is_found_again_by_the_same_epoch_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
    assert_eq!(opened.record, LedgerRecord::default());
    opened.ledger.checkpoint(&record(5)).unwrap();
    opened.ledger.checkpoint(&record(6)).unwrap();
    drop(opened);

    assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().record, record(6));
    assert_eq!(Ledger::open(dir.path(), Epoch::new(8)).unwrap().record, LedgerRecord::default());
}

#[test]
fn peeking_works_beside_the_live_owner_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(peek(dir.path(), EPOCH).unwrap().record, None);
    let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
    opened.ledger.checkpoint(&record(5)).unwrap();
    assert_eq!(peek(dir.path(), EPOCH).unwrap().record, Some((record(5), Ranges::default())));
    opened.ledger.checkpoint(&record(6)).unwrap();
    assert_eq!(peek(dir.path(), EPOCH).unwrap().record, Some((record(6), Ranges::default())));
}

#[test]
fn a_snapshot_that_was_cut_off_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    // sled makes one while it opens, when there is something new since the last.
    for through in 1..=2 {
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        opened.ledger.checkpoint(&record(through)).unwrap();
    }
    let names = || fs::read_dir(dir.path().join(DIRECTORY)).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names().any(|name| name.to_string_lossy().starts_with("snap.")), "so sled calls them");
    let cut_off = dir.path().join(DIRECTORY).join("snap.0000000000FFFFFF.generating");
    for written in [&b""[..], b"begun"] {
        fs::write(&cut_off, written).unwrap();
        assert_eq!(peek(dir.path(), EPOCH).unwrap().record.unwrap().0, record(2));
        assert!(cut_off.exists(), "who peeks changes nothing");
        let opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert!(opened.damage.is_none(), "{:?}", opened.damage);
        assert_eq!(opened.record, record(2));
        assert!(!cut_off.exists());
    }
}

#[test]
fn the_table_is_remembered_with_the_next_checkpoint_and_forgotten_so_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
    assert_eq!(opened.table, None);
    opened.ledger.remember_table(Some(&table("a")));
    assert!(opened.ledger.is_due());
    opened.ledger.checkpoint(&record(5)).unwrap();
    assert!(!opened.ledger.is_due());
    assert_eq!(peek(dir.path(), EPOCH).unwrap().table, Some(table("a")));
    drop(opened);

    let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
    assert_eq!(opened.table, Some(table("a")));
    opened.ledger.remember_table(Some(&table("a")));
    assert!(!opened.ledger.is_due(), "it is there already");
    let mut ledger = opened.ledger.unwritable();
    ledger.checkpoint(&record(6)).unwrap();
    assert_eq!(peek(dir.path(), EPOCH).unwrap().table, Some(table("a")), "a new store has it too");
    ledger.remember_table(None);
    ledger.checkpoint(&record(6)).unwrap();
    drop(ledger);
    let opened = Ledger::open(dir.path(), EPOCH).unwrap();
    assert_eq!((opened.record, opened.table), (record(6), None));
}

#[test]
fn a_damaged_table_is_left_out_and_hurts_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), EPOCH).unwrap().ledger;
    ledger.table = b"this is no table".to_vec();
    ledger.is_table_due = true;
    ledger.checkpoint(&record(5)).unwrap();
    drop(ledger);
    let opened = Ledger::open(dir.path(), EPOCH).unwrap();
    assert!(opened.damage.is_none());
    assert_eq!((opened.record, opened.table), (record(5), None));
}

/// Every other frame behind the watermark.
fn ranges(watermark: u64, count: u64) -> Ranges {
    let mut ranges = Ranges::default();
    let end_of = |lsn| Settled { through: Lsn::new(lsn), rows_of_next: 0 };
    for lsn in (watermark + 2..).step_by(2).take(count as usize) {
        let (start, end) = (end_of(lsn), end_of(lsn + 1));
        let range = SettledRange { start, end, frames: 1, rows: 1_000_000, requests: 1 };
        ranges.settle(&mut Settled::default(), range);
    }
    ranges
}

#[test]
fn what_is_settled_above_the_watermark_is_remembered_with_the_record_and_so_is_that_there_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
    assert_eq!(opened.ranges, Ranges::default());
    for count in [1, 3, RANGES_MAX as u64, 2, 0] {
        opened.ledger.remember_ranges(&ranges(5, count));
        assert!(opened.ledger.is_due());
        opened.ledger.checkpoint(&record(5)).unwrap();
        assert!(!opened.ledger.is_due());
        assert_eq!(peek(dir.path(), EPOCH).unwrap().record, Some((record(5), ranges(5, count))));
        drop(opened);
        opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!((opened.record, &opened.ranges), (record(5), &ranges(5, count)));
    }
    opened.ledger.remember_ranges(&ranges(6, 2));
    let mut ledger = opened.ledger.unwritable();
    ledger.checkpoint(&record(6)).unwrap();
    let found = peek(dir.path(), EPOCH).unwrap().record;
    assert_eq!(found, Some((record(6), ranges(6, 2))), "a new store has them too");
}

#[test]
fn a_record_with_as_many_ranges_as_there_can_be_stays_below_what_sled_puts_elsewhere() {
    let mut ranges = Ranges::default();
    for number in 1..=RANGES_MAX as u64 {
        let at = |lsn| Settled { through: Lsn::new(lsn), rows_of_next: u32::MAX };
        let (start, end) = (at(200 * number), at(200 * number + 190));
        let range = SettledRange { start, end, frames: 190, rows: 1 << 20, requests: 1 };
        ranges.settle(&mut Settled::default(), range);
    }
    let record = record(5);
    let bytes = record.encode(&ranges);
    assert!(bytes.len() < 128 * 1024, "{} bytes", bytes.len());
    assert_eq!(LedgerRecord::decode(&bytes), Ok((record, ranges)));
}

fn streams(id: &str, descriptor: &[u8], ends: impl IntoIterator<Item = u64>) -> Streams {
    let mut streams = Streams::default();
    streams.begin(id.to_owned(), descriptor.into());
    for end in ends {
        let end = Settled { through: Lsn::new(end), rows_of_next: 0 };
        streams.push(RecordedRequest { end, rows: 1, ..RecordedRequest::default() });
    }
    streams.sequence = 0;
    streams
}

#[test]
fn streams_are_remembered_with_the_next_checkpoint_and_their_descriptor_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
    assert_eq!(opened.streams, Ok(Streams::default()));
    opened.ledger.remember_streams(&Streams::default());
    assert!(!opened.ledger.is_due(), "nothing is nothing to write");
    // A descriptor of many columns is larger than what sled keeps with the rest.
    let wide: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
    for (number, descriptor) in [&b"one"[..], &wide, b"three", b"three"].into_iter().enumerate() {
        let streams = streams(&format!("stream {number}"), descriptor, [6, 7]);
        opened.ledger.remember_streams(&streams);
        assert!(opened.ledger.is_due());
        opened.ledger.checkpoint(&record(5)).unwrap();
        assert!(!opened.ledger.is_due());
        drop(opened);
        opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!((opened.record, &opened.streams), (record(5), &Ok(streams)));
    }
    let found = opened.streams.clone().unwrap();
    let mut ledger = opened.ledger.unwritable();
    ledger.checkpoint(&record(6)).unwrap();
    assert_eq!(peek(dir.path(), EPOCH).unwrap().streams.read, Ok(found), "a new store has them too");
    ledger.remember_streams(&Streams { doubtful_rows: 3, ..Streams::default() });
    ledger.checkpoint(&record(6)).unwrap();
    let found = peek(dir.path(), EPOCH).unwrap().streams.read.unwrap();
    assert_eq!((found.doubtful_rows, found.current), (3, None));
    assert!(peek(dir.path(), Epoch::new(8)).unwrap().streams.read.unwrap().is_empty());
}

#[test]
fn a_descriptor_that_is_durable_stays_so_until_its_successor_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), EPOCH).unwrap().ledger;
    ledger.remember_streams(&streams("first", b"one", [6]));
    ledger.checkpoint(&record(5)).unwrap();
    // A cut between the descriptor and the record that names it.
    ledger.remember_streams(&streams("second", b"two", []));
    ledger.remember_streams(&streams("third", b"three", []));
    let mut open = ledger.open.take().unwrap();
    ledger.descriptor.write(open.as_mut()).unwrap();
    open.flush().unwrap();
    open.sync().unwrap();
    drop((open, ledger));
    assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().streams, Ok(streams("first", b"one", [6])));
}

#[test]
fn a_record_of_streams_that_is_damaged_is_told_and_hurts_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path(), EPOCH).unwrap().ledger;
    ledger.remember_streams(&streams("a stream", b"one", [6]));
    ledger.streams[5] ^= 1;
    ledger.checkpoint(&record(5)).unwrap();
    drop(ledger);
    let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
    assert!(opened.damage.is_none());
    assert_eq!(opened.record, record(5));
    assert!(opened.streams.unwrap_err().contains("checksum"));
    opened.ledger.remember_streams(&Streams::default());
    opened.ledger.checkpoint(&record(5)).unwrap();
    drop(opened.ledger);
    assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().streams, Ok(Streams::default()));
}

#[test]
fn a_damaged_ledger_is_moved_aside_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
    opened.ledger.checkpoint(&record(5)).unwrap();
    drop(opened);
    let file = dir.path().join(DIRECTORY).join("conf");
    fs::write(&file, b"this is no sled configuration").unwrap();

    let opened = Ledger::open(dir.path(), EPOCH).unwrap();
    let aside = opened.damage.expect("the damage was not reported").set_aside.unwrap();
    assert_eq!(fs::read(aside.join("conf")).unwrap(), b"this is no sled configuration");
    assert_eq!(opened.record, record(5), "its mark has it");
    let mut ledger = opened.ledger;
    ledger.checkpoint(&record(9)).unwrap();
    drop(ledger);
    assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().record, record(9));
}

#[test]
fn a_ledger_that_was_just_dropped_is_found_whole() {
    let dir = tempfile::tempdir().unwrap();
    for through in 1..=50 {
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        assert_eq!(opened.record.settled.through.get(), through - 1);
        assert!(opened.damage.is_none(), "a lock was taken for damage");
        opened.ledger.checkpoint(&record(through)).unwrap();
    }
}

#[test]
fn after_a_failed_checkpoint_the_next_one_starts_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
    opened.ledger.checkpoint(&record(5)).unwrap();
    let mut ledger = opened.ledger.unwritable();
    ledger.checkpoint(&record(6)).unwrap();
    drop(ledger);
    assert_eq!(Ledger::open(dir.path(), EPOCH).unwrap().record, record(6));
    assert!(dir.path().join("ledger.set-aside-1").exists());
}
