//! Goal: no damage of the ledger's files is silent. A ledger that is opened says what it said, or reports that it cannot.
//!
//! Method: a real ledger of many checkpoints, with everything that one can hold. Bits of all of its files are flipped, one at
//! a time, at places that a seed draws, most of them where something stands: 1,000, or `LEDGER_FLIPS=n`;
//! `LEDGER_FLIPS=all` flips each. And its store is lost, emptied, cut, put back from a copy and taken from another log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::convert::{DeltaType, TableColumn, TableSchema};
use arrow_zerobus_sdk_wrapper::ledger::{
    CachedTable, Ledger, LedgerOpened, LedgerRecord, Ranges, RecordedRequest, Renewed, Settled, SettledRange,
    Streams, Unsure,
};
use arrow_zerobus_sdk_wrapper::types::{Epoch, Lsn};

use crate::{ALONE, EPOCH, in_memory};

const FLIPS: usize = 1_000;
const SEED: u64 = 20_261_128;
/// What the last request that was recorded holds.
const OPEN_ROWS: u64 = 3;

type Files = BTreeMap<PathBuf, Vec<u8>>;
type Contents = (LedgerRecord, Ranges, Result<Streams, String>, Option<CachedTable>);

/// Opens sled as an earlier version did. Threads of a handle that was just dropped can hold sled's lock a moment longer.
fn open_sled(path: &Path) -> sled::Db {
    loop {
        match sled::open(path) {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                thread::sleep(Duration::from_millis(5));
            }
            opened => return opened.unwrap(),
        }
    }
}

fn at(through: u64) -> Settled {
    Settled { through: Lsn::new(through), rows_of_next: 0 }
}

fn record(through: u64) -> LedgerRecord {
    LedgerRecord {
        settled: at(through),
        delivered_frames: through + 2,
        delivered_rows: 10 * through + 20,
        ..LedgerRecord::default()
    }
}

fn ranges(watermark: u64) -> Ranges {
    let mut ranges = Ranges::default();
    for start in [watermark + 3, watermark + 6] {
        let range = SettledRange { start: at(start), end: at(start + 1), frames: 1, rows: 10, requests: 1 };
        ranges.settle(&mut at(watermark), range);
    }
    ranges
}

fn streams(through: u64) -> Streams {
    let mut streams = Streams { doubtful_rows: 5, ..Streams::default() };
    streams.begin(format!("a stream {}", through / 10), Arc::from(vec![through as u8 / 10; 300]));
    streams.push(RecordedRequest { end: at(through + 9), rows: OPEN_ROWS, ..RecordedRequest::default() });
    streams.sequence = 0;
    streams
}

fn table(read_unix_micros: i64) -> CachedTable {
    let column =
        TableColumn { name: "id".to_owned(), number: 1, delta_type: DeltaType::Long, nullable: true };
    let schema = TableSchema { columns: vec![column] };
    CachedTable { table: "main.default.events".parse().unwrap(), read_unix_micros, schema }
}

/// A ledger with so many checkpoints; they go on from those that it has.
fn checkpoints(directory: &Path, epoch: Epoch, throughs: impl IntoIterator<Item = u64>) {
    let mut ledger = Ledger::open(directory, epoch).unwrap().ledger;
    for through in throughs {
        ledger.remember_ranges(&ranges(through));
        ledger.remember_streams(&streams(through));
        ledger.remember_table(Some(&table(through as i64 / 10)));
        ledger.remember_log(Lsn::new(through + 20));
        ledger.checkpoint(&record(through)).unwrap();
    }
}

fn contents(opened: &LedgerOpened) -> Contents {
    (opened.record, opened.ranges.clone(), opened.streams.clone(), opened.table.clone())
}

