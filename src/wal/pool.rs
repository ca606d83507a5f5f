//! Memory for the copies of large bodies, used again and again.
//!
//! New memory is filled with zeros by the system, which takes as long as the copy into it. What is lent here has been
//! written before, so each caller copies its own batch while the group before it is written. Where nobody else has a large frame
//! there is nothing to do meanwhile, and beyond the bound there is no memory: then the copy is left to the one who writes, who has
//! memory of its own.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::aligned::AlignedBuf;

/// What all logs of this process may have together.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What is kept while no frame is on its way.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The memory of this process.
static POOL: Pool = Pool::new();

/// Memory for so many bytes, beginning at a block, for somebody with a large frame; nothing, with no capacity, to the only one,
/// or if there is no more to be had.
pub(super) fn lend(capacity: usize) -> Lent {
    POOL.lend(capacity)
}

/// Memory that goes back when it is dropped, if it came from the pool.
#[derive(Debug)]
pub(super) struct Lent {
    buffer: AlignedBuf,
    owner: Option<&'static Pool>,
}

#[derive(Debug)]
struct Pool(Mutex<State>);

#[derive(Debug)]
struct State {
    free: Vec<AlignedBuf>,
    /// How many have a large frame.
    borrowers: usize,
    /// Free or lent.
    bytes: usize,
}

impl Pool {
    const fn new() -> Pool {
        Pool(Mutex::new(State { free: Vec::new(), borrowers: 0, bytes: 0 }))
    }

    fn lend(&'static self, capacity: usize) -> Lent {
        let mut state = self.state();
        let buffer = if state.borrowers == 0 { None } else { state.memory(capacity) };
        state.borrowers += 1;
        Lent { buffer: buffer.unwrap_or_else(nothing), owner: Some(self) }
    }

    fn take_back(&self, mut buffer: AlignedBuf) {
        buffer.clear();
        let mut state = self.state();
        state.borrowers -= 1;
        if buffer.capacity() > 0 {
            state.free.push(buffer);
        }
        if state.borrowers == 0 {
            state.shrink(KEPT_BYTES_MAX);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is free, or new memory within the bound.
    fn memory(&mut self, capacity: usize) -> Option<AlignedBuf> {
        if let Some(place) = self.free.iter().position(|buffer| buffer.capacity() >= capacity) {
            return Some(self.free.swap_remove(place));
        }
        let new_bytes = AlignedBuf::large_capacity(capacity);
        self.shrink(BYTES_MAX.saturating_sub(new_bytes));
        if self.bytes + new_bytes > BYTES_MAX {
            return None;
        }
        let buffer = AlignedBuf::of_large_pages(capacity);
        self.bytes += buffer.capacity();
        Some(buffer)
    }

    /// Frees what nobody has until no more than this is left.
    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(buffer) = self.free.pop()
        {
            self.bytes -= buffer.capacity();
        }
    }
}

/// A buffer without memory.
pub(super) fn nothing() -> AlignedBuf {
    AlignedBuf::with_capacity(0, 1)
}

impl From<AlignedBuf> for Lent {
    fn from(buffer: AlignedBuf) -> Lent {
        Lent { buffer, owner: None }
    }
}

impl Deref for Lent {
    type Target = AlignedBuf;

    fn deref(&self) -> &AlignedBuf {
        &self.buffer
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut AlignedBuf {
        &mut self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(owner) = self.owner {
            owner.take_back(std::mem::replace(&mut self.buffer, nothing()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::BLOCK;

    const MIB: usize = 1024 * 1024;

    fn pool() -> &'static Pool {
        Box::leak(Box::new(Pool::new()))
    }

    #[test]
    fn memory_is_lent_again_and_is_empty_then() {
        let pool = pool();
        let alone = pool.lend(MIB);
        assert_eq!(alone.capacity(), 0);
        let mut first = pool.lend(MIB);
        let address = first.as_slice().as_ptr();
        assert!(address.addr().is_multiple_of(BLOCK));
        first.extend(&[7; 5000]);
        let second = pool.lend(MIB);
        assert_ne!(second.as_slice().as_ptr(), address);
        drop(first);
        let again = pool.lend(2 * MIB);
        assert_eq!((again.as_slice().as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn there_is_a_bound_and_most_goes_back_with_the_last_frame() {
        let pool = pool();
        let mut lent: Vec<Lent> = (0..100).map(|_| pool.lend(MIB)).collect();
        let with_memory = lent.iter().filter(|lent| lent.capacity() > 0).count();
        assert_eq!(with_memory, BYTES_MAX / (2 * MIB));
        let give_one_back = |lent: &mut Vec<Lent>| {
            let place = lent.iter().position(|lent| lent.capacity() > 0);
            drop(place.map(|place| lent.swap_remove(place)));
        };
        give_one_back(&mut lent);
        assert_eq!(pool.lend(3 * MIB).capacity(), 0);
        give_one_back(&mut lent);
        // What is free and too short makes room for what is not.
        assert!(pool.lend(3 * MIB).capacity() >= 3 * MIB);
        drop(lent);
        let state = pool.state();
        assert_eq!((state.borrowers, state.bytes), (0, state.free.iter().map(AlignedBuf::capacity).sum()));
        assert!(state.bytes <= KEPT_BYTES_MAX && !state.free.is_empty());
    }
}
