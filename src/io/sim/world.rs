//! A disk, a clock and random numbers that follow from one seed.

use std::sync::Arc;

use super::{Disk, SimClock, SimRng};
use crate::{
    canary::{Canaries, Canary},
    io::Env,
};

/// A world. It outlives the processes in it, which [`World::crash`] and [`World::kill`] end.
#[derive(Debug)]
pub struct World {
    disk: Arc<Disk>,
    clock: Arc<SimClock>,
    rng: Arc<SimRng>,
    canaries: Canaries,
}

impl World {
    /// The world of a seed, with an empty disk that never fails.
    pub fn new(seed: u64) -> World {
        World {
            disk: Disk::new(seed),
            clock: Arc::default(),
            rng: Arc::new(SimRng::new(seed)),
            canaries: Canaries::default(),
        }
    }

    /// The same with a planted bug in everything that lives in it.
    pub fn with_canary(seed: u64, canary: Canary) -> World {
        World { canaries: Canaries::plant(canary), ..World::new(seed) }
    }

    /// What a process of this moment sees of the world. After a crash or a kill everything that came from it
    /// fails.
    pub fn env(&self) -> Env {
        Env {
            storage: self.disk.storage(),
            clock: Arc::clone(&self.clock) as _,
            rng: Arc::clone(&self.rng) as _,
            canaries: self.canaries,
        }
    }

    /// The power goes and comes back.
    pub fn crash(&self) {
        self.disk.crash();
    }

    /// Every process dies; the machine goes on, and so does its page cache.
    pub fn kill(&self) {
        self.disk.kill();
    }

    /// The disk.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// The clock.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }
}