fn read(directory: &Path) -> Files {
    fn add(files: &mut Files, root: &Path, directory: &Path) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => add(files, root, &path),
                false if path.extension().is_some_and(|it| it == "reserve") => {}
                false => {
                    let bytes = fs::read(&path).unwrap();
                    files.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
                }
            }
        }
    }
    let mut files = Files::new();
    add(&mut files, directory, directory);
    files
}

fn write(directory: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The bits that are flipped: of each file its share, and half of them where bytes are not zero.
fn bits(files: &Files) -> Vec<(PathBuf, usize)> {
    let wanted = std::env::var("LEDGER_FLIPS").unwrap_or_else(|_| FLIPS.to_string());
    let all = files.iter().flat_map(|(name, bytes)| (0..8 * bytes.len()).map(move |bit| (name, bit)));
    if wanted == "all" {
        return all.map(|(name, bit)| (name.clone(), bit)).collect();
    }
    let wanted: usize = wanted.parse().unwrap();
    let said: Vec<(&PathBuf, usize)> = all.clone().filter(|(name, bit)| files[*name][bit / 8] != 0).collect();
    let all: Vec<(&PathBuf, usize)> = all.collect();
    let mut state = SEED;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    (0..wanted)
        .map(|number| if number % 4 < 3 { said[draw(said.len())] } else { all[draw(all.len())] })
        .map(|(name, bit)| (name.clone(), bit))
        .collect()
}

#[test]
fn no_bit_of_a_ledger_flips_in_silence() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let template = in_memory();
    checkpoints(template.path(), EPOCH, 1..=120);
    let files = read(template.path());
    assert!(files.contains_key(Path::new("ledger.mark")) && files.contains_key(Path::new("ledger/db")));
    let good = contents(&Ledger::open(template.path(), EPOCH).unwrap());
    assert_eq!((good.0, &good.1), (record(120), &ranges(120)));

    let (mut unchanged, mut reported, mut restored) = (0, 0, 0);
    let bits = bits(&files);
    for (name, bit) in &bits {
        let directory = in_memory();
        write(directory.path(), &files);
        let path = directory.path().join(name);
        let mut bytes = files[name].clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        let told = format!("bit {bit} of {}", name.display());

        let opened = Ledger::open(directory.path(), EPOCH).unwrap();
        let found = contents(&opened);
        let is_reported = opened.damage.is_some() || found.2.is_err() || opened.mark_damage.is_some();
        assert!(found == good || is_reported, "{told} passes in silence: {found:?}");
        assert_eq!((found.0, &found.1), (good.0, &good.1), "{told}: what is settled is known all the same");
        match (is_reported, &opened.damage) {
            (false, _) => unchanged += 1,
            (true, damage) => {
                reported += 1;
                restored += usize::from(damage.as_ref().is_some_and(|it| it.renewed == Renewed::FromMark));
            }
        }
        drop(opened.ledger);
        if !is_reported {
            continue;
        }
        let again = Ledger::open(directory.path(), EPOCH).unwrap();
        assert!(again.damage.is_none(), "{told} is reported again: {:?}", again.damage);
        assert_eq!(again.record, good.0, "{told}");
    }
    println!(
        "{} flips: {unchanged} change nothing, {reported} are reported, {restored} of them restored, 0 are silent",
        bits.len()
    );
    assert!(restored > 0, "no flip made sled say something else");
}

/// Opens a ledger after its store was changed and says what came of it.
fn after(change: impl FnOnce(&Path)) -> LedgerOpened {
    let directory = in_memory();
    checkpoints(directory.path(), EPOCH, 1..=120);
    change(directory.path());
    let opened = Ledger::open(directory.path(), EPOCH).unwrap();
    for aside in opened.damage.iter().filter_map(|damage| damage.set_aside.as_ref()) {
        assert!(aside.exists(), "{} is kept", aside.display());
    }
    opened
}

