//! Other logs and stores, each used as its documentation says to make one entry durable.
//!
//! They run in their steady state too: the logs free what is old as they are meant to, the stores of keys and
//! values go round over [`RING_BYTES`], so that neither grows without end.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{MIB, Result, entries::Pool, method::Method};

mod fjall;
mod okaywal;
mod raft_engine;
mod redb;
mod sled;
mod sqlite;

pub use fjall::Fjall;
pub use okaywal::Okaywal;
pub use raft_engine::RaftEngine;
pub use redb::Redb;
pub use sled::Sled;
pub use sqlite::Sqlite;

/// Opens a store in a directory.
pub type Open = fn(&Path, &Pool, usize) -> Result<Box<dyn Method>>;

/// All of them.
pub const ALL: [Open; 6] = [
    |dir, pool, producers| Ok(Box::new(RaftEngine::open(dir, pool, producers)?)),
    |dir, pool, _| Ok(Box::new(Okaywal::open(dir, pool)?)),
    |dir, pool, _| Ok(Box::new(Fjall::open(dir, pool)?)),
    |dir, pool, _| Ok(Box::new(Redb::open(dir, pool)?)),
    |dir, pool, _| Ok(Box::new(Sled::open(dir, pool)?)),
    |dir, pool, _| Ok(Box::new(Sqlite::open(dir, pool)?)),
];

/// How much a store of keys and values holds before keys come round again.
const RING_BYTES: usize = 256 * MIB;

/// Keys that go round.
struct Keys {
    next: AtomicU64,
    count: u64,
}

impl Keys {
    fn new(pool: &Pool) -> Keys {
        let count = (RING_BYTES / pool.entry_bytes()) as u64;
        Keys { next: AtomicU64::new(0), count }
    }

    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) % self.count
    }
}
