//! A simulated world for the log to live in: a disk that is cut, fails, fills up and rots, a clock that is told the
//! time, and random numbers, all of it following from one seed.
//!
//! ```text
//!  World ── env() ─► Env { storage, clock, rng }
//!    │                      └► page cache ── sync ─► platter
//!    ├ crash(): what was not synced is kept, lost, torn, zero; old handles are dead
//!    ├ kill():  old handles are dead, the page cache is not
//!    └ disk():  faults by chance and by plan, a gate, a trace, the bytes themselves
//! ```
//!
//! The model, and what it stands for:
//!
//! - Reads see the page cache. [`drop_page_cache`](crate::io::StorageFile::drop_page_cache) lets go of what is not
//!   waiting to be written, and shows what the platter has.
//! - At a cut, each sector of 512 bytes has what it had at its last sync or after any of the writes since, or zero
//!   if it was written whole. Of a file's lengths, and of a directory's names, a prefix of the changes counts.
//! - A sync that fails writes a part, forgets the rest, and says OK the next time. The page cache shows the rest
//!   until it is dropped. With [`Disk::let_failed_syncs_arrive`] only the answer is wrong.
//! - A durable write makes its own range durable and nothing else. A direct write is as volatile as any other.
//! - Every contract of the real thing is kept: a direct write that is not aligned fails, a lock is held by one handle.
//! - Nothing may be written to or synced on a file after one of the two has failed. The disk itself watches over
//!   that, see [`Disk::violations`].

mod clock;
mod directory;
mod disk;
mod faults;
mod handle;
mod image;
mod inode;
mod rng;
mod state;
mod trace;
#[cfg(test)]
mod tests;
mod world;

pub use clock::SimClock;
pub use disk::Disk;
pub use faults::{EIO, ENOSPC, FaultCounts, Faults, OperationKind, Planned};
pub use rng::{SimRng, SplitMix};
pub use trace::Operation;
pub use world::World;