/// What the mark does not say of streams is counted, and no number that was sent is given again.
fn assert_restored(opened: &LedgerOpened, why: &str) {
    let damage = opened.damage.as_ref().unwrap_or_else(|| panic!("{why}: nothing was reported"));
    assert_eq!(damage.renewed, Renewed::FromMark, "{why}: {damage}");
    assert_eq!((opened.record, &opened.ranges), (record(120), &ranges(120)), "{why}");
    assert_eq!(opened.streams, Ok(Streams { doubtful_rows: 5, ..Streams::default() }), "{why}");
    assert_eq!(opened.unsure, Unsure::Rows(OPEN_ROWS), "{why}");
    assert_eq!((opened.sent, opened.log_durable), (Lsn::new(129), Lsn::new(140)), "{why}");
}

#[test]
fn a_store_that_is_lost_emptied_cut_older_or_foreign_is_reported_and_its_mark_is_believed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let lost = after(|directory| fs::remove_dir_all(directory.join("ledger")).unwrap());
    assert_restored(&lost, "lost");
    assert_eq!(lost.damage.unwrap().set_aside, None);

    let emptied = |directory: &Path| {
        fs::remove_dir_all(directory.join("ledger")).unwrap();
        fs::create_dir(directory.join("ledger")).unwrap();
    };
    assert_restored(&after(emptied), "emptied");
    let without_length = |directory: &Path| fs::write(directory.join("ledger/db"), "").unwrap();
    assert_restored(&after(without_length), "a file without a byte");
    for cut in [1, 512, 4096, 20_000] {
        let cut_to = |directory: &Path| {
            let file = fs::File::options().write(true).open(directory.join("ledger/db")).unwrap();
            file.set_len(cut).unwrap();
        };
        assert_restored(&after(cut_to), &format!("cut to {cut} bytes"));
    }
    let zeros = |directory: &Path| fs::write(directory.join("ledger/db"), vec![0; 512 * 1024]).unwrap();
    assert_restored(&after(zeros), "zeros");

    let put = |other: &Path, directory: &Path| {
        fs::remove_dir_all(directory.join("ledger")).unwrap();
        let files = read(other).into_iter().filter(|(name, _)| name.starts_with("ledger"));
        write(directory, &files.collect());
    };
    for last in [1, 50, 119] {
        let older = in_memory();
        checkpoints(older.path(), EPOCH, 1..=last);
        assert_restored(&after(|directory| put(older.path(), directory)), &format!("older, {last}"));
    }
    let foreign = in_memory();
    checkpoints(foreign.path(), Epoch::new(8), 1..=500);
    assert_restored(&after(|directory| put(foreign.path(), directory)), "foreign");
}

#[test]
fn a_mark_that_is_lost_or_damaged_is_reported_made_anew_and_costs_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let assert_sound = |opened: LedgerOpened, is_reported: bool, why: &str| {
        assert!(opened.damage.is_none(), "{why}");
        assert_eq!(opened.mark_damage.is_some(), is_reported, "{why}: {:?}", opened.mark_damage);
        assert_eq!((opened.record, &opened.ranges), (record(120), &ranges(120)), "{why}");
        assert_eq!((opened.streams, opened.unsure), (Ok(streams(120)), Unsure::Nothing), "{why}");
    };
    let mark = |directory: &Path| directory.join("ledger.mark");
    assert_sound(after(|directory| fs::remove_file(mark(directory)).unwrap()), true, "lost");
    assert_sound(after(|directory| fs::write(mark(directory), "").unwrap()), true, "empty");
    assert_sound(after(|directory| fs::write(mark(directory), [7; 8192]).unwrap()), true, "garbage");
    for slot in [0, 1] {
        let torn = |directory: &Path| {
            let mut bytes = fs::read(mark(directory)).unwrap();
            bytes[slot * 4096 + 100..slot * 4096 + 600].fill(0);
            fs::write(mark(directory), bytes).unwrap();
        };
        assert_sound(after(torn), false, "one slot, as a crash leaves it");
    }
    // The next checkpoint goes into the slot that is not whole, whichever that is.
    for slot in [0, 1] {
        let directory = in_memory();
        checkpoints(directory.path(), EPOCH, 1..=120);
        let mut bytes = fs::read(mark(directory.path())).unwrap();
        bytes[slot * 4096] ^= 1;
        fs::write(mark(directory.path()), bytes).unwrap();
        checkpoints(directory.path(), EPOCH, 121..=121);
        fs::remove_dir_all(directory.path().join("ledger")).unwrap();
        assert_eq!(Ledger::open(directory.path(), EPOCH).unwrap().record, record(121));
    }
}

