//! Whatever a frame holds behind right checksums, the reader gives it back as a batch or as a typed error \[I14\].
//!
//! Checksums vouch for what was written, not for what it means. The frame is appended to a real log and read from it;
//! it must come back, as itself or as damage that names it, and the frame behind it must come back whole.

#![no_main]

use arrow_zerobus_sdk_wrapper::wal::PreparedFrame;
use arrow_zerobus_sdk_wrapper_fuzz::{
    batches, limits,
    log::{directory, env, open, read_all},
    spoil::{Files, Input, spoil},
};
use libfuzzer_sys::fuzz_target;

/// A frame of a real batch, and what the input does to its two messages.
fn frame(input: &[u8]) -> PreparedFrame {
    let mut input = Input::new(input);
    let (kind, batch_rows, rows) = (input.byte(), input.byte() % 64, input.byte() as u32);
    let (schema, body) = batches::messages(&batches::batch(kind, batch_rows));
    let mut messages = Files::from([("body".to_owned(), body), ("schema".to_owned(), schema)]);
    spoil(&mut messages, &["body".to_owned(), "schema".to_owned()], &mut input);
    let message = |name| messages.get(name).map_or(&[][..], Vec::as_slice);
    PreparedFrame::of_bytes(message("schema"), rows, message("body"))
}

fn check(input: &[u8]) {
    let dir = directory();
    let env = env();
    let (wal, _) = open(&env, dir.path()).unwrap();
    let spoilt = frame(input);
    if wal.check_size(&spoilt).is_err() {
        return;
    }
    let rows = spoilt.rows();
    wal.append(spoilt).wait().unwrap();
    wal.append(PreparedFrame::new(&batches::batch(2, 4)).unwrap()).wait().unwrap();

    let frames = read_all(&wal);
    assert_eq!(frames.get(&2), Some(&(4, true)), "the frame behind it is lost");
    assert!(frames.get(&1).is_none_or(|(found, _)| *found == rows));
    wal.close();
    drop(wal);
    let (wal, _) = open(&env, dir.path()).unwrap();
    assert_eq!(read_all(&wal), frames);
}

fuzz_target!(
    init: limits::let_panics_be_caught(),
    |input: &[u8]| limits::run(|| check(input))
);
