//! What a run must not do besides panicking: allocate without measure.
//!
//! libFuzzer itself watches the time of a run and the memory of the process.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    panic,
};

/// Far above what any input can need: inputs have 64 KiB, segments not much more, sled's cache 1 MiB.
const ALLOCATION_BYTES_MAX: usize = 128 * 1024 * 1024;

struct Limited;

// SAFETY: it is the system's allocator, which is only asked for less than the limit.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_BYTES_MAX {
            std::process::abort();
        }
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// To be called before the first run.
///
/// The log and the ledger catch panics of the libraries that they read damaged bytes with, and libFuzzer's own
/// hook ends the process at any panic. With this one only those that reach the target do.
pub fn let_panics_be_caught() {
    panic::set_hook(Box::new(|_| {}));
}

/// Runs a target; a panic that reaches it ends the process, with its text.
pub fn run(target: impl FnOnce() + panic::UnwindSafe) {
    if let Err(payload) = panic::catch_unwind(target) {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text");
        eprintln!("the target panicked: {text}");
        std::process::abort();
    }
}