#[test]
fn store_and_mark_that_are_both_lost_are_reported_if_anything_of_them_is_left() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = after(|directory| {
        fs::write(directory.join("ledger/conf"), "this is no sled configuration").unwrap();
        fs::write(directory.join("ledger.mark"), [7; 8192]).unwrap();
    });
    assert_eq!(opened.damage.unwrap().renewed, Renewed::Empty);
    assert!(opened.mark_damage.is_some());
    assert_eq!((opened.record, opened.unsure), (LedgerRecord::default(), Unsure::Everything));
}

#[test]
fn a_log_without_a_mark_gets_one_and_one_whose_ledger_went_on_without_it_raises_no_alarm() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // What an earlier version writes: the record, and nothing that counts checkpoints.
    let earlier = |directory: &Path, through: u64| {
        let store = open_sled(&directory.join("ledger"));
        let mut key = *b"settled\0........";
        key[8..].copy_from_slice(&EPOCH.get().to_be_bytes());
        let mut bytes = vec![4];
        bytes.extend(through.to_le_bytes());
        bytes.resize(13, 0);
        bytes.extend((through + 2).to_le_bytes());
        bytes.extend((10 * through + 20).to_le_bytes());
        bytes.resize(13 + 24 + 16 + 16 + 17, 0);
        store.insert(key, bytes).unwrap();
        store.flush().unwrap();
    };
    let directory = in_memory();
    earlier(directory.path(), 9);
    let opened = Ledger::open(directory.path(), EPOCH).unwrap();
    assert_eq!((opened.record, opened.damage.is_none(), &opened.mark_damage), (record(9), true, &None));
    drop(opened);
    // The mark is there from the beginning on.
    let lost = read(directory.path());
    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    let restored = Ledger::open(directory.path(), EPOCH).unwrap();
    assert_eq!((restored.record, restored.damage.is_some()), (record(9), true));
    drop(restored);

    let directory = in_memory();
    write(directory.path(), &lost);
    checkpoints(directory.path(), EPOCH, 10..=20);
    // A step back to the earlier version, which goes on without the mark; and forward again.
    earlier(directory.path(), 30);
    let opened = Ledger::open(directory.path(), EPOCH).unwrap();
    assert_eq!((opened.record, opened.damage.is_none(), &opened.mark_damage), (record(30), true, &None));
    drop(opened);
    // The earlier version had to begin a store of its own.
    let directory = in_memory();
    let mut ledger = Ledger::open(directory.path(), EPOCH).unwrap().ledger;
    (1..=20).for_each(|through| ledger.checkpoint(&record(through)).unwrap());
    drop(ledger);
    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    earlier(directory.path(), 40);
    let opened = Ledger::open(directory.path(), EPOCH).unwrap();
    assert_eq!((opened.record, opened.damage.is_none(), &opened.mark_damage), (record(40), true, &None));
}

#[test]
fn a_backup_of_store_and_mark_is_believed_as_a_whole() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = in_memory();
    checkpoints(directory.path(), EPOCH, 1..=50);
    let backup = read(directory.path());
    checkpoints(directory.path(), EPOCH, 51..=60);
    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    write(directory.path(), &backup);
    let opened = Ledger::open(directory.path(), EPOCH).unwrap();
    assert_eq!((opened.record, opened.damage.is_none(), &opened.mark_damage), (record(50), true, &None));
}
