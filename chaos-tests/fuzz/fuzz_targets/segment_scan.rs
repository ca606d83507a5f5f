//! Whatever stands in a log's directory, opening it gives a log or a typed error: no panic, no endless loop, no
//! allocation without measure \[I14\].
//!
//! The first byte of an input chooses a real log, the rest says how its files are spoilt; a file can be replaced as a
//! whole, so arbitrary bytes are among what is tried. A log that opens must be read to its end, must take a
//! frame, and must open again with the same frames.

#![no_main]

use std::sync::OnceLock;

use arrow_array::RecordBatch;
use arrow_zerobus_sdk_wrapper::{
    types::Lsn,
    wal::{LogView, PreparedFrame},
};
use arrow_zerobus_sdk_wrapper_fuzz::{
    batches::{batch, long_batch},
    limits,
    log::{append, directory, env, files, open, put, read_all},
    spoil::{Files, Input, spoil},
};
use libfuzzer_sys::fuzz_target;

struct Templates {
    logs: Vec<Files>,
    /// All files that one of them has, so that one log can be given those of another.
    names: Vec<String>,
}

fn templates() -> &'static Templates {
    static TEMPLATES: OnceLock<Templates> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let small: Vec<_> =
            [1, 10, 3, 7, 2, 5].iter().enumerate().map(|(kind, rows)| batch(kind, *rows)).collect();
        let long = vec![long_batch(28 * 1024); 6];
        let logs = vec![
            template(&[&[]], false),
            template(&[&small], false),
            template(&[&small], true),
            template(&[&long], false),
            template(&[&small[..2], &long[..3], &small[3..]], false),
        ];
        let mut names: Vec<String> = logs.iter().flat_map(|log| log.keys().cloned()).collect();
        names.sort();
        names.dedup();
        Templates { logs, names }
    })
}

/// The files of a log that several owners in a row have written to, as the last one's crash leaves them, or its end.
fn template(owners: &[&[RecordBatch]], closed: bool) -> Files {
    let dir = directory();
    let env = env();
    let mut left = Files::new();
    for batches in owners {
        put(dir.path(), &left);
        let (wal, _) = open(&env, dir.path()).unwrap();
        append(&wal, batches);
        if closed {
            wal.close();
        }
        left = files(dir.path()).unwrap();
    }
    left.remove("LOCK");
    left
}

fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let Templates { logs, names } = templates();
    let mut spoilt = logs[input.byte() % logs.len()].clone();
    spoil(&mut spoilt, names, &mut input);
    let dir = directory();
    put(dir.path(), &spoilt);

    let env = env();
    if let Ok(view) = LogView::read(&env, dir.path()) {
        let _ = view.count_from(Lsn::FIRST);
    }
    let Ok((wal, recovery)) = open(&env, dir.path()) else { return };
    let mut frames = read_all(&wal);
    let _ = wal.count_from(Lsn::FIRST);
    // Its schema is in none of the logs: a second copy of a damaged one would make frames readable again.
    let another = RecordBatch::try_from_iter([("another", batch(0, 3).column(0).clone())]).unwrap();
    let appended = wal.append(PreparedFrame::new(&another).unwrap()).wait().unwrap();
    assert_eq!(appended.lsn, recovery.last.next());
    frames.insert(appended.lsn.get(), (3, true));
    assert_eq!(read_all(&wal), frames);
    wal.close();
    drop(wal);

    let (wal, _) = open(&env, dir.path()).expect("a log that opened once opens again");
    assert_eq!(read_all(&wal), frames);
    wal.reclaim(wal.durable(), 0).unwrap();
}

fuzz_target!(
    init: {
        limits::let_panics_be_caught();
        templates();
    },
    |input: &[u8]| limits::run(|| check(input))
);
