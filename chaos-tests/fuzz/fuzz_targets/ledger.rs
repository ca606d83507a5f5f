//! Whatever stands in the files of the ledger, opening it gives a ledger: as it was, or a new one with the old one
//! set aside. Never a panic, and never one that cannot be written.

#![no_main]

use std::{collections::BTreeMap, path::PathBuf, sync::OnceLock};

use arrow_zerobus_sdk_wrapper::{
    ledger::{Ledger, LedgerRecord, Ranges, Settled, SettledRange},
    types::{Epoch, Lsn},
};
use arrow_zerobus_sdk_wrapper_fuzz::{
    limits,
    log::{directory, files, put},
    spoil::{Files, Input, spoil},
};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const EPOCH: Epoch = Epoch::new(7);

fn record(through: u64) -> LedgerRecord {
    LedgerRecord {
        settled: Settled { through: Lsn::new(through), rows_of_next: 0 },
        delivered_frames: through,
        delivered_rows: 10 * through,
        damaged_frames: 0,
        ..LedgerRecord::default()
    }
}

/// What is settled above the watermark.
fn ranges() -> Ranges {
    let mut ranges = Ranges::default();
    for through in [8, 10, 300] {
        let start = Settled { through: Lsn::new(through), rows_of_next: 2 };
        let end = Settled { through: Lsn::new(through + 1), rows_of_next: 0 };
        ranges.settle(&mut Settled::default(), SettledRange { start, end, frames: 1, rows: 8, requests: 1 });
    }
    ranges
}

/// The files of a ledger, and the name of their directory.
struct Template {
    directory: String,
    files: Files,
    names: Vec<String>,
}

fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let dir = directory();
        let mut opened = Ledger::open(dir.path(), EPOCH).unwrap();
        opened.ledger.remember_ranges(&ranges());
        for through in 1..=5 {
            opened.ledger.checkpoint(&record(through)).unwrap();
        }
        drop(opened);
        let inner = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let inner: Vec<PathBuf> = inner.filter(|path| path.is_dir()).collect();
        let [inner] = &inner[..] else { panic!("a ledger has one directory, not {inner:?}") };
        let files = files(inner).unwrap();
        let names: BTreeMap<&String, ()> = files.keys().map(|name| (name, ())).collect();
        let names = names.into_keys().cloned().collect();
        let directory = inner.file_name().unwrap().to_string_lossy().into_owned();
        Template { directory, files, names }
    })
}

/// A ledger whose files are spoilt, or whose store is whole and holds something else than records.
fn spoilt(input: &[u8]) -> TempDir {
    let mut input = Input::new(input);
    let dir = directory();
    let template = template();
    let inner = dir.path().join(&template.directory);
    std::fs::create_dir(&inner).unwrap();
    if input.byte() % 4 == 0 {
        put(&inner, &template.files);
        let database = sled::Config::new().path(&inner).flush_every_ms(None).open().unwrap();
        let keys: Vec<_> = database.iter().keys().map(Result::unwrap).collect();
        let value = input.rest();
        keys.into_iter().for_each(|key| drop(database.insert(key, value).unwrap()));
        database.flush().unwrap();
    } else {
        let mut files = template.files.clone();
        spoil(&mut files, &template.names, &mut input);
        put(&inner, &files);
    }
    dir
}

fn check(input: &[u8]) {
    let dir = spoilt(input);
    let mut opened = Ledger::open(dir.path(), EPOCH).expect("a damaged ledger is set aside, not refused");
    if opened.ledger.checkpoint(&record(6)).is_err() {
        opened.ledger.checkpoint(&record(6)).expect("after a failure the next one starts anew");
    }
    drop(opened);
    let opened = Ledger::open(dir.path(), EPOCH).unwrap();
    assert!(opened.damage.is_none(), "a new ledger is called damaged: {:?}", opened.damage);
    assert_eq!(opened.record, record(6));
}

fuzz_target!(
    init: {
        limits::let_panics_be_caught();
        template();
    },
    |input: &[u8]| limits::run(|| check(input))
);
